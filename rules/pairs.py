"""What is remembered of the pairs (element, rule) of a bank: one byte each, and a row for those that are not at rest.

Not here: what makes a pair change (bank).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.columns import Columns, Ints, where
from rules.lifecycle import FOREVER, TRUE, instance_table

OFF, ON, RESTLESS = 0, 1, 3
"""Does not hold and does not fire; holds; anything else, so that every reading must be looked at."""
ELSEWHERE = 4
"""In copies of states: not meant here."""

State = NDArray[np.uint8]


class Pairs:
    """A pair that is OFF has nothing but its byte: whatever else is known of it does not matter."""

    def __init__(self, rules: int) -> None:
        self.state: State = np.zeros((16, rules), np.uint8)
        """(elements or more, rules)"""
        self._row = np.zeros((16, rules), np.int32)
        self.table = instance_table()
        """Row 0 is that of all pairs which are OFF."""
        self._of: Columns = Columns(element=("i8", -1), rule=("i8", -1))
        self._free: list[int] = []
        self.table.grow(1)
        self._of.grow(1)

    def grow(self, elements: int) -> None:
        """Make room for at least so many elements."""
        room, rules = self.state.shape
        if elements > room:
            more = max(elements, 2 * room)
            state, row = (
                np.zeros((more, rules), np.uint8),
                np.zeros((more, rules), np.int32),
            )  # zeros take no memory yet
            state[:room], row[:room] = self.state, self._row
            self.state, self._row = state, row

    def rows(self, element: Ints, rule: Ints) -> NDArray[np.int32]:
        """Where pairs lie in the table."""
        found: NDArray[np.int32] = self._row[element, rule]
        return found

    def take(self, element: Ints, rule: Ints) -> Columns:
        """Copies of the rows of pairs."""
        return self.table.take(self.rows(element, rule))

    def put(self, element: Ints, rule: Ints, columns: Columns, state: State) -> None:
        """Write back what `take` gave; each pair is there once."""
        row = self.rows(element, rule)
        fresh = where((row == 0) & (state != OFF))
        if len(fresh):
            row[fresh] = self._take_rows(len(fresh))
            self._of.element[row[fresh]], self._of.rule[row[fresh]] = element[fresh], rule[fresh]
        gone = where((row != 0) & (state == OFF))
        stays = where(state != OFF)
        if len(stays) == len(row):
            self.table.put(row, columns)
        elif len(stays):
            self.table.put(row[stays], columns.take(stays))
        if len(gone):
            self._of.element[row[gone]] = -1
            self._free += row[gone].tolist()
            row[gone] = 0
        self._row[element, rule] = row
        self.state[element, rule] = state

    def known(self) -> tuple[Ints, Ints, Ints]:
        """Row, element and rule of all pairs that are not OFF, by element and rule."""
        row = where(self._of.element >= 0)
        element, rule = self._of.element[row], self._of.rule[row]
        order = np.lexsort((rule, element))
        return row[order], element[order], rule[order]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """For a snapshot."""
        row, element, rule = self.known()
        arrays: dict[str, NDArray[Any]] = {"element": element, "rule": rule, "state": self.state[element, rule]}
        return arrays | self.table.take(row).arrays()

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave; there is room for the elements."""
        columns = instance_table()
        columns.load(arrays)
        self.put(arrays["element"], arrays["rule"], columns, arrays["state"])

    def _take_rows(self, count: int) -> NDArray[np.int32]:
        again = self._free[len(self._free) - min(count, len(self._free)) :]
        del self._free[len(self._free) - len(again) :]
        length = len(self.table)
        missing = count - len(again)
        if missing:
            self.table.grow(length + missing)
            self._of.grow(length + missing)
        return np.concatenate([np.array(again, np.int32), np.arange(length, length + missing, dtype=np.int32)])


def deadlines(columns: Columns, hold: Ints, keep: Ints) -> Ints:
    """The instant of each pair's timer that runs; FOREVER where none does."""
    holds = columns.condition == TRUE
    runs = (columns.firing != holds) & ~columns.unknown
    return np.where(runs, columns.since + np.where(holds, hold, keep), FOREVER)
