"""Rings of numbered rows, one for each series, in shared arenas. Here: addresses, growth. Not here: what rows mean.

Rows of a series are numbered for ever (0, 1, 2 …); its ring holds the numbers [first, next). A ring is a block of the
arenas whose capacity is a power of two; row o lies at base + (o & mask). In a full ring new rows take the place of the
oldest. Where these are still needed it moves to a block twice as large, and its old block serves the next ring of that
size; at `limit` rows the oldest are dropped nevertheless.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Columns, Ints, any_of, where

RESERVE = 4
"""Growth of the arenas. The system gives memory for it only as it is used, and copying is what costs."""

Scalar = TypeVar("Scalar", bound=np.generic)

MayGo = Callable[[Ints, Ints], NDArray[np.bool_]]
"""(series, row) → whether the rows up to and with this one are not needed any more; asked when rings are full"""

SMALLEST = 8
"""Rows that a ring has room for at least."""
PORTION = 1 << 16
"""Rows moved at once, which bounds the memory for copies."""


class Rings:
    """Rows of an int64 `time` and `width` float64 `cells`."""

    def __init__(self, width: int, limit: int, may_go: MayGo) -> None:
        """limit: rows of one series at most, a power of two."""
        self.width, self.limit, self._may_go = width, limit, may_go
        self.series = Columns(
            first=("i8", 0),
            next=("i8", 0),
            summed=("i8", 0),  # rows from here on have nothing yet but time and first cell
            base=("i8", 0),
            mask=("i8", 0),
        )
        self.time: Ints = np.zeros(SMALLEST, np.int64)
        self.cells: Floats = np.zeros(SMALLEST * width, np.float64)
        """(slots × width,) flat"""
        self._used = SMALLEST  # slots; the first ones belong to series that have no rows, so that all addresses exist
        self._free: dict[int, list[Ints]] = {}
        self.dropped = 0

    def know(self, series: Ints) -> None:
        """Make sure that the series have addresses, if only for reading nothing."""
        if len(series) and (newest := int(series.max())) >= len(self.series):
            self.series.grow(newest + 1)

    def slots(self, series: Ints, row: Ints) -> Ints:
        """Where rows lie, (n,)."""
        base: Ints = self.series.base.take(series)
        mask: Ints = self.series.mask.take(series)
        return base + (row & mask)

    def take(self, slot: Ints, column: int) -> Floats:
        """One cell of each row, (n,)."""
        return self.cells.take(slot * self.width + column)

    def take_counts(self, slot: Ints, column: int) -> Ints:
        """As `take`, of a column that holds int64."""
        return self.cells.view(np.int64).take(slot * self.width + column)

    def rows(self, slot: Ints) -> NDArray[np.float64]:
        """Copies of whole rows, (n, width)."""
        return self.cells.reshape(-1, self.width).take(slot, axis=0, mode="clip")  # several times faster than [slot]

    def add(self, slot: Ints, time: Ints, value: Floats) -> None:
        """Write time and first cell of rows."""
        self.time[slot] = time
        self.cells[slot * self.width if self.width > 1 else slot] = value

    def put(self, slot: Ints, rows: NDArray[np.float64]) -> None:
        """Write the cells of rows."""
        row = np.dtype((np.void, 8 * self.width))  # one item a row: copied at once
        self.cells.view(row)[slot] = rows.view(row)[:, 0]

    def reserve(self, series: Ints, count: Ints) -> None:
        """Make room for many rows at once, as far as they may stay; drops nothing."""
        self.know(series)
        need = np.minimum(self.series.next[series] + count - self.series.first[series], self.limit)
        tight = where(need > self.series.mask[series] + 1)
        if len(tight):
            need[tight] -= self._let_go(series[tight], need[tight])
            more = tight[need[tight] > self.series.mask[series[tight]] + 1]
            self._grow(series[more], need[more])

    def make_room(self, series: Ints, count: Ints | int) -> tuple[Ints, Ints, Ints]:
        """Room for count[i] ≤ PORTION more rows of series[i], which are distinct; may drop the oldest.

        Returns next, base and mask of each series.
        """
        self.know(series)
        table = self.series
        following, base, mask = table.next.take(series), table.base.take(series), table.mask.take(series)
        need = following + count - table.first.take(series)
        tight = where((need > mask + 1) | (base == 0))
        if len(tight):
            self._make_room(series[tight], need[tight])
            base[tight], mask[tight] = table.base.take(series[tight]), table.mask.take(series[tight])
        return following, base, mask

    def _make_room(self, series: Ints, need: Ints) -> None:
        table = self.series
        need -= self._let_go(series, need)
        excess = np.maximum(need - self.limit, 0)
        if any_of(excess):
            table.first[series] += excess
            self.dropped += int(excess.sum())
            need -= excess
        tight = where((need > table.mask.take(series) + 1) | (table.base.take(series) == 0))
        if len(tight):
            self._grow(series[tight], need[tight])

    def _let_go(self, series: Ints, need: Ints) -> Ints:
        """The rows whose place others are to take, if none of them is needed → how many; 0: they stay."""
        table = self.series
        first = table.first.take(series)
        excess: Ints = need - (table.mask.take(series) + 1)
        gone = first + excess - 1
        goes = (gone < table.next.take(series)) & (excess > 0)
        goes[goes] = self._may_go(series[goes], gone[goes])
        excess[~goes] = 0
        table.first[series] = first + excess
        return excess

    def _grow(self, series: Ints, need: Ints) -> None:
        exponent = np.frexp(np.maximum(need, SMALLEST) - 1)[1]
        for size in np.unique(exponent):
            members = series[exponent == size]
            base = self._allocate(len(members), 1 << int(size))
            old, old_mask = self.series.base[members], self.series.mask[members]
            self._move(members, base, (1 << int(size)) - 1)
            self.series.base[members], self.series.mask[members] = base, (1 << int(size)) - 1
            for freed in np.unique(old_mask[old > 0]):
                self._free.setdefault(int(freed) + 1, []).append(old[(old > 0) & (old_mask == freed)])

    def _move(self, series: Ints, base: Ints, mask: int) -> None:
        """Copy the rows to new blocks, some series at a time."""
        first = self.series.first[series]
        count = self.series.next[series] - first
        total = np.cumsum(count)
        begin = 0
        while begin < len(series):
            done = int(total[begin - 1]) if begin else 0
            end = max(int(np.searchsorted(total, done + PORTION)), begin + 1)
            some = count[begin:end]
            row = ragged(first[begin:end], some)
            source = self.slots(np.repeat(series[begin:end], some), row)
            target = np.repeat(base[begin:end], some) + (row & mask)
            self.time[target] = self.time.take(source)
            self.put(target, self.rows(source))
            begin = end

    def _allocate(self, blocks: int, capacity: int) -> Ints:
        """Bases of blocks: freed ones first."""
        found: list[Ints] = []
        missing = blocks
        pool = self._free.get(capacity, [])
        while missing and pool:
            freed = pool.pop()
            if len(freed) > missing:
                pool.append(freed[missing:])
                freed = freed[:missing]
            found.append(freed)
            missing -= len(freed)
        found.append(self._used + capacity * np.arange(missing))
        self._used += capacity * missing
        if self._used > len(self.time):
            slots = max(self._used, len(self.time) * RESERVE)
            self.time, self.cells = _longer(self.time, slots), _longer(self.cells, slots * self.width)
        return np.concatenate(found)


def _longer(array: NDArray[Scalar], length: int) -> NDArray[Scalar]:
    # not resized in place: the system gives fresh zeros in large pages, which random access needs to be fast
    new = np.zeros(length, array.dtype)
    new[: len(array)] = array
    return new


def ragged(start: Ints, count: Ints) -> Ints:
    """start[0], start[0] + 1, … (count[0] numbers), start[1], …"""
    upto = count.cumsum()
    total = int(upto[-1]) if len(upto) else 0
    return np.asarray(np.arange(total) + (start - upto + count).repeat(count))
