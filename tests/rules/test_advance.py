"""The law of `advance`: over columns it does what a timer that walks from instant to instant does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from rules.columns import Columns
from rules.lifecycle import FALSE, TRUE, UNKNOWN, Rows, Transitions, advance, instance_table

Row = tuple[int, int, float]
"""time, condition, value"""


@dataclass
class Walker:
    """One alert, instant by instant."""

    hold: int
    keep: int
    now: int = 0
    firing: bool = False
    condition: int = FALSE
    unknown: bool = False
    age: float = math.inf
    """How long the condition has been what it is, without the time in which data was unknown."""
    value: float = math.nan
    fired_at: int = 0
    out: list[tuple[bool, int, int, float, int]] = field(default_factory=list)

    def walk(self, rows: Sequence[Row], until: int) -> list[tuple[bool, int, int, float, int]]:
        """(firing, time, starts at, value, row that showed it) of what happens up to `until`."""
        self.out, done = [], 0
        while True:
            while done < len(rows) and rows[done][0] == self.now:
                self.read(*rows[done][1:])
                self.check(done)
                done += 1
            if self.now == until:
                return self.out
            self.check(done)
            self.now += 1
            self.age += not self.unknown

    def read(self, condition: int, value: float) -> None:
        self.unknown = condition == UNKNOWN
        if not self.unknown:
            self.age = self.age if condition == self.condition else 0
            self.condition = condition
            self.value = value if condition == TRUE else self.value

    def check(self, row: int) -> None:
        wait = self.hold if self.condition == TRUE else self.keep
        if not self.unknown and self.firing != (self.condition == TRUE) and self.age >= wait:
            self.firing = not self.firing
            self.fired_at = self.now if self.firing else self.fired_at
            self.out.append((self.firing, self.now, self.fired_at, self.value, row))


@st.composite
def histories(draw):
    """Rows of some instances, in parts: for each, the rows of each instance, and the instant up to which it goes."""
    instances = draw(st.integers(1, 4))
    now = [draw(st.integers(0, 3)) for _ in range(instances)]
    parts = []
    for _ in range(draw(st.integers(1, 4))):
        rows: list[list[Row]] = []
        for i in range(instances):
            mine = []
            for _ in range(draw(st.integers(0, 5))):
                now[i] += draw(st.integers(0, 4))
                condition = draw(st.sampled_from([FALSE, TRUE, TRUE, UNKNOWN]))
                mine.append((now[i], condition, float(draw(st.integers(0, 99))) if condition == TRUE else math.nan))
            rows.append(mine)
            now[i] += draw(st.integers(0, 6))
        parts.append((rows, list(now)))
    return parts


def advanced(table: Columns, rows: list[list[Row]], until: list[int], *, hold: int, keep: int) -> Transitions:
    """`advance`, and the clocks as its callers keep them."""
    ids = np.arange(len(rows))
    flat = [(i, *row) for i, mine in enumerate(rows) for row in mine]
    columns = list(zip(*flat, strict=True)) or [(), (), (), ()]
    dtypes = (np.int64, np.int64, np.uint8, np.float64)
    given_rows = Rows(*(np.array(column, dtype) for column, dtype in zip(columns, dtypes, strict=True)))
    changes = advance(table, given_rows, ids, np.array(until), hold=hold, keep=keep)
    np.maximum.at(table.clock, given_rows.instance, given_rows.time)
    return changes


@settings(max_examples=150)
@given(histories(), st.integers(0, 6), st.integers(0, 6))
def test_advance_does_what_walking_from_instant_to_instant_does(parts, hold, keep):
    instances = len(parts[0][0])
    table = instance_table()
    table.grow(instances)
    walkers = [Walker(hold, keep) for _ in range(instances)]
    for rows, until in parts:
        changes = advanced(table, rows, until, hold=hold, keep=keep)

        starts = np.cumsum([0, *map(len, rows)])
        expected = []
        for i, walker in enumerate(walkers):
            for firing, time, starts_at, value, row in walker.walk(rows[i], until[i]):
                shown = starts[i] + row if row < len(rows[i]) else starts[-1]
                expected.append((i, firing, time, starts_at, repr(value), shown))
        columns = (changes.instance, changes.firing, changes.time, changes.starts_at, changes.value, changes.row)
        found = list(zip(*(column.tolist() for column in columns), strict=True))
        assert [(*c[:4], repr(c[4]), c[5]) for c in found] == expected

        state = [(w.firing, w.condition, w.unknown, w.fired_at, repr(w.value)) for w in walkers]
        kept = zip(table.firing, table.condition, table.unknown, table.fired_at, table.value, strict=True)
        assert [(bool(f), int(c), bool(u), int(at), repr(float(v))) for f, c, u, at, v in kept] == state


@given(histories(), st.integers(0, 6), st.integers(0, 6))
def test_instances_do_not_meet(parts, hold, keep):
    """Advanced together or each alone, the tables are the same."""
    instances = len(parts[0][0])
    together = instance_table()
    together.grow(instances)
    for rows, until in parts:
        advanced(together, rows, until, hold=hold, keep=keep)
    for i in range(instances):
        alone = instance_table()
        alone.grow(1)
        for rows, until in parts:
            advanced(alone, [rows[i]], [until[i]], hold=hold, keep=keep)
        for name, column in alone.arrays().items():
            np.testing.assert_array_equal(column[0], together.arrays()[name][i], err_msg=name)


def test_instances_that_are_not_named_stay_as_they_are():
    table = instance_table()
    table.grow(3)
    before = table.arrays()
    rows = Rows(np.array([1]), np.array([5]), np.array([TRUE], np.uint8), np.array([7.0]))

    changes = advance(table, rows, np.array([1]), np.array([5]), hold=0, keep=0)

    assert changes.instance.tolist() == [1]
    for name, column in table.arrays().items():
        np.testing.assert_array_equal(column[[0, 2]], before[name][[0, 2]], err_msg=name)
