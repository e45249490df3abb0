"""Samples of many series, kept for windows over time. Here: appending, looking up, forgetting, snapshots.

Not here: what is computed of a window (window_functions), addresses (rings), running sums (prefix), trees (extremes).

Memory: a sample takes 16 bytes, and 8 more for each cell that its channels ask for (counts 2, sum 2, square 2, trend 7,
drops 2, lowest 1, highest 1): 152 bytes with all of them. A series' ring has room for a power of two of samples, at
least 8 and at most MAX_SAMPLES; beyond that the oldest are dropped and counted. Outgrown rings serve other series: at
worst they double the memory. A series takes 32 bytes beside its ring.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules import extremes, lanes, prefix
from rules.arithmetic import Floats
from rules.columns import Ints, any_of, where
from rules.rings import PORTION, Rings, ragged

MAX_SAMPLES = 1 << 17
"""Of one series"""

NeededSince = Callable[[Ints], Ints]
"""Series → the instant up to and with which their samples are not needed any more, ns"""


class History:
    """Samples of many series, looked up by ordinal (0, 1, 2 … per series, counted for ever)."""

    def __init__(
        self, channels: Collection[str] = (), *, limit: int = MAX_SAMPLES, needed_since: NeededSince | None = None
    ) -> None:
        """channels: what the window functions to be used need (WindowFunction.channels); limit: samples of a series;
        needed_since: so that samples can make room for others.
        """
        self.layout = prefix.Layout(channels)
        self.rings = Rings(self.layout.width, limit, self._may_go)
        self._needed_since = needed_since

    @property
    def next(self) -> Ints:
        """(s,) ordinal of each series' next sample."""
        return self.rings.series.next

    @property
    def first(self) -> Ints:
        """(s,) the oldest sample kept."""
        return self.rings.series.first

    @property
    def dropped(self) -> int:
        """Samples given up because a series had more than the limit."""
        return self.rings.dropped

    def know(self, series: Ints) -> None:
        """Make sure that `next` and `first` have the series, though they may have no samples yet."""
        self.rings.know(series)

    def append(self, series: Ints, time: Ints, value: Floats) -> Ints:
        """Add samples; returns their ordinals, (n,).

        Sorted by series, then by time; times of a series ascend strictly, over all calls.
        """
        if len(series) <= PORTION:
            return self._append(series, time, value)
        ordinal = np.empty(len(series), np.int64)
        self.rings.reserve(*np.unique(series, return_counts=True))
        for begin in range(0, len(series), PORTION):
            some = slice(begin, begin + PORTION)
            ordinal[some] = self._append(series[some], time[some], value[some])
        return ordinal

    def _append(self, series: Ints, time: Ints, value: Floats) -> Ints:
        goes_on = series[1:] == series[:-1]
        if not any_of(goes_on):
            following, base, mask = self.rings.make_room(series, 1)
            self.next[series] = following + 1
            self.rings.add(base + (following & mask), time, value)
            return following
        start, count = lanes.runs_of(goes_on)
        owner = series[start]
        following, base, mask = self.rings.make_room(owner, count)
        self.next[owner] = following + count
        ordinal = ragged(following, count)
        self.rings.add(base.repeat(count) + (ordinal & mask.repeat(count)), time, value)
        return ordinal

    def sum_up(self, series: Ints) -> None:
        """Bring the running sums and trees of the series up to their newest samples.

        That is put off until somebody asks for them: of most series nobody does for long.
        """
        if not self.layout.channels:
            return
        self.rings.know(series)
        table = self.rings.series
        behind = table.summed.take(series) < table.next.take(series)
        if not any_of(behind):
            return
        left = np.unique(series[behind])
        while len(left):
            following = np.maximum(table.summed.take(left), table.first.take(left))
            count = np.minimum(table.next.take(left) - following, PORTION)
            end = max(int(np.searchsorted(count.cumsum(), PORTION, side="right")), 1)
            self._sum_up(left[:end], following[:end], count[:end])
            left = left[table.summed.take(left) < table.next.take(left)]

    def _sum_up(self, owner: Ints, following: Ints, count: Ints) -> None:
        """owner: distinct series, of which count[i] samples are summed up, from following[i] on."""
        rings = self.rings
        base, mask = rings.series.base.take(owner), rings.series.mask.take(owner)
        goes_on = rings.series.summed.take(owner) > rings.series.first.take(owner)
        newest = rings.rows(base + ((following - 1) & mask))
        ordinal = ragged(following, count)
        base, mask = base.repeat(count), mask.repeat(count)
        slot = base + (ordinal & mask)
        runs = lanes.Runs(count.cumsum() - count, count, rings.time.take(slot), rings.take(slot, 0))
        rings.put(slot, prefix.rows(self.layout, runs, ordinal, newest, goes_on))
        extremes.extend(self.layout, rings, base, mask, ordinal)
        rings.series.summed[owner] = following + count

    def forget(self, series: Ints, before: Ints) -> None:
        """Samples of series[i], which are distinct, up to and with the instant before[i] are not needed any more.

        The newest one stays: what comes goes on from it.
        """
        self.rings.know(series)
        self.sum_up(series)
        kept = np.minimum(self.after(series, before, self.next[series]), self.next[series] - 1)
        self.first[series] = np.maximum(self.first[series], kept)

    def _may_go(self, series: Ints, ordinal: Ints) -> NDArray[np.bool_]:
        """See Rings. One that goes unsummed takes with it what sums go on from: those after it begin anew."""
        if not self.layout.may_begin_anywhere:
            self.sum_up(series)
        if self._needed_since is None:
            return np.zeros(len(series), bool)
        gone: NDArray[np.bool_] = self.time(series, ordinal) <= self._needed_since(series)
        return gone

    def time(self, series: Ints, ordinal: Ints) -> Ints:
        """ns, (n,)"""
        return np.asarray(self.rings.time.take(self.rings.slots(series, ordinal)))

    def value(self, series: Ints, ordinal: Ints) -> Floats:
        return self.rings.take(self.rings.slots(series, ordinal), 0)

    def after(self, series: Ints, instant: Ints, end: Ints) -> Ints:
        """The first ordinal in [first, end] whose sample is later than the instant (`end`, if none is), (n,)."""
        self.rings.know(series)
        table = self.rings.series
        base, mask, lo = table.base.take(series), table.mask.take(series), table.first.take(series)
        hi = np.maximum(end, lo)
        times = self.rings.time
        oldest, newest = times.take(base + (lo & mask)), times.take(base + ((hi - 1) & mask))
        # samples mostly come at even intervals: guess, and look whether it is right
        share = np.minimum(np.maximum((instant - oldest) / np.maximum(newest - oldest, 1), -1.0), 2.0)
        guess = lo + (share * (hi - lo - 1) + 1).astype(np.int64)
        np.minimum(guess, hi, out=guess)
        np.maximum(guess, lo, out=guess)
        low = (guess == lo) | (times.take(base + ((guess - 1) & mask)) <= instant)
        high = (guess == hi) | (times.take(base + (guess & mask)) > instant)
        wrong = where(~(low & high))
        if len(wrong):
            lo = np.where(low, guess, lo)[wrong]
            hi = np.where(high, guess, hi)[wrong]
            guess[wrong] = self._near(base[wrong], mask[wrong], instant[wrong], lo, hi, low[wrong])
        return np.asarray(guess)

    def _near(self, base: Ints, mask: Ints, instant: Ints, lo: Ints, hi: Ints, up: NDArray[np.bool_]) -> Ints:
        """As `after`, where the first guess was wrong: one above `lo`, or one below `hi`."""
        times = self.rings.time
        guess = np.where(up, lo + 1, hi - 1)
        right = times.take(base + (np.where(up, guess, guess - 1) & mask)) > instant
        right = np.where(up, (guess == hi) | right, (guess == lo) | ~right)
        wrong = where(~right)
        if len(wrong):
            lo = np.where(up, guess, lo)[wrong]
            hi = np.where(up, hi, guess)[wrong]
            guess[wrong] = self._bisect(base[wrong], mask[wrong], instant[wrong], lo, hi, guess[wrong])
        return guess

    def _bisect(self, base: Ints, mask: Ints, instant: Ints, lo: Ints, hi: Ints, near: Ints) -> Ints:
        times = self.rings.time
        for width in (2, 16):  # the guess is mostly not far off
            left, right = np.maximum(near - width, lo), np.minimum(near + width, hi)
            lo = np.where((left == lo) | (times.take(base + ((left - 1) & mask)) <= instant), left, lo)
            hi = np.where((right == hi) | (times.take(base + (right & mask)) > instant), right, hi)
        while any_of(lo < hi):
            middle = (lo + hi) >> 1
            later = (times.take(base + (middle & mask)) > instant) | (lo == hi)
            lo, hi = np.where(later, lo, middle + 1), np.where(later, middle, hi)
        return lo

    def state(self) -> dict[str, NDArray[Any]]:
        """Everything, for a snapshot: the samples, and where the running sums of each series' oldest one stand."""
        count = self.next - self.first
        self.sum_up(np.arange(len(count)))
        slot = self.rings.slots(np.repeat(np.arange(len(count)), count), ragged(self.first, count))
        state: dict[str, NDArray[Any]] = {
            "first": self.first.copy(),
            "next": self.next.copy(),
            "dropped": np.array([self.dropped]),
            "time": self.rings.time.take(slot),
            "value": self.rings.take(slot, 0),
        }
        held = where(count)
        oldest = self.rings.slots(held, self.first[held])
        for name in self.layout.carried():
            state[f"oldest.{name}"] = self.rings.take(oldest, self.layout.column[name])
        return state

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `state` gave, into a new History; sums of channels that it did not have begin now."""
        first, count = arrays["first"], arrays["next"] - arrays["first"]
        self.rings.series.grow(len(first))
        self.first[:] = self.next[:] = self.rings.series.summed[:] = first
        self.rings.dropped = int(arrays["dropped"][0])
        held = where(count)
        before = (np.cumsum(count) - count)[held]
        self.rings.make_room(held, count[held])
        slot = self.rings.slots(held, first[held])
        oldest = np.zeros((len(held), self.layout.width))
        oldest[:, 0] = arrays["value"][before]
        if "reference" in self.layout.column:
            oldest.view(np.int64)[:, self.layout.column["reference"]] = arrays["time"][before]
        if "steps" in self.layout.column:
            strange = ~prefix.ordinary(arrays["value"][before])
            oldest.view(np.int64)[:, self.layout.column["steps"]] = strange * prefix.SIGN
        for name in self.layout.carried():
            if f"oldest.{name}" in arrays:
                oldest[:, self.layout.column[name]] = arrays[f"oldest.{name}"]
        self.rings.time[slot] = arrays["time"][before]
        self.rings.put(slot, oldest)
        self.next[held] += 1
        self.rings.series.summed[held] += 1
        rest = np.ones(len(arrays["time"]), bool)
        rest[before] = False
        owner = np.repeat(np.arange(len(count)), count)
        self.append(owner[rest], arrays["time"][rest], arrays["value"][rest])


class Window(NamedTuple):
    """n windows: the samples [lo, hi) of each series, by ordinal, which lie in the range (start, end]."""

    history: History
    series: Ints
    lo: Ints
    hi: Ints
    start: Ints
    """ns; outside the window"""
    end: Ints
    """ns; inside"""
    now: Ints
    """ns; the instant of evaluation, which `offset` parts from `end`"""
