"""Error-free sums and products of float64 columns. Nothing here knows about samples.

A pair (high, low) stands for the number high + low; results have a low that is no more than a rounding error of high.
Sources: Knuth, TAOCP 2, 4.2.2 (two-sum); Dekker 1971 (two-product); Neumaier 1974 (compensated sums).
"""

from __future__ import annotations

import numpy as np

from rules.arithmetic import Floats

Pair = tuple[Floats, Floats]

_SPLIT = 134217729.0  # 2²⁷ + 1


def error(a: Floats, b: Floats, total: Floats) -> Floats:
    """What `total = a + b` lost by rounding."""
    b_part = total - a
    return np.asarray((a - (total - b_part)) + (b - b_part))


def add(a: Pair, b: Pair) -> Pair:
    high = a[0] + b[0]
    low = error(a[0], b[0], high) + (a[1] + b[1])
    total = high + low
    return total, error(high, low, total)


def subtract(a: Pair, b: Pair) -> Pair:
    return add(a, (-b[0], -b[1]))


def difference(high: Floats, low: Floats, high2: Floats, low2: Floats, more: Floats | None) -> Pair:
    """(high + low) - (high2 + low2) + more."""
    rest = low - low2
    total = high - high2
    rest += error(high, -high2, total)
    if more is not None:
        high, total = total, total + more
        rest += error(high, more, total)
    result = total + rest
    return result, error(total, rest, result)


def two_product(a: Floats, b: Floats) -> Pair:
    """a · b exactly, where the product neither overflows nor nears the subnormal numbers."""
    product = a * b
    a_high, a_low = _halves(a)
    b_high, b_low = (a_high, a_low) if b is a else _halves(b)
    low = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, low


def multiply(a: Pair, b: Pair) -> Pair:
    high, low = two_product(a[0], b[0])
    return high, low + (a[0] * b[1] + a[1] * b[0])


def divide(a: Pair, count: Floats) -> Floats:
    """a / count, rounded once (nearly always), for whole counts below 2²⁶."""
    quotient = a[0] / count
    high, low = _halves(quotient)  # their products with the count are exact
    return np.asarray(quotient + (((a[0] - high * count) - low * count) + a[1]) / count)


def from_int(number: np.typing.NDArray[np.int64]) -> Pair:
    """An int64 exactly."""
    high = number.astype(np.float64)
    return high, (number - high.astype(np.int64)).astype(np.float64)


def _halves(a: Floats) -> Pair:
    scaled = a * _SPLIT
    high = scaled - (scaled - a)
    return high, a - high
