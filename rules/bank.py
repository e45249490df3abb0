"""A bank: all rules whose instances are the elements of one selector, and whose outcomes change at the same instants.

What they have in common is kept once for each element. Of most pairs (element, rule) nothing is to be told at a
reading: the rule did not hold before and does not now, or goes on holding. Those are found for all rules at once, and
only the others go through the life cycle. Here: that. Not here: what rules say (strands), what is remembered (pairs).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.alerts import Alert, Emitted
from rules.calm import Band, Calm
from rules.columns import Columns, Ints, all_of, where
from rules.frames import Readings
from rules.leaves import Members
from rules.lifecycle import FOREVER, NEVER, TRUE, Rows, Transitions, advance, instance_table, shown
from rules.operators import Bools
from rules.pairs import ELSEWHERE, OFF, ON, RESTLESS, Pairs, State, deadlines
from rules.reading_rule import Instants, ReadingRule
from rules.rings import ragged
from rules.samples import Memory
from rules.strands import Panel, Points, Said, joined, of_readings

Told = tuple[int, Emitted]
"""The rule's number in the engine, and its event."""


class Strands(NamedTuple):
    """What is known of strands before they are evaluated; first one for each element, for the pairs on its clock."""

    element: Ints
    clock: Ints
    """ns; NEVER: not seen yet"""
    horizon: Ints
    """ns"""
    state: State
    """(strands, rules)"""
    several: bool = False
    """Elements may have more than one"""


class Moving(NamedTuple):
    """Pairs that may change."""

    strand: Ints
    element: Ints
    column: Ints
    rows: Rows
    """`instance` counts these pairs"""
    position: Ints
    """Of each row"""


class Bank:
    """Rules side by side: pairs are (element, column)."""

    def __init__(
        self,
        members: Members,
        memory: Memory,
        rules: list[tuple[int, ReadingRule]],
        *,
        lazy: bool,
        bands: Sequence[Band],
    ) -> None:
        """rules: with their numbers in the engine; lazy: only a reading can begin an alert, so that nothing but what
        holds or fires is looked at when time passes; bands: of the rules, if all have one.
        """
        self.members, self._newest, self._lazy = members, memory.newest, lazy
        self._rules = [rule for _, rule in rules]
        self.numbers = [number for number, _ in rules]
        self._panel = Panel(members, memory, self._rules)
        self._hold = np.array([rule.rule.hold for rule in self._rules], np.int64)
        self._keep = np.array([rule.rule.keep for rule in self._rules], np.int64)
        self._pairs = Pairs(len(rules))
        self._calm = Calm(members, memory, bands) if bands else None
        self._elements = Columns(
            horizon=("i8", FOREVER),  # instant at which outcomes may change although no reading comes
            due=("i8", FOREVER),  # no timer of a pair ends before
            busy=("?", False),  # some pair is not OFF
        )

    def meet_labels(self) -> list[tuple[int, ReadingRule]]:
        """There are new elements → the rules for which elements now share instances: they have left the bank."""
        left = []
        for column, rule in enumerate(self._rules):
            if column not in self._panel.gone and not rule.meet_labels():
                self._release(column)
                left.append((self.numbers[column], rule))
        return left

    def apply(self, readings: Readings, instants: Instants) -> Iterator[Told]:
        """Evaluate all rules at readings."""
        self._grow()
        if self._calm is not None:
            rows, woken = self._calm.stirred(readings, self._elements.busy.take(readings.element))
            if not len(rows):
                return
            self._elements.horizon[readings.element[woken]] = FOREVER
            if len(rows) < len(readings.element):
                readings = readings.select(rows)
        points, touched, last = of_readings(readings.element, readings.position, readings.time, readings.value)
        newest = points.time[last]
        strands = self._strands(touched)
        until = newest
        if strands.several:
            own = np.searchsorted(touched, strands.element[len(touched) :])
            points, last = joined(points, own, last, strands.clock[len(touched) :])
            newest = np.append(newest, newest[own])
            until = points.time[last]
        begins = np.zeros(len(last), np.int64)
        np.add(last[:-1], 1, out=begins[1:])
        carried = where(strands.horizon < points.time[begins])
        if len(carried):
            eager = self._elements.busy[strands.element[carried]] | (not self._lazy)
            carried = carried[eager & (strands.clock[carried] != NEVER)]
        following = self._following(strands, carried, points.time[begins[carried]], points.position[begins[carried]])
        said = self._panel.say(strands.element, strands.horizon, points, following)
        moves = _moves(said, strands)
        passed = where(self._elements.due[touched] <= newest[: len(touched)])
        if len(passed):
            moves[passed] |= strands.state[passed] == ON
            self._elements.due[touched[passed]] = FOREVER
        self._elements.horizon[touched] = said.horizon[: len(touched)]
        self._keep_values(said, strands, moves)
        moving = self._moving(said, strands, moves)
        if moving is None:
            return
        until = until[moving.strand]
        columns = self._pairs.take(moving.element, moving.column)
        columns.clock[:] = np.maximum(columns.clock, strands.clock[moving.strand])
        changes = advance(
            columns, moving.rows, None, until,
            hold=self._hold[moving.column], keep=self._keep[moving.column],
        )  # fmt: skip
        columns.clock[:], columns.horizon[:] = until, said.horizon[moving.strand]
        self._put(moving, columns, newest[moving.strand])
        for i in range(len(changes.time)):
            pair, at = int(changes.instance[i]), int(moving.position[changes.row[i]])
            yield self._told(changes, i, moving, pair, at, int(instants.received[at]))

    def tick(self, uptime: int, now: int) -> Iterator[Told]:
        """Apply what time alone brings about, up to each element's own "now"; `now` is our clock, ns."""
        self._grow()
        elements, ids = self._elements, self.members.ids
        if not len(ids):
            return
        local = self._newest.anchor[ids] + uptime
        wakes = elements.horizon < local
        if self._lazy:
            wakes &= elements.busy
        elif self._calm is not None:
            some = where(wakes)
            calm = some[self._calm.has(some, elements.busy[some])]
            wakes[calm], elements.horizon[calm] = False, FOREVER
        wakes |= elements.due < local
        wakes &= self._newest.time[ids] != NEVER
        touched = where(wakes)
        if not len(touched):
            return
        strands = self._strands(touched)
        local = local[strands.element]
        carried = where(strands.horizon < local)
        following = self._following(strands, carried, local[carried], np.zeros(len(carried), np.int64), final=True)
        said = self._panel.say(strands.element, strands.horizon, following, None)
        moves = _moves(said, strands)
        moves |= (strands.state == ON) | (strands.state == RESTLESS)
        elements.due[touched] = FOREVER
        elements.horizon[touched] = said.horizon[: len(touched)]
        moving = self._moving(said, strands, moves)
        if moving is None:
            return
        columns = self._pairs.take(moving.element, moving.column)
        columns.clock[:] = np.maximum(columns.clock, strands.clock[moving.strand])
        rows, firing, holds = moving.rows, columns.firing.copy(), columns.condition == TRUE
        changes = advance(
            columns, rows, None, local[moving.strand],
            hold=self._hold[moving.column], keep=self._keep[moving.column],
        )  # fmt: skip
        columns.horizon[:] = said.horizon[moving.strand]
        seen = shown(rows, changes, np.arange(len(columns)), firing, holds)
        np.maximum.at(columns.clock, rows.instance[seen], rows.time[seen])
        np.maximum.at(columns.clock, changes.instance, changes.time)
        self._put(moving, columns, self._newest.time[ids[moving.element]])
        for i in range(len(changes.time)):
            yield self._told(changes, i, moving, int(changes.instance[i]), 0, now)

    def active(self, number: int) -> Iterator[Alert]:
        """The alerts of a rule that are pending or firing."""
        column = self.numbers.index(number)
        row, element, rule = self._pairs.known()
        mine = rule == column
        yield from self._rules[column].alerts_of(self._pairs.table.take(row[mine]), element[mine])

    def snapshot(self) -> dict[str, NDArray[Any]]:
        return self._pairs.arrays() | {"elements.horizon": self._horizon()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._grow()
        self._elements.horizon[:] = arrays["elements.horizon"]
        self._pairs.load(arrays)
        if self._calm is not None:
            self._calm.forget()
        _, element, column = self._pairs.known()
        self._schedule(element, column, self._pairs.take(element, column), self._newest.time[self.members.ids[element]])

    def _grow(self) -> None:
        if len(self._elements) == len(self.members):
            return
        self._elements.grow(len(self.members))
        self._pairs.grow(len(self.members))
        if self._calm is not None:
            self._calm.grow(len(self.members))

    def _horizon(self) -> Ints:
        """(elements,) ns; time alone changes nothing where all is calm."""
        horizon = self._elements.horizon.copy()
        if self._calm is not None:
            horizon[self._calm.has(np.arange(len(horizon)), self._elements.busy)] = FOREVER
        return horizon

    def _strands(self, touched: Ints) -> Strands:
        """One for each element, and one for each pair whose own clock is ahead of the element's."""
        state = self._pairs.state.take(touched, axis=0)
        clock, horizon = self._newest.time[self.members.ids[touched]], self._elements.horizon[touched]
        strands = Strands(touched, clock, horizon, state)
        busy = where(self._elements.busy[touched])
        if not len(busy):
            return strands
        strand, column = _where(state[busy] == RESTLESS)
        strand = busy[strand]
        row = self._pairs.rows(touched[strand], column)
        ahead = where(self._pairs.table.clock[row] > clock[strand])
        if not len(ahead):
            return strands
        strand, column, row = strand[ahead], column[ahead], row[ahead]
        state[strand, column] = ELSEWHERE
        own = np.full((len(row), state.shape[1]), ELSEWHERE, np.uint8)
        own[np.arange(len(row)), column] = RESTLESS
        table = self._pairs.table
        return Strands(
            np.append(touched, touched[strand]),
            np.append(clock, table.clock[row]),
            np.append(horizon, table.horizon[row]),
            np.concatenate([state, own]),
            several=True,
        )

    def _following(
        self, strands: Strands, carried: Ints, end: Ints, position: Ints, *, final: bool = False
    ) -> Points | None:
        """The first instants at which outcomes may change after what was known before."""
        if not len(carried):
            return None
        series = self.members.ids[strands.element[carried]]
        return Points(
            carried, strands.horizon[carried], self._newest.value[series], self._newest.time[series],
            position, end, position, np.full(len(carried), final),
        )  # fmt: skip

    def _moving(self, said: Said, strands: Strands, moves: Bools) -> Moving | None:
        """The pairs that may change, and what is said of them."""
        strand, column = _where(moves)
        if not len(strand):
            return None
        start, count = said.start[strand], said.count[strand]
        pair, point = np.arange(len(strand)).repeat(count), ragged(start, count)
        condition, value = said.condition[point, column[pair]], said.value(point, column[pair])
        rows = Rows(pair, said.time[point], condition, value)
        return Moving(strand, strands.element[strand], column, rows, said.position[point])

    def _keep_values(self, said: Said, strands: Strands, moves: Bools) -> None:
        """The value of what goes on holding."""
        busy = where(self._elements.busy[strands.element])
        if not len(busy):
            return
        strand, column = _where((strands.state[busy] == ON) & ~moves[busy])
        strand = busy[strand]
        if not len(strand):
            return
        row = self._pairs.rows(strands.element[strand], column)
        self._pairs.table.value[row] = said.value(said.start[strand] + said.count[strand] - 1, column)

    def _put(self, moving: Moving, columns: Columns, newest: Ints) -> None:
        """Remember the pairs; newest: (pairs,) time of their elements' newest readings."""
        holds = columns.condition == TRUE
        state = np.where(holds, np.uint8(ON), np.where(columns.firing, np.uint8(RESTLESS), np.uint8(OFF)))
        state[columns.unknown | (columns.clock > newest)] = RESTLESS
        self._pairs.put(moving.element, moving.column, columns, state)
        self._schedule(moving.element, moving.column, columns, newest)

    def _schedule(self, element: Ints, column: Ints, columns: Columns, newest: Ints) -> None:
        """When the pairs are to be looked at again."""
        due = deadlines(columns, self._hold[column], self._keep[column])
        due = np.where(columns.clock > newest, np.minimum(due, columns.horizon), due)
        np.minimum.at(self._elements.due, element, due)
        self._elements.busy[element] = (self._pairs.state[element] != OFF).any(axis=1)

    def _told(self, changes: Transitions, i: int, moving: Moving, pair: int, position: int, now: int) -> Told:
        column = int(moving.column[pair])
        event = self._rules[column].event(changes, i, int(moving.element[pair]), now)
        return self.numbers[column], Emitted(position, event)

    def _release(self, column: int) -> None:
        """Hand over the state of a rule."""
        self._grow()
        ids = self.members.ids
        columns = instance_table()
        columns.grow(len(ids))
        row, element, rule = self._pairs.known()
        mine = rule == column
        columns.put(element[mine], self._pairs.table.take(row[mine]))
        ahead = columns.clock > self._newest.time[ids]
        columns.clock[:] = np.maximum(columns.clock, self._newest.time[ids])
        columns.anchor[:] = self._newest.anchor[ids]
        columns.horizon[:] = np.where(ahead, columns.horizon, self._horizon())
        self._rules[column].restore(columns.arrays())
        nothing = instance_table()
        nothing.grow(int(mine.sum()))
        self._pairs.put(element[mine], rule[mine], nothing, np.zeros(len(nothing), np.uint8))
        self._panel.gone.add(column)


def _moves(said: Said, strands: Strands) -> Bools:
    """(strands, rules) Which pairs may change at what is said, apart from what timers do."""
    holds, state = said.condition == TRUE, strands.state
    if len(said.time) == len(state) and all_of(said.count == 1):
        moves: Bools = holds.view(np.uint8) != state
    else:
        moves = state == RESTLESS
        point, column = _where(holds.view(np.uint8) != state.take(said.strand, axis=0))
        moves[said.strand[point], column] = True
    if strands.several:
        moves[state == ELSEWHERE] = False
    return moves


def _where(pairs: Bools) -> tuple[Ints, Ints]:
    """Row and column of what is true; many times faster than nonzero."""
    row, column = np.divmod(where(pairs.ravel()), pairs.shape[1])
    return row, column
