"""How the embedded store stays small and quick: log entries become runs of blocks, runs merge, old readings go.

Here: what is rewritten and when. Not here: the rows' order and cuts (sinks.columns), their bytes (sinks.blocks).

A *run* is a sorted, compressed piece of the store. It is written as hidden blocks in short transactions; then it
appears, and what it replaces disappears, in a single one: a reader sees every reading exactly once, and a kill at any
point loses nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from sinks.blocks import decode, decode_entry, encode
from sinks.columns import TIME_MAX, TIME_MIN, Columns, cut, merge, tidy
from sinks.rollup_writing import Chunk, RunSummaries
from sinks.store_file import StoreFile, horizon

_BLOCKS_PER_WRITE = 64
_DELETES_PER_WRITE = 256


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes that trade reading against writing; the defaults are measured."""

    block_rows: int = 8192
    """Most rows of a block: what is decompressed to read one series."""
    hot_rows: int = 1 << 18
    hot_entries: int = 4096
    """The log is compacted when it has so many rows, or so many entries …"""
    max_log_rows: int = 1 << 20
    """… and an append that finds this many rows compacts them itself first (back-pressure)."""
    fan: int = 16
    """Runs of one level that are merged into one of the next …"""
    max_run_rows: int = 1 << 26
    """… unless it would have more rows than this."""
    rows_per_summary: int = 8
    """A run has summaries of a width if each stands for so many rows in the mean."""


class _Run(NamedTuple):
    id: int
    level: int
    upto: int
    rows: int


class _StoppedError(Exception):
    """The store is being closed: what is half done stays hidden, and is deleted by the next process."""


class Compactor:
    """Rewrites one store. Any thread may call it; steps of one kind wait for each other, appends for neither."""

    def __init__(self, file: StoreFile, layout: Layout) -> None:
        self._file, self._layout = file, layout
        self._flushing, self._merging, self._counting = threading.Lock(), threading.Lock(), threading.Lock()
        self._building: set[int] = set()  # runs that are hidden because they are being written
        self._stopping = False
        with file.snapshot() as db:
            self._entries, self._rows = db.execute("select count(*), coalesce(sum(n), 0) from log").fetchone()

    def appended(self, *, entries: int, rows: int) -> None:
        """Keep count of the log (negative: entries that have become a run)."""
        with self._counting:
            self._entries += entries
            self._rows += rows

    def relieve(self) -> None:
        """Flush the log if it is full: called before an append, so that the log stays bounded whatever happens."""
        if self._rows >= self._layout.max_log_rows:
            try:
                self.flush()
            except _StoppedError:
                return

    def step(self, *, flush: bool) -> bool:
        """Flush the log if it is hot (`flush`: if it has anything), merge runs once if that is due.

        True if there was anything to do. False once the store is being closed.
        """
        try:
            self._purge()
            flushed = self.flush(hot_only=not flush)
            merged = self._merge_once()
            self._file.checkpoint()
        except _StoppedError:
            return False
        return flushed or merged

    def flush(self, *, hot_only: bool = True) -> bool:
        """Make a run of the oldest log entries; at most about `max_log_rows` rows of them at once."""
        with self._flushing:
            hot = self._rows >= self._layout.hot_rows or self._entries >= self._layout.hot_entries
            if hot_only and not hot:
                return False
            self._check_stop()
            with self._file.snapshot() as db:
                oldest = horizon(db)
                found = db.execute(_OLDEST_ENTRIES, {"rows": self._layout.max_log_rows}).fetchall()
                if not found:
                    return False
                rows = tidy([decode_entry(data).within(oldest, TIME_MAX) for _, _, data in found])
            upto = found[-1][0]
            self._publish(0, upto, cut([rows], self._layout.block_rows), "delete from log where id <= ?", [upto])
            self.appended(entries=-len(found), rows=-sum(n for _, n, _ in found))
            return True

    def retain(self, since: int) -> None:
        """Hide what is older than `since` (ns) at once; delete whole runs and blocks that are."""
        since = max(TIME_MIN, min(since, TIME_MAX))
        try:
            self._check_stop()
            with self._file.write() as db:
                db.execute("insert or replace into meta (key, value) values ('horizon', ?)", (since,))
                db.execute("update run set level = -1 where level >= 0 and t1 < ?", (since,))
                live = [run for (run,) in db.execute("select id from run where level >= 0")]
            for run in live:
                self._delete("block", "select id from block where run = ? and t1 < ? limit ?", [run, since])
                self._delete("summary", "select id from summary where run = ? and t1 < ? limit ?", [run, since])
            self._purge()
            self._file.give_back()
            self._file.checkpoint()
        except _StoppedError:
            return

    def stop(self) -> None:
        """Let no step begin, and wait until the running ones have given up."""
        self._stopping = True
        with self._merging, self._flushing:
            pass

    def _merge_once(self) -> bool:
        with self._merging:
            self._check_stop()
            with self._file.snapshot() as db:
                oldest = horizon(db)
                runs = [_Run(*row) for row in db.execute(_RUNS)]
            due = self._due(runs)
            if not due:
                return False
            blocks = cut(self._merged(due, oldest), self._layout.block_rows)
            replaces = f"update run set level = -1 where id in ({', '.join('?' * len(due))})"  # noqa: S608  # only ?, ?
            self._publish(due[0].level + 1, due[-1].upto, blocks, replaces, [run.id for run in due])
            self._purge()
            self._file.give_back()
            return True

    def _due(self, runs: list[_Run]) -> list[_Run]:
        """The runs to merge: neighbours in age and of one level; the lowest level first."""
        fan, most = self._layout.fan, self._layout.max_run_rows
        for level in sorted({run.level for run in runs}):
            for i in range(len(runs) - fan + 1):
                group = runs[i : i + fan]
                if all(run.level == level for run in group) and sum(run.rows for run in group) <= most:
                    return group
        return []

    def _merged(self, runs: list[_Run], oldest: int) -> Iterator[Columns]:
        for piece in merge([self._blocks(run.id) for run in runs]):
            self.flush()  # a long merge must not let the log fill up
            yield piece.within(oldest, TIME_MAX)

    def _blocks(self, run: int) -> Iterator[Columns]:
        """The blocks of a run in order; a snapshot for each, as a long one would keep the write-ahead log growing."""
        with self._file.snapshot() as db:
            ids = [row[0] for row in db.execute("select id from block where run = ? order by s1, s0, t1", (run,))]
        for id_ in ids:
            self._check_stop()
            with self._file.snapshot() as db:
                found = db.execute("select data from block where id = ?", (id_,)).fetchone()
                rows = decode(found[0]) if found else None  # None: too old, deleted since
            if rows:
                yield rows

    def _publish(self, level: int, upto: int, blocks: Iterable[Columns], replaces: str, arguments: list[int]) -> None:
        with self._file.write() as db:
            run = db.execute("insert into run (level, upto, n, t1) values (-1, ?, 0, ?)", (upto, TIME_MIN)).lastrowid
            assert run is not None  # noqa: S101  # for mypy: an insert has a row id
            self._building.add(run)
        try:
            n, t1, waiting, summaries = 0, TIME_MIN, list[_Row](), RunSummaries(run, self._layout.rows_per_summary)
            for rows in blocks:
                waiting.append(_block(run, rows))
                summaries.add(rows)
                n, t1 = n + rows.rows, max(t1, waiting[-1][4])
                if len(waiting) == _BLOCKS_PER_WRITE:
                    self._insert(waiting, summaries.chunks())
                    waiting = []
            self._insert(waiting, summaries.chunks(last=True))
            with self._file.write() as db:
                # Without rows it stays hidden and is purged.
                db.execute("update run set level = ?, n = ?, t1 = ? where id = ?", (level if n else -1, n, t1, run))
                db.execute(replaces, arguments)
        finally:
            self._building.discard(run)

    def _insert(self, blocks: list[_Row], summaries: list[Chunk]) -> None:
        self._check_stop()
        if blocks or summaries:
            with self._file.write() as db:
                db.executemany("insert into block (run, s0, s1, t0, t1, n, data) values (?, ?, ?, ?, ?, ?, ?)", blocks)
                db.executemany(
                    "insert into summary (width, run, s0, s1, t0, t1, data) values (?, ?, ?, ?, ?, ?, ?)", summaries
                )
            self._file.checkpoint()  # in between, too: a merge takes long

    def _purge(self) -> None:
        """Delete hidden runs: merged, expired, or left by a compaction that was killed or failed."""
        idle = [run for run in self._hidden() if run not in self._building]
        hidden = self._hidden()  # again: one that was finished just before we looked at _building is not hidden now
        for run in idle:
            if run in hidden:
                self._delete("block", "select id from block where run = ? limit ?", [run])
                self._delete("summary", "select id from summary where run = ? limit ?", [run])
                with self._file.write() as db:
                    db.execute("delete from run where id = ?", (run,))

    def _hidden(self) -> list[int]:
        with self._file.snapshot() as db:
            return [run for (run,) in db.execute("select id from run where level < 0")]

    def _delete(self, table: Literal["block", "summary"], which: str, arguments: list[int]) -> None:
        """Delete rows in short transactions; `which` gives the ids of the next ones."""
        done = False
        while not done:
            self._check_stop()
            with self._file.write() as db:
                deleted = db.execute(
                    f"delete from {table} where id in ({which})",  # noqa: S608  # our own statements
                    [*arguments, _DELETES_PER_WRITE],
                ).rowcount
            done = deleted < _DELETES_PER_WRITE

    def _check_stop(self) -> None:
        if self._stopping:
            raise _StoppedError


_Row = tuple[int, int, int, int, int, int, bytes]
"""A row of the table `block`, without id."""

_OLDEST_ENTRIES = """
select id, n, data from log where id <= (
    select max(id) from (select id, sum(n) over (order by id) - n as before from log) where before < :rows
) order by id
"""
_RUNS = "select id, level, upto, n from run where level >= 0 order by upto"


def _block(run: int, rows: Columns) -> _Row:
    t0, t1 = int(rows.time.min()), int(rows.time.max())
    return run, int(rows.series[0]), int(rows.series[-1]), t0, t1, rows.rows, encode(rows)
