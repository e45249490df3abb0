"""Elements by group, and arithmetic on many groups of values at once. Not here: what an aggregation means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Columns, Ints, Links
from rules.operators import Bools
from rules.syntax import Labels

MAX_CELLS = 1 << 20
"""(element, row) pairs that an operator asks its operand for at once, so that memory stays bounded."""


class Groups:
    """The elements of an operand by group; a group is known by its labels, and numbered when they first appear."""

    def __init__(self) -> None:
        self.keys: list[Labels] = []
        self._number: dict[Labels, int] = {}
        self._members = Links()
        self._elements = Columns(group=("i8", -1), slot=("i8", 0))
        self._groups = Columns(size=("i8", 0))

    def __len__(self) -> int:
        return len(self.keys)

    def number(self, key: Labels) -> int:
        """The group of these labels, a new one if need be."""
        group = self._number.setdefault(key, len(self.keys))
        if group == len(self.keys):
            self.keys.append(key)
            self._groups.grow(group + 1)
        return group

    def add(self, key: Labels, element: int) -> int:
        """Put the operand's element into the group of these labels → the group."""
        group = self.number(key)
        self._elements.grow(element + 1)
        self._elements.group[element], self._elements.slot[element] = group, self._groups.size[group]
        self._groups.size[group] += 1
        self._members.add(group, element)
        return group

    @property
    def of(self) -> Ints:
        """(elements,) the group of each element, -1 where it has none."""
        return self._elements.group

    @property
    def slot(self) -> Ints:
        """(elements,) the place of each element among those of its group."""
        return self._elements.slot

    @property
    def size(self) -> Ints:
        """(groups,) number of elements."""
        return self._groups.size

    def members(self, group: Ints) -> tuple[Ints, Ints]:
        """The elements of each group[i] in order → (i, element), both (m,)."""
        which, element = self._members.expand(group)
        return (np.arange(len(group)) if which is None else which), element

    def parts(self, group: Ints) -> Iterator[slice]:
        """`group` in pieces that have no more than MAX_CELLS elements, or a single group."""
        yield from parts(self.size[group])


def parts(size: Ints) -> Iterator[slice]:
    """Pieces of a sequence of things of that size: each no larger than MAX_CELLS, or a single thing."""
    total = np.cumsum(size)
    start = 0
    while start < len(size):
        below = int(total[start - 1]) if start else 0
        stop = max(int(np.searchsorted(total, below + MAX_CELLS, side="right")), start + 1)
        yield slice(start, stop)
        start = stop


def unique_pairs(group: Ints, row: Ints) -> tuple[Ints, Ints, Ints]:
    """The distinct (group, row), each once, sorted by group → (group, row, which of them each pair is)."""
    rows = int(row.max(initial=0)) + 1
    pair, which = np.unique(group * rows + row, return_inverse=True)
    return *np.divmod(pair, rows), which


class Block(NamedTuple):
    """Segments of similar length as a matrix, one row each."""

    segment: Ints
    """(k,)"""
    size: Ints
    """(k,) values of each segment"""
    valid: Bools
    """(k, width) False beyond the end of a segment"""
    value: Floats
    """(k, width)"""


class Segments:
    """Values in n groups, sorted by group; a group may be empty."""

    def __init__(self, which: Ints, value: Floats, n: int) -> None:
        """which: (m,) ascending, the group of each value."""
        self.value = value
        self.count: Ints = np.bincount(which, minlength=n)
        self.start: Ints = np.cumsum(self.count) - self.count

    def reduce(self, function: np.ufunc) -> Floats:
        """(n,) `function` over the values of each group; NaN where it is empty."""
        result = np.full(len(self.count), np.nan)
        filled = np.flatnonzero(self.count)
        if len(filled):
            result[filled] = function.reduceat(self.value, self.start[filled])
        return result

    def each(self, function: Callable[[Block], Floats], fill: float) -> Floats:
        """(n,) `function` of the groups that have values; NaN for the others."""
        result = np.full(len(self.count), np.nan)
        for block in self.blocks(fill):
            result[block.segment] = function(block)
        return result

    def blocks(self, fill: float) -> Iterator[Block]:
        """All groups that have values, in matrices by length; what is beyond a group's end is `fill`.

        Lengths are rounded up by at most a quarter, so that there are few matrices however lengths differ.
        """
        filled = np.flatnonzero(self.count)
        count = self.count[filled]
        if len(filled) and (count == count[0]).all():
            value = self.value.reshape(len(filled), -1)
            yield Block(filled, count, np.broadcast_to(np.True_, value.shape), value)
            return
        unit = 1 << np.maximum(np.frexp(count)[1] - 3, 0)
        width = -(-count // unit) * unit
        for w in np.unique(width).tolist():
            segment = filled[width == w]
            inner = np.arange(w)
            valid = inner < self.count[segment, None]
            at = np.minimum(self.start[segment, None] + inner, len(self.value) - 1)
            yield Block(segment, self.count[segment], valid, np.where(valid, self.value[at], fill))


SHORT = 16
"""Rows of a matrix up to this length are summed column by column, which is the faster way then."""

NEUTRAL = -0.0
"""Adding it changes nothing, not even the sign of zero."""


def kahan(value: Floats) -> tuple[Floats, Floats]:
    """Kahan's sums of the rows of a matrix, with Neumaier's improvement → (sum, what it lacks), both (k,).

    The same operations in the same order as upstream's (promql/engine.go, kahanSumInc), hence the same result to the
    bit: the plain running sum is there beside the error of each step. Columns of NEUTRAL change nothing.
    """
    if value.shape[1] <= SHORT:
        return _kahan_of_short(value)
    running = np.add.accumulate(value, axis=1)
    before, after, more = running[:, :-1], running[:, 1:], value[:, 1:]
    error = np.where(np.abs(before) >= np.abs(more), (before - after) + more, (more - after) + before)
    total = running[:, -1]
    lacks = np.add.accumulate(error, axis=1)[:, -1]
    return total, np.where(np.isinf(total), 0.0, lacks)


def _kahan_of_short(value: Floats) -> tuple[Floats, Floats]:
    total, lacks = value[:, 0], np.zeros(len(value))
    for more in value.T[1:]:
        before, total = total, total + more
        lacks += np.where(np.abs(before) >= np.abs(more), (before - total) + more, (more - total) + before)
    return total, np.where(np.isinf(total), 0.0, lacks)


def quietly(function: Callable[..., Any]) -> Callable[..., Any]:
    """Without numpy's complaints about overflow and NaN, which PromQL does not mind."""

    def quiet(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return function(*arguments)

    return quiet
