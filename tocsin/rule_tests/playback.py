"""A test played through the engine: readings and evaluations in, and everything that comes of them.

At each evaluation the readings up to it come first, in the order of their arrival; then the clock ticks. Not here: what
was expected (runner).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ingest.lateness import Lateness
from rules import STALE, STALENESS, Alert, Engine, Record, Rule, RuleGroup, select
from telemetry import LATE, AlertEvent, ReadingBatch, Series, SeriesTable, Tick
from tocsin.rule_tests.faults import Arrivals, befall
from tocsin.rule_tests.notation import Values
from tocsin.rule_tests.test_file import RuleTest

_HEARTBEAT = 4 * 10**9
"""ns; a gap of more than 5 s in a journal means that tocsin was down: no test is about that."""

_MOMENT = 1
"""ns; so long after an evaluation's instant the clock ticks: the instant is over, and deadlines in it are past."""

Ints = NDArray[np.int64]
Labels = tuple[tuple[str, str], ...]


class SampleStore:
    """All samples that a test has come to know: measured, recorded, and of the alerts."""

    def __init__(self) -> None:
        self.table = SeriesTable()
        self._columns: dict[int, tuple[Ints, NDArray[np.float64]]] = {}
        self._rows: dict[int, list[tuple[int, float]]] = {}

    def add(self, labels: Labels, time: int, value: float) -> None:
        """One sample of a series, `__name__` among its labels."""
        self._rows.setdefault(self._id(labels), []).append((time, value))

    def add_all(self, series: Series, time: Ints, value: NDArray[np.float64]) -> None:
        """The samples of one series, in any order; of several of one time, the first counts."""
        times, rows = np.unique(time, return_index=True)
        self._columns[self.table.add(series)] = (times, value[rows])

    def read(self, ids: list[int], t0: int, t1: int) -> dict[int, tuple[Ints, NDArray[np.float64]]]:
        """(time, value) by series, t0 <= time < t1."""
        found = {}
        for id_ in ids:
            time, value = self._whole(id_)
            lo, hi = np.searchsorted(time, (t0, t1))
            found[id_] = (time[lo:hi], value[lo:hi])
        return found

    def _id(self, labels: Labels) -> int:
        metric = next((value for name, value in labels if name == "__name__"), "")
        return self.table.add(Series(metric, tuple(pair for pair in labels if pair[0] != "__name__")))

    def _whole(self, id_: int) -> tuple[Ints, NDArray[np.float64]]:
        time, value = self._columns.get(id_, (np.zeros(0, np.int64), np.zeros(0)))
        if id_ in self._rows:  # what was both measured and recorded: the measured sample came first
            times, values = zip(*self._rows.pop(id_), strict=True)
            time, rows = np.unique(np.concatenate([time, np.array(times, np.int64)]), return_index=True)
            value = np.concatenate([value, np.array(values)])[rows]
            self._columns[id_] = (time, value)
        return time, value


@dataclass
class Played:
    """What came of a test."""

    store: SampleStore
    events: list[AlertEvent] = field(default_factory=list)
    alerts: dict[int, list[Alert]] = field(default_factory=dict)
    """Pending and firing alerts after the evaluations that were asked for, by their number"""
    errors: list[tuple[int, str, str]] = field(default_factory=list)
    """(ns, rule's id, why) for each rule that could not be evaluated; there the test ends"""


def play(
    test: RuleTest,
    series: Sequence[tuple[dict[str, str], Values]],
    groups: Sequence[RuleGroup],
    *,
    evaluation_interval: int,
    look_at: frozenset[int],
) -> Played:
    """Run the test; `look_at`: the numbers of the evaluations after which alerts are wanted."""
    table = SeriesTable()
    ids = [table.add(_series(labels)) for labels, _ in series]
    arrivals = _arrivals(
        test, dict(zip(ids, (values for _, values in series), strict=True)), table, evaluation_interval
    )
    rules = [replace(rule, interval=evaluation_interval) for group in groups for rule in group.rules]
    engine = Engine(rules, table, staleness=lambda _: STALENESS)
    played = Played(SampleStore())
    shown = _ShownAlerts(played.store, rules) if test.promql_expr_test else None
    last = test.start_timestamp + test.length // evaluation_interval * evaluation_interval
    for number, (instant, batch) in enumerate(_stream(arrivals, test.start_timestamp, last, evaluation_interval)):
        if len(batch):
            played.events += engine.apply(batch)
        played.events += engine.tick(Tick(instant + _MOMENT, int(batch.offset[-1]) + 1 if len(batch) else 0))
        played.errors = [(instant, rule, why) for rule, why in engine.errors().items()]
        if played.errors:
            return played
        for recorded in engine.take_recorded():
            played.store.add(recorded.labels, recorded.time, recorded.value)
        if shown is not None:
            shown.show(instant, engine.active())
        if number in look_at:
            played.alerts[number] = list(engine.active())
    came = arrivals.received <= last
    for id_ in np.unique(arrivals.series[came]).tolist():
        rows = came & (arrivals.series == id_)
        played.store.add_all(table[id_], arrivals.time[rows], arrivals.value[rows])
    return played


def _series(labels: dict[str, str]) -> Series:
    rest = tuple(sorted(pair for pair in labels.items() if pair[0] != "__name__"))
    return Series(labels.get("__name__", ""), rest)


def _arrivals(test: RuleTest, values: dict[int, Values], table: SeriesTable, evaluation_interval: int) -> Arrivals:
    """All readings of a test, in the order of their arrival, after its faults."""
    interval = test.interval or evaluation_interval
    series = [np.full(len(given.index), id_, np.int32) for id_, given in values.items()]
    times = [test.start_timestamp + given.index * interval for given in values.values()]
    numbers = [np.where(given.stale, STALE, given.value) for given in values.values()]
    time = np.concatenate([np.zeros(0, np.int64), *times])
    arrivals = Arrivals(
        np.concatenate([np.zeros(0, np.int32), *series]),
        time,
        time.copy(),
        time.copy(),
        np.concatenate([np.zeros(0), *numbers]),
    )
    for i, fault in enumerate(test.faults):
        befallen = select(fault.series, table) if fault.series else np.arange(len(table))
        rng = np.random.default_rng([test.seed, i])
        arrivals = befall(arrivals, fault, befallen, start=test.start_timestamp, interval=interval, rng=rng)
    return arrivals.in_order()


def _stream(arrivals: Arrivals, start: int, last: int, step: int) -> Iterator[tuple[int, ReadingBatch]]:
    """(instant, the readings since the one before) of each evaluation.

    Among the readings are late ones, which no rule sees, as heartbeats: so the engine's clock runs on without ticks.
    """
    n = len(arrivals.series)
    message = arrivals.message
    flags = np.zeros(n, np.uint8)
    if n:
        flags = Lateness().flag(_batch(arrivals, message, flags))
    begin, before, offset = 0, start, 0
    for instant in range(start, last + 1, step):
        end = int(np.searchsorted(arrivals.received, instant, side="right"))
        beats = np.arange(before + _HEARTBEAT, instant, _HEARTBEAT)
        rows = slice(begin, end)
        some = Arrivals(
            np.concatenate([arrivals.series[rows], np.zeros(len(beats), np.int32)]),
            np.concatenate([arrivals.planned[rows], beats]),
            np.concatenate([arrivals.time[rows], beats]),
            np.concatenate([arrivals.received[rows], beats]),
            np.concatenate([arrivals.value[rows], np.zeros(len(beats))]),
        )
        number = np.concatenate([message[rows], np.arange(n, n + len(beats))])
        flag = np.concatenate([flags[rows], np.full(len(beats), LATE, np.uint8)])
        order = np.argsort(some.received, kind="stable")
        new = np.diff(number[order], prepend=-1) != 0
        offsets = offset + np.cumsum(new)
        yield instant, _batch(some.take(order), offsets, flag[order])
        begin, before = end, instant
        offset = (int(offsets[-1]) if len(offsets) else offset) + 1


def _batch(arrivals: Arrivals, offset: Ints, flags: NDArray[np.uint8]) -> ReadingBatch:
    return ReadingBatch(
        series=arrivals.series, time=arrivals.time, value=arrivals.value, received=arrivals.received, flags=flags,
        offset=offset,
    )  # fmt: skip


class _ShownAlerts:
    """The series ALERTS and ALERTS_FOR_STATE, which Prometheus records of every alert at every evaluation."""

    def __init__(self, store: SampleStore, rules: Sequence[Rule | Record]) -> None:
        self._store = store
        self._hold = {rule.id: rule.hold for rule in rules if isinstance(rule, Rule)}
        self._before: set[Labels] = set()
        self._since: dict[tuple[str, Labels], int] = {}

    def show(self, instant: int, alerts: Iterator[Alert]) -> None:
        now: dict[Labels, float] = {}
        since: dict[tuple[str, Labels], int] = {}
        for alert in alerts:
            key = (alert.rule, alert.labels)
            waited = self._hold[alert.rule] if alert.state == "firing" else 0
            since[key] = self._since.get(key, alert.active_at - waited)
            now[_labels(alert.labels, __name__="ALERTS", alertstate=alert.state)] = 1.0
            now[_labels(alert.labels, __name__="ALERTS_FOR_STATE")] = since[key] // 10**9
        for labels, value in now.items():
            self._store.add(labels, instant, value)
        for labels in self._before - now.keys():
            self._store.add(labels, instant, STALE)
        self._before, self._since = set(now), since


def _labels(labels: Labels, **more: str) -> Labels:
    return tuple(sorted((dict(labels) | more).items()))
