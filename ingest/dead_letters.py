"""Dead letters: what could not become readings, kept with its reason, so that it can be looked at and replayed.

SQLite in WAL mode: other processes may read and purge while it is written. Not here: why something is rejected
(`rejection`), how a letter goes through once more (`replay_queue`).
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ingest.rejection import Rejection
from ingest.topics import TopicPattern
from telemetry import Counters, RetryLater, TocsinError
from telemetry.crash_points import reached

MAX_PAYLOAD_BYTES = 256 * 1024
"""Longer payloads are cut to this."""
_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS dead_letters (
    id INTEGER PRIMARY KEY AUTOINCREMENT, offset INTEGER NOT NULL, received INTEGER NOT NULL, topic TEXT NOT NULL,
    payload BLOB NOT NULL, size INTEGER NOT NULL, reason TEXT NOT NULL, detail TEXT NOT NULL, stream TEXT NOT NULL,
    readings INTEGER NOT NULL, flags INTEGER NOT NULL, sink TEXT NOT NULL, kept INTEGER NOT NULL,
    replay INTEGER NOT NULL DEFAULT 0, tried_from INTEGER
) STRICT;
-- a message once for each reason; of one message, a sink may refuse many points
CREATE UNIQUE INDEX IF NOT EXISTS dead_letters_once
    ON dead_letters (received, offset, reason, topic, CASE sink WHEN '' THEN '' ELSE payload END);
CREATE INDEX IF NOT EXISTS dead_letters_by_age ON dead_letters (received, offset, kept);
CREATE INDEX IF NOT EXISTS dead_letters_by_reason ON dead_letters (reason, received, offset, readings);
CREATE INDEX IF NOT EXISTS dead_letters_by_offset ON dead_letters (offset);
CREATE INDEX IF NOT EXISTS dead_letters_wanted ON dead_letters (received, offset, id) WHERE replay > 0;
CREATE INDEX IF NOT EXISTS dead_letters_of_replay ON dead_letters (replay, sink) WHERE replay > 0;
CREATE INDEX IF NOT EXISTS dead_letters_tried ON dead_letters (tried_from) WHERE tried_from IS NOT NULL;
CREATE TABLE IF NOT EXISTS known (id INTEGER PRIMARY KEY CHECK (id = 0), before INTEGER NOT NULL) STRICT;
INSERT OR IGNORE INTO known VALUES (0, 0);
CREATE TABLE IF NOT EXISTS replays (id INTEGER PRIMARY KEY AUTOINCREMENT, requested INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS outcomes (
    letter INTEGER PRIMARY KEY, replay INTEGER NOT NULL, state TEXT NOT NULL, offset INTEGER NOT NULL,
    reason TEXT NOT NULL DEFAULT '', detail TEXT NOT NULL DEFAULT '', again INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS outcomes_of_replay ON outcomes (replay, state);
CREATE INDEX IF NOT EXISTS outcomes_appended ON outcomes (offset) WHERE state = 'appended';
PRAGMA user_version = 2;
"""
Connection = sqlite3.Connection
COLUMNS = "id, offset, received, topic, payload, size, reason, detail, stream, readings, flags, sink"
"""Of a DeadLetter."""
_PURGED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A rejection as it was kept."""

    id: int
    """Never given twice."""
    offset: int
    """Journal offset of the message."""
    received: int
    """Our clock, ns since the epoch (UTC)."""
    topic: str
    """Of a point that a sink has refused: its series."""
    payload: bytes
    """At most MAX_PAYLOAD_BYTES of it."""
    size: int
    """Bytes of the whole payload."""
    reason: str
    detail: str
    stream: str
    readings: int
    """Readings lost."""
    flags: int = 0
    """Of the record, without REPLAYED."""
    sink: str = ""
    """The sink that has refused the point; empty for what could not be decoded."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Those dead letters that satisfy all that is given; nothing given: all."""

    ids: tuple[int, ...] | None = None
    reason: str | None = None
    stream: str | None = None
    topic: str | None = None
    """MQTT topic filter, with + and #."""
    since: int | None = None
    """Received then or later, ns since the epoch (UTC)."""
    until: int | None = None
    """Received before, ns."""
    offset: int | None = None
    """Journal offset of the message."""

    def where(self) -> tuple[str, tuple[object, ...]]:
        """As an SQL condition and its values."""
        conditions = {
            "id IN (SELECT value FROM json_each(?))": None if self.ids is None else json.dumps(self.ids),
            "reason = ?": self.reason,
            "stream = ?": self.stream,
            "topic_matches(?, topic)": self.topic,
            "received >= ?": self.since,
            "received < ?": self.until,
            "offset = ?": self.offset,
        }
        given = {condition: value for condition, value in conditions.items() if value is not None}
        return " AND ".join(given) or "1", tuple(given.values())


EVERYTHING = Selection()


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How much was refused for one reason."""

    reason: str
    letters: int
    readings: int
    first: int
    """Received, ns since the epoch (UTC)."""
    last: int


class DeadLetters:
    """A file of dead letters, bounded by number and bytes: the oldest go first, and are counted.

    A message is kept when it is refused for the first time: when it is decoded again after a restart, what was refused
    of it is here already, or was purged, or replayed. Counter: `ingest.dead_letters_dropped`. Any thread may call it.
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
        self._lock = threading.RLock()
        self._count = self._bytes = 0
        self._counted_at: int | None = None
        """PRAGMA data_version when `_count` and `_bytes` were true; None: count again."""
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                uri=True,
                isolation_level=None,
                check_same_thread=False,
                timeout=10,
            )
            self._db.create_function("topic_matches", 2, _topic_matches, deterministic=True)
            [[version]] = self._db.execute("PRAGMA user_version").fetchall()
            if version != _VERSION and self._db.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall():
                self._db.close()
                raise TocsinError(f"{path} is of another version of tocsin: move it away, a new one will be made")
            if not read_only:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
                self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise TocsinError(f"cannot open the dead letters in {path}: {error}") from error

    def begin(self, end: int) -> None:
        """Before the first `add` of a process: the journal ends there. If its disk has lost what was beyond, what comes
        at those offsets is new.
        """
        with self.transaction() as db:
            db.execute("UPDATE known SET before = min(before, ?)", (end,))

    def add(self, rejections: Sequence[Rejection]) -> None:
        """Keeps them; durable on return. Those of messages that were decoded before are passed over.

        Raises RetryLater when they cannot be written; then none of them is kept.
        """
        with self.held():
            with self.transaction() as db:
                [[known]] = db.execute("SELECT before FROM known").fetchall()
                [[version]] = db.execute("PRAGMA data_version").fetchall()
                if version != self._counted_at:  # another process, or a replay, has deleted some
                    [counted] = db.execute("SELECT count(*), coalesce(sum(kept), 0) FROM dead_letters").fetchall()
                    self._count, self._bytes = counted
                count, size = self._count, self._bytes
                for rejection in rejections:
                    if rejection.sink or rejection.offset >= known:
                        added = self._insert(rejection)
                        count, size = count + (added is not None), size + (added or 0)
                decoded_to = max((r.offset + 1 for r in rejections if not r.sink), default=0)
                db.execute("UPDATE known SET before = ? WHERE before < ?", (decoded_to, decoded_to))
                dropped, freed = self._drop_oldest(count, size)
            self._count, self._bytes, self._counted_at = count - dropped, size - freed, version
        reached("dead_letter.parked")
        self._counters.add("ingest.dead_letters_dropped", dropped)

    def list(
        self, selection: Selection = EVERYTHING, *, limit: int = 100, after: tuple[int, int, int] | None = None
    ) -> Sequence[DeadLetter]:
        """The newest first. `after`: (received, offset, id) of the last one that is known."""
        where, values = selection.where()
        if after is not None:
            where, values = f"{where} AND (received, offset, id) < (?, ?, ?)", (*values, *after)
        query = f"SELECT {COLUMNS} FROM dead_letters WHERE {where} ORDER BY received DESC, offset DESC, id DESC LIMIT ?"  # noqa: S608  # ours
        return [DeadLetter(*row) for row in self.rows(query, *values, limit)]

    def find(self, id_: int) -> DeadLetter | None:
        found = self.list(Selection(ids=(id_,)))
        return found[0] if found else None

    def count(self, selection: Selection = EVERYTHING) -> dict[str, int]:
        """Dead letters by reason."""
        return {row.reason: row.letters for row in self.summary(selection)}

    def summary(self, selection: Selection = EVERYTHING) -> Sequence[ReasonCount]:
        """Sorted by reason."""
        where, values = selection.where()
        query = (
            "SELECT reason, count(*), sum(readings), min(received), max(received) FROM dead_letters "  # noqa: S608  # ours
            f"WHERE {where} GROUP BY reason ORDER BY reason"
        )
        return [ReasonCount(*row) for row in self.rows(query, *values)]

    def purge(self, selection: Selection) -> int:
        """Deletes them for ever, but none that come meanwhile; returns how many. Raises RetryLater."""
        where, values = selection.where()
        chosen = f"SELECT id FROM dead_letters WHERE id <= ? AND {where} LIMIT {_PURGED_AT_ONCE}"  # noqa: S608  # ours
        [[newest]] = self.rows("SELECT coalesce(max(id), 0) FROM dead_letters")
        purged = 0
        while True:
            with self.transaction() as db:  # a part at a time: whoever adds must not wait for long
                done = db.execute(f"DELETE FROM dead_letters WHERE id IN ({chosen})", (newest, *values)).rowcount  # noqa: S608  # ours
            purged += done
            if done < _PURGED_AT_ONCE:
                return purged

    def rows(self, query: str, *values: object) -> Sequence[tuple[Any, ...]]:
        """What a query gives; for those who keep more in this file."""
        with self._lock:
            return self._db.execute(query, values).fetchall()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Meanwhile no other thread of this process adds any."""
        with self._lock:
            yield

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Changes that are made together, or not at all; durable at the end. Raises RetryLater."""
        try:
            with self._lock:
                self._db.execute("BEGIN IMMEDIATE")
                with self._db:
                    yield self._db
                self._counted_at = None
        except sqlite3.Error as error:
            raise RetryLater(f"cannot write the dead letters: {error}; is the disk full?") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def _insert(self, rejection: Rejection) -> int | None:
        """Bytes of the payload that were kept; None when it was there already."""
        payload = rejection.payload[:MAX_PAYLOAD_BYTES]
        done = self._db.execute(
            "INSERT OR IGNORE INTO dead_letters (offset, received, topic, payload, size, reason, detail, stream, "
            "readings, flags, sink, kept) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                rejection.offset,
                rejection.received,
                storable(rejection.topic),
                payload,
                len(rejection.payload),
                rejection.reason,
                storable(rejection.detail),
                rejection.stream,
                rejection.rows,
                rejection.flags,
                rejection.sink,
                len(payload),
            ),
        )
        return len(payload) if done.rowcount else None

    def _drop_oldest(self, count: int, size: int) -> tuple[int, int]:
        """Makes `count` dead letters of `size` bytes fit; returns how many, and how many bytes, went."""
        dropped = freed = 0
        while count - dropped > self._max_count or size - freed > self._max_bytes:
            oldest = self._db.execute(
                "SELECT id, kept FROM dead_letters ORDER BY received, offset LIMIT 100"
            ).fetchall()
            for id_, length in oldest:
                if count - dropped <= self._max_count and size - freed <= self._max_bytes:
                    break
                self._db.execute("DELETE FROM dead_letters WHERE id = ?", (id_,))
                dropped, freed = dropped + 1, freed + length
        return dropped, freed


def storable(text: str) -> str:
    """SQLite takes no lone surrogates, and topics can hold anything."""
    return text.encode("utf-8", "backslashreplace").decode()


@lru_cache(maxsize=4)
def _pattern(topic_filter: str) -> TopicPattern:
    return TopicPattern.parse(topic_filter)


def _topic_matches(topic_filter: str, topic: str) -> bool:
    return _pattern(topic_filter).match(topic.split("/")) is not None
