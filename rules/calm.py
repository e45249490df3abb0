"""Calm: elements at which no rule of a bank can hold, so that nothing has to be evaluated.

A rule that compares a reading with a number, or a function of windows that lies between the lowest and the highest
sample, cannot hold as long as all samples lie inside a band. Here: which rules have one, and which elements are calm:
nothing holds or fires there, and no sample that a window can still hold was outside. Not here: what rules say of the
others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Columns, Ints, where
from rules.element_wise import AgeFilter, Filter
from rules.frames import Readings
from rules.leaves import InstantLeaf, Members
from rules.operators import Bools, Function, Operator
from rules.rule_file import NoData, Rule
from rules.samples import Memory
from rules.windows import OverTime, RangeLeaf

_LONG_AGO = np.iinfo(np.int64).min
"""Before NEVER, and before all that a window could reach back to from there"""
_MARGIN = 1e-9
"""Of a limit; far more than functions of windows are rounded by"""


@dataclass(frozen=True, slots=True)
class Band:
    """Rules do not hold of samples between `low` and `high`, both excluded, but for `spots`."""

    low: float
    high: float
    spots: frozenset[float]
    reach: int
    """ns; how long a sample is seen; 0: only as it comes"""

    def common(self, other: Band) -> Band:
        """Where neither rules hold."""
        return Band(
            max(self.low, other.low), min(self.high, other.high),
            self.spots | other.spots, max(self.reach, other.reach),
        )  # fmt: skip

    def excludes(self, value: Floats) -> Bools:
        """(n,) NaN, too"""
        inside = value < self.high
        if self.low != -np.inf:
            inside &= value > self.low
        for spot in self.spots:
            inside &= value != spot
        outside: Bools = ~inside
        return outside


def band_of(rule: Rule, top: Operator) -> Band | None:
    """The band of a rule, if it has one."""
    if not isinstance(top, Filter) or isinstance(top, AgeFilter) or top.limit is None:
        return None
    if rule.no_data is NoData.FIRE or not np.isfinite(top.limit[1]):
        return None
    match top.child:
        case InstantLeaf(is_plain=True):
            return _of_readings(*top.limit)
        case OverTime(is_mean=True, child=RangeLeaf(ago=ago, duration=duration)) if ago.at is None and ago.offset >= 0:
            return _of_windows(*top.limit, ago.offset + duration)
    return None


def _of_readings(compare: Function, limit: np.float64) -> Band:
    below, at, above = _around(compare, limit)
    low = limit if at else np.nextafter(limit, -np.inf)
    high = limit if at else np.nextafter(limit, np.inf)
    return Band(
        float(low) if below else -np.inf,
        float(high) if above else np.inf,
        frozenset([float(limit)] if at and not (below or above) else []),
        0,
    )


def _of_windows(compare: Function, limit: np.float64, reach: int) -> Band | None:
    below, at, above = _around(compare, limit)
    if below and above:
        return None
    margin = _MARGIN * abs(float(limit))
    high = float(limit) - margin if above or (at and not below) else np.inf  # to equal it, one has to reach it
    return Band(float(limit) + margin if below else -np.inf, high, frozenset(), reach)


def _around(compare: Function, limit: np.float64) -> tuple[bool, bool, bool]:
    """Whether the comparison holds just below the limit, at it, and just above."""
    near = np.nextafter(limit, -np.inf), limit, np.nextafter(limit, np.inf)
    below, at, above = (bool(compare(value, limit)) for value in near)
    return below, at, above


class Calm:
    """What is known of the elements of a bank whose rules all have bands."""

    def __init__(self, members: Members, memory: Memory, bands: Sequence[Band]) -> None:
        self._members, self._newest, self._band = members, memory.newest, reduce(Band.common, bands)
        self._elements = Columns(outside=("i8", _LONG_AGO))  # ns; time of the newest sample outside the band

    def grow(self, elements: int) -> None:
        self._elements.grow(elements)

    def forget(self) -> None:
        """All newest samples may have been outside."""
        self._elements.outside[:] = self._newest.time[self._members.ids]

    def has(self, element: Ints, busy: Bools) -> Bools:
        """Which elements are calm, as long as no other readings come; busy: where something holds or fires."""
        clock = self._newest.time.take(self._members.ids.take(element))
        return ~(busy | (self._elements.outside.take(element) > clock - self._band.reach))

    def stirred(self, readings: Readings, busy: Bools) -> tuple[Ints, Ints]:
        """Readings that come → rows of elements that are not calm, and those of them that were until now."""
        since = readings.before - self._band.reach
        outside = where(self._band.excludes(readings.value))
        before = busy
        if self._band.reach:
            before = busy | (self._elements.outside.take(readings.element) > since)
        if not len(outside):
            return where(before), outside
        self._elements.outside[readings.element[outside]] = readings.time[outside]  # in order: the newest stays
        after = busy | (self._elements.outside.take(readings.element) > since)
        return where(after), where(after & ~before)
