"""Sums, averages, variances and least-squares lines of windows, from running sums."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rules import double_double, window_scans
from rules.arithmetic import Floats
from rules.columns import Ints, any_of, where
from rules.double_double import Pair
from rules.window_sums import Ends, blocks, changes, head, strange, strange_sum
from rules.window_sums import total as column_total

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bools = NDArray[np.bool_]


_COARSE = 2.0**-20
"""Of a sum: if what was rounded is larger, it is added anew, so that the result does not depend on where sums began."""


def total(at: Ends) -> Floats:
    """Correctly rounded, nearly always."""
    (high, low), rest, odd = _sum(at)
    result = high + low
    result[rest] = [window_scans.exact_sum(value) for _, value in window_scans.samples(at.window, rest)]
    result[odd] = strange_sum(at, odd)
    return result


def average(at: Ends) -> Floats:
    pair, rest, odd = _sum(at)
    result = double_double.divide(pair, at.count)
    result[rest] = [window_scans.exact_mean(value) for _, value in window_scans.samples(at.window, rest)]
    result[odd] = strange_sum(at, odd)
    return result


def _sum(at: Ends) -> tuple[Pair, Ints, Ints]:
    """Sums; the windows to be summed anew; the windows that hold NaN or ±Inf."""
    first = at.cell(at.first, "value")
    pair, size = column_total(at, "sum", first)
    inexact = size > np.abs(pair[0]) * _COARSE  # parts err by 2⁻⁴⁷ of their size at most
    odd, rest = _special(at, at.steps(), inexact)
    return pair, rest, odd


def _special(at: Ends, steps: Ints, inexact: Bools) -> tuple[Ints, Ints]:
    """→ windows that hold NaN or ±Inf, other windows that running sums do not serve."""
    special = strange(steps)
    if not any_of(special):
        return np.zeros(0, np.int64), where(inexact)
    rows = where(special)
    odd = rows[strange_sum(at, rows) != 0]
    inexact |= special
    inexact[odd] = False
    return odd, where(inexact)


def variance(at: Ends) -> Floats:
    """Of the population; 0 if the value never changed, NaN where any sample is NaN or ±Inf."""
    first = at.cell(at.first, "value")
    mass, _ = column_total(at, "sum", first)
    square, size = column_total(at, "square", None)
    square = double_double.add(square, double_double.two_product(first, first))
    count = at.count
    none = np.zeros(len(first))
    spread = double_double.subtract(double_double.multiply(square, (count, none)), double_double.multiply(mass, mass))
    result = np.maximum((spread[0] + spread[1]) / count / count, 0.0)
    steps = at.steps()
    constant = changes(steps) == 0
    # running sums of values err no more than those of squares, seen from the result
    inexact = ~constant & (size > result * count * 2.0**3)
    odd, rest = _special(at, steps, inexact)
    result[constant] = 0.0
    result[rest] = [window_scans.exact_variance(value) for _, value in window_scans.samples(at.window, rest)]
    result[odd] = np.nan
    return result


def slope(at: Ends) -> Floats:
    """Per second."""
    return _line(at)[0]


def predicted(at: Ends, ahead: Floats) -> Floats:
    """The value on the line, `ahead` seconds from now."""
    rise, now = _line(at)
    return rise * ahead + now


def _line(at: Ends) -> Pair:
    """The least-squares line: slope per second, value at the window's `now`."""
    first = at.cell(at.first, "value")
    mass, mass_size = column_total(at, "sum", first)
    reference, time, square, cross, size = _trend_sums(at, first)
    count = at.count
    counts = count, np.zeros(len(count))
    spread = _determinant(counts, square, time, time)
    slant = _determinant(counts, cross, time, mass)
    rise = slant / spread
    mean_time, mean = double_double.divide(time, count), double_double.divide(mass, count)
    now = mean + rise * ((at.window.now - reference) - mean_time)
    rise *= 1e9
    steps = at.steps()
    constant = changes(steps) == 0
    rise[constant], now[constant] = 0.0, first[constant]
    inexact = (size * count > spread * 2.0**3) | (mass_size > np.abs(mass[0]) + np.abs(first))
    odd, rest = _special(at, steps, inexact & ~constant)
    lines = (
        window_scans.exact_trend(times, values, instant)
        for (times, values), instant in zip(
            window_scans.samples(at.window, rest), at.window.now[rest].tolist(), strict=True
        )
    )
    for row, line in zip(rest, lines, strict=True):
        rise[row], now[row] = line
    rise[odd] = now[odd] = np.nan
    return rise, now


def _determinant(count: Pair, product: Pair, a: Pair, b: Pair) -> Floats:
    """count · product − a · b."""
    high, low = double_double.subtract(double_double.multiply(product, count), double_double.multiply(a, b))
    return high + low


def _trend_sums(at: Ends, own: Floats) -> tuple[Ints, Pair, Pair, Pair, Floats]:
    """Sums of time, time² and time · value, in ns since a reference of each window; how much of time² was rounded."""
    reference = at.word(at.first, "reference")
    since = (at.times[0] - reference).astype(np.float64)
    end = head(at)
    sums, sizes = [], []
    for name, part in (
        ("time", (since, np.zeros(len(since)))),
        ("time2", double_double.two_product(since, since)),
        ("cross", double_double.two_product(since, own)),
    ):
        high, low = at.cell(end, name), at.cell(end, f"{name}.low")
        start = at.cell(at.first, name), at.cell(at.first, f"{name}.low")
        sums.append(double_double.add(double_double.subtract((high, low), start), part))
        sizes.append(np.abs(low))
    for rows, slot, count in blocks(at):
        shift = double_double.from_int(at.word(slot, "reference") - reference[rows])
        time, square, cross, mass = (
            (at.cell(slot, name), at.cell(slot, f"{name}.low")) for name in ("time", "time2", "cross", "sum")
        )
        counted = count, np.zeros(len(count))
        for pair, addend in zip(sums, _shifted(time, square, cross, mass, shift, counted), strict=True):
            pair[0][rows], pair[1][rows] = double_double.add((pair[0][rows], pair[1][rows]), addend)
    return reference, sums[0], sums[1], sums[2], sizes[1]


def _shifted(time: Pair, square: Pair, cross: Pair, mass: Pair, shift: Pair, count: Pair) -> tuple[Pair, Pair, Pair]:
    """Sums of time, time² and time · value, with `shift` added to each time."""
    moved = double_double.multiply(shift, count)
    twice = double_double.add(double_double.add(time, time), moved)
    return (
        double_double.add(time, moved),
        double_double.add(square, double_double.multiply(shift, twice)),
        double_double.add(cross, double_double.multiply(shift, mass)),
    )
