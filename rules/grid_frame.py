"""Frames of a grid: what the operators see at a tick, at the instants of a query, and inside a subquery."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.history import History, Window
from rules.lifecycle import NEVER
from rules.operators import Bools, Frame, Samples
from rules.samples import Memory, is_gone, is_marker, sample_before, seen, window_of


class GridFrame:
    """One instant of our clock, at a tick: each series is seen as of its own clock."""

    def __init__(self, memory: Memory, stamp: int, uptime: int | None, *, ago: int = 0) -> None:
        """uptime: of the engine at the instant `stamp`; None: all series are on our clock, as in Prometheus.

        ago: how long before, seen from `stamp`, the expression is evaluated. All in ns.
        """
        self._memory, self._uptime, self._ago = memory, uptime, ago
        self.stamp = stamp
        self.time, self.position = np.array([stamp - ago]), np.zeros(1, np.int64)
        self.all_rows: Ints = np.zeros(1, np.int64)
        self.failed = np.zeros(1, bool)
        self.failure = ""
        """Why the expression is in error."""

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        return self.past(series, row, np.zeros(len(row), np.int64))  # there may be newer ones than the instant

    def past(self, series: NDArray[np.int32], row: Ints, ago: Ints) -> Samples:
        del row
        newest, memory = self._newest(series), self._memory
        instant = newest.now - (ago + self._ago)
        staleness = memory.newest.staleness[series]
        return sample_before(memory.instants, series.astype(np.int64), instant, newest.time, staleness)[0]

    def window(self, series: NDArray[np.int32], row: Ints, ago: Ints, duration: int) -> Window:
        del row
        newest, ids = self._newest(series), series.astype(np.int64)
        return window_of(self._memory.ranges, ids, newest.time, newest.now - self._ago, ago, duration)

    def ended(self, series: NDArray[np.int32]) -> Bools:
        return is_gone(self._memory.newest.value[series])

    def expect(self, row: Ints, instant: Ints) -> None:
        """A grid is evaluated at its own instants only."""

    def fail(self, row: Ints, message: str) -> None:
        if len(row):
            self.failed[row], self.failure = True, message

    def _newest(self, series: NDArray[np.int32]) -> Samples:
        newest = self._memory.newest
        time = newest.time[series]
        own = self._uptime is not None
        now = newest.anchor[series] + self._uptime if own else np.full(len(series), self.stamp)
        return seen(newest.value[series], time, newest.staleness[series], now)


class SubFrame:
    """Other instants, seen from the rows of another frame: those of a subquery."""

    def __init__(self, outer: Frame, row: Ints, time: Ints) -> None:
        """row: (rows,) of the outer frame; time: (rows,) ns, by the clock of the outer frame's `time`."""
        self._outer, self._row = outer, row
        self.time, self.position = time, outer.position[row]
        self._ago = outer.time[row] - time
        self.all_rows: Ints = np.arange(len(time))

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        return self._outer.past(series, self._row[row], self._ago[row])

    def past(self, series: NDArray[np.int32], row: Ints, ago: Ints) -> Samples:
        return self._outer.past(series, self._row[row], self._ago[row] + ago)

    def window(self, series: NDArray[np.int32], row: Ints, ago: Ints, duration: int) -> Window:
        found = self._outer.window(series, self._row[row], self._ago[row] + ago, duration)
        return found._replace(now=found.now - self._ago[row])

    def ended(self, series: NDArray[np.int32]) -> Bools:
        return self._outer.ended(series)

    def expect(self, row: Ints, instant: Ints) -> None:
        """Subqueries are on a grid."""

    def fail(self, row: Ints, message: str) -> None:
        self._outer.fail(self._row[row], message)


class RangeFrame:
    """A grid of instants over stored samples, for queries."""

    def __init__(
        self,
        steps: Ints,
        samples: dict[int, tuple[Ints, Floats]],
        staleness: Ints,
        channels: Collection[str] = (),
    ) -> None:
        """steps: (rows,) ns; samples: (time, value) by series, ascending; staleness: ns by series."""
        self.time, self.all_rows = steps, np.arange(len(steps))
        self.position = np.zeros(len(steps), np.int64)
        self._samples, self._staleness, self._channels = samples, staleness, channels
        self._history: History | None = None
        self._times: dict[int, Ints] = {}
        self.failure = ""

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        return self.past(series, row, np.zeros(len(row), np.int64))

    def past(self, series: NDArray[np.int32], row: Ints, ago: Ints) -> Samples:
        instant = self.time[row] - ago
        time, value = np.full(len(row), NEVER), np.full(len(row), np.nan)
        for id_, rows in _by_series(series):
            times, values = self._samples.get(id_, _NO_SAMPLES)
            at = np.searchsorted(times, instant[rows], side="right") - 1
            if len(times):
                found = at >= 0
                time[rows] = np.where(found, times[at], NEVER)
                value[rows] = np.where(found, values[at], np.nan)
        return seen(value, time, self._staleness[series], instant)

    def window(self, series: NDArray[np.int32], row: Ints, ago: Ints, duration: int) -> Window:
        history = self._filled()
        now = self.time[row]
        end = now - ago
        start = end - duration
        lo, hi = np.zeros(len(row), np.int64), np.zeros(len(row), np.int64)
        for id_, rows in _by_series(series):
            times = self._times.get(id_, _NO_SAMPLES[0])
            lo[rows] = np.searchsorted(times, start[rows], side="right")
            hi[rows] = np.searchsorted(times, end[rows], side="right")
        return Window(history, series.astype(np.int64), lo, hi, start, end, now)

    def ended(self, series: NDArray[np.int32]) -> Bools:
        return np.zeros(len(series), bool)  # a query does not ask why something is not there

    def expect(self, row: Ints, instant: Ints) -> None:
        """A grid is evaluated at its own instants only."""

    def fail(self, row: Ints, message: str) -> None:
        if len(row):
            self.failure = message

    def _filled(self) -> History:
        """All samples, without markers."""
        if self._history is None:
            self._history = History(self._channels, limit=_NO_LIMIT)
            columns = []
            for id_, (time, value) in sorted(self._samples.items()):
                keep = ~is_marker(value)
                self._times[id_] = time[keep]
                columns.append((np.full(int(keep.sum()), id_), time[keep], value[keep]))
            if columns:
                self._history.append(*(np.concatenate(column) for column in zip(*columns, strict=True)))
        return self._history


class InstantFrame(RangeFrame):
    """A grid of instants of which only the newest samples are known: for queries that look at nothing else."""

    def __init__(self, steps: Ints, ids: list[int], newest: tuple[Ints, Floats], staleness: Ints) -> None:
        """newest: (time, value) by id and step, -2**63 where there is none; staleness: ns by series."""
        super().__init__(steps, {}, staleness)
        time, value = newest
        self._newest = np.where(time < NEVER, NEVER, time), value
        self._at = np.zeros(max(ids, default=0) + 1, np.int64)
        self._at[ids] = np.arange(len(ids))

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        time, value = self._newest
        cell = self._at[series] * len(self.time) + row
        return seen(value.ravel()[cell], time.ravel()[cell], self._staleness[series], self.time[row])


_NO_LIMIT = 1 << 40
"""Of samples, which a query has read already"""
_NO_SAMPLES = (np.zeros(0, np.int64), np.zeros(0))


def _by_series(series: NDArray[np.int32]) -> list[tuple[int, NDArray[np.int64] | slice]]:
    """The rows of each series; slices where the rows are sorted by series."""
    if not len(series):
        return []
    cuts = np.flatnonzero(np.diff(series))
    if len(cuts) < len(series) // 4 + 1 and (series[cuts + 1] > series[cuts]).all():
        bounds = [0, *(cuts + 1).tolist(), len(series)]
        return [(int(series[a]), slice(a, b)) for a, b in itertools.pairwise(bounds)]
    order = np.argsort(series, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(series[order])) + 1)
    return [(int(series[rows[0]]), rows) for rows in parts]
