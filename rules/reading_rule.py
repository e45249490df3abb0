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
from rules.frames import BatchFrame
from rules.leaves import InstantLeaf, Leaf, Members
from rules.lifecycle import FOREVER, NEVER, TRUE, UNKNOWN, Rows, advance, shown
from rules.operators import Operator
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
        self._in_error: set[int] = set()
        """Instances that could not be evaluated at the newest instant looked at"""
        if not self._of_one_selector:
            self._follow()

    @property
    def is_direct(self) -> bool:
        """Whether instances are the series of one selector, and no instant at which time changes them is unknown."""
        return self._of_one_selector and not self.instances.timed

    @property
    def is_lazy(self) -> bool:
        """Of direct rules: whether time alone can end alerts, but not begin them."""
        only = self.leaves[0]
        return isinstance(only, InstantLeaf) and only.ago.is_zero and self.rule.no_data is not NoData.FIRE

    def meet_labels(self) -> bool:
        """There are new series, perhaps with labels that the rule's own replace: then series may share an instance.

        Returns whether instances still are the series of one selector.
        """
        if self._of_one_selector:
            self.instances.meet(self.leaves[0].members.label_names)
            if not self.instances.are_elements:
                self._of_one_selector = False
                self._follow()
        return self._of_one_selector

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
        anchor, failed = frame.anchor, frame.failed
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
        self.note_errors(ids, failed[last])

    def note_errors(self, instance: Ints, failed: NDArray[np.bool_]) -> None:
        """Whether each instance could not be evaluated at its newest instant; `error` ends with the last one's."""
        if not self.error:
            return
        self._in_error.difference_update(instance.tolist())
        self._in_error.update(instance[failed].tolist())
        if not self._in_error:
            self.error = ""

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
        failures: set[tuple[int, int]] = set()
        found, horizon = fill(self._outcome_in(frame, failures), spans, timed=self.instances.timed)
        order = np.lexsort((found.time, found.instance))
        rows = Rows(found.instance[order], found.time[order], found.condition[order], found.value[order])
        if self.error:
            newest = dict(zip(rows.instance.tolist(), rows.time.tolist(), strict=True))
            self.note_errors(np.array([*newest], np.int64), np.array([at in failures for at in newest.items()], bool))
        changes = advance(table, rows, ids, local, hold=self.rule.hold, keep=self.rule.keep)
        table.horizon[ids] = horizon
        seen = shown(rows, changes, ids, firing, holds)
        np.maximum.at(table.clock, rows.instance[seen], rows.time[seen])
        np.maximum.at(table.clock, changes.instance, changes.time)
        for i in range(len(changes.time)):
            yield Emitted(0, self.event(changes, i, int(changes.instance[i]), now))

    def _due(self, uptime: int) -> tuple[Ints, Ints]:
        """The instances for which time may change something, and their own "now"."""
        table = self._table
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
            yield Emitted(at, self.event(changes, i, int(changes.instance[i]), int(instants.received[at])))

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

    def _outcome_in(self, frame: BatchFrame, failures: set[tuple[int, int]] | None = None) -> Outcome:
        """What the expression says, as of the instants of the batch; failures: takes instances and instants."""

        def outcome(instance: Ints, position: Ints, time: Ints) -> tuple[NDArray[np.uint8], Floats, Ints]:
            frame.rows(position, time)
            condition, value = self._conditions(frame, instance, frame.all_rows)
            if failures is not None and frame.failure:
                failures.update(zip(instance[frame.failed].tolist(), time[frame.failed].tolist(), strict=True))
            return condition, value, frame.horizon

        return outcome
