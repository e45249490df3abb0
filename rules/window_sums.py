"""Sums over windows from running sums: two rows a window and block, however many samples it holds.

Windows with samples that no running sum can hold are left to window_scans, as are the few where cancellation would
show in the result: then the caller is told which.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rules import double_double
from rules.arithmetic import Floats
from rules.columns import Ints, where
from rules.double_double import Pair
from rules.prefix import BLOCK, FIELD, ONE, SIGN

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from rules.history import Window

    Bools = NDArray[np.bool_]

_COUNT = (1 << FIELD) - 1


@dataclass(frozen=True, slots=True)
class Ends:
    """The rows of n windows, each with a sample at least: where the first and the last one lie."""

    window: Window
    first: Ints
    last: Ints

    def cell(self, slot: Ints, name: str) -> Floats:
        rings = self.window.history.rings
        return rings.take(slot, self.window.history.layout.column[name])

    def word(self, slot: Ints, name: str) -> Ints:
        rings = self.window.history.rings
        return rings.take_counts(slot, self.window.history.layout.column[name])

    @property
    def count(self) -> Floats:
        return (self.window.hi - self.window.lo).astype(np.float64)

    @property
    def values(self) -> tuple[Floats, Floats]:
        """Of the first and of the last sample."""
        return self.cell(self.first, "value"), self.cell(self.last, "value")

    @property
    def times(self) -> tuple[Ints, Ints]:
        time = self.window.history.rings.time
        return time.take(self.first), time.take(self.last)

    def steps(self) -> Ints:
        """A word: changes, resets and strange samples in each window after its first one; negative if that is strange.

        See prefix.Layout.
        """
        first = self.word(self.first, "steps")
        return ((self.word(self.last, "steps") - first) & ~SIGN) | (first & SIGN)


def select(window: Window, rows: Ints) -> Window:
    """Some of the windows."""
    series, lo, hi, start, end, now = (column[rows] for column in window[1:])
    return window._replace(series=series, lo=lo, hi=hi, start=start, end=end, now=now)


def ends(window: Window) -> Ends:
    rings = window.history.rings
    rings.know(window.series)
    base, mask = rings.series.base.take(window.series), rings.series.mask.take(window.series)
    return Ends(window, base + (window.lo & mask), base + ((window.hi - 1) & mask))


def changes(steps: Ints) -> Ints:
    return steps & _COUNT


def resets(steps: Ints) -> Ints:
    return (steps >> FIELD) & _COUNT


def strange(steps: Ints) -> Bools:
    """Windows that hold any sample which is no ordinary number."""
    return (steps >= ONE[2]) | (steps < 0)


def strange_sum(at: Ends, rows: Ints) -> Floats:
    """Sums of the rows that hold NaN or ±Inf; 0 of those that hold neither."""
    value = at.cell(at.first[rows], "value")
    odd = at.word(at.last[rows], "odd") - at.word(at.first[rows], "odd")
    nan = (odd & _COUNT != 0) | np.isnan(value)
    up = ((odd >> FIELD) & _COUNT != 0) | (value == np.inf)
    down = ((odd >> 2 * FIELD) & _COUNT != 0) | (value == -np.inf)
    return np.select([nan | (up & down), up, down], [np.nan, np.inf, -np.inf], 0.0)


def blocks(at: Ends) -> Iterator[tuple[Ints, Ints, Floats]]:
    """The blocks of each window after its first one: windows, slot of the last row there, samples up to it."""
    rings, window = at.window.history.rings, at.window
    rows = where(window.hi - 1 > window.lo | (BLOCK - 1))
    if not len(rows):
        return
    block, final = window.lo // BLOCK, (window.hi - 1) // BLOCK
    while len(rows):
        block = block + 1
        row = np.minimum((block[rows] + 1) * BLOCK, window.hi[rows]) - 1
        yield rows, rings.slots(window.series[rows], row), (row % BLOCK + 1).astype(np.float64)
        rows = rows[block[rows] != final[rows]]


def head(at: Ends) -> Ints:
    """The slot of the last row in each window's first block."""
    window = at.window
    end = window.lo | (BLOCK - 1)
    crossing = where(window.hi - 1 > end)
    if not len(crossing):
        return at.last
    slot = at.last.copy()
    slot[crossing] = window.history.rings.slots(window.series[crossing], end[crossing])
    return slot


def total(at: Ends, name: str, own: Floats | None) -> tuple[Pair, Floats]:
    """The sum of a column over each window, and how large the parts are that were rounded.

    own: the first samples' part; None leaves it out.
    """
    end = head(at)
    low, first_low = at.cell(end, f"{name}.low"), at.cell(at.first, f"{name}.low")
    pair = double_double.difference(at.cell(end, name), low, at.cell(at.first, name), first_low, own)
    size = np.maximum(np.abs(low), np.abs(first_low))
    for rows, slot, _ in blocks(at):
        more = at.cell(slot, name), at.cell(slot, f"{name}.low")
        pair[0][rows], pair[1][rows] = double_double.add((pair[0][rows], pair[1][rows]), more)
        size[rows] += np.abs(more[1])
    return pair, size
