"""The lowest and highest sample of a window, from a binary tree over each ring.

A node of level l covers the 2^l ordinals from a multiple of 2^l; it is written once, when the last of them comes, into
the row of its middle ordinal (in-order layout): so trees need two cells a row and move with them. NaN yields to any
number, as in Prometheus' min_over_time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints, where
from rules.prefix import HIGHEST, LOWEST, Layout
from rules.rings import Rings

PICK = {LOWEST: np.fmin, HIGHEST: np.fmax}


def extend(layout: Layout, rings: Rings, base: Ints, mask: Ints, ordinal: Ints) -> None:
    """Write the nodes that new samples, already in their rows, complete. Each ring has room for the samples kept."""
    columns = [(layout.column[name], PICK[name]) for name in (LOWEST, HIGHEST) if name in layout.column]
    if not columns:
        return
    level = 1
    last = where(ordinal & 1)
    cells = rings.cells
    while len(last):
        at, within = base[last], mask[last]
        middle = ordinal[last] + 1 - (1 << (level - 1))
        # level 0 are the values themselves
        left, right = (middle - 1, middle) if level == 1 else (middle - (1 << level - 2), middle + (1 << level - 2))
        left, right, node = ((at + (row & within)) * rings.width for row in (left, right, middle))
        for column, pick in columns:
            leaf = column if level > 1 else 0
            cells[node + column] = pick(cells.take(left + leaf), cells.take(right + leaf))
        level += 1
        # a node larger than the ring would overwrite others
        last = last[((ordinal[last] + 1) & ((1 << level) - 1) == 0) & (within >= (1 << level) - 1)]


def extreme(layout: Layout, rings: Rings, name: str, series: Ints, lo: Ints, hi: Ints) -> Floats:
    """The lowest or highest value of [lo, hi), (n,); NaN if all are NaN or there are none. O(log window)."""
    pick, column = PICK[name], layout.column[name]
    base, mask = rings.series.base.take(series), rings.series.mask.take(series)
    lo, hi = lo.copy(), hi.copy()
    result = np.full(len(series), np.nan)
    level = 0
    rest: NDArray[np.int64] | slice = slice(None)
    while True:
        low, high, out = lo[rest], hi[rest], result[rest]
        bit = 1 << level
        middle = bit >> 1
        cell = column if level else 0
        for edge, ends in ((low, (low & bit) != 0), (high - bit, (high & bit) != 0)):
            at = where(ends & (low < high))
            slot = base[rest][at] + ((edge[at] + middle) & mask[rest][at])
            out[at] = pick(out[at], rings.take(slot, cell))
        low += low & bit
        high -= high & bit
        result[rest], lo[rest], hi[rest] = out, low, high
        more = where(lo < hi)
        if not len(more):
            return result
        rest = more if len(more) < len(result) else slice(None)
        level += 1
