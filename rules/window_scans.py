"""Functions that look at every sample of a window: O(samples), vectorised over windows of like length.

Here: quantiles, smoothing, and the exact evaluation of the rare windows that running sums cannot serve.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.window_sums import select

if TYPE_CHECKING:
    from rules.history import Window

    Bools = NDArray[np.bool_]

CELLS = 1 << 16
"""Samples looked at once: what comes between fits into the processor's cache."""


def matrices(window: Window) -> Iterator[tuple[Ints, Ints, NDArray[np.bool_]]]:
    """Windows of like length together → (rows, ordinal (rows, length), inside (rows, length))."""
    count = np.maximum(window.hi - window.lo, 0)
    size = np.frexp(count)[1]
    for power in np.unique(size[count > 0]):
        members = np.flatnonzero(size == power)
        length = int(count[members].max())
        for begin in range(0, len(members), max(CELLS // length, 1)):
            rows = members[begin : begin + max(CELLS // length, 1)]
            step = np.arange(length)
            inside = step < count[rows][:, None]
            yield rows, np.minimum(window.lo[rows][:, None] + step, window.hi[rows][:, None] - 1), inside


def values(window: Window, rows: Ints, ordinal: Ints) -> Floats:
    rings, series = window.history.rings, window.series[rows]
    base, mask = rings.series.base.take(series), rings.series.mask.take(series)
    return rings.take(base[:, None] + (ordinal & mask[:, None]), 0)


def quantile(window: Window, q: Floats) -> Floats:
    """NaN sorts first; linear between the two samples next to the rank; q outside 0…1 gives ±Inf."""
    result = np.full(len(window.series), np.nan)
    for rows, ordinal, inside in matrices(window):
        result[rows] = _quantile(np.where(inside, values(window, rows, ordinal), np.nan), inside, q[rows])
    return result


def mad(window: Window) -> Floats:
    """The median of the distances to the median."""
    result = np.full(len(window.series), np.nan)
    for rows, ordinal, inside in matrices(window):
        sample = np.where(inside, values(window, rows, ordinal), np.nan)
        half = np.full(len(rows), 0.5)
        result[rows] = _quantile(np.abs(sample - _quantile(sample, inside, half)[:, None]), inside, half)
    return result


def _quantile(sample: Floats, inside: NDArray[np.bool_], q: Floats) -> Floats:
    ordered = np.sort(sample, axis=1)  # NaN comes last, and so does the filling
    count = inside.sum(axis=1)
    unordered = (np.isnan(sample) & inside).sum(axis=1)
    usable = np.where(np.isnan(q), 0.0, np.clip(q, 0.0, 1.0))
    rank = usable * (count - 1)
    lower = np.maximum(np.floor(rank).astype(np.int64), 0)
    upper = np.minimum(lower + 1, count - 1)
    weight = rank - np.floor(rank)
    row = np.arange(len(q))
    below, above = (
        np.where(at < unordered, np.nan, ordered[row, np.maximum(at - unordered, 0)]) for at in (lower, upper)
    )
    between = below * (1 - weight) + above * weight
    return np.select([np.isnan(q), q < 0, q > 1], [np.nan, -np.inf, np.inf], between)


def smoothed(window: Window, smoothing: Floats, trend: Floats) -> Floats:
    """Double exponential smoothing; two samples at least."""
    result = np.full(len(window.series), np.nan)
    for rows, ordinal, inside in matrices(window):
        sample = values(window, rows, ordinal)
        sf, tf = smoothing[rows], trend[rows]
        level, slope, before = sample[:, 0], sample[:, min(1, sample.shape[1] - 1)] - sample[:, 0], sample[:, 0]
        for i in range(1, sample.shape[1]):
            if i > 1:
                slope = np.where(inside[:, i], tf * (level - before) + (1 - tf) * slope, slope)
            grown = sf * sample[:, i] + (1 - sf) * (level + slope)
            before, level = np.where(inside[:, i], level, before), np.where(inside[:, i], grown, level)
        result[rows] = level
    return result


def time_of(window: Window, wanted: Floats) -> Ints:
    """The time of the last sample that equals wanted[i]; if that is NaN, of the last sample."""
    found = window.hi - 1
    for rows, ordinal, inside in matrices(window):
        hit = (values(window, rows, ordinal) == wanted[rows][:, None]) & inside
        last = hit.shape[1] - 1 - np.argmax(hit[:, ::-1], axis=1)
        found[rows] = np.where(hit.any(axis=1), window.lo[rows] + last, found[rows])
    return window.history.time(window.series, found)


def samples(window: Window, rows: Ints) -> Iterator[tuple[list[int], list[float]]]:
    """Time and value of the samples of some windows, one window after another."""
    some = select(window, rows)
    for series, lo, hi in zip(some.series, some.lo, some.hi, strict=True):
        ordinal = np.arange(lo, hi)
        owner = np.full(len(ordinal), series)
        yield some.history.time(owner, ordinal).tolist(), some.history.value(owner, ordinal).tolist()


def exact_sum(value: list[float]) -> float:
    """Correctly rounded; sums that overflow go to infinity."""
    try:
        return math.fsum(value)
    except OverflowError:
        return sum(value)


def exact_mean(value: list[float]) -> float:
    """Correctly rounded, nearly always, also where the sum overflows."""
    exponent = 0
    try:
        total = math.fsum(value)
    except OverflowError:
        exponent, value = _scaled(value)
        total = math.fsum(value)
    rest = math.fsum([*value, -total])
    return float(np.ldexp(float((Fraction(total) + Fraction(rest)) / len(value)), exponent))


def exact_variance(value: list[float]) -> float:
    exponent, scaled = _scaled(value)
    mean = exact_mean(scaled)
    squares, shift = math.fsum((v - mean) * (v - mean) for v in scaled), math.fsum(v - mean for v in scaled)
    variance = max(squares - shift * shift / len(value), 0.0) / len(value)
    return float(np.ldexp(variance, 2 * exponent))


def exact_trend(time: list[int], value: list[float], now: int) -> tuple[float, float]:
    """Slope per second, and the value at `now`, of the least-squares line through two or more samples."""
    exponent, scaled = _scaled(value)
    center = sum(time) // len(time)
    rest = (sum(time) % len(time)) / len(time)
    x = [((t - center) - rest) / 1e9 for t in time]
    mean = exact_mean(scaled)
    slope = math.fsum(a * (v - mean) for a, v in zip(x, scaled, strict=True)) / math.fsum(a * a for a in x)
    at_now = mean + slope * (((now - center) - rest) / 1e9)
    return float(np.ldexp(slope, exponent)), float(np.ldexp(at_now, exponent))


def _scaled(value: list[float]) -> tuple[int, list[float]]:
    """Values of about 1 at most, so that nothing overflows: value = scaled · 2^exponent."""
    exponent = math.frexp(max(map(abs, value)))[1]
    return exponent, np.ldexp(np.array(value), -exponent).tolist()


def exact_increase(value: list[float]) -> float:
    """What a counter rose by, with what it had reached before each reset, added in upstream's order."""
    result = value[-1] - value[0]
    for before, after in pairwise(value):
        if after < before:
            result += before
    return result
