"""A small notation for rule tests: rules as YAML-shaped dicts, streams as lists of messages and ticks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rules import Engine, Rule, load_rules, query_range
from telemetry import AlertEvent, ReadingBatch, Series, SeriesTable, Tick

S = 10**9
T0 = 1_700_000_000 * S


@dataclass(frozen=True)
class Said:
    """One message: readings (series id, event time, value), and when it came."""

    rows: tuple[tuple[int, int, float], ...]
    received: int


def rules_of(*rules: dict[str, Any], **group: Any) -> list[Rule]:
    """Rules of one group; fails the test if any is refused."""
    groups, problems = load_rules({"groups": [{"name": "g", **group, "rules": list(rules)}]})
    assert problems == []
    return list(groups[0].rules)


def table_of(*series: str) -> SeriesTable:
    """A table from texts like `temperature{device="d1"}`."""
    table = SeriesTable()
    for text in series:
        metric, _, rest = text.partition("{")
        table.add(Series.from_labels(metric, dict(re.findall(r'(\w+)="([^"]*)"', rest))))
    return table


def live(stream: Iterable[Said | Tick]) -> list[Said | Tick]:
    """The stream as the feed would flag it: late and repeated readings left out, rows of a message ordered by time."""
    newest: dict[int, int] = {}
    out: list[Said | Tick] = []
    for item in stream:
        if isinstance(item, Tick):
            out.append(item)
            continue
        rows = []
        for s, t, v in sorted(item.rows, key=lambda r: r[1]):
            if t > newest.get(s, -1):
                newest[s] = t
                rows.append((s, t, v))
        out.append(Said(tuple(rows), item.received))
    return out


def batches(stream: Iterable[Said | Tick], cuts: Collection[int] = ()) -> list[ReadingBatch | Tick]:
    """The stream as items for the engine: messages joined into batches, cut before each index in `cuts`."""
    items: list[ReadingBatch | Tick] = []
    run: list[tuple[int, Said]] = []

    def flush():
        if run:
            rows = [(s, t, v, m.received, offset) for offset, m in run for s, t, v in m.rows]
            columns = list(zip(*rows, strict=True)) or [(), (), (), (), ()]
            series, time, value, received, offset = (list(c) for c in columns)
            items.append(ReadingBatch.of(series, time, value, received=received, offset=offset))
            run.clear()

    for offset, item in enumerate(stream):
        if offset in cuts:
            flush()
        if isinstance(item, Tick):
            flush()
            items.append(item)
        else:
            run.append((offset, item))
    flush()
    return items


def run(engine: Engine, items: Iterable[ReadingBatch | Tick]) -> list[AlertEvent]:
    """All events."""
    out: list[AlertEvent] = []
    for item in items:
        out += engine.tick(item) if isinstance(item, Tick) else engine.apply(item)
    return out


def written(labels: Mapping[str, str]) -> str:
    """Labels as they are written: `x{device="a"}`."""
    rest = ", ".join(f'{n}="{v}"' for n, v in sorted(labels.items()) if n != "__name__")
    return f"{labels.get('__name__', '')}{{{rest}}}"


def instant(expr: str, samples: Mapping[str, float]) -> dict[str, float]:
    """What the expression gives where each series, as written, has a sample of that value."""
    stored = {i: (np.array([T0]), np.array([value], float)) for i, value in enumerate(samples.values())}
    found = query_range(expr, table_of(*samples), lambda ids, *_: {i: stored[i] for i in ids}, T0, T0, S)
    elements = [(written(labels), float(values[0])) for labels, _, values in found]
    assert len({name for name, _ in elements}) == len(elements), "two elements have the same labels"
    return dict(elements)
