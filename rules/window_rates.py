"""rate, increase, delta, irate and idelta: differences of a window's ends.

Source: prometheus promql/functions.go (extrapolatedRate, instantValue), version 3.
"""

from __future__ import annotations

import numpy as np

from rules import window_scans
from rules.arithmetic import Floats
from rules.columns import Ints
from rules.window_sums import Ends, ends, resets, select, strange, total


def extrapolated(at: Ends, *, counter: bool, per_second: bool) -> Floats:
    """The difference over the whole range, as if the samples' trend went on to its ends if they are near."""
    window = at.window
    value, last_value = at.values
    time, last_time = at.times
    result = last_value - value
    if counter:
        result = _with_resets(at, result)
    sampled = (last_time - time) / 1e9
    to_start, to_end = (time - window.start) / 1e9, (window.end - last_time) / 1e9
    interval = sampled / (at.count - 1)
    threshold = interval * 1.1
    half = interval / 2
    to_start = np.where(to_start >= threshold, half, to_start)
    if counter:
        # a counter was not below zero: do not go back further than to where it would have been
        to_zero = np.where((result > 0) & (value >= 0), sampled * (value / result), to_start)
        to_start = np.where(to_zero < to_start, to_zero, to_start)
    to_end = np.where(to_end >= threshold, half, to_end)
    factor = (sampled + to_start + to_end) / sampled
    if per_second:
        factor /= (window.end - window.start) / 1e9
    return np.asarray(result * factor)


def _with_resets(at: Ends, difference: Floats) -> Floats:
    steps = at.steps()
    rows = np.flatnonzero(resets(steps))
    if not len(rows):
        return difference
    some = ends(select(at.window, rows))
    high, low = total(some, "drops", None)[0]
    difference[rows] = (difference[rows] + high) + low
    bad = rows[strange(steps[rows])]
    for row, (_, sample) in zip(bad, window_scans.samples(at.window, bad), strict=True):
        difference[row] = window_scans.exact_increase(sample)
    return difference


def instant(at: Ends, *, counter: bool) -> Floats:
    """Of the last two samples: the difference, or for counters the rate per second."""
    window = at.window
    slot: Ints = window.history.rings.slots(window.series, window.hi - 2)
    before, after = at.cell(slot, "value"), at.cell(at.last, "value")
    if not counter:
        return after - before
    rise = np.where(after < before, after, after - before)
    return np.asarray(rise / ((at.times[1] - window.history.rings.time.take(slot)) / 1e9))
