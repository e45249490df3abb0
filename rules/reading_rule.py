"""An alerting rule driven by readings: which instances to evaluate, at which instants, and the events that follow.

An instance is evaluated at every reading of its operands; at every instant at which data goes stale; and, where the
expression changes with time alone (`age()`), at the instant at which its outcome changes, which is found by bisection.
What its outcome means over time is the lifecycle's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.alerts import Alerts, Emitted
from rules.arithmetic import Floats
from rules.between import Evaluated, Outcome, between, carried, fill, merged, never_back
from rules.columns import Ints
from rules.compile import is_direct
from rules.frames import BatchFrame, ReadingFrame
from rules.lifecycle import FOREVER, NEVER, TRUE, UNKNOWN, Rows, Transitions, advance
from rules.operators import Bools, InstantLeaf, Leaf, Members, Operator
from rules.rule_file import NoData, Rule
from rules.syntax import Selector


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


class ReadingRule(Alerts):
    """The alerts of a pointwise rule."""

    def __init__(self, rule: Rule, members_of: Callable[[Selector], Members]) -> None:
        super().__init__(rule, members_of)
        top = self.compiled.top
        self._of_one_selector = is_direct(top) and top.injective
        if not self._of_one_selector:
            self._follow()
        only = self.leaves[0]
        fresh = len(self.leaves) == 1 and isinstance(only, InstantLeaf) and only.ago.is_zero
        self._fresh = fresh and rule.no_data is not NoData.FIRE

    @property
    def is_direct(self) -> bool:
        """Whether instances are the series of one selector, so that `apply_direct` will do."""
        return self._of_one_selector

    def meet_labels(self) -> None:
        """There are new series, perhaps with labels that the rule's own replace: then series may share an instance."""
        if self._of_one_selector:
            self.instances.meet(self.leaves[0].members.label_names)
            if not self.instances.are_elements:
                self._of_one_selector = False
                self._follow()

    @property
    def _only_readings_fire(self) -> bool:
        """Whether time alone can end alerts, but not begin them."""
        return self._fresh and self.instances.are_elements

    def apply_direct(self, frame: BatchFrame, readings: ReadingFrame, instants: Instants) -> Iterator[Emitted]:
        """Evaluate the rule at all readings of its one selector: most change nothing, and are done with at once."""
        table = self._table
        table.grow(len(self.instances))
        ids, first, last = readings.instance, readings.first, readings.last
        if (table.clock[ids] > readings.time[first]).any():
            touched = Touched(self.leaves[0], readings.element, readings.position)
            yield from self.apply(frame, instants, [touched])
            return
        readings.begin()
        condition, value = self._conditions(readings, readings.element, readings.all_rows)
        horizon = readings.horizon
        busy = self._is_busy(ids, condition[first], readings.time[first])
        follows = readings.follows
        before = follows - 1
        moves = condition[follows] != condition[before]
        if not self._only_readings_fire or condition.any():
            moves |= horizon[before] < readings.time[follows]
        if busy.any() or moves.any():
            group = np.searchsorted(first, follows[moves], side="right") - 1
            busy[group] = True
            count = last - first + 1
            rows = np.flatnonzero(np.repeat(busy, count))
            rows = rows[np.lexsort((readings.position[rows], readings.element[rows]))]
            evaluated = Evaluated(readings.element, readings.position, readings.time, condition, value, horizon).select(
                rows
            )
            yield from self._live(frame, instants, evaluated)
        anchor = readings.time[last] - instants.uptime[readings.position[last]]
        self._keep(ids, condition[last], value[last], readings.time[last], anchor, horizon[last])

    def apply(self, frame: BatchFrame, instants: Instants, touched: Iterable[Touched]) -> Iterator[Emitted]:
        """Evaluate the instances that the readings touch."""
        instance, position = self._rows_of(touched, len(instants.time))
        if not len(instance):
            return
        table = self._table
        table.grow(len(self.instances))
        outcome = self._outcome_in(frame)
        time = never_back(instance, instants.time[position], table.clock)
        condition, value, horizon = outcome(instance, position, time)
        if (frame.latest > time).any():  # an operand that came before this instance was known has a newer sample
            time = never_back(instance, np.maximum(time, frame.latest), table.clock)
            condition, value, horizon = outcome(instance, position, time)
        anchor = frame.anchor
        evaluated = Evaluated(instance, position, time, condition, value, horizon)
        first = np.append(0, np.flatnonzero(np.diff(instance)) + 1)
        last = np.append(first[1:], len(instance)) - 1
        ids = instance[first]

        moves = np.zeros(len(instance), bool)
        moves[1:] = (condition[1:] != condition[:-1]) | (horizon[:-1] < time[1:])
        moves |= condition == UNKNOWN
        moves[first] = self._is_busy(ids, condition[first], time[first])
        busy = np.logical_or.reduceat(moves, first)
        if busy.any():
            yield from self._live(frame, instants, evaluated.select(np.repeat(busy, last - first + 1)))
        self._keep(ids, condition[last], value[last], time[last], anchor[last], horizon[last])

    def settle(self) -> None:
        """The batch is over: what came to be in it is now old."""
        self.compiled.settle()

    def tick(self, frame: BatchFrame, uptime: int, now: int) -> Iterator[Emitted]:
        """Apply what time alone brings about, up to each instance's own "now"; `now` is our clock, ns."""
        table = self._table
        table.grow(len(self.instances))
        ids, local = self._due(uptime)
        if not len(ids):
            return
        firing, holds = table.firing[ids], table.condition[ids] == TRUE
        spans = carried(table, ids, local, np.zeros(len(ids), np.int64))
        found, horizon = fill(self._outcome_in(frame), spans, timed=self.instances.timed)
        order = np.lexsort((found.time, found.instance))
        rows = Rows(found.instance[order], found.time[order], found.condition[order], found.value[order])
        changes = advance(table, rows, ids, local, hold=self.rule.hold, keep=self.rule.keep)
        table.horizon[ids] = horizon
        shown = _shown(rows, changes, ids, firing, holds)
        np.maximum.at(table.clock, rows.instance[shown], rows.time[shown])
        np.maximum.at(table.clock, changes.instance, changes.time)
        for i in range(len(changes.time)):
            yield Emitted(0, self._event(changes, i, now))

    def _due(self, uptime: int) -> tuple[Ints, Ints]:
        """The instances for which time may change something, and their own "now"."""
        table = self._table
        if self._only_readings_fire:
            ids = np.flatnonzero(table.firing | (table.condition == TRUE))
        else:
            ids = np.flatnonzero(table.clock != NEVER)
        if not len(ids):
            return ids, ids
        local = table.anchor[ids] + uptime
        holds = table.condition[ids] == TRUE
        runs = (table.firing[ids] != holds) & ~table.unknown[ids]
        due = np.where(runs, table.since[ids] + np.where(holds, self.rule.hold, self.rule.keep), FOREVER)
        ready = (np.minimum(due, table.horizon[ids]) < local) | self.instances.timed
        return ids[ready], local[ready]

    def _is_busy(self, ids: Ints, condition: NDArray[np.uint8], time: Ints) -> NDArray[np.bool_]:
        """Whether something may happen by the first row of each instance: it changes, or time has changed something."""
        table = self._table
        was, firing = table.condition[ids], table.firing[ids]
        busy = (condition != was) | (firing != (was == TRUE)) | table.unknown[ids]
        stale = table.horizon[ids] < time
        if self.instances.timed:
            stale = np.ones(len(ids), bool)
        elif self._only_readings_fire:
            stale &= firing | (was == TRUE)
        either: NDArray[np.bool_] = busy | stale
        return either

    def _live(self, frame: BatchFrame, instants: Instants, rows: Evaluated) -> Iterator[Emitted]:
        """Take the rows of some instances through their life cycle."""
        first = np.append(0, np.flatnonzero(np.diff(rows.instance)) + 1)
        last = np.append(first[1:], len(rows.instance)) - 1
        timed = self.instances.timed
        found, _ = fill(self._outcome_in(frame), between(self._table, rows, first, timed=timed), timed=timed)
        steps, positions = merged(rows, found)
        ids, until = rows.instance[first], rows.time[last]
        changes = advance(self._table, steps, ids, until, hold=self.rule.hold, keep=self.rule.keep)
        for i in range(len(changes.time)):
            at = int(positions[changes.row[i]])
            yield Emitted(at, self._event(changes, i, int(instants.received[at])))

    def _keep(
        self, ids: Ints, condition: NDArray[np.uint8], value: Floats, time: Ints, anchor: Ints, horizon: Ints
    ) -> None:
        """What the last row of each instance leaves: its value if it held, and its times."""
        table, holds = self._table, np.flatnonzero(condition == TRUE)
        table.value[ids[holds]] = value[holds]
        table.clock[ids], table.anchor[ids], table.horizon[ids] = time, anchor, horizon

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

    def _outcome_in(self, frame: BatchFrame) -> Outcome:
        """What the expression says, as of the instants of the batch."""

        def outcome(instance: Ints, position: Ints, time: Ints) -> tuple[NDArray[np.uint8], Floats, Ints]:
            frame.rows(position, time)
            condition, value = self._conditions(frame, instance, frame.all_rows)
            return condition, value, frame.horizon

        return outcome


def _shown(rows: Rows, changes: Transitions, ids: Ints, firing: Bools, holds: Bools) -> Bools:
    """Which rows can be seen of: the condition holds, or the alert was pending or firing until then.

    firing, holds: (ids,) before the rows.
    """
    group = np.searchsorted(ids, rows.instance)
    shown: Bools = (rows.condition == TRUE) | firing[group] | holds[group]
    for i in np.flatnonzero(rows.instance[1:] == rows.instance[:-1]) + 1:
        if rows.condition[i] == TRUE:
            continue
        before = np.arange(np.searchsorted(rows.instance, rows.instance[i]), i)
        known = before[rows.condition[before] != UNKNOWN]
        held = rows.condition[known[-1]] == TRUE if len(known) else holds[group[i]]
        turned = changes.firing[(changes.instance == rows.instance[i]) & (changes.time <= rows.time[i - 1])]
        shown[i] = held or (turned[-1] if len(turned) else firing[group[i]])
    return shown
