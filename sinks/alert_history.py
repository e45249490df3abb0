"""AlertHistory: what the outbox file tells to those who only look. Any process may open it while tocsin runs.

Here: rows to events, queries. Not here: the file's schema (outbox_file.py), anything that writes (outbox.py).
"""

from __future__ import annotations

import json
import math
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from telemetry import AlertEvent, AlertState, TocsinError

FIRING = """events.state = 'firing' AND NOT EXISTS (
    SELECT 1 FROM events later
    WHERE later.fingerprint = events.fingerprint AND later.rule = events.rule AND later.seq > events.seq)"""
EVENT = "rule, labels, events.state, value, starts_at, ends_at, detected_at, annotations, id"


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far a receiver has been told."""

    pending: int
    sent: int
    dead: int
    last_error: str
    """Of the oldest event that is still to be delivered."""


@dataclass(frozen=True, slots=True)
class DeadDelivery:
    """An event that a receiver refused for good."""

    receiver: str
    event: AlertEvent
    reason: str


class AlertHistory:
    """Alert events and what became of them, read-only. Methods may be called from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises TocsinError if there is no such file."""
        if not path.exists():
            raise TocsinError(f"there is no {path}: has tocsin run with this data directory?")
        self._open(path, mode="ro")

    def _open(self, path: Path, *, mode: str) -> None:
        self._lock = threading.RLock()
        try:
            self._db = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=10.0,
                check_same_thread=False,
                isolation_level=None,
            )
        except sqlite3.Error as error:
            raise TocsinError(f"cannot open {path} ({error}): check its permissions") from error

    def close(self) -> None:
        with self._lock:
            self._db.close()

    def firing(self) -> list[AlertEvent]:
        """Alerts that fire now, oldest first: firing events without a later event of the same alert."""
        return self._events(f"{FIRING} ORDER BY starts_at, seq")

    def recent(self, since: int = 0, limit: int = 1_000) -> list[AlertEvent]:
        """The newest `limit` events that were detected at or after `since` (ns), oldest first."""
        return self._events("detected_at >= ? ORDER BY detected_at DESC, seq DESC LIMIT ?", since, limit)[::-1]

    def between(self, start: int, end: int, limit: int = 1_000) -> list[AlertEvent]:
        """The newest `limit` alerts that fired at some time from `start` to `end` (event time, ns), oldest first."""
        during = f"starts_at < ? AND (events.state = 'resolved' AND ends_at > ? OR {FIRING})"
        return self._events(f"{during} ORDER BY starts_at DESC, seq DESC LIMIT ?", end, start, limit)[::-1]

    def page(
        self,
        limit: int,
        *,
        before: int | None = None,
        since: int = 0,
        state: str | None = None,
        rule: str | None = None,
        labels: Sequence[tuple[str, str]] = (),
    ) -> list[tuple[int, AlertEvent]]:
        """Events with their numbers, the last published first.

        `before`: only smaller numbers; `since`: only those detected then or later, ns; `labels`: they have all these.
        """
        given = {"seq < ?": before, "detected_at >= ?": since, "state = ?": state, "rule = ?": rule}
        conditions = {condition: value for condition, value in given.items() if value is not None}
        with_label = "EXISTS (SELECT 1 FROM json_each(labels) WHERE key = ? AND value = ?)"
        where = " AND ".join([*conditions, *[with_label] * len(labels)])
        rows = self._query(
            f"SELECT seq, {EVENT} FROM events WHERE {where} ORDER BY seq DESC LIMIT ?",  # noqa: S608  # ours
            *conditions.values(),
            *(part for label in labels for part in label),
            limit,
        )
        return [(row[0], event_of(row[1:])) for row in rows]

    def receivers(self) -> list[str]:
        """Names of the receivers that are told of new events."""
        return [name for (name,) in self._query("SELECT name FROM receivers ORDER BY name")]

    def backlog(self, receiver: str) -> Backlog:
        count = dict(
            self._query("SELECT state, count(*) FROM deliveries WHERE receiver = ? GROUP BY state", receiver),
        )
        oldest = self._query(
            "SELECT last_error FROM deliveries WHERE receiver = ? AND state IN ('pending', 'sending') "
            "ORDER BY seq LIMIT 1",
            receiver,
        )
        return Backlog(
            pending=count.get("pending", 0) + count.get("sending", 0),
            sent=count.get("sent", 0),
            dead=count.get("dead", 0),
            last_error=oldest[0][0] if oldest else "",
        )

    def dead(self, limit: int = 1_000) -> list[DeadDelivery]:
        """The newest `limit` deliveries that were refused for good, oldest first."""
        rows = self._query(
            f"SELECT receiver, last_error, {EVENT} FROM deliveries JOIN events USING (seq) "  # noqa: S608  # ours
            "WHERE deliveries.state = 'dead' ORDER BY seq DESC LIMIT ?",
            limit,
        )
        return [DeadDelivery(row[0], event_of(row[2:]), row[1]) for row in reversed(rows)]

    def _events(self, condition: str, *values: object) -> list[AlertEvent]:
        return [event_of(row) for row in self._query(f"SELECT {EVENT} FROM events WHERE {condition}", *values)]  # noqa: S608  # ours

    def _query(self, statement: str, *values: object) -> list[Any]:
        with self._lock:
            try:
                return self._db.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                raise TocsinError(f"cannot read the alerts ({error}): is this the file of a tocsin?") from error


def row_of(event: AlertEvent) -> tuple[object, ...]:
    """The columns EVENT."""
    return (
        event.rule,
        json.dumps(dict(event.labels), ensure_ascii=False),
        event.state.value,
        None if math.isnan(event.value) else event.value,
        event.starts_at,
        event.ends_at,
        event.detected_at,
        json.dumps(dict(event.annotations), ensure_ascii=False),
        event.id,
    )


def event_of(row: Sequence[Any]) -> AlertEvent:
    """The event with the columns EVENT."""
    rule, labels, state, value, starts_at, ends_at, detected_at, annotations, id_ = row
    return AlertEvent(
        rule=rule,
        labels=tuple(json.loads(labels).items()),
        state=AlertState(state),
        value=math.nan if value is None else value,
        starts_at=starts_at,
        ends_at=ends_at,
        detected_at=detected_at,
        annotations=tuple(json.loads(annotations).items()),
        id=id_,
    )
