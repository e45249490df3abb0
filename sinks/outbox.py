"""Outbox: alert events and their way to each receiver, durably, in one SQLite file (WAL, every commit fsynced).

Here: what happened, and what each receiver has been told. Not here: what is told next (outbox_queue.py), the sending
(delivery.py), tables (outbox_file.py), queries for viewing (alert_history.py), nor when alerts fire.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sinks.alert_history import EVENT, FIRING, AlertHistory, event_of, row_of
from sinks.backoff import MAX_RETRY_AFTER_S
from sinks.outbox_file import prepare
from sinks.outbox_queue import company, head
from telemetry import AlertEvent, Clock, Counters, RetryLater, SystemClock, TocsinError
from telemetry.crash_points import reached

_log = logging.getLogger("tocsin.sinks")
_DAY_NS = 86_400 * 10**9
_PRUNE_EVERY_S = 600.0
_STEP_NS = 10**9
_LONGEST_WAIT_NS = round(2 * MAX_RETRY_AFTER_S * 1e9)
_OPEN = "state IN ('pending', 'sending')"


@dataclass(frozen=True, slots=True)
class Send:
    """Events of one alertname that a receiver is told in one message; a repetition has the same events."""

    receiver: str
    events: tuple[AlertEvent, ...]
    """In the order in which they were published; each alert once, unless its earlier events are stale."""
    seqs: tuple[int, ...]
    """Their numbers in the outbox."""
    attempts: int
    """Tries so far, this one included; more than one: the receiver may have heard it already."""
    tried_at: int
    """When the first of them was first tried, ns."""


@dataclass(frozen=True, slots=True)
class Health:
    """How a receiver has answered lately; kept over restarts."""

    failures: int = 0
    """Tries in a row that failed, whatever they were to tell."""
    paused_until: int = 0
    """It is left alone until then, ns."""
    worked_at: int = 0
    """When it last took something, ns; 0: never."""


class Outbox(AlertHistory):
    """Alert events on their way to receivers; the one writer of its file.

    Every event published is delivered to every receiver at least once, or is `dead` with the reason. Per receiver and
    alert the order of publishing is kept, so nobody hears of a resolve before its firing. Methods may be called from
    any thread. Those that write raise RetryLater while the disk is full or the file is locked; nothing is half done.
    Counts `<receiver>.dead` of those for which there was no room (`too_many`) or no receiver any more (`gone`).
    """

    def __init__(
        self,
        path: Path,
        receivers: Sequence[str] = (),
        *,
        clock: Clock | None = None,
        counters: Counters | None = None,
        keep_days: int = 30,
        max_pending: int = 100_000,
    ) -> None:
        """`receivers`: names of all there are. A new one is first told what fires now; what waits for one that is gone
        becomes dead. `keep_days`: how long events are kept that are delivered and do not fire any more. `max_pending`:
        how many events may wait for a receiver; beyond it the oldest become dead. Raises TocsinError.
        """
        self._clock: Clock = clock or SystemClock()
        self._counters = counters or Counters()
        self._keep_days, self._max_pending = keep_days, max_pending
        self._receivers = tuple(receivers)
        self._bells: list[threading.Event] = []
        self._open(path, mode="rwc")
        try:
            prepare(self._db)
            with self._transaction() as db:
                self._resume()
                self._latest: int = db.execute("SELECT coalesce(max(asked_at), 0) FROM receivers").fetchone()[0]
                """What our clock has shown when somebody was asked last."""
            self._prune()
        except (sqlite3.Error, RetryLater) as error:
            self._db.close()
            raise TocsinError(f"cannot use {path} ({error}): free disk space, or move the file away") from error

    def ring(self, bell: threading.Event) -> None:
        """Set `bell` whenever there is something new to deliver."""
        self._bells.append(bell)

    def publish(self, events: Sequence[AlertEvent], *, offset: int) -> list[AlertEvent]:
        """Make `events` durable, for every receiver; those that were new. Idempotent by event id.

        `offset`: the journal offset of whoever publishes, for the record; 0: not from the journal.
        """
        new = []
        with self._transaction() as db:
            for event in events:
                added = db.execute(
                    "INSERT INTO events (rule, labels, state, value, starts_at, ends_at, detected_at, annotations, id, "
                    "alertname, fingerprint, journal_offset) VALUES (?,?,?,?,?,?,?,?,?,?,?,?) "
                    "ON CONFLICT (id) DO NOTHING RETURNING seq",
                    (*row_of(event), dict(event.labels).get("alertname", ""), event.fingerprint, offset),
                ).fetchone()
                if added is not None:
                    new.append(event)
                    self._add_deliveries(added[0], event.fingerprint)
            if new:
                self._limit_pending()
                reached("outbox.committing")
        if new:
            reached("outbox.committed")
            self._ring_bells()
            if time.monotonic() - self._pruned_at > _PRUNE_EVERY_S:
                with suppress(RetryLater):  # the events are safe, and pruning can wait
                    self._prune()
        return new

    def published_to(self) -> int:
        """The offset that the latest event from the journal was published with; 0 if there is none."""
        rows = self._query("SELECT journal_offset FROM events WHERE journal_offset > 0 ORDER BY seq DESC LIMIT 1")
        return int(rows[0][0]) if rows else 0

    def take(self, receiver: str) -> Send | None:
        """What is to be sent next, if it is due; marked `sending` until one of the next four methods is called."""
        with self._transaction() as db:
            now = self._now(db)
            first = head(db, receiver)
            if first is None or _is_ahead(self.health(receiver).paused_until, now) or _is_ahead(first.next_at, now):
                return None
            seqs = company(db, receiver, first, now=now)
            events = [event_of(db.execute(f"SELECT {EVENT} FROM events WHERE seq = ?", (s,)).fetchone()) for s in seqs]  # noqa: S608  # ours
            self._mark(
                receiver,
                seqs,
                "state = 'sending', attempts = attempts + 1, send = coalesce(send, ?), "
                "tried_at = CASE tried_at WHEN 0 THEN ? ELSE tried_at END",
                _name_of(events),
                now,
            )
            db.execute("UPDATE receivers SET asked_at = ? WHERE name = ?", (now, receiver))
            return Send(receiver, tuple(events), tuple(seqs), first.attempts + 1, first.tried_at or now)

    def next_at(self, receiver: str) -> int | None:
        """When the next event is due (ns; 0: at once); None if none waits."""
        with self._transaction() as db:
            first = head(db, receiver)
        return None if first is None else max(first.next_at, self.health(receiver).paused_until)

    def trouble(self, receiver: str) -> str:
        """Why an event waits for its next try; empty if none does."""
        waits = (
            f"SELECT last_error FROM deliveries WHERE receiver = ? AND {_OPEN} AND next_at > 0 ORDER BY next_at LIMIT 1"  # noqa: S608  # ours
        )
        rows = self._query(waits, receiver)
        return str(rows[0][0]) if rows else ""

    def health(self, receiver: str) -> Health:
        rows = self._query("SELECT failures, paused_until, worked_at FROM receivers WHERE name = ?", receiver)
        return Health(*rows[0]) if rows else Health()

    def pending(self, receiver: str) -> int:
        """Events that wait to be delivered."""
        return int(self._query(f"SELECT count(*) FROM deliveries WHERE receiver = ? AND {_OPEN}", receiver)[0][0])  # noqa: S608  # ours

    def delivered(self, send: Send, *, told: bool = True) -> None:
        """`told`: the receiver has really been asked, which proves that it works."""
        now = self._clock.now()
        with self._transaction():
            self._mark(send.receiver, send.seqs, "state = 'sent', last_error = '', sent_at = ?", now)
            if told:
                self._set_health(send.receiver, Health(worked_at=now))

    def postpone(
        self, send: Send, *, until: int, error: str, health: Health | None = None, apart: bool = False
    ) -> None:
        """Try the same events again at `until` (ns); `health`: what this says of the receiver.

        `apart`: from now on the first alert is told in a message of its own, so that one of the two may get through.
        """
        with self._transaction():
            self._mark(send.receiver, send.seqs, "state = 'pending', next_at = ?, last_error = ?", until, error)
            if apart:
                self._set_apart(send)
            self._set_health(send.receiver, health)

    def split(self, send: Send, *, error: str, health: Health | None = None) -> None:
        """Try each of the events alone: one of them may be why all were refused."""
        with self._transaction():
            for seq, event in zip(send.seqs, send.events, strict=True):
                self._mark(send.receiver, (seq,), "state = 'pending', send = ?, last_error = ?", event.id, error)
            self._set_health(send.receiver, health)

    def bury(self, send: Send, *, error: str, health: Health | None = None) -> None:
        """The receiver will never take them: keep them as dead, with its words."""
        with self._transaction():
            self._mark(send.receiver, send.seqs, "state = 'dead', last_error = ?", error)
            self._set_health(send.receiver, health)

    def revive(self, receiver: str) -> int:
        """Send a receiver its dead events once more, e.g. after its configuration was mended; how many there are.

        Not those whose alert it has heard of since, or is about to: they are history.
        """
        with self._transaction() as db:
            revived = db.execute(
                "UPDATE deliveries SET state = 'pending', next_at = 0, tried_at = 0 "
                "WHERE receiver = ? AND state = 'dead' "
                "AND NOT EXISTS (SELECT 1 FROM events old JOIN events new USING (fingerprint, rule) "
                "JOIN deliveries later ON later.seq = new.seq WHERE old.seq = deliveries.seq AND new.seq > old.seq "
                "AND later.receiver = deliveries.receiver AND later.state <> 'dead' AND later.send IS NOT NULL)",
                (receiver,),
            ).rowcount
        self._ring_bells()
        return revived

    def _resume(self) -> None:
        """What was being sent when we crashed is pending again; receivers come and go with the configuration."""
        self._db.execute("UPDATE deliveries SET state = 'pending' WHERE state = 'sending'")
        known = set(self.receivers())
        for gone in known - set(self._receivers):
            self._db.execute("DELETE FROM receivers WHERE name = ?", (gone,))
            given_up = self._db.execute(
                f"UPDATE deliveries SET state = 'dead', last_error = ? WHERE receiver = ? AND {_OPEN}",  # noqa: S608  # ours
                ("this receiver is no longer in the configuration", gone),
            )
            self._counters.add(f"{gone}.dead", given_up.rowcount, "gone")
        new = [name for name in self._receivers if name not in known]
        self._db.executemany("INSERT INTO receivers (name) VALUES (?)", [(name,) for name in new])
        for name in new:
            self._db.execute(
                f"INSERT INTO deliveries (receiver, seq, alert) SELECT ?, seq, fingerprint FROM events WHERE {FIRING} "  # noqa: S608  # ours
                "ON CONFLICT DO UPDATE SET state = 'pending', send = NULL, next_at = 0, tried_at = 0",
                (name,),
            )

    def _add_deliveries(self, seq: int, alert: str) -> None:
        rows = [(name, seq, alert) for name in self._receivers]
        self._db.executemany("INSERT INTO deliveries (receiver, seq, alert) VALUES (?, ?, ?)", rows)

    def _limit_pending(self) -> None:
        reason = f"more than {self._max_pending} events were waiting"
        for name in self._receivers:
            open_ = self._db.execute(f"SELECT count(*) FROM deliveries WHERE receiver = ? AND {_OPEN}", (name,))  # noqa: S608  # ours
            excess = open_.fetchone()[0] - self._max_pending
            if excess > 0:
                self._db.execute(
                    "UPDATE deliveries SET state = 'dead', last_error = ? WHERE receiver = ? AND seq IN "  # noqa: S608  # ours
                    f"(SELECT seq FROM deliveries WHERE receiver = ? AND {_OPEN} ORDER BY seq LIMIT ?)",
                    (reason, name, name, excess),
                )
                self._counters.add(f"{name}.dead", excess, "too_many")
                _log.error("%s: gave up %d alert events, since %s; mend the receiver", name, excess, reason)

    def _prune(self) -> None:
        self._pruned_at = time.monotonic()
        with self._transaction() as db:
            db.execute(
                f"DELETE FROM events WHERE detected_at < ? AND NOT ({FIRING}) AND NOT EXISTS "  # noqa: S608  # ours
                f"(SELECT 1 FROM deliveries WHERE deliveries.seq = events.seq AND deliveries.{_OPEN})",
                (self._clock.now() - self._keep_days * _DAY_NS,),
            )

    def _mark(self, receiver: str, seqs: Sequence[int], changes: str, *values: object) -> None:
        self._db.executemany(
            f"UPDATE deliveries SET {changes} WHERE receiver = ? AND seq = ?",  # noqa: S608  # ours
            [(*values, receiver, seq) for seq in seqs],
        )

    def _set_apart(self, send: Send) -> None:
        alert = send.events[0].fingerprint
        for together in (True, False):
            chosen = [
                (q, e) for q, e in zip(send.seqs, send.events, strict=True) if (e.fingerprint == alert) is together
            ]
            if chosen:
                self._mark(send.receiver, [q for q, _ in chosen], "send = ?", _name_of([e for _, e in chosen]))

    def _now(self, db: sqlite3.Connection) -> int:
        """Our clock. If it was set back, nothing waits on for a time that it had shown before."""
        now = self._clock.now()
        if now < self._latest - _STEP_NS:
            _log.warning("the clock was set back: alerts that wait for their next try are due at once")
            limits = "next_at = min(next_at, :now), tried_at = min(tried_at, :now)"
            db.execute(f"UPDATE deliveries SET {limits} WHERE {_OPEN}", {"now": now})  # noqa: S608  # ours
            limits = "paused_until = min(paused_until, :now), worked_at = min(worked_at, :now)"
            db.execute(f"UPDATE receivers SET {limits}", {"now": now})  # noqa: S608  # ours
        self._latest = now
        return now

    def _set_health(self, receiver: str, health: Health | None) -> None:
        if health is not None:
            self._db.execute(
                "UPDATE receivers SET failures = ?, paused_until = ?, worked_at = ? WHERE name = ?",
                (health.failures, health.paused_until, health.worked_at, receiver),
            )

    def _ring_bells(self) -> None:
        for bell in self._bells:
            bell.set()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and durable at the end."""
        with self._lock:
            try:
                self._db.execute("BEGIN IMMEDIATE")
                yield self._db
                self._db.execute("COMMIT")
            except BaseException as error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise RetryLater(f"cannot write the alerts' outbox ({error}): is the disk full?") from error
                raise


def _is_ahead(time: int, now: int) -> bool:
    """A time that is too far away comes from a clock that was set back since: it counts as past."""
    return now < time <= now + _LONGEST_WAIT_NS


def _name_of(events: Sequence[AlertEvent]) -> str:
    return hashlib.blake2b("\0".join(e.id for e in events).encode(), digest_size=16).hexdigest()
