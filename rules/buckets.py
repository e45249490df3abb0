"""`histogram_quantile` over classic buckets: series with cumulative counts and the label `le`.

Source: promql/quantile.go (bucketQuantile) and promql/functions.go (funcHistogramQuantile) of Prometheus 3.
"""

from __future__ import annotations

import math
import re

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Columns, Ints
from rules.grouping import Block, Groups, Segments, quietly
from rules.operators import Bools, Frame, Operator, Scalar, Vector
from rules.syntax import Labels

TOLERANCE = 1e-12
"""Neighbouring counts that differ by less than this part of their sum are taken for equal: rounding, not data."""

TINY, HUGE = float(np.finfo(np.float64).tiny), float(np.finfo(np.float64).max)
_BOUND = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE)


class HistogramQuantile(Operator):
    """`histogram_quantile(0.9, x_bucket)`: an element for each label set without `le` and `__name__`.

    Elements without a number in `le` are no buckets, and are left out. Histograms of different names that only the
    name tells apart are an error where they meet.
    """

    def __init__(self, child: Operator, parameter: Scalar) -> None:
        super().__init__(injective=True, timed=child.timed)
        self._child, self._parameter = child, parameter
        self._groups = Groups()
        self._buckets = Columns(bound=("f8", np.nan), name=("i8", -1))
        self._names: dict[str, int] = {}
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self._groups)

    def labels(self, element: int) -> Labels:
        return self._groups.keys[element]

    def child_added(self, side: int, element: int, born: int) -> None:
        del side
        labels = dict(self._child.labels(element))
        bound, name = upper_bound(labels.pop("le", "")), labels.pop("__name__", "")
        if bound is None:
            return
        self._buckets.grow(element + 1)
        self._buckets.bound[element] = bound
        self._buckets.name[element] = self._names.setdefault(name, len(self._names))
        groups = len(self._groups)
        own = self._groups.add(tuple(labels.items()), element)
        if own == groups:
            self.announce(own, born)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        del side
        of = np.append(self._groups.of, -1)
        own = of[np.minimum(element, len(of) - 1)]
        which = np.flatnonzero(own >= 0)
        return (None, own) if len(which) == len(own) else (which, own[which])

    def discover(self, frame: Frame, row: Ints) -> None:
        super().discover(frame, row)
        self._parameter.discover(frame, row)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        n = len(row)
        result = Vector(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool))
        parameter = self._parameter.at(frame, row)
        for part in self._groups.parts(element):
            found = self._part(frame, element[part], row[part], parameter[part])
            for column, values in zip(result, found, strict=True):
                column[part] = values
        return result

    def _part(self, frame: Frame, element: Ints, row: Ints, phi: Floats) -> Vector:
        n = len(row)
        which, children = self._groups.members(element)
        count, present, unknown = self._child.evaluate(frame, children, row[which])
        vanished = np.bincount(which[unknown], minlength=n) > 0
        which, children, count = which[present], children[present], count[present]
        name = Segments(which, self._buckets.name[children], n)
        there = name.count > 0
        mixed = there & (name.reduce(np.minimum) != name.reduce(np.maximum))
        if mixed.any():
            frame.fail(
                np.unique(row[mixed]),
                "histogram_quantile of several metrics gives several elements with the same labels: name one metric",
            )
        return Vector(quantiles(which, self._buckets.bound[children], count, phi), there & ~mixed, vanished & ~there)


def upper_bound(text: str) -> float | None:
    """The number that Go's strconv.ParseFloat reads; None where it has none (NaN and hexadecimal are none, either)."""
    if _BOUND.fullmatch(text) is None:
        return None
    value = float(text)
    return None if math.isinf(value) and "n" not in text.lower() else value  # too large a number is an error in Go


@quietly
def quantiles(which: Ints, bound: Floats, count: Floats, phi: Floats) -> Floats:
    """The phi[i]-quantile of each histogram i: buckets by histogram (ascending `which`), in any order → (n,).

    NaN where there is no bucket +Inf, only one bucket, or no observation.
    """
    n = len(phi)
    order = np.lexsort((bound, which))
    which, bound, count = which[order], bound[order], count[order]
    new = np.ones(len(which), bool)
    new[1:] = (which[1:] != which[:-1]) | (bound[1:] != bound[:-1])
    first = np.flatnonzero(new)
    if len(first) < len(which):  # the same bound written in two ways
        count = np.add.reduceat(count, first)
        which, bound = which[first], bound[first]
    bounds = Segments(which, bound, n)
    result = np.full(n, np.nan)
    for limits, counts in zip(bounds.blocks(np.inf), Segments(which, count, n).blocks(np.nan), strict=True):
        result[limits.segment] = _interpolated(limits, _monotonic(counts), phi[limits.segment])
    return np.where(phi < 0, -np.inf, np.where(phi > 1, np.inf, np.where(np.isnan(phi), np.nan, result)))


def _interpolated(limits: Block, count: Floats, phi: Floats) -> Floats:
    """Linear within the bucket that has the rank; the lowest begins at 0, or has no width if its bound is not above."""
    each, last = np.arange(len(phi)), limits.size - 1
    bound = limits.value
    total = count[each, last]
    rank = phi * total
    at = _search(count, rank, last)
    below, before = np.maximum(at - 1, 0), at > 0
    start = np.where(before, bound[each, below], 0.0)
    less = np.where(before, count[each, below], 0.0)
    end = bound[each, at]
    found = start + (end - start) * ((rank - less) / (count[each, at] - less))
    found = np.where((at == 0) & (end <= 0), end, found)
    found = np.where(at == last, bound[each, np.maximum(last - 1, 0)], found)
    usable = (last > 0) & (total != 0) & (bound[each, last] == np.inf)
    return np.where(usable, found, np.nan)


def _search(count: Floats, rank: Floats, last: Ints) -> Ints:
    """The first bucket but the last with at least that count, else the last: by halving, as NaN is in no order."""
    each, low, high = np.arange(len(rank)), np.zeros_like(last), last.copy()
    while (low < high).any():
        middle = (low + high) // 2
        enough = count[each, middle] >= rank
        running = low < high
        low, high = np.where(running & ~enough, middle + 1, low), np.where(running & enough, middle, high)
    return low


def _monotonic(counts: Block) -> Floats:
    """The counts without decreases, and without differences that only come of rounding."""
    value = counts.value
    highest = np.fmax.accumulate(value, axis=1)
    before, after = highest[:, :-1], value[:, 1:]
    odd = (counts.valid[:, 1:] & (_almost_equal(before, after) & (before != after))).any(axis=1)
    odd |= (counts.valid & np.isnan(value)).any(axis=1)
    at = np.flatnonzero(odd)
    if len(at):
        highest[at] = _step_by_step(value[at])
    return highest


def _step_by_step(value: Floats) -> Floats:
    """As upstream, which compares each count with the last one that it has not set aside."""
    result = value.copy()
    last = value[:, 0]
    for i in range(1, value.shape[1]):
        same = _almost_equal(last, value[:, i]) | (value[:, i] < last)
        last = result[:, i] = np.where(same, last, value[:, i])
    return result


def _almost_equal(a: Floats, b: Floats) -> Bools:
    """As upstream's util/almost with TOLERANCE; two NaN are equal."""
    total, difference = np.abs(a) + np.abs(b), np.abs(a - b)
    small = (a == 0) | (b == 0) | (total < TINY)
    close = np.where(small, difference < TOLERANCE * TINY, difference / np.minimum(total, HUGE) < TOLERANCE)
    both: Bools = (a == b) | close | (np.isnan(a) & np.isnan(b))
    return both
