"""How the embedded store is read: the blocks that may hold a reading, then the log, the youngest last.

Here: look-ups over runs and log in one snapshot. Not here: anything that writes.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sinks.as_of import AsOf
from sinks.blocks import decode_entry
from sinks.columns import (
    EMPTY,
    NO_STRIPS,
    TIME_MAX,
    TIME_MIN,
    Columns,
    Strips,
    concatenate,
    merge,
    splice,
    strips_of,
    tidy,
)
from sinks.rollups import Summaries, kept_for, summarise
from sinks.store_blocks import Keys, block, blocks, blocks_of, keys_of, strips_in
from sinks.store_file import StoreFile, horizon
from sinks.store_summaries import SummaryReader

_INT32_MIN, _INT32_MAX = -(1 << 31), (1 << 31) - 1


class LogTail:
    """The rows of the log, kept decoded from one read to the next, since every read needs them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first, self._last = 1, 0  # log ids that are held
        self._ids, self._rows = np.empty(0, np.int64), EMPTY

    def rows(self, db: sqlite3.Connection) -> Columns:
        """All rows of the log in the order they were written, as the snapshot `db` sees it."""
        first, last = db.execute("select (select min(id) from log), (select max(id) from log)").fetchone()
        if first is None:
            return EMPTY
        with self._lock:
            if self._first > first:  # another thread has gone on with a younger snapshot
                return self._extended(db, first, last, np.empty(0, np.int64), EMPTY)[1]
            held = slice(*np.searchsorted(self._ids, (first, last + 1)))
            ids, rows = self._ids[held], self._rows.take(held)
            if last > self._last:
                ids, rows = self._extended(db, max(first, self._last + 1), last, ids, rows)
            if last >= self._last:
                self._first, self._last, self._ids, self._rows = first, last, ids, rows
            return rows

    @staticmethod
    def _extended(
        db: sqlite3.Connection, first: int, last: int, ids: NDArray[np.int64], rows: Columns
    ) -> tuple[NDArray[np.int64], Columns]:
        all_ids, all_rows = [ids], [rows]
        for id_, data in db.execute("select id, data from log where id between ? and ? order by id", (first, last)):
            all_rows.append(decode_entry(data))
            all_ids.append(np.full(all_rows[-1].rows, id_, np.int64))
        return np.concatenate(all_ids), concatenate(all_rows)


class Reader:
    """Look-ups in one store; any thread may call them."""

    def __init__(self, file: StoreFile) -> None:
        self._file, self._tail = file, LogTail()

    def strips(self, wanted: NDArray[np.int32], first: int, last: int) -> Strips:
        """Rows of the series in `wanted` (sorted, without repeats), first <= time <= last."""
        if not len(wanted) or first > last:
            return NO_STRIPS
        with self._file.snapshot() as db:
            first = max(first, horizon(db))
            log = self._tail.rows(db)
            parts = [strips_in(db, id_, wanted) for id_ in blocks_of(db, wanted, first, last)]
        return splice([part.within(first, last) for part in (*parts, _tail_strips(log, wanted))])

    def most_rows(self, wanted: NDArray[np.int32], first: int, last: int) -> int:
        """At most so many rows `strips` gives: told by the keys of blocks, which may hold other series and times."""
        if not len(wanted) or first > last:
            return 0
        with self._file.snapshot() as db:
            first = max(first, horizon(db))
            keys = keys_of(db, int(wanted[0]), int(wanted[-1]), first, last)
            holds = np.searchsorted(wanted, keys.s0, "left") < np.searchsorted(wanted, keys.s1, "right")
            return int(keys.rows[holds].sum()) + self._tail.rows(db).of(wanted).rows

    def at(self, wanted: NDArray[np.int32], instants: NDArray[np.int64], reach: int) -> AsOf:
        """The newest reading of each series in `wanted` (sorted, without repeats) at or before each of the instants
        (rising), less than `reach` ns before.
        """
        as_of = AsOf(wanted, instants, reach)
        if not len(wanted) or not len(instants):
            return as_of
        with self._file.snapshot() as db:
            first, last = max(int(instants[0]) - reach + 1, horizon(db)), int(instants[-1])
            kept = kept_for(int(np.gcd.reduce(instants)))
            if kept:  # the newest is the last one of a span
                log = _tail_strips(self._tail.rows(db), wanted)
                begin = max((first - 1) // kept * kept + 1, TIME_MIN)
                as_of.consider(SummaryReader(db, log, wanted, horizon(db)).newest(kept, begin, last))
                return as_of
            for id_ in blocks_of(db, wanted, first, last):
                as_of.consider(strips_in(db, id_, wanted).within(first, last))
            as_of.consider(_tail_strips(self._tail.rows(db), wanted).within(first, last))
        return as_of

    def summaries(self, wanted: NDArray[np.int32], width: int, first: int, last: int) -> Summaries:
        """Of the readings of the series in `wanted` (sorted, without repeats) with first <= time <= last (whole spans):
        one for each series and span of that width (ns).
        """
        if not len(wanted):
            return summarise(NO_STRIPS, width)
        with self._file.snapshot() as db:
            log = _tail_strips(self._tail.rows(db), wanted)
            return SummaryReader(db, log, wanted, horizon(db)).summaries(width, first, last)

    def latest(self, wanted: NDArray[np.int32]) -> Newest:
        """The newest reading of each series in `wanted` (sorted, without repeats)."""
        newest = Newest(wanted)
        if not len(wanted):
            return newest
        with self._file.snapshot() as db:
            oldest = horizon(db)
            newest.consider(tidy([self._tail.rows(db).of(wanted)]).within(oldest, TIME_MAX), age=TIME_MAX)
            keys = keys_of(db, int(wanted[0]), int(wanted[-1]), oldest, TIME_MAX)
            for i in np.lexsort((keys.upto, keys.t1))[::-1].tolist():  # the newest first: most of the rest is skipped
                open_ = newest.open(int(keys.s0[i]), int(keys.s1[i]), int(keys.t1[i]))
                if len(open_):
                    rows = block(db, int(keys.id[i]), open_).within(oldest, TIME_MAX)
                    newest.consider(rows, age=int(keys.upto[i]))
        return newest

    def count(self) -> int:
        """The number of (series, time) that have a reading, exactly.

        Blocks that share no time with another run are counted by their keys, the others are merged: up to 50 ns a row.
        """
        with self._file.snapshot() as db:
            oldest = horizon(db)
            log = tidy([self._tail.rows(db).within(oldest, TIME_MAX)])
            keys = keys_of(db, _INT32_MIN, _INT32_MAX, oldest, TIME_MAX)
            shared = _shared_in_time(keys, log) | (keys.t0 < oldest)
            streams: list[Iterator[Columns]] = [
                blocks(db, keys.id[shared & (keys.upto == run)].tolist()) for run in np.unique(keys.upto)
            ]
            if log.rows:
                streams.append(iter([log]))
            merged = sum(piece.within(oldest, TIME_MAX).rows for piece in merge(streams))
            return merged + int(keys.rows[~shared].sum())

    def span(self) -> tuple[int, int] | None:
        """Times (ns) of the first and the last reading of all; None when there is none."""
        with self._file.snapshot() as db:
            oldest = horizon(db)
            log = self._tail.rows(db).within(oldest, TIME_MAX)
            keys = keys_of(db, _INT32_MIN, _INT32_MAX, oldest, TIME_MAX)
            firsts, lasts = keys.t0[keys.t0 >= oldest].tolist(), keys.t1.tolist()
            for rows in (log, *blocks(db, keys.id[keys.t0 < oldest].tolist())):
                kept = rows.within(oldest, TIME_MAX)
                if kept.rows:
                    firsts.append(int(kept.time.min()))
                    lasts.append(int(kept.time.max()))
        return (min(firsts), max(lasts)) if firsts else None


class Newest:
    """The newest reading of each wanted series, as blocks are considered; (n,) columns."""

    def __init__(self, wanted: NDArray[np.int32]) -> None:
        n = len(wanted)
        self._wanted = wanted
        self.found = np.zeros(n, np.bool_)
        self.time = np.zeros(n, np.int64)
        self.value = np.full(n, np.nan)
        self._age = np.full(n, TIME_MIN)

    def open(self, s0: int, s1: int, t1: int) -> NDArray[np.int32]:
        """The wanted series for which a block with series s0 … s1 and last time t1 may hold the newest reading."""
        i, j = np.searchsorted(self._wanted, s0, "left"), np.searchsorted(self._wanted, s1, "right")
        return self._wanted[i:j][~self.found[i:j] | (self.time[i:j] <= t1)]

    def consider(self, rows: Columns, *, age: int) -> None:
        """Tidy rows of wanted series; of equal times the greatest age (`upto`) wins."""
        last = np.flatnonzero(np.append(rows.series[1:] != rows.series[:-1], np.ones(min(1, rows.rows), np.bool_)))
        at, time = np.searchsorted(self._wanted, rows.series[last]), rows.time[last]
        newer = ~self.found[at] | (time > self.time[at]) | ((time == self.time[at]) & (age > self._age[at]))
        at, last = at[newer], last[newer]
        self.found[at], self._age[at] = True, age
        self.time[at], self.value[at] = rows.time[last], rows.value[last]


def _tail_strips(log: Columns, wanted: NDArray[np.int32]) -> Strips:
    return strips_of(tidy([log.of(wanted)]))


def _shared_in_time(keys: Keys, log: Columns) -> NDArray[np.bool_]:
    """Which blocks share a part of the time axis with another run, or with the log."""
    runs = np.unique(keys.upto)
    spans = [(int(keys.t0[keys.upto == run].min()), int(keys.t1[keys.upto == run].max())) for run in runs]
    shared = np.zeros(len(keys.id), np.bool_)
    for run, (t0, t1) in zip(runs, spans, strict=True):
        shared |= (keys.upto != run) & (keys.t0 <= t1) & (keys.t1 >= t0)
    if log.rows:
        shared |= (keys.t0 <= int(log.time.max())) & (keys.t1 >= int(log.time.min()))
    return shared
