"""The file of the embedded store: one SQLite database (WAL), who may write it, and what its errors mean.

Here: schema, lock, connections, transactions, checkpoints. Not here: what is read and written through them.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from sinks.columns import TIME_MIN
from sinks.packing import Damaged
from sinks.store_lock import take_lock
from telemetry import RetryLater, TocsinError

_APPLICATION = 0x746F6373
_FORMAT = 2
"""1: without summaries, and blocks were packed otherwise; it can be read, and a writer makes it a 2."""
_PAGE_BYTES = 16384
# Summaries of the rows of a run by series and span of that width, if it has any; s0 … t1 as in a block.
_SUMMARY = (
    """create table summary (id integer primary key, width integer not null, run integer not null, s0 integer not null,
    s1 integer not null, t0 integer not null, t1 integer not null, data blob not null)""",
    "create index summary_key on summary (width, run, s1, s0, t1, t0)",
)
_SCHEMA = (
    "create table meta (key text primary key, value integer not null) without rowid",
    # What was appended and not compacted yet: an entry for each append.
    "create table log (id integer primary key autoincrement, n integer not null, data blob not null)",
    # level -1: being written, or to be deleted. `upto`: the last log id in it; of two runs the one with the greater
    # `upto` is the younger, whatever their levels. n, t1: rows and last time when it was written.
    """create table run (id integer primary key autoincrement, level integer not null, upto integer not null,
    n integer not null, t1 integer not null)""",
    # s0, t0, s1, t1: least and greatest series and time. Rows of a run go on from block to block.
    """create table block (id integer primary key, run integer not null, s0 integer not null, s1 integer not null,
    t0 integer not null, t1 integer not null, n integer not null, data blob not null)""",
    "create index block_key on block (run, s1, s0, t1, t0, n)",
    *_SUMMARY,
    f"pragma application_id = {_APPLICATION}",
    f"pragma user_version = {_FORMAT}",
)
_WAL_CHECKPOINT_BYTES = 4 << 20
_WAL_RESET_BYTES = 16 << 20
_VACUUM_PAGES = 1024
"""At once, since appends wait for it."""


class StoreFile:
    """One writer (by lock file, over all processes) and any number of readers. Its methods may be called by any thread.

    Every sqlite3 error leaves as RetryLater (disk full, I/O) or TocsinError (not a store, damaged), saying what to do.
    """

    def __init__(self, path: Path, *, read_only: bool) -> None:
        self.path, self.read_only = path, read_only
        self._closed = False
        self._idle: list[sqlite3.Connection] = []  # reading connections that nobody uses now
        self._writing, self._checkpointing = threading.Lock(), threading.Lock()
        if read_only:
            if not path.exists():
                raise TocsinError(_missing(path))
            with self.snapshot() as db:
                self._check_format(db)
            return
        self._lock = take_lock(path)
        try:
            with self._explained():
                self._writer = self._connect("rwc")
                self._prepare(self._writer)
                self._checkpointer = self._connect("rw")
        except BaseException:
            os.close(self._lock)
            raise

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction, durable when the block ends; undone when it raises. One at a time, in this process too."""
        if self.read_only:
            raise ValueError("this store was opened read-only")
        with self._explained(), self._writing:
            if self._closed:
                raise ValueError("this store is closed")
            db = self._writer
            db.execute("begin immediate")
            try:
                yield db
                db.execute("commit")
            except BaseException:
                if db.in_transaction:
                    db.execute("rollback")
                raise

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A consistent view: what others write meanwhile is not seen."""
        if self._closed:
            raise ValueError("this store is closed")
        with self._explained():
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._connect("ro")
            try:
                db.execute("begin")
                yield db
            finally:
                if db.in_transaction:
                    db.execute("rollback")
                self._idle.append(db)
                if self._closed:
                    self._close_idle()

    def checkpoint(self) -> None:
        """Move what is durable in the write-ahead log into the database, once that is worth while.

        SQLite's own checkpoints would make some append wait for all of it (200 ms); this one runs beside the appends.
        """
        if self._wal_bytes() < _WAL_CHECKPOINT_BYTES:
            return
        with self._explained(), self._checkpointing:
            if self._closed:
                return
            self._checkpointer.execute("pragma wal_checkpoint(passive)").fetchall()
            if self._wal_bytes() >= _WAL_RESET_BYTES:
                with self._writing:  # little is left to move; without new frames the log then begins anew
                    self._checkpointer.execute("pragma wal_checkpoint(passive)").fetchall()

    def give_back(self) -> None:
        """Return free pages to the file system while more than a quarter of the file is free."""
        with self.snapshot() as db:
            free, pages = (db.execute(f"pragma {name}").fetchone()[0] for name in ("freelist_count", "page_count"))
        for done in range(0, free - pages // 4, _VACUUM_PAGES):
            with self._explained(), self._writing:
                # A script, since execute() would stop after the first page: the statement gives rows without columns.
                self._writer.executescript(f"pragma incremental_vacuum({min(_VACUUM_PAGES, free - pages // 4 - done)})")

    def bytes_on_disk(self) -> int:
        return sum(_size(Path(f"{self.path}{suffix}")) for suffix in ("", "-wal"))

    def close(self) -> None:
        if self._closed:
            return
        with self._checkpointing, self._writing:
            self._closed = True
            self._close_idle()
            if not self.read_only:
                self._checkpointer.close()
                self._writer.close()
                os.close(self._lock)

    def _connect(self, mode: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path.absolute()))}?mode={mode}"
        db = sqlite3.connect(uri, uri=True, timeout=10, isolation_level=None, check_same_thread=False)
        db.execute("pragma synchronous = full")
        db.execute("pragma wal_autocheckpoint = 0")
        db.execute(f"pragma journal_size_limit = {2 * _WAL_CHECKPOINT_BYTES}")
        return db

    def _prepare(self, db: sqlite3.Connection) -> None:
        if not db.execute("select count(*) from sqlite_master").fetchone()[0]:
            db.execute(f"pragma page_size = {_PAGE_BYTES}")
            db.execute("pragma auto_vacuum = incremental")
            if db.execute("pragma journal_mode = wal").fetchone() != ("wal",):
                raise TocsinError(f"the store {self.path} needs a local file system: choose another data_dir")
            with self.write():
                for statement in _SCHEMA:
                    db.execute(statement)
            _sync_directory(self.path.parent)
        if self._check_format(db) < _FORMAT:
            with self.write():
                for statement in _SUMMARY:
                    db.execute(statement)
                db.execute(f"pragma user_version = {_FORMAT}")

    def _check_format(self, db: sqlite3.Connection) -> int:
        application, version = (
            db.execute(f"pragma {name}").fetchone()[0] for name in ("application_id", "user_version")
        )
        if application != _APPLICATION and not db.execute("select count(*) from sqlite_master").fetchone()[0]:
            raise TocsinError(_missing(self.path))  # its writer is just making it
        if application != _APPLICATION:
            raise TocsinError(f"{self.path} is a database of another program: choose another data_dir or store path")
        if not 1 <= version <= _FORMAT:
            raise TocsinError(
                f"the store {self.path} has format {version}, this tocsin reads format {_FORMAT}: update tocsin"
            )
        return int(version)

    def _wal_bytes(self) -> int:
        return _size(Path(f"{self.path}-wal"))

    def _close_idle(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", None) is None:
                raise  # not the database's: a mistake of ours
            raise _explain(self.path, error) from error
        except Damaged as error:
            raise TocsinError(_damaged(self.path, error)) from error


def horizon(db: sqlite3.Connection) -> int:
    """Readings before this time (ns) have been forgotten."""
    found = db.execute("select value from meta where key = 'horizon'").fetchone()
    return int(found[0]) if found else TIME_MIN


def _explain(path: Path, error: sqlite3.Error) -> TocsinError:
    match error.sqlite_errorcode & 0xFF:  # the primary code: https://www.sqlite.org/rescode.html
        case sqlite3.SQLITE_FULL:
            return RetryLater(f"the disk of the store {path} is full: free some space or shorten the store's retention")
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return TocsinError(_damaged(path, error))
        case sqlite3.SQLITE_READONLY | sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_PERM:
            return RetryLater(
                f"the store {path} cannot be opened or written ({error}): check the permissions of the file and of its "
                "directory, and that the file system is not mounted read-only"
            )
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return RetryLater(f"another program keeps the store {path} locked: close it (a database browser, a backup)")
        case _:
            return RetryLater(f"the store {path} failed ({error}): check the disk and the system log")


def _damaged(path: Path, error: Exception) -> str:
    return f"{path} is no store of tocsin or is damaged ({error}): move it away to begin a new one, or restore a backup"


def _missing(path: Path) -> str:
    return f"there is no store at {path} yet: start tocsin first, or choose another data_dir"


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
