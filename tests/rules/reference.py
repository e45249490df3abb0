"""A slow, obvious evaluator: one reading, one rule, one instance at a time, with dictionaries.

The engine must equal it. It shares with the engine only the parsed rule (syntax tree, durations, templates) and the
event type. Here: the stream, and rules that are evaluated at every reading; the others are in reference_grid.py, the
meaning of expressions in promql_reference.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rules.syntax import Binary, Call, Expression, Labels, Number, Range, Selector, operands
from telemetry import AlertEvent, SeriesTable
from tests.rules.promql_reference import Track, World, evaluate
from tests.rules.promql_reference_functions import EvaluationError
from tests.rules.reference_alerts import (
    FALSE,
    NEVER,
    TRUE,
    UNKNOWN,
    Instance,
    drain,
    final,
    in_order,
    outcome,
    turn,
)
from tests.rules.reference_elements import is_pointwise, potential
from tests.rules.reference_grid import Grid

AGE_CHANGES = {">": [1], "<=": [1], ">=": [0], "<": [0], "==": [0, 1], "!=": [0, 1]}
"""ns after the limit at which a comparison of an age changes its answer"""
MAX_GAP = 5 * 10**9
S = 10**9

Samples = dict[int, tuple[tuple[int, float], ...]]
"""(time, value) by series, in the order in which the series appeared"""


class Reference:
    def __init__(
        self, rules: Sequence[Any], table: SeriesTable, staleness: int, *, recorded_staleness: int = 300 * S
    ) -> None:
        """rules: alerting and recording rules, in the order of the file; staleness: ns."""
        self.table, self.staleness = table, staleness
        recorded = {rule.record for rule in rules if hasattr(rule, "record")}
        pointwise = [not hasattr(r, "record") and is_pointwise(r.expression, recorded) for r in rules]
        self.rules = {i: rule for i, rule in enumerate(rules) if pointwise[i]}
        self.grid = Grid({i: rule for i, rule in enumerate(rules) if not pointwise[i]}, recorded_staleness)
        self.samples: Samples = {}
        self.anchors: dict[int, int] = {}
        self.instances: dict[int, dict[Labels, Instance]] = {i: {} for i in self.rules}
        self.uptime = 0
        self.last: int | None = None
        self.out: list[AlertEvent] = []

    # ---- the stream
    def message(self, rows: Sequence[tuple[int, int, float]], received: int) -> None:
        """rows: (series, time, value) of one message, live ones, in order of time."""
        self.pass_time(received)
        for time in sorted({t for _, t, _ in rows}):
            readings = {s: (t, v) for s, t, v in rows if t == time}
            self.anchors |= {s: t - self.uptime for s, (t, _) in readings.items()}
            before, self.samples = self.samples, dict(self.samples)
            for s, reading in readings.items():
                self.samples[s] = (*self.samples.get(s, ()), reading)
            found = []
            for i, rule in self.rules.items():
                for labels, series in self.potential(rule).items():
                    if series & set(readings):
                        instance = self.instances[i].setdefault(labels, Instance(labels))
                        self.reading(rule, instance, series, before, time, received)
                        found += [(i, e) for e in drain(instance)]
            self.out += in_order(found)

    def tick(self, now: int) -> None:
        self.pass_time(now)
        found = []
        for i, rule in self.rules.items():
            for instance in self.instances[i].values():
                if instance.clock is not None:
                    instance.clock = self.until(rule, instance, instance.anchor + self.uptime, now)
                found += [(i, e) for e in drain(instance)]
        found += self.grid.tick(now, self.uptime, lambda at: self.on_the_grid(at, self.uptime - (now - at)))
        self.out += in_order(found)

    def pass_time(self, now: int) -> None:
        if self.last is not None:
            self.uptime += min(max(now - self.last, 0), MAX_GAP)
        self.last = now

    def tracks(self, samples: Samples) -> dict[int, Track]:
        return {s: Track(self.labels(s), rows, self.staleness) for s, rows in samples.items()}

    def labels(self, s: int) -> Labels:
        return tuple(sorted((("__name__", self.table[s].metric), *self.table[s].labels)))

    def on_the_grid(self, at: int, uptime: int) -> list[Track]:
        """Each series as of its own clock, which goes on from its newest sample as we do."""
        own = {s: self.anchors[s] + uptime for s in self.samples}
        return [Track(self.labels(s), rows, self.staleness, shift=own[s] - at) for s, rows in self.samples.items()]

    # ---- one instance
    def reading(
        self, rule: Any, instance: Instance, series: set[int], before: Samples, time: int, received: int
    ) -> None:
        saw = [self.samples[s][-1][0] for s in series]
        time = max(time, instance.clock if instance.clock is not None else NEVER, *saw)
        if instance.clock is not None:
            now, self.samples = self.samples, before
            self.until(rule, instance, time, received)
            self.samples = now
        self.evaluate(rule, instance, time, received)
        instance.clock = time
        instance.anchor = max(self.anchors[s] for s in series)

    def until(self, rule: Any, instance: Instance, end: int, detected: int) -> int:
        """Everything that happens strictly before `end` without a reading → the last instant at which it did."""
        series = self.potential(rule).get(instance.labels, set())
        assert instance.clock is not None
        last = done = instance.clock
        for at in sorted(self.change_instants(rule.expression, series)):
            if done < at < end:
                active = instance.firing or instance.condition
                self.evaluate(rule, instance, at, detected)
                done = at
                if active or instance.condition:  # else nothing can be seen of it
                    last = at
        before = len(instance.events)
        self.deadlines(rule, instance, end, detected)
        times = [e.ends_at or e.starts_at for e in instance.events[before:]]
        return max([last, *times])

    def change_instants(self, node: Expression, series: set[int]) -> Iterator[int]:
        """Instants at which the outcome may change by itself: a sample comes into view or leaves it, an age passes."""
        match node:
            case Binary(op, Call("age", (Selector() as selector,)), Number(seconds)):
                for times in self.times(selector, series):
                    yield from (times[-1] + round(seconds * 1e9) + more for more in AGE_CHANGES[op])
            case Selector():
                for times in self.times(node, series):
                    yield from shown(times, node.instant.offset, self.staleness)
            case Range(selector):
                for times in self.times(selector, series):
                    yield from delayed(times, selector.instant.offset)
                    yield from (t + selector.instant.offset + node.duration for t in times)
            case _:
                for operand in operands(node):
                    yield from self.change_instants(operand, series)

    def times(self, selector: Selector, series: set[int]) -> Iterator[list[int]]:
        """The instants of the samples of each series that is meant."""
        for s in series:
            if s in self.samples and selector.matches(self.table[s]):
                yield [t for t, _ in self.samples[s]]

    def evaluate(self, rule: Any, instance: Instance, at: int, detected: int) -> None:
        """What the expression says of the instance, seeing what it depends on."""
        series = self.potential(rule).get(instance.labels, set())
        world = World([track for s, track in self.tracks(self.samples).items() if s in series])
        try:
            elements = evaluate(rule.expression, at, world)
        except EvaluationError:
            self.step(rule, instance, at, UNKNOWN, 0.0, detected)  # all stays as it is
            return
        own = [e for e in elements if final(rule, e.labels) == instance.labels]
        self.step(rule, instance, at, *outcome(rule, own), detected)

    def step(self, rule: Any, instance: Instance, at: int, condition: str, value: float, detected: int) -> None:
        """Prometheus' state machine, one evaluation."""
        self.deadlines(rule, instance, at, detected)
        if instance.unknown_since is not None:
            instance.since += at - instance.unknown_since
            instance.unknown_since = None
        if condition == UNKNOWN:
            instance.unknown_since = at
            return
        if instance.condition != (condition == TRUE):
            instance.condition, instance.since = condition == TRUE, at
        if condition != FALSE:
            instance.value = value
        self.deadlines(rule, instance, at + 1, detected)

    def deadlines(self, rule: Any, instance: Instance, before: int, detected: int) -> None:
        """A timer that passes strictly before `before`."""
        if instance.unknown_since is None:
            wait = rule.hold if instance.condition else rule.keep
            if instance.firing != instance.condition and instance.since + wait < before:
                turn(rule, instance, instance.since + wait, detected)

    def potential(self, rule: Any) -> dict[Labels, set[int]]:
        """Final labels → series of each instance that the series seen so far can give."""
        merged: dict[Labels, set[int]] = {}
        for p in potential(rule.expression, self.tracks(self.samples)):
            merged.setdefault(final(rule, p.labels), set()).update(p.series)
        return merged


def shown(times: Sequence[int], offset: int, staleness: int) -> Iterator[int]:
    """The instants at which a sample becomes visible, or goes stale without another in its place."""
    yield from delayed(times, offset)
    for t, following in zip(times, [*times[1:], None], strict=True):
        if following is None or following > t + staleness:
            yield t + offset + staleness


def delayed(times: Sequence[int], offset: int) -> Iterator[int]:
    """Without an offset, samples become visible by being read."""
    if offset:
        yield from (t + offset for t in times)
