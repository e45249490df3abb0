"""What the page of devices lists: filtered, sorted, a page at a time; and the curves beside the names. Pure, over rows.

Not here: the rows themselves (`tocsin.devices`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sinks.downsampling import downsample
from sinks.store import Store
from telemetry import Series, SeriesTable
from tocsin.console.alert_rows import coarse
from tocsin.console.filtering import Filter
from tocsin.devices import DeviceRow
from tocsin.words import number, span

SPARK_NS = 15 * 60 * 10**9
_SPARK_BUCKETS, _SPARK_WIDTH, _SPARK_HEIGHT = 48, 96, 22
_STATES = {"silent": 0, "reporting": 1, "never": 2}


@lru_cache(maxsize=20_000)
def natural(text: str) -> tuple[tuple[int, int, str], ...]:
    """A key that sorts pump-2 before pump-10."""
    parts: list[tuple[int, int, str]] = []
    digits = ""
    for character in f"{text}\0":
        if character.isascii() and character.isdigit() and len(digits) < 18:
            digits += character
            continue
        if digits:
            parts.append((0, int(digits), ""))
            digits = ""
        parts.append((1, 0, character.lower()))
    return tuple(parts)


SORTS: dict[str, Callable[[DeviceRow], tuple[object, ...]]] = {
    "device": lambda row: (natural(row.device),),
    "state": lambda row: (_STATES[row.state], natural(row.device)),
    "last_seen": lambda row: (-row.last_seen,),
    "interval": lambda row: (row.interval is None, row.interval or 0),
    "skew": lambda row: (row.skew is None, -abs(row.skew or 0)),
    "rate": lambda row: (-row.rate,),
    "series": lambda row: (-row.series,),
    "firing": lambda row: (-row.firing, natural(row.device)),
}
"""By the name of the column; what one most likely looks for comes first."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some of the devices that pass a filter."""

    rows: Sequence[DeviceRow]
    total: int
    """How many pass."""


def page_of(rows: Sequence[DeviceRow], wanted: Filter, sort: str, *, descending: bool, start: int, length: int) -> Page:
    """`length` of the rows that pass, from the `start`-th on; `length` 0: all."""
    found = [row for row in rows if wanted.matches(_fields(row))] if wanted.terms else list(rows)
    found.sort(key=SORTS.get(sort, SORTS["device"]), reverse=descending)
    start = min(start, max(0, len(found) - 1))
    return Page(found[start : start + length if length else None], len(found))


def counted(rows: Sequence[DeviceRow]) -> dict[str, int]:
    """How many are in each state, and how many have alerts that fire."""
    states = [row.state for row in rows]
    return {state: states.count(state) for state in ("reporting", "silent", "never")} | {
        "firing": sum(row.firing > 0 for row in rows)
    }


def _fields(row: DeviceRow) -> dict[str, str]:
    return {
        **dict(row.labels),
        "device": row.device,
        "state": row.state,
        "stream": " ".join(row.streams),
        "firing": "yes" if row.firing else "no",
    }


def table_row(row: DeviceRow, now: int, spark: str = "") -> dict[str, object]:
    """For the browser. `spark`: an SVG path, see `spark_path`."""
    return {
        "device": row.device,
        "state": row.state,
        "labels": ", ".join(f"{name}={value}" for name, value in row.labels),
        "streams": ", ".join(row.streams),
        "last_seen": f"{coarse(now - row.last_seen)} ago" if row.last_seen else "never",
        "interval": "–" if row.interval is None else about(row.interval),
        "skew": "–" if row.skew is None else signed_span(row.skew),
        "rate": rate(row.rate),
        "series": row.series,
        "firing": row.firing,
        "spark": spark,
    }


def signed_span(ns: int) -> str:
    """How far a clock is behind (+) or ahead (-)."""
    return ("+" if ns >= 0 else "-") + about(abs(ns))


def about(ns: int) -> str:
    """A length of time without digits that change from one reading to the next: 30ms, 1.0s, 15m."""
    if ns < 100 * 10**6:
        return f"{ns / 1e6:.0f}ms"
    return f"{ns / 1e9:.1f}s" if ns < 60 * 10**9 else span(ns)


def rate(per_second: float) -> str:
    """Readings a second; a minute, if they are few."""
    if per_second == 0:
        return "0"
    if per_second < 0.1:
        return f"{per_second * 60:.2g}/min"
    return f"{per_second:.1f}/s" if per_second < 100 else f"{per_second:,.0f}/s"


def main_series(table: SeriesTable, devices: Sequence[str]) -> dict[str, int]:
    """Of each device the series to draw: the first that is not a state set, else its first."""
    found: dict[str, int] = {}
    for device in devices:
        ids = table.with_label("device", device).tolist()
        if ids:
            found[device] = next((id_ for id_ in ids if _is_gauge(table[id_])), ids[0])
    return found


def _is_gauge(series: Series) -> bool:
    return ":" not in series.metric and series.metric not in dict(series.labels)


def sparks(store: Store, series: Mapping[str, int], now: int, length: int = SPARK_NS) -> dict[str, str]:
    """By device: the curve of its series over the last `length` ns, as an SVG path."""
    found = store.read_many(sorted(set(series.values())), now - length, now + 1)
    return {device: spark_path(*found[id_], now - length, now + 1) for device, id_ in series.items()}


def spark_path(
    time: NDArray[np.int64], value: NDArray[np.float64], t0: int, t1: int, *, width: int = _SPARK_WIDTH
) -> str:
    """Readings as an SVG path, 0…`width` by 0…22: each span's minimum and maximum are in it, gaps are left open."""
    buckets = downsample(time, value, t0, t1, _SPARK_BUCKETS)
    there = np.isfinite(buckets.min) & np.isfinite(buckets.max)
    if not there.any():
        return ""
    low, high = float(buckets.min[there].min()), float(buckets.max[there].max())
    scale = (_SPARK_HEIGHT - 4) / (high - low) if high > low else 0.0
    middle = 0.0 if scale else (_SPARK_HEIGHT - 4) / 2
    step = (t1 - t0) / _SPARK_BUCKETS
    parts: list[str] = []
    before = 0
    for start, lowest, highest in zip(
        buckets.start[there].tolist(), buckets.min[there].tolist(), buckets.max[there].tolist(), strict=True
    ):
        place = int((start - t0) // step)
        x = (place + 0.5) * width / _SPARK_BUCKETS
        ends = [_SPARK_HEIGHT - 2 - middle - (v - low) * scale for v in (lowest, highest)]
        pen = "L" if parts and place - before <= _BRIDGED else "M"
        parts.append(f"{pen}{x:.1f} {ends[0]:.1f}" + (f"V{ends[1]:.1f}" if ends[0] - ends[1] >= 0.5 else "h.1"))
        before = place
    return "".join(parts)


_BRIDGED = 6
"""Spans without a reading over which the line goes on."""


def last_values(table: SeriesTable, store: Store, ids: Sequence[int]) -> list[tuple[int, int, str]]:
    """(series id, time of its newest reading, value as text) of each, by name."""
    ordered = sorted(ids, key=lambda id_: natural(str(table[id_])))
    if not ordered:
        return []
    time, value = store.latest(ordered)
    return [
        (id_, at, number(v) if at else "–") for id_, at, v in zip(ordered, time.tolist(), value.tolist(), strict=True)
    ]
