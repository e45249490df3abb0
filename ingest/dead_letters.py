"""Dead letters: what could not become readings, kept with its reason, so that it can be looked at and replayed.

SQLite in WAL mode: other processes may read while it is written. Not here: why something is rejected (`rejection`).
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.rejection import Rejection
from telemetry import Counters, RetryLater, TocsinError

MAX_PAYLOAD_BYTES = 64 * 1024
"""Longer payloads are cut to this."""
_SCHEMA = """
CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY, offset INTEGER NOT NULL, received INTEGER NOT NULL, topic TEXT NOT NULL,
    payload BLOB NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, stream TEXT NOT NULL,
    readings INTEGER NOT NULL, UNIQUE (received, offset, reason)
) STRICT;
CREATE INDEX IF NOT EXISTS dead_letters_by_reason ON dead_letters (reason, received, offset);
"""
_COLUMNS = "offset, received, topic, payload, size, reason, detail, stream, readings"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejection as it was kept."""

    offset: int
    """Journal offset of the message."""
    received: int
    """Our clock, ns since the epoch (UTC)."""
    topic: str
    payload: bytes
    """At most MAX_PAYLOAD_BYTES of it."""
    size: int
    """Bytes of the whole payload."""
    reason: str
    detail: str
    stream: str
    readings: int
    """Readings lost."""


class DeadLetters:
    """A file of dead letters, bounded by number and bytes: the oldest go first, and are counted.

    Counter: `ingest.dead_letters_dropped`. Any thread may call it.
    """

    def __init__(
        self,
        path: Path,
        *,
        counters: Counters | None = None,
        max_count: int = 100_000,
        max_bytes: int = 256 << 20,
        read_only: bool = False,
    ) -> None:
        """Raises TocsinError when the file cannot be opened."""
        self._counters = counters or Counters()
        self._max_count, self._max_bytes = max_count, max_bytes
        self._lock = threading.Lock()
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10,
            )
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(_SCHEMA)
            found = self._rows("SELECT count(*), coalesce(sum(length(payload)), 0) FROM dead_letters")
            self._count, self._bytes = found[0]
        except sqlite3.Error as error:
            raise TocsinError(f"cannot open the dead letters in {path}: {error}") from error

    def add(self, rejections: Sequence[Rejection]) -> None:
        """Keeps them; durable on return. A message that is rejected again for the same reason is kept once.

        Raises RetryLater when they cannot be written; then none of them is kept.
        """
        try:
            self._add(rejections)
        except sqlite3.Error as error:
            raise RetryLater(f"cannot write the dead letters: {error}; is the disk full?") from error

    def _add(self, rejections: Sequence[Rejection]) -> None:
        with self._lock:
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                count, size = self._count, self._bytes
                for rejection in rejections:
                    added = self._insert(rejection)
                    count, size = count + (added is not None), size + (added or 0)
                dropped, freed = self._drop_oldest(count, size)
            self._count, self._bytes = count - dropped, size - freed
        self._counters.add("ingest.dead_letters_dropped", dropped)

    def list(self, *, limit: int = 100, reason: str | None = None) -> Sequence[DeadLetter]:
        """The newest first."""
        where, values = ("WHERE reason = ?", (reason,)) if reason is not None else ("", ())
        query = f"SELECT {_COLUMNS} FROM dead_letters {where} ORDER BY received DESC, offset DESC LIMIT ?"  # noqa: S608  # ours
        return [DeadLetter(*row) for row in self._rows(query, *values, limit)]

    def count(self) -> dict[str, int]:
        """Dead letters by reason."""
        return dict(self._rows("SELECT reason, count(*) FROM dead_letters GROUP BY reason ORDER BY reason"))

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _insert(self, rejection: Rejection) -> int | None:
        """Bytes of the payload that were kept; None when it was there already."""
        payload = rejection.payload[:MAX_PAYLOAD_BYTES]
        done = self._db.execute(
            f"INSERT OR IGNORE INTO dead_letters ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608  # ours
            (
                rejection.offset,
                rejection.received,
                _storable(rejection.topic),
                payload,
                len(rejection.payload),
                rejection.reason,
                _storable(rejection.detail),
                rejection.stream,
                rejection.rows,
            ),
        )
        return len(payload) if done.rowcount else None

    def _drop_oldest(self, count: int, size: int) -> tuple[int, int]:
        """Makes `count` dead letters of `size` bytes fit; returns how many, and how many bytes, went."""
        dropped = freed = 0
        while count - dropped > self._max_count or size - freed > self._max_bytes:
            oldest = self._db.execute(
                "SELECT id, length(payload) FROM dead_letters ORDER BY received, offset LIMIT 100"
            ).fetchall()
            for id_, length in oldest:
                if count - dropped <= self._max_count and size - freed <= self._max_bytes:
                    break
                self._db.execute("DELETE FROM dead_letters WHERE id = ?", (id_,))
                dropped, freed = dropped + 1, freed + length
        return dropped, freed

    def _rows(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(query, values).fetchall()


def _storable(text: str) -> str:
    """SQLite takes no lone surrogates, and topics can hold anything."""
    return text.encode("utf-8", "backslashreplace").decode()
