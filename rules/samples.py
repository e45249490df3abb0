"""What is known of the samples of each series: the newest one, and, where rules look back, a history.

Here: the tables and how a look at them is answered. Not here: which instants are looked at.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Columns, Ints, any_of, where
from rules.history import History, Window
from rules.lifecycle import NEVER
from rules.operators import Bools, Samples

STALENESS = 300 * 10**9
"""ns; Prometheus' lookback delta."""

_STALE_BITS, _GONE_BITS = 0x7FF0000000000002, 0x7FF0000000000003
STALE: float = struct.unpack("<d", struct.pack("<Q", _STALE_BITS))[0]
"""Value of a marker: the series' data has vanished (Prometheus' staleness marker, model/value/value.go)."""
GONE: float = struct.unpack("<d", struct.pack("<Q", _GONE_BITS))[0]
"""Value of a marker: the series has no sample any more, and none is missing: a recorded element that is not there."""


def bits(value: float) -> int:
    """The bits of a value, to tell markers from other NaN."""
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def is_marker(value: Floats) -> Bools:
    """(n,) which values are STALE or GONE."""
    marked = np.isnan(value)
    if any_of(marked):
        bits = value.view(np.int64)
        marked &= (bits == _STALE_BITS) | (bits == _GONE_BITS)
    return marked


def is_gone(value: Floats) -> Bools:
    """(n,) which values are GONE."""
    gone: Bools = np.isnan(value) & (value.view(np.int64) == _GONE_BITS)
    return gone


def seen(value: Floats, time: Ints, staleness: Ints | int, now: Ints) -> Samples:
    """What an instant sees of newest samples; `time` is NEVER where there is none."""
    there, expires = time != NEVER, time + staleness
    marked = is_marker(value)
    if any_of(marked):
        there &= ~(marked & (value.view(np.int64) == _GONE_BITS))
        expires = np.where(marked, time, expires)
    return Samples(value, time, there, expires, now)


def newest_samples() -> Columns:
    """The newest sample of each series, and how far back rules look."""
    return Columns(
        value=("f8", np.nan),
        time=("i8", NEVER),
        anchor=("i8", NEVER),  # its time less the engine's up-time when it came
        staleness=("i8", 0),
        ranges=("i8", -1),  # ns that range selectors look back; -1: there are none
        instants=("i8", -1),  # ns that instant selectors look back beyond the newest sample
    )


class Memory:
    """The samples that rules may look at: the newest of each series, and the histories that they need."""

    def __init__(self, channels: Collection[str] = ()) -> None:
        """channels: the running sums that the rules' window functions need."""
        self.newest = newest_samples()
        self.ranges = History(channels, needed_since=self._needed_in_ranges)
        """Of the series under range selectors, without markers"""
        self.instants = History(needed_since=self._needed_in_instants)
        """Of the series that instant selectors see as of the past, with markers"""

    def remember(self, series: NDArray[np.int32], time: Ints, value: Floats) -> None:
        """Append to the histories; sorted by series, then time. `newest` still has the samples before these."""
        newest = self.newest
        for history, kept in ((self.ranges, newest.ranges), (self.instants, newest.instants)):
            mask = kept.take(series) >= 0
            if not any_of(mask):
                continue
            if history is self.ranges:
                mask &= ~is_marker(value)
            rows = where(mask)
            if len(rows) == len(mask):
                history.append(series.astype(np.int64), time, value)
            elif len(rows):
                history.append(series[rows].astype(np.int64), time[rows], value[rows])

    def _needed_in_ranges(self, series: Ints) -> Ints:
        since: Ints = self.newest.time.take(series) - self.newest.ranges.take(series)
        return since

    def _needed_in_instants(self, series: Ints) -> Ints:
        history = self.instants
        limit: Ints = self.newest.time.take(series) - self.newest.instants.take(series)
        # what is seen at the limit itself is a sample before it
        seen_then = np.maximum(history.after(series, limit, history.next[series]) - 1, history.first[series])
        return np.minimum(limit, history.time(series, seen_then) - 1)

    def state(self) -> dict[str, NDArray[Any]]:
        """Arrays by name, for a snapshot."""
        for history, needed_since in (
            (self.ranges, self._needed_in_ranges),
            (self.instants, self._needed_in_instants),
        ):
            held = where(history.next)
            history.forget(held, needed_since(held))
        arrays = {f"newest.{name}": column for name, column in self.newest.arrays().items()}
        arrays |= {f"ranges.{name}": column for name, column in self.ranges.state().items()}
        return arrays | {f"instants.{name}": column for name, column in self.instants.state().items()}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self.newest.load(part(arrays, "newest."))
        self.ranges.restore(part(arrays, "ranges."))
        self.instants.restore(part(arrays, "instants."))


def part(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose name begins with the prefix, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def window_of(history: History, series: Ints, upto: Ints, now: Ints, ago: Ints, duration: int) -> Window:
    """The window (now - ago - duration, now - ago], without samples newer than `upto`."""
    history.know(series)
    end = now - ago
    start = end - duration
    hi = history.after(series, np.minimum(end, upto), history.next[series])
    lo = history.after(series, start, hi)
    return Window(history, series, lo, hi, start, end, now)


def sample_before(history: History, series: Ints, instant: Ints, upto: Ints, staleness: Ints) -> tuple[Samples, Ints]:
    """The newest sample of each series at or before the instant and `upto` → it, and the ordinal of the next."""
    history.know(series)
    following = history.after(series, np.minimum(instant, upto), history.next[series])
    found = following > history.first[series]
    at = np.where(found, following - 1, 0)
    value, time = np.full(len(series), np.nan), np.full(len(series), NEVER)
    time[~found & (following > 0)] = NEVER + 1  # there was one, but it is forgotten since it is stale
    value[found] = history.value(series[found], at[found])
    time[found] = history.time(series[found], at[found])
    return seen(value, time, staleness, instant), following
