"""A small notation for rule tests: rules as YAML-shaped dicts, streams as lists of messages and ticks."""

from __future__ import annotations

from dataclasses import dataclass

from rules import Engine, load_rules
from telemetry import ReadingBatch, Series, SeriesTable, Tick

S = 10**9
T0 = 1_700_000_000 * S


@dataclass(frozen=True)
class Said:
    """One message: readings (series id, event time, value), and when it came."""

    rows: tuple[tuple[int, int, float], ...]
    received: int


def rules_of(*rules: dict, **group) -> list:
    """Rules of one group; fails the test if any is refused."""
    groups, problems = load_rules({"groups": [{"name": "g", **group, "rules": list(rules)}]})
    assert problems == []
    return list(groups[0].rules)


def table_of(*series: str) -> SeriesTable:
    """A table from texts like `temperature{device="d1"}`."""
    import re

    table = SeriesTable()
    for text in series:
        metric, _, rest = text.partition("{")
        table.add(Series.from_labels(metric, dict(re.findall(r'(\w+)="([^"]*)"', rest))))
    return table


def live(stream):
    """The stream as the feed would flag it: late and repeated readings left out, rows of a message ordered by time."""
    newest: dict[int, int] = {}
    out = []
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


def batches(stream, cuts):
    """The stream as items for the engine: messages joined into batches, cut before each index in `cuts`."""
    items, run = [], []

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


def run(engine: Engine, items) -> list:
    """All events."""
    out = []
    for item in items:
        out += engine.tick(item) if isinstance(item, Tick) else engine.apply(item)
    return out
