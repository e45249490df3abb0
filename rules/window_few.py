"""Averages, sums and extremes of a few windows that hold few samples, straight from these.

Where most elements are calm (rules.calm) that is what there is to do, and cheaper than to bring running sums and trees
up to date. The results are those of window_moments and extremes. Not here: windows with NaN, ±Inf, or huge values.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from rules import double_double
from rules.arithmetic import Floats
from rules.columns import Ints, all_of
from rules.history import Window
from rules.prefix import ordinary
from rules.rings import ragged

CELLS = 4096
"""Samples, of all windows together, up to which this is cheaper"""


class Few(NamedTuple):
    """The samples of n windows, each with one at least."""

    value: Floats
    """One window after another"""
    start: Ints
    """(n,) where each one's begin"""
    length: Ints
    """(n,)"""


def average(window: Window) -> Floats | None:
    """None: it has to be had otherwise."""
    few = _ordinary_samples(window)
    if few is None:
        return None
    high, low = _sums(few)
    return double_double.divide((high, low), few.length.astype(np.float64))


def total(window: Window) -> Floats | None:
    few = _ordinary_samples(window)
    return None if few is None else _sums(few)[0]


def lowest(window: Window) -> Floats | None:
    few = _samples(window)
    return None if few is None else np.fmin.reduceat(few.value, few.start) + 0.0


def highest(window: Window) -> Floats | None:
    few = _samples(window)
    return None if few is None else np.fmax.reduceat(few.value, few.start) + 0.0


def _samples(window: Window) -> Few | None:
    count = window.hi - window.lo
    upto = count.cumsum()
    if len(upto) == 0 or upto[-1] > CELLS:
        return None
    rings = window.history.rings
    base, mask = rings.series.base.take(window.series), rings.series.mask.take(window.series)
    slot = base.repeat(count) + (ragged(window.lo, count) & mask.repeat(count))
    return Few(rings.take(slot, 0), upto - count, count)


def _ordinary_samples(window: Window) -> Few | None:
    few = _samples(window)
    return few if few is not None and all_of(ordinary(few.value)) else None


def _sums(few: Few) -> tuple[Floats, Floats]:
    """Sums, correctly rounded, and what they lost."""
    value = few.value.tolist()
    high, low = [], []
    for start, length in zip(few.start.tolist(), few.length.tolist(), strict=True):
        own = value[start : start + length]
        whole = math.fsum(own)
        own.append(-whole)
        high.append(whole)
        low.append(math.fsum(own))
    return np.array(high), np.array(low)
