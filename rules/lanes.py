"""Running sums over many runs of rows at once, each strictly in order. Nothing here knows what is summed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rules import double_double
from rules.arithmetic import Floats
from rules.columns import Ints, any_of, where
from rules.double_double import Pair

Scalar = TypeVar("Scalar", bound=np.generic)
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Runs:
    """n samples of m series: one run of rows for each."""

    start: Ints
    """(m,) first row"""
    count: Ints
    """(m,)"""
    time: Ints
    """(n,) ns"""
    value: Floats

    @property
    def several(self) -> bool:
        """Whether any run has more than one row."""
        return len(self.start) < len(self.value)

    def spread(self, of_run: Ints) -> Ints:
        """A number of each run → of each row."""
        return of_run.repeat(self.count) if self.several else of_run


def runs_of(goes_on: Bools) -> tuple[Ints, Ints]:
    """goes_on: (n - 1,) rows from the second on that belong to the run before them → start and length of each run."""
    begins = np.ones(len(goes_on) + 1, bool)
    np.logical_not(goes_on, out=begins[1:])
    start = begins.nonzero()[0]
    return start, _lengths(start, len(begins))


@dataclass(frozen=True, slots=True)
class Lanes:
    """Runs cut where sums restart: each part is a lane."""

    runs: Runs
    start: Ints
    """(k,) first row of each lane"""
    count: Ints
    source: Ints | None
    """Runs whose newest row a lane goes on from; None: all, one for each lane"""
    target: Ints | None
    """Those lanes"""
    groups: list[tuple[Ints, Ints, Bools]] = field(default_factory=list)
    """Lanes of like length: (lanes, row (length, lanes), inside (length, lanes)); none if all have one row"""

    def spread(self, of_lane: Ints) -> Ints:
        return of_lane if len(of_lane) == len(self.runs.value) else of_lane.repeat(self.count)

    def carried(self, of_run: NDArray[Scalar], fresh: NDArray[Scalar]) -> NDArray[Scalar]:
        """What each lane starts from, (k,): a number of its run's newest row, or `fresh` after a restart."""
        if self.source is None:
            return of_run
        carry = fresh.copy()
        carry[self.target] = of_run[self.source]
        return carry

    def accumulate(self, high: Floats, low: Floats | None, carry: Pair) -> Pair:
        """Running sums of high + low, (n,): of high as floats add, and of what that loses to rounding."""
        if not self.groups:
            total = carry[0] + high
            lost = double_double.error(carry[0], high, total)
            return total, carry[1] + (lost if low is None else lost + low)
        sums, rests = np.empty_like(high), np.empty_like(high)
        for lanes, row, inside in self.groups:
            part = high[row] * inside
            total = np.add.accumulate(np.concatenate([carry[0][lanes][None], part]), axis=0)
            lost = double_double.error(total[:-1], part, total[1:])
            if low is not None:
                lost += low[row] * inside
            rest = np.add.accumulate(np.concatenate([carry[1][lanes][None], lost]), axis=0)
            sums[row[inside]], rests[row[inside]] = total[1:][inside], rest[1:][inside]
        return sums, rests


def parts(new: Runs, restarts: Bools) -> Lanes:
    """restarts: (n,) rows with which sums begin anew."""
    if not new.several and not any_of(restarts):
        return Lanes(new, new.start, new.count, None, None)
    begins = restarts.copy()
    begins[new.start] = True
    start = where(begins)
    count = _lengths(start, len(new.value))
    source = where(~restarts[new.start])
    groups = []
    if len(start) < len(new.value):
        size = np.frexp(count)[1]  # filled up with zeros to the longest of the group: less than twice the work
        for power in np.unique(size):
            lanes = where(size == power)
            step = np.arange(int(count[lanes].max()))[:, None]
            inside = step < count[lanes]
            groups.append((lanes, np.where(inside, start[lanes] + step, 0), inside))
    return Lanes(new, start, count, source, np.searchsorted(start, new.start[source]), groups)


def _lengths(start: Ints, rows: int) -> Ints:
    count = np.empty(len(start), np.int64)
    np.subtract(start[1:], start[:-1], out=count[:-1])
    count[-1:] = rows - start[-1:]
    return count
