"""One alerting rule at work: which of its instances to evaluate, at which instants, and the events that follow.

An instance is evaluated at every reading of its operands; at every instant at which data goes stale; and, where the
expression changes with time alone (`age()`), at the instant at which its outcome changes, which is found by bisection.
What its outcome means over time is the lifecycle's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.compile import Compiled
from rules.frames import BatchFrame
from rules.instances import Instances
from rules.lifecycle import FALSE, FOREVER, NEVER, TRUE, UNKNOWN, Rows, Transitions, advance, instance_table
from rules.operators import BEFORE, LabelsOf, Leaf, Operator
from rules.promql import Labels
from rules.rule_file import NoData, Rule
from telemetry import AlertEvent, AlertState

_NO_DATA = {NoData.KEEP: UNKNOWN, NoData.RESOLVE: FALSE, NoData.FIRE: TRUE}


class Instants(NamedTuple):
    """The instants of a batch, by position."""

    time: Ints
    """(p,) event time, ns"""
    uptime: Ints
    """(p,) ns that the engine had been up when the reading came"""
    received: Ints
    """(p,) our clock, ns"""


class Touched(NamedTuple):
    """Readings of a leaf's elements, by position."""

    leaf: Leaf
    element: Ints
    position: Ints


class Emitted(NamedTuple):
    """An event, and the position in the batch at which it became known."""

    position: int
    event: AlertEvent


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is pending or firing now."""

    rule: str
    labels: Labels
    annotations: Labels
    state: str
    """`pending` or `firing`"""
    active_at: int
    """ns: since when the condition holds (pending) or the alert fires (firing)"""
    value: float


class _Spans(NamedTuple):
    """Stretches of time between two evaluations of an instance."""

    instance: Ints
    position: Ints
    """What was known: the samples up to this position."""
    start: Ints
    condition: NDArray[np.uint8]
    """Outcome at the start."""
    horizon: Ints
    """Instant at which the outcome may change although no reading comes."""
    end: Ints
    reveal: Ints
    """Position of the reading that ends it."""

    def select(self, which: NDArray[Any]) -> _Spans:
        return _Spans(*[column[which] for column in self])


class _Found(NamedTuple):
    """Evaluations between readings."""

    instance: Ints
    time: Ints
    condition: NDArray[np.uint8]
    value: Floats
    reveal: Ints


class AlertingRule:
    """The instances of one rule, and their state."""

    def __init__(self, rule: Rule, series: LabelsOf) -> None:
        self.rule = rule
        compiled = Compiled(rule.expression, series)
        self.leaves, self._keyed = compiled.leaves, compiled.keyed
        self.instances = Instances(compiled.top, rule)
        self._table = instance_table()

    def apply(self, frame: BatchFrame, instants: Instants, touched: Iterable[Touched]) -> Iterator[Emitted]:
        """Evaluate the instances that the readings touch."""
        instance, position = self._rows_of(touched, len(instants.time))
        if not len(instance):
            return
        table = self._table
        table.grow(len(self.instances))
        time = _never_back(instance, instants.time[position], table.clock)
        condition, value, horizon = self._outcome(frame, instance, position, time)
        if (frame.latest > time).any():  # an operand that came before this instance was known has a newer sample
            time = _never_back(instance, np.maximum(time, frame.latest), table.clock)
            condition, value, horizon = self._outcome(frame, instance, position, time)
        first = np.append(0, np.flatnonzero(np.diff(instance)) + 1)
        last = np.append(first[1:], len(instance)) - 1
        ids = instance[first]

        spans = self._between(instance, position, time, condition, horizon, first)
        found, _ = self._fill(frame, spans)
        rows, positions = _merged(instance, position, time, condition, value, found)
        changes = advance(table, rows, ids, time[last], hold=self.rule.hold, keep=self.rule.keep)
        table.clock[ids] = time[last]
        table.anchor[ids] = time[last] - instants.uptime[position[last]]
        table.horizon[ids] = horizon[last]
        for i in range(len(changes.time)):
            at = int(positions[changes.row[i]])
            yield Emitted(at, self._event(changes, i, int(instants.received[at])))

    def settle(self) -> None:
        """The batch is over: what came to be in it is now old."""
        for operator in self._keyed:
            operator.settle()

    def tick(self, frame: BatchFrame, uptime: int, now: int) -> Iterator[Emitted]:
        """Apply what time alone brings about, up to each instance's own "now"; `now` is our clock, ns."""
        table = self._table
        table.grow(len(self.instances))
        running = table.firing != (table.condition == TRUE)
        wait = np.where(table.condition == TRUE, self.rule.hold, self.rule.keep)
        due = np.where(running & ~table.unknown, table.since + wait, FOREVER)
        local = table.anchor + uptime
        ready = (np.minimum(due, table.horizon) < local) | self.instances.timed
        ids = np.flatnonzero(ready & (table.clock != NEVER))
        if not len(ids):
            return
        spans = self._carried(ids, local[ids], np.zeros(len(ids), np.int64))
        found, horizon = self._fill(frame, spans)
        order = np.lexsort((found.time, found.instance))
        rows = Rows(found.instance[order], found.time[order], found.condition[order], found.value[order])
        changes = advance(table, rows, ids, local[ids], hold=self.rule.hold, keep=self.rule.keep)
        table.horizon[ids] = horizon
        np.maximum.at(table.clock, rows.instance, rows.time)
        np.maximum.at(table.clock, changes.instance, changes.time)
        for i in range(len(changes.time)):
            yield Emitted(0, self._event(changes, i, now))

    def active(self) -> Iterator[Alert]:
        """All alerts that are pending or firing."""
        table = self._table
        for i in np.flatnonzero(table.firing | (table.condition == TRUE)).tolist():
            firing = bool(table.firing[i])
            since = int(table.fired_at[i] if firing else table.since[i])
            value = float(table.value[i])
            annotations = self._annotations(i, value)
            state = "firing" if firing else "pending"
            yield Alert(self.rule.id, self.instances.labels(i), annotations, state, since, value)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        return self._table.arrays()

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._table.load(arrays)

    def _rows_of(self, touched: Iterable[Touched], positions: int) -> tuple[Ints, Ints]:
        """The (instance, position) pairs to evaluate, each once, sorted."""
        keys: list[Ints] = []
        for leaf, element, position in touched:
            node: Operator = leaf
            at, above = position, element
            while node is not self.instances:
                which, above = node.parents(above)
                at = at if which is None else at[which]
                node = node.parent
                born = node.born(above)
                if born is not None:
                    above, at = above[at >= born], at[at >= born]
            keys.append(above * positions + at)
        if not keys:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        instance, position = np.divmod(np.unique(np.concatenate(keys)), positions)
        return instance, position

    def _outcome(
        self, frame: BatchFrame, instance: Ints, position: Ints, time: Ints
    ) -> tuple[NDArray[np.uint8], Floats, Ints]:
        """What the expression says at each row → condition, value, horizon."""
        frame.rows(position, time)
        value, present, unknown = self.instances.evaluate(frame, instance, frame.all_rows)
        condition = np.where(present, TRUE, np.where(unknown, _NO_DATA[self.rule.no_data], FALSE))
        return condition.astype(np.uint8), np.where(present, value, np.nan), frame.horizon

    def _carried(self, ids: Ints, end: Ints, reveal: Ints) -> _Spans:
        """The spans since the instances were last evaluated."""
        table = self._table
        condition = np.where(table.unknown[ids], UNKNOWN, table.condition[ids]).astype(np.uint8)
        before = np.full(len(ids), BEFORE)
        return _Spans(ids, before, table.clock[ids], condition, table.horizon[ids], end, reveal)

    def _between(
        self, instance: Ints, position: Ints, time: Ints, condition: NDArray[np.uint8], horizon: Ints, first: Ints
    ) -> _Spans:
        """The spans before each row that can hold a change: those that reach a horizon, or all when time matters."""
        old = first[self._table.clock[instance[first]] != NEVER]
        carried = self._carried(instance[old], time[old], position[old])
        inner = np.ones(len(instance), bool)
        inner[first] = False
        after = np.flatnonzero(inner)
        at = after - 1
        rows = _Spans(instance[at], position[at], time[at], condition[at], horizon[at], time[after], position[after])
        spans = _Spans(*_stacked(carried, rows))
        return spans if self.instances.timed else spans.select(spans.horizon < spans.end)

    def _fill(self, frame: BatchFrame, spans: _Spans) -> tuple[_Found, Ints]:
        """Evaluate inside the spans wherever the outcome may change → those rows, and each span's last horizon."""
        found: list[_Found] = []
        horizon, index = spans.horizon.copy(), np.arange(len(spans.instance))
        while len(index):
            if self.instances.timed:
                found.append(self._crossings(frame, spans))
            stale = np.flatnonzero(spans.horizon < spans.end)
            spans, index = spans.select(stale), index[stale]
            if not len(index):
                break
            at = spans.horizon
            condition, value, beyond = self._outcome(frame, spans.instance, spans.position, at)
            found.append(_Found(spans.instance, at, condition, value, spans.reveal))
            horizon[index] = beyond
            spans = spans._replace(start=at, condition=condition, horizon=beyond)
        if not found:
            none = np.zeros(0, np.int64)
            return _Found(none, none, np.zeros(0, np.uint8), np.zeros(0), none), horizon
        return _Found(*_stacked(*found)), horizon

    def _crossings(self, frame: BatchFrame, spans: _Spans) -> _Found:
        """Where the outcome changes inside a span by time alone: the first instant that has the outcome of its end.

        The end itself belongs to what ends the span, so the last instant looked at is 1 ns before it. A span in which
        the outcome changes and changes back is taken for one without a change.
        """
        low, high = spans.start.copy(), np.minimum(spans.horizon, spans.end) - 1
        open_ = np.flatnonzero(high > low)
        ends = self._outcome(frame, spans.instance[open_], spans.position[open_], high[open_])[0]
        open_ = open_[ends != spans.condition[open_]]
        instance, position = spans.instance[open_], spans.position[open_]
        before, low, high = spans.condition[open_], low[open_], high[open_]
        while len(open_) and (high - low > 1).any():
            middle = low + (high - low) // 2
            same = self._outcome(frame, instance, position, middle)[0] == before
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        condition, value, _ = self._outcome(frame, instance, position, high)
        return _Found(instance, high, condition, value, spans.reveal[open_])

    def _event(self, changes: Transitions, i: int, detected_at: int) -> AlertEvent:
        instance, firing, value = int(changes.instance[i]), bool(changes.firing[i]), float(changes.value[i])
        return AlertEvent(
            rule=self.rule.id,
            labels=self.instances.labels(instance),
            state=AlertState.FIRING if firing else AlertState.RESOLVED,
            value=value,
            starts_at=int(changes.starts_at[i]),
            ends_at=0 if firing else int(changes.time[i]),
            detected_at=detected_at,
            annotations=self._annotations(instance, value),
        )

    def _annotations(self, instance: int, value: float) -> Labels:
        labels = dict(self.instances.labels(instance))
        return tuple((name, template.expand(labels, value)) for name, template in self.rule.annotations)


def _never_back(instance: Ints, time: Ints, clock: Ints) -> Ints:
    """The instants of each instance, none before an earlier one: what comes late is evaluated at the newest instant."""
    time = np.maximum(time, clock[instance])
    for i in np.unique(instance[1:][(np.diff(instance) == 0) & (np.diff(time) < 0)]).tolist():
        rows = slice(*np.searchsorted(instance, [i, i + 1]))
        time[rows] = np.maximum.accumulate(time[rows])
    return time


def _merged(
    instance: Ints, position: Ints, time: Ints, condition: NDArray[np.uint8], value: Floats, found: _Found
) -> tuple[Rows, Ints]:
    """Rows at readings and rows between them, in order → rows, and the position that shows each."""
    if not len(found.instance):
        return Rows(instance, time, condition, value), position
    both = _stacked((instance, time, condition, value, position), found)
    order = np.lexsort((both[1], both[0]))
    instance, time, condition, value, position = (column[order] for column in both)
    return Rows(instance, time, condition, value), position


def _stacked(*parts: tuple[Any, ...]) -> list[Any]:
    """Column by column, the parts one after the other."""
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
