"""The embedded store of readings: SQLite holds the transactions, numpy holds the columns.

An append is one log entry (the rows as they came), committed with fsync. Compaction sorts entries by (series, time)
into runs of compressed blocks. Of readings with the same (series, time) the last written wins. One process writes, any
number of processes read meanwhile.

Here: what the store offers. Not here: the file (store_file), look-ups (store_reading), compaction (compaction).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from sinks.blocks import encode_entry
from sinks.columns import EMPTY, TIME_MAX, TIME_MIN, Columns
from sinks.compaction import Compactor, Layout
from sinks.downsampling import Buckets, buckets_of, downsample, width_of
from sinks.store_file import StoreFile
from sinks.store_reading import Reader


@dataclass(frozen=True, slots=True)
class StoreStats:
    """How big a store is."""

    bytes: int
    """On disk, with what waits in the write-ahead log."""
    rows: int
    """Rows kept, those that were overwritten and not yet merged away included; `Store.count()` is exact."""
    log_rows: int
    """Of them, rows not compacted yet."""
    runs: int
    blocks: int


class Store:
    """Readings by series id, on disk. Any thread may use it; times are ns since the epoch (UTC).

    Every failure of the database is RetryLater (a full disk …: what was asked for has not happened) or TocsinError (a
    damaged file), with what to do about it.
    """

    def __init__(self, path: Path, *, read_only: bool = False, layout: Layout | None = None) -> None:
        """Open a store, making it if need be. TocsinError: another process writes it, or it is no store."""
        self.path = path
        self._file = StoreFile(path, read_only=read_only)
        self._reader = Reader(self._file)
        try:
            self._compactor = None if read_only else Compactor(self._file, layout or Layout())
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def append(self, series: NDArray[np.int32], time: NDArray[np.int64], value: NDArray[np.float64]) -> None:
        """Write n readings, in any order; durable on return. When the log is full, compacts it first."""
        compactor = self._write_side()
        rows = Columns(series, time, value)
        _check(rows)
        if rows.rows:
            compactor.relieve()
            with self._file.write() as db:
                db.execute("insert into log (n, data) values (?, ?)", (rows.rows, encode_entry(rows)))
            compactor.appended(entries=1, rows=rows.rows)

    def read(
        self, series_id: int, t0: int = TIME_MIN, t1: int = TIME_MAX + 1
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """One series: times and values, (n,) each, t0 <= time < t1, sorted by time, each time once."""
        return self.read_many([series_id], t0, t1)[series_id]

    def read_many(
        self, ids: Sequence[int] | NDArray[np.int32], t0: int = TIME_MIN, t1: int = TIME_MAX + 1
    ) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """As `read`, for every series in `ids` (those without readings too), from one snapshot in one pass."""
        wanted = np.unique(np.asarray(ids, np.int32))
        strips = self._reader.strips(wanted, max(t0, TIME_MIN), min(t1 - 1, TIME_MAX))
        found = dict.fromkeys(wanted.tolist(), (EMPTY.time, EMPTY.value))
        for series, (start, end) in zip(strips.ids.tolist(), itertools.pairwise(strips.edges.tolist()), strict=True):
            found[series] = strips.time[start:end], strips.value[start:end]
        return found

    def most_rows(self, ids: Sequence[int] | NDArray[np.int32], t0: int, t1: int) -> int:
        """No fewer than `read_many` would give, and at little cost; rather too many where it is but a few."""
        return self._reader.most_rows(np.unique(np.asarray(ids, np.int32)), max(t0, TIME_MIN), min(t1 - 1, TIME_MAX))

    def read_at(
        self, ids: Sequence[int] | NDArray[np.int32], instants: NDArray[np.int64], reach: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The newest reading of each series at or before each instant (rising, ns), less than `reach` ns before.

        Times and values, (len(ids), len(instants)) each; -2**63 and NaN where there is none. As PromQL's instant
        selectors see them on a grid; much faster than `read_many`, and in little memory.
        """
        wanted, back = np.unique(np.asarray(ids, np.int32), return_inverse=True)
        as_of = self._reader.at(wanted, np.ascontiguousarray(instants, np.int64), reach)
        if len(wanted) == len(back) and (np.diff(back) > 0).all():
            return as_of.time, as_of.value
        return as_of.time[back], as_of.value[back]

    def latest(self, ids: Sequence[int] | NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The newest reading of each series in `ids`: times and values, (len(ids),) each; 0 and NaN if it has none."""
        wanted, back = np.unique(np.asarray(ids, np.int32), return_inverse=True)
        newest = self._reader.latest(wanted)
        return newest.time[back], newest.value[back]

    def downsample(self, series_id: int, t0: int, t1: int, buckets: int) -> Buckets:
        """One series from t0 to t1 in at most `buckets` spans of equal width."""
        return downsample(*self.read(series_id, t0, t1), t0, t1, buckets)

    def envelope(self, ids: Sequence[int] | NDArray[np.int32], t0: int, t1: int, buckets: int) -> dict[int, Buckets]:
        """Every series in `ids` from t0 to t1 in about `buckets` spans of equal width, for drawing: fast over any time.

        A span is open at the left, (start, start + width], as PromQL's ranges are. Spans lie on multiples of the width
        since the epoch, so that they stay where they are as time goes on: the first may begin before t0, the last end
        after t1, both are whole. From ten minutes on, the width is rounded up to what summaries are kept for: then
        there are fewer buckets, at least two in three. What lies in them is exact (the mean but for rounding).
        """
        wanted = np.unique(np.asarray(ids, np.int32))
        width = width_of(t0, t1, buckets)
        start, end = t0 // width * width, -(-t1 // width) * width
        found = self._reader.summaries(wanted, width, max(start + 1, TIME_MIN), min(end, TIME_MAX))
        return buckets_of(found, wanted, width)

    def count(self) -> int:
        """How many different (series, time) have a reading, exactly."""
        return self._reader.count()

    def span(self) -> tuple[int, int] | None:
        """Times of the first and the last reading of all; None when there is none."""
        return self._reader.span()

    def stats(self) -> StoreStats:
        with self._file.snapshot() as db:
            log_rows = db.execute("select coalesce(sum(n), 0) from log").fetchone()[0]
            runs = db.execute("select count(*) from run where level >= 0").fetchone()[0]
            rows, blocks = db.execute(
                "select coalesce(sum(b.n), 0), count(b.n) from run r cross join block b on b.run = r.id "
                "where r.level >= 0"
            ).fetchone()
        return StoreStats(self._file.bytes_on_disk(), rows + log_rows, log_rows, runs, blocks)

    def compact(self, *, flush: bool = False) -> bool:
        """One step of compaction; True if there was anything to do, so that there may be more.

        Call it again and again from one thread beside the appends. `flush`: compact even a short log.
        """
        return self._write_side().step(flush=flush)

    def retain(self, since: int) -> None:
        """Forget the readings older than `since`: they are no longer read, and their space is used again bit by bit.

        Older readings that are appended later are forgotten at once. An earlier `since` lets newly written ones in; of
        those forgotten some may come back.
        """
        self._write_side().retain(since)

    def stop_compaction(self) -> None:
        """For closing: compaction that is under way gives up (nothing is lost by it), none begins."""
        if self._compactor:
            self._compactor.stop()

    def close(self) -> None:
        """Idempotent."""
        self.stop_compaction()
        self._file.close()

    def _write_side(self) -> Compactor:
        if self._compactor is None:
            raise ValueError("this store was opened read-only")
        return self._compactor


def _check(rows: Columns) -> None:
    for name, dtype in (("series", np.int32), ("time", np.int64), ("value", np.float64)):
        column: NDArray[np.generic] = getattr(rows, name)
        if column.dtype != dtype or column.shape != (rows.rows,):
            raise ValueError(f"{name} must be {np.dtype(dtype)} ({rows.rows},), not {column.dtype} {column.shape}")
