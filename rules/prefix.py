"""Running sums and counts beside each sample, so that those of any window are a difference of two rows.

Sums are float64 pairs (double_double) that restart with every BLOCK ordinals, added strictly one after another: they
do not depend on how samples were cut into calls. Counts are int64 that run for ever and may wrap; three lie in a word.
Samples that are no ordinary numbers enter sums as 0 and are counted, so that windows which hold any can be told.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from rules import double_double, lanes
from rules.arithmetic import Floats
from rules.columns import Ints, all_of
from rules.lanes import Runs

Bools = NDArray[np.bool_]

BLOCK = 1024
"""Ordinals after which sums restart: bounds their rounding errors, and for how long a huge value spoils them."""

COUNTS, SUM, SQUARE, TREND, DROPS = "counts", "sum", "square", "trend", "drops"
LOWEST, HIGHEST = "lowest", "highest"
CHANNELS = (COUNTS, SUM, SQUARE, TREND, DROPS, LOWEST, HIGHEST)

FIELD = 21
"""Bits of one count in a word."""
ONE = (1, 1 << FIELD, 1 << 2 * FIELD)
SIGN = np.int64(-1 << 63)

_SUMS = {SUM: ("sum",), SQUARE: ("square",), TREND: ("time", "time2", "cross"), DROPS: ("drops",)}
_HUGE, _TINY = 2.0**64, 2.0**-400


class Layout:
    """The cells of a row, by name.

    value; odd (NaN, +Inf, -Inf) and steps (changes, resets, strange), int64 words of counts up to and with the row,
    where strange is what is odd, huge or tiny: `steps` is negative if the row itself is;
    lowest, highest: see `extremes`; reference, int64: the time that `time`, `time2` and `cross` count from;
    sums up to and with the row: sum of values, square, time (ns), time², time · value (cross), drops (what a counter
    had reached before each reset).
    """

    def __init__(self, channels: Collection[str]) -> None:
        unknown = set(channels) - set(CHANNELS)
        if unknown:
            raise ValueError(f"no such channels: {', '.join(sorted(unknown))}")
        self.channels = frozenset(channels)
        self.may_begin_anywhere = self.channels <= {COUNTS, SUM, LOWEST, HIGHEST}
        """Results do not show from which sample on sums were added; of the others the last digit may."""
        self.sums = [name for channel in _SUMS if channel in self.channels for name in _SUMS[channel]]
        names = ["value"]
        names += ["odd", "steps"] * (COUNTS in self.channels)
        names += [name for name in (LOWEST, HIGHEST) if name in self.channels]
        names += ["reference"] * (TREND in self.channels)
        self.high = len(names)
        """Column of the first sum; those of their low parts follow."""
        self.low = self.high + len(self.sums)
        names += self.sums + [f"{name}.low" for name in self.sums]
        self.column = {name: i for i, name in enumerate(names)}
        self.width = len(names)

    def carried(self) -> list[str]:
        """The columns that go on from the row before."""
        return [name for name in self.column if name not in {"value", LOWEST, HIGHEST}]


def ordinary(value: Floats) -> Bools:
    """Whether sums and squares of such numbers can be had without overflow and underflow."""
    size = np.abs(value)
    return np.asarray((size <= _HUGE) & ((size >= _TINY) | (size == 0)))


def rows(layout: Layout, new: Runs, ordinal: Ints, newest: NDArray[np.float64], goes_on: Bools) -> NDArray[np.float64]:
    """The cells of new samples, (n, width), without lowest and highest.

    newest: (m, width) the row before each series' run; goes_on: (m,) whether there is one, else it is arbitrary.
    """
    cells = np.empty((len(new.value), layout.width))
    cells[:, 0] = new.value
    fresh = (~goes_on).nonzero()[0]
    newest[fresh] = 0.0
    newest[fresh, 0] = new.value[new.start[fresh]]
    before = newest[:, 0]
    if new.several:
        before = np.empty_like(new.value)
        before[1:] = new.value[:-1]
        before[new.start] = newest[:, 0]
    plain = ordinary(new.value)
    resets = new.value < before
    if COUNTS in layout.channels:
        words, carry = cells.view(np.int64), newest.view(np.int64)
        odd, steps = layout.column["odd"], layout.column["steps"]
        words[:, odd] = _running(_odd(new.value, plain), new, carry[:, odd])
        words[:, steps] = _running(_steps(new.value, before, plain, resets), new, carry[:, steps]) & ~SIGN
        if not all_of(plain):
            words[~plain, steps] |= SIGN
    if layout.sums:
        value = new.value if all_of(plain) else np.where(plain, new.value, 0.0)
        _add_sums(layout, lanes.parts(new, ordinal % BLOCK == 0), newest, value, np.where(resets, before, 0.0), cells)
    return cells


def _odd(value: Floats, plain: Bools) -> Ints:
    if all_of(plain):
        return np.zeros(len(value), np.int64)
    return np.asarray(np.isnan(value) * ONE[0] + (value == np.inf) * ONE[1] + (value == -np.inf) * ONE[2])


def _steps(value: Floats, before: Floats, plain: Bools, resets: Bools) -> Ints:
    changes = value != before
    steps = changes + resets * np.int64(ONE[1])
    if not all_of(plain):
        steps -= changes & np.isnan(value) & np.isnan(before)
        steps += ~plain * ONE[2]
    return np.asarray(steps)


def _running(step: Ints, new: Runs, carry: Ints) -> Ints:
    """Counts up to and with each row; wrapping is harmless, since only differences are looked at."""
    if not new.several:
        return carry + step
    total = np.cumsum(step)
    return np.asarray(total + new.spread(carry - (total[new.start] - step[new.start])))


def _add_sums(
    layout: Layout,
    part: lanes.Lanes,
    newest: NDArray[np.float64],
    value: Floats,
    dropped: Floats,
    cells: NDArray[np.float64],
) -> None:
    """value, dropped: (n,) with 0 for what is no ordinary number, and where there was no reset."""
    addends: dict[str, tuple[Floats, Floats | None]] = {}
    if SUM in layout.channels:
        addends["sum"] = value, None
    if SQUARE in layout.channels:
        addends["square"] = double_double.two_product(value, value)
    if TREND in layout.channels:
        column = layout.column["reference"]
        begin = part.runs.time[part.start]
        reference = part.spread(part.carried(newest.view(np.int64)[:, column], begin))
        cells.view(np.int64)[:, column] = reference
        time = (part.runs.time - reference).astype(np.float64)
        addends["time"] = time, None
        addends["time2"] = double_double.two_product(time, time)
        addends["cross"] = double_double.two_product(time, value)
    if DROPS in layout.channels:
        addends["drops"] = np.where(ordinary(dropped), dropped, 0.0), None
    zero = np.zeros(len(part.start))
    for name, (high, low) in addends.items():
        at, at_low = layout.column[name], layout.column[f"{name}.low"]
        carry = part.carried(newest[:, at], zero), part.carried(newest[:, at_low], zero)
        cells[:, at], cells[:, at_low] = part.accumulate(high, low, carry)
