"""Expressions → curves of a chart, as fine as its pixels need. Blocking: for threads of their own.

Here: selectors as readings or, of long times, as envelopes; other expressions on a grid; what is wrong with one.
Not here: drawing (`chart`), what is drawn over them (`overlays`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

import rules
from rules.syntax import Selector
from telemetry import Series, TocsinError
from tocsin.backend import Backend
from tocsin.console.chart import MAX_CURVES, ChartCurve, nice_step

_UNITS = ("celsius", "volts", "amperes", "watts", "joules", "pascals", "meters", "grams", "bytes", "seconds", "hertz",
          "ratio", "percent")  # fmt: skip
"""That end metric names by Prometheus' convention."""
_DIGITS = re.compile("([0-9]+)")
_MOST_CELLS = 2_000_000
"""Series that are looked at × points: what takes about a second"""
_FEWEST_POINTS = 60
_MOST_SAMPLES = 10_000_000
_MOST_SECONDS = 20.0
_RAW_PER_POINT = 2
_SHORTEST = 60 * 10**9


class Outdated(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong with an expression, and where."""

    message: str
    line: int = 0
    """From 1; 0: no place"""
    column: int = 0

    def __str__(self) -> str:
        return f"{self.line}:{self.column}: {self.message}" if self.line else self.message


@dataclass(frozen=True, slots=True)
class Found:
    """What one expression gives."""

    text: str
    curves: tuple[ChartCurve, ...] = ()
    labels: tuple[dict[str, str], ...] = ()
    """Of each curve; `__name__` among them if it has a metric."""
    more: int = 0
    """Series that there was no room for"""
    step: int = 0
    """ns between points; 0: each reading as it is stored"""
    mistake: Mistake | None = None


def find(
    backend: Backend,
    text: str,
    start: int,
    end: int,
    points: int,
    *,
    most: int = MAX_CURVES,
    wanted: Callable[[], bool] = lambda: True,
) -> Found:
    """What `text` gives from `start` to `end` (ns), in about `points` points. Raises Outdated once it is not wanted."""
    try:
        expression = rules.parse(text)
        if isinstance(expression, Selector) and expression == Selector(expression.matchers):
            return _of_selector(backend, text, start, end, points, most)
        return _of_expression(backend, text, start, end, points, most, wanted)
    except rules.ExpressionError as error:
        return Found(text, mistake=mistake_of(text, error))
    except TocsinError as error:
        return Found(text, mistake=Mistake(str(error)))


def mistake_of(text: str, error: rules.ExpressionError) -> Mistake:
    """With line and column, from 1."""
    before = text[: error.offset]
    return Mistake(str(error), before.count("\n") + 1, error.offset - (before.rfind("\n") + 1) + 1)


def _of_selector(backend: Backend, text: str, start: int, end: int, points: int, most: int) -> Found:
    table, store = backend.table, backend.store
    ids = [int(id_) for id_ in rules.select(text, table)]
    shown = sorted(ids, key=lambda id_: natural(table[id_]))[:most]
    own = backend.own_staleness()
    width = nice_step((end - start) // max(points, 1))
    aligned, buckets = start // width * width, -(-end // width) - start // width
    envelopes = store.envelope(shown, aligned, aligned + buckets * width, buckets) if shown else {}
    raw = all(int(found.n.sum()) <= _RAW_PER_POINT * points for found in envelopes.values())
    rows = store.read_many(shown, start, end) if raw else {}
    curves = []
    for id_ in shown:
        series, found = table[id_], envelopes[id_]
        name, axis, gap = name_of(labels_of(series)), axis_of(series.metric), own.get(id_, rules.STALENESS)
        if raw:
            time, value = rows[id_]
            curves.append(ChartCurve(name, time, value, axis=axis, gap=_gap(time, gap)))
        else:
            time = found.start + found.width // 2
            gap = _gap(time, max(gap, 2 * found.width))
            curves.append(ChartCurve(name, time, found.mean, found.min, found.max, axis, gap))
    step = 0 if raw else max(found.width for found in envelopes.values())
    return Found(text, tuple(curves), tuple(labels_of(table[id_]) for id_ in shown), len(ids) - len(shown), step)


def _gap(time: NDArray[np.int64], least: int) -> int:
    """Slow devices are not gone between two of their reports."""
    return max(least, int(2.5 * np.median(np.diff(time)))) if len(time) > 2 else least


def _of_expression(
    backend: Backend, text: str, start: int, end: int, points: int, most: int, wanted: Callable[[], bool]
) -> Found:
    table = backend.table
    looked_at = max(1, len(rules.looked_at(text, table)))
    points = min(points, max(_FEWEST_POINTS, _MOST_CELLS // looked_at))
    step = nice_step((end - start) // max(points, 1))

    store, end_of_patience = backend.store, time.monotonic() + _MOST_SECONDS

    def pause() -> None:
        if not wanted():
            raise Outdated
        if time.monotonic() > end_of_patience:
            raise rules.ExpressionError(
                f"it takes more than {_MOST_SECONDS:g} s: choose a shorter time or fewer series"
            )

    def read(ids: list[int], t0: int, t1: int) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        pause()
        if store.most_rows(ids, t0, t1) > _MOST_SAMPLES:
            raise rules.ExpressionError(
                f"it needs over {_MOST_SAMPLES:,} samples: choose a shorter time or fewer series"
            )
        return store.read_many(ids, t0, t1)

    stored = rules.Stored(
        table,
        read,
        own_staleness=backend.own_staleness(),
        most_cells=_MOST_CELLS,
        pause=pause,
        read_at=store.read_at,
    )
    found = rules.on_grid(rules.parse(text), stored, start - start % step, end, step)
    found.sort(key=lambda element: [(name, pieces(value)) for name, value in sorted(element[0].items())])
    curves = tuple(
        ChartCurve(name_of(labels) or text, time, value, axis=axis_of(labels.get("__name__", "")), gap=step)
        for labels, time, value in found[:most]
    )
    return Found(text, curves, tuple(labels for labels, _, _ in found[:most]), max(0, len(found) - most), step)


def labels_of(series: Series) -> dict[str, str]:
    return {"__name__": series.metric, **dict(series.labels)}


def name_of(labels: dict[str, str]) -> str:
    """As it stands in the legend: metric, then labels, the device first."""
    rest = sorted(((n, v) for n, v in labels.items() if n != "__name__"), key=lambda pair: (pair[0] != "device", pair))
    inner = ", ".join(f"{name}={value}" for name, value in rest)
    return " ".join(filter(None, (labels.get("__name__", ""), f"{{{inner}}}" if inner else "")))


def axis_of(metric: str) -> str:
    """The unit that ends the metric's name, or else the metric."""
    return next((unit for unit in _UNITS if metric.endswith(f"_{unit}")), metric) or "value"


def natural(series: Series) -> tuple[object, ...]:
    """Sorts by metric and device, d2 before d10, and then by the other labels."""
    others = (part for name, value in series.labels if name != "device" for part in (name, pieces(value)))
    return (series.metric, pieces(series.device), *others)


@lru_cache(maxsize=50_000)
def pieces(text: str) -> tuple[str | int, ...]:
    """Text and numbers by turns: `d10b` is d, 10, b."""
    return tuple(int(part) if i % 2 else part for i, part in enumerate(_DIGITS.split(text)))


def summary(curve: ChartCurve) -> tuple[float, float, float, float]:
    """Last, smallest, mean and largest value; NaN where there is none."""
    value = curve.value[~np.isnan(curve.value)]
    if not len(value):
        return (np.nan,) * 4
    low = value if curve.low is None else curve.low[~np.isnan(curve.low)]
    high = value if curve.high is None else curve.high[~np.isnan(curve.high)]
    return float(value[-1]), float(low.min()), float(value.mean()), float(high.max())


def since(curves: Sequence[ChartCurve], start: int, end: int) -> int:
    """From when to draw: shortly before the first reading, if there is none for long after `start`."""
    first = min((int(curve.time[0]) for curve in curves if len(curve.time)), default=start)
    return max(start, min(first - (end - first) // 20, end - _SHORTEST))
