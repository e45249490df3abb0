"""Aggregations that give one element for each group: sum, avg, min, max, count, group, stddev, stdvar, quantile.

Not here: topk, bottomk and count_values (ranking.py), histogram_quantile (buckets.py).

Source: promql/engine.go (aggregation) and promql/quantile.go of Prometheus 3, for float samples. A group has a value
where any of its elements is there, and aggregates those that are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.grouping import NEUTRAL, Block, Groups, Segments, kahan, quietly
from rules.operators import Frame, Operator, Scalar, Vector
from rules.syntax import Aggregation, Labels

Aggregator = Callable[[Segments, Floats | None], Floats]
"""Values by group, the parameter of each group (n,) → (n,); what it gives for empty groups is of no account."""


class Aggregate(Operator):
    """`sum by (site) (x)`, `quantile(0.9, x)`: an element for each group."""

    def __init__(self, child: Operator, node: Aggregation, parameter: Scalar | None = None) -> None:
        """parameter: of quantile."""
        names_matter = not node.without and "__name__" in node.labels
        super().__init__(injective=not names_matter, timed=child.timed)
        self._child, self._node, self._parameter = child, node, parameter
        self._aggregator = AGGREGATORS[node.op]
        self._groups = Groups()
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self._groups)

    def labels(self, element: int) -> Labels:
        return self._groups.keys[element]

    def child_added(self, side: int, element: int, born: int) -> None:
        del side
        groups = len(self._groups)
        own = self._groups.add(self._node.key(self._child.labels(element)), element)
        if own == groups:
            self.announce(own, born)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        del side
        return None, self._groups.of[element]

    def discover(self, frame: Frame, row: Ints) -> None:
        super().discover(frame, row)
        if self._parameter is not None:
            self._parameter.discover(frame, row)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        n = len(row)
        result = Vector(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool))
        parameter = None if self._parameter is None else self._parameter.at(frame, row)
        for part in self._groups.parts(element):
            own = None if parameter is None else parameter[part]
            for column, values in zip(result, self._part(frame, element[part], row[part], own), strict=True):
                column[part] = values
        return result

    def _part(self, frame: Frame, element: Ints, row: Ints, parameter: Floats | None) -> Vector:
        n = len(row)
        which, children = self._groups.members(element)
        value, present, unknown = self._child.evaluate(frame, children, row[which])
        segments = Segments(which[present], value[present], n)
        there = segments.count > 0
        vanished = np.bincount(which[unknown], minlength=n) > 0
        return Vector(self._aggregator(segments, parameter), there, vanished & ~there)


def _sum(segments: Segments, _: Floats | None) -> Floats:
    def total(block: Block) -> Floats:
        plain, lacks = kahan(block.value)
        return plain + lacks

    return segments.each(total, NEUTRAL)


def _average(segments: Segments, _: Floats | None) -> Floats:
    return segments.each(_mean, NEUTRAL)


def _mean(block: Block) -> Floats:
    """The mean of each row, also where the sum overflows."""
    total, lacks = kahan(block.value)
    mean = total / block.size + lacks / block.size
    over = np.flatnonzero(~np.isfinite(total))
    if len(over):
        value, count, valid = block.value[over], block.size[over], block.valid[over]
        finite = np.isfinite(value)
        small = 2.0 ** np.ceil(np.log2(count + 1))
        total, lacks = kahan(np.where(finite, value, 0.0) / small[:, None])
        low = np.where(valid, value, np.inf).min(axis=1)
        high = np.where(valid, value, -np.inf).max(axis=1)
        scaled = np.clip((total / count + lacks / count) * small, low, high)
        mean[over] = np.where(finite.all(axis=1), scaled, np.where(finite, 0.0, value).sum(axis=1))
    return mean


def _variance(segments: Segments, _: Floats | None) -> Floats:
    """Population variance. By way of the distance from the first value, so that equal values give exactly 0."""

    def variance(block: Block) -> Floats:
        distance = np.where(block.valid, block.value - block.value[:, :1], NEUTRAL)
        total, lacks = kahan(distance)
        mean = total / block.size + lacks / block.size
        square = np.where(block.valid, (distance - mean[:, None]) ** 2, NEUTRAL)
        total, lacks = kahan(square)
        return (total + lacks) / block.size

    return segments.each(variance, NEUTRAL)


def _deviation(segments: Segments, parameter: Floats | None) -> Floats:
    return np.sqrt(_variance(segments, parameter))


def _quantile(segments: Segments, parameter: Floats | None) -> Floats:
    """Linear between the two nearest ranks; NaN counts as the smallest value."""
    if parameter is None:
        raise ValueError("quantile needs its parameter")
    phi = parameter
    inside = (phi >= 0) & (phi <= 1)
    safe = np.where(inside, phi, 0.0)

    def quantile(block: Block) -> Floats:
        count = block.size
        ascending = np.sort(block.value, axis=1)  # NaN and the fill come last
        nans = (block.valid & np.isnan(block.value)).sum(axis=1)
        rank = safe[block.segment] * (count - 1)
        lower = np.floor(rank).astype(np.int64)
        upper = np.minimum(lower + 1, count - 1)
        weight = rank - lower
        each = np.arange(len(count))
        low, high = (np.where(at < nans, np.nan, ascending[each, np.maximum(at - nans, 0)]) for at in (lower, upper))
        found: Floats = low * (1 - weight) + high * weight
        return found

    outside = np.where(phi < 0, -np.inf, np.where(phi > 1, np.inf, np.nan))
    return np.where(inside, segments.each(quantile, np.nan), outside)


AGGREGATORS: dict[str, Aggregator] = {
    "sum": quietly(_sum),
    "avg": quietly(_average),
    "min": quietly(lambda segments, _: segments.reduce(np.fmin)),
    "max": quietly(lambda segments, _: segments.reduce(np.fmax)),
    "count": lambda segments, _: segments.count.astype(np.float64),
    "group": lambda segments, _: np.ones(len(segments.count)),
    "stdvar": quietly(_variance),
    "stddev": quietly(_deviation),
    "quantile": quietly(_quantile),
}
