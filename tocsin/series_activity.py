"""SeriesActivity: what each series has given since the start, kept in columns as the readings pass.

Here: the one step that runs for every batch. Not here: summing up by device (`devices`) or stream (`no_data`).
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from telemetry import DUPLICATE, LIVE, RECORDED, RETAINED, ReadingBatch

SECOND = 10**9
_DISTANCES = 5
"""Of each series: the distances of its latest readings that are remembered."""
_SMOOTHING = 0.1
"""Weight of a new reading in the clock skew."""
_LEARNED = 5_000
"""So many rows a second are learned from; a batch counts as at least _LEAST_ROWS. At higher rates, some are enough."""
_LEAST_ROWS = 50
_RATE_NS = 60 * SECOND
_MARK_NS = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Columns:
    """By series id, (n,) each."""

    count: NDArray[np.int64]
    """Readings, without duplicates."""
    seen: NDArray[np.int64]
    """Our clock at the newest one, ns; 0: none. What was retained or recorded is no sign of life."""
    time: NDArray[np.int64]
    """Newest event time of those, ns; 0: none."""
    skew: NDArray[np.float32]
    """Receipt minus event time of live readings, smoothed, s; NaN: not known."""
    distance: NDArray[np.float32]
    """(n, 5) from one live reading to the next, the latest in any order, s; NaN: not known."""
    place: NDArray[np.uint8]
    """Where the next distance goes."""

    @classmethod
    def blank(cls, n: int) -> Columns:
        return cls(
            count=np.zeros(n, np.int64),
            seen=np.zeros(n, np.int64),
            time=np.zeros(n, np.int64),
            skew=np.full(n, np.nan, np.float32),
            distance=np.full((n, _DISTANCES), np.nan, np.float32),
            place=np.zeros(n, np.uint8),
        )

    def first(self, n: int) -> Columns:
        """A copy of the first n; there must be as many."""
        return Columns(**{name: getattr(self, name)[:n].copy() for name in self.__slots__})

    def and_blank(self, n: int) -> Columns:
        """With n more."""
        more = Columns.blank(n)
        return Columns(**{name: np.concatenate([getattr(self, name), getattr(more, name)]) for name in self.__slots__})


@dataclass(frozen=True, slots=True)
class Mark:
    """How many readings each series had given."""

    time: int
    """Our clock, ns."""
    count: NDArray[np.int64]


class SeriesActivity:
    """`readings` belongs to one thread; any other may look."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns = Columns.blank(1_024)
        self._row = np.zeros(1_024, np.int32)
        self._credit, self._credited = float(_LEARNED), 0
        """How many rows may be learned from, as of when by our clock."""
        self._marks: deque[Mark] = deque()

    def readings(self, batch: ReadingBatch) -> None:
        """They have been received, in the order of their arrival."""
        if not len(batch):
            return
        with self._lock:
            self._grow(int(batch.series.max()) + 1)
            newest = int(batch.received[-1])
            if not self._marks or newest - self._marks[-1].time >= _MARK_NS:
                self._mark(newest)
            if batch.flags.any():
                np.add.at(self._columns.count, batch.series[(batch.flags & DUPLICATE) == 0].astype(np.int64), 1)
                batch = batch.select((batch.flags & (RETAINED | RECORDED)) == 0)
                self._hear_live(batch.select(batch.flags == LIVE))
                self._hear(batch.select(batch.flags != LIVE))
            else:
                np.add.at(self._columns.count, batch.series.astype(np.int64), 1)
                self._hear_live(batch)

    def columns(self, n: int) -> Columns:
        """A copy for the first n series."""
        with self._lock:
            self._grow(n)
            return self._columns.first(n)

    def counts(self, n: int) -> NDArray[np.int64]:
        """(n,) readings of the first n series, without duplicates."""
        with self._lock:
            self._grow(n)
            return self._columns.count[:n].copy()

    def rates(self, now: int, n: int) -> NDArray[np.float64]:
        """(n,) readings a second of the last minute or, soon after the start, of the time since."""
        with self._lock:
            self._grow(n)
            marks = [mark for mark in self._marks if mark.time <= now]
            if not marks:
                return np.zeros(n)
            mark = next((mark for mark in reversed(marks) if now - mark.time >= _RATE_NS), marks[0])
            given = self._columns.count[:n].copy()
        known = min(n, len(mark.count))
        given[:known] -= mark.count[:known]
        rates: NDArray[np.float64] = given / (max(now - mark.time, SECOND) / SECOND)
        return rates

    def _hear(self, batch: ReadingBatch) -> None:
        np.maximum.at(self._columns.seen, batch.series, batch.received)
        np.maximum.at(self._columns.time, batch.series, batch.time)

    def _hear_live(self, live: ReadingBatch) -> None:
        """No live reading is older than another of its series before it."""
        if not len(live):
            return
        series, now = live.series.astype(np.int64), int(live.received[-1])
        self._credit = min(_LEARNED, self._credit + max(0, now - self._credited) * _LEARNED / SECOND)
        self._credited = now
        if self._credit > 0:
            self._credit -= max(len(live), _LEAST_ROWS)
            self._learn(series, live.time, live.received)
        self._columns.seen[series] = live.received  # of equal ids the last one counts
        self._columns.time[series] = live.time

    def _learn(self, series: NDArray[np.int64], time: NDArray[np.int64], received: NDArray[np.int64]) -> None:
        """From the first reading of each series in a batch: the others say little more, and cost as much."""
        c, rows = self._columns, np.arange(len(series), dtype=np.int32)
        self._row[series[::-1]] = rows[::-1]
        first = self._row[series] == rows
        if not first.all():
            series, time, received = series[first], time[first], received[first]
        skew, before = ((received - time) / SECOND).astype(np.float32), c.skew[series]
        c.skew[series] = np.where(np.isnan(before), skew, before + np.float32(_SMOOTHING) * (skew - before))
        # of a backlog the event times stand close together; of what has waited for us, the arrivals do
        apart = np.maximum(time - c.time[series], received - c.seen[series])
        known = (c.seen[series] > 0) & (apart > 0)
        which = series[known]
        place = c.place[which]
        c.distance.reshape(-1)[which * _DISTANCES + place] = apart[known] / SECOND
        c.place[which] = (place + 1) % _DISTANCES

    def _grow(self, size: int) -> None:
        have = len(self._row)
        if size > have:
            more = max(size - have, have)
            self._columns = self._columns.and_blank(more)
            self._row = np.zeros(have + more, np.int32)

    def _mark(self, time: int) -> None:
        self._marks.append(Mark(time, self._columns.count.copy()))
        while len(self._marks) > 1 and time - self._marks[1].time >= _RATE_NS:
            self._marks.popleft()
