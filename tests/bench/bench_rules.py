"""How fast rules are beside one object for each (rule, series). Not here: how that grows with sizes (bench_sweeps)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from rules import Engine, Record, Rule, load_rules
from telemetry import AlertEvent, ReadingBatch
from tests.bench.fleet import PERIOD, Readings, S, fleet
from tests.bench.measuring import Effort, Figure, Floats, Report, cpu_seconds
from tests.bench.objects import Average, Maximum, Rate, Threshold

HOLD = 20 * S
"""ns; `for` of all rules"""
SHORTEST, LONGEST = 35 * S, 65 * S
"""ns; ranges of windows"""
WINDOWS = {
    "avg_over_time": ("avg_over_time(temperature[{range}ms]) > {limit}", 26.0, Average),
    "max_over_time": ("max_over_time(temperature[{range}ms]) > {limit}", 32.0, Maximum),
    "rate": ("rate(temperature[{range}ms]) > {limit}", 3.0, Rate),
}
"""By function: the expression, the lowest limit, and the straightforward way"""

MakeObject = Callable[[int, str, list[AlertEvent]], Threshold]
"""Of rule i for a device, telling a list"""


def parsed(documents: list[dict[str, Any]]) -> list[Rule | Record]:
    groups, problems = load_rules({"groups": [{"name": "g", "rules": documents}]})
    assert not problems, problems
    return list(groups[0].rules)


def alert(i: int, expression: str, *, hold: int = HOLD) -> dict[str, Any]:
    return {"alert": f"A{i}", "expr": expression, "for": f"{hold // S}s"}


def limit(i: int, lowest: float = 30.0) -> float:
    """Of rule i: exceeded in excursions only, each limit by some of them."""
    return lowest + 0.3 * (i % 100)


def thresholds(rules: int) -> list[dict[str, Any]]:
    return [alert(i, f"temperature > {limit(i)}") for i in range(rules)]


def range_of(i: int, ranges: int) -> int:
    """ns; of rule i, if rules use so many different ranges."""
    return SHORTEST + (LONGEST - SHORTEST) * (i % ranges) // ranges // 1_000_000 * 1_000_000


def windows(function: str, rules: int, ranges: int) -> list[dict[str, Any]]:
    text, lowest, _ = WINDOWS[function]
    return [alert(i, text.format(range=range_of(i, ranges) // 1_000_000, limit=limit(i, lowest))) for i in range(rules)]


class Stream:
    """An engine, and the batches that it is given, one after another."""

    def __init__(
        self, documents: list[dict[str, Any]], series: int, batch: int, *, metrics: int = 1, **readings: Any
    ) -> None:
        table = fleet(series // metrics, ("temperature", "humidity")[:metrics])
        self.engine = Engine(parsed(documents), table)
        self.series, self.rules, self.batch = series, len(documents), batch
        self.readings = Readings(series, metrics=metrics, **readings)
        self.events: list[AlertEvent] = []

    def settle(self, rounds: int) -> Iterator[ReadingBatch]:
        """Give every series so many readings → the batches."""
        for batch in islice(self.readings.batches(self.series), rounds):
            self.events += self.engine.apply(batch)
            yield batch

    def seconds(self, repeats: int) -> Floats:
        """(repeats,) CPU seconds of a batch."""
        coming = islice(self.readings.batches(self.batch), repeats)
        (spent,) = cpu_seconds(self.next_of(list(coming)), repeats=repeats)
        return np.asarray(spent)

    def next_of(self, coming: list[ReadingBatch]) -> Callable[[], None]:
        waiting = iter(coming)

        def apply() -> None:
            self.events += self.engine.apply(next(waiting))

        return apply


def beside_objects(name: str, stream: Stream, make: MakeObject, report: Report, *, rounds: int, one_in: int) -> None:
    """The engine, and objects for one series in `one_in`: memory has no room for more, and few are faster, each, than
    many. `rounds`: readings of each series before the clock runs. The events must be the same.
    """
    repeats = stream.series // stream.batch
    told: list[AlertEvent] = []
    chosen = np.arange(stream.series) % min(one_in, stream.series // 25) == 0
    objects = {d: [make(i, f"d{d}", told) for i in range(stream.rules)] for d in np.flatnonzero(chosen).tolist()}

    def ask(batch: ReadingBatch) -> None:
        rows = batch.select(chosen[batch.series])
        columns = (rows.series.tolist(), rows.time.tolist(), rows.value.tolist(), rows.received.tolist())
        for series, at, value, received in zip(*columns, strict=True):
            for one in objects[series]:
                one.reading(at, value, received)

    for batch in stream.settle(rounds):
        ask(batch)
    before = len(stream.events)
    coming = list(islice(stream.readings.batches(stream.batch), repeats))
    asked = iter(coming)
    fast, slow = cpu_seconds(stream.next_of(coming), lambda: ask(next(asked)), repeats=repeats)
    slow *= stream.series / chosen.sum()
    same_events(told, [e for e in stream.events if chosen[int(dict(e.labels)["device"][1:])]])
    evaluations = stream.rules * stream.batch
    report(f"{name}, ratio", Figure.of(slow / fast, "×"))
    report(f"{name}, engine", Figure.of(evaluations / fast / 1e6, "M eval/s/core"))
    report(f"{name}, objects", Figure.of(evaluations / slow / 1e6, "M eval/s/core"))
    report(f"{name}, events", Figure.of((len(stream.events) - before) / repeats / evaluations * 1e6, "per M eval"))


def same_events(told: list[AlertEvent], events: list[AlertEvent]) -> None:
    """Both tell the same: a bench that compares unequal work is worth nothing."""
    ours, theirs = (sorted(some, key=lambda e: e.id) for some in (events, told))
    assert ours, "nothing ever fired"
    assert [(e.id, e.starts_at, e.ends_at, e.detected_at) for e in ours] == [
        (e.id, e.starts_at, e.ends_at, e.detected_at) for e in theirs
    ]
    assert np.allclose([e.value for e in ours], [e.value for e in theirs], rtol=1e-9, atol=0)


def beside_windows(function: str, rules: int, effort: Effort, report: Report) -> None:
    """Rules over ten different ranges."""
    _, lowest, kind = WINDOWS[function]
    stream = Stream(
        windows(function, rules, 10), effort.of(100_000), effort.of(10_000),
        counters=function == "rate", excursions=2 * effort.excursions,
    )  # fmt: skip
    beside_objects(
        f"{function}, {rules} rules, 10 ranges", stream,
        lambda i, device, told: kind(f"A{i}", device, limit(i, lowest), HOLD, told, range_of(i, 10)),
        report, rounds=LONGEST // PERIOD + 2, one_in=20,
    )  # fmt: skip


def bench_rules(effort: Effort, report: Report) -> None:
    """100 rules with `for` on 100,000 series at batches of 10,000; and rules of which none has the range of another."""
    stream = Stream(thresholds(100), effort.of(100_000), effort.of(10_000), excursions=effort.excursions)
    beside_objects(
        "thresholds, 100 rules", stream, lambda i, device, told: Threshold(f"A{i}", device, limit(i), HOLD, told),
        report, rounds=6, one_in=10,
    )  # fmt: skip
    for function in WINDOWS:
        beside_windows(function, 100, effort, report)
    beside_windows("avg_over_time", 10, effort, report)
