"""AlertReceipts: single alert events, with where they came from and what each receiver has been told.

Here: queries for tracing. Not here: those for lists (alert_history.py), the file's tables (outbox_file.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sinks.alert_history import EVENT, AlertHistory, event_of
from telemetry import AlertEvent

_WIDTH = len(EVENT.split(","))


@dataclass(frozen=True, slots=True)
class Receipt:
    """How far one receiver has been told of one event."""

    receiver: str
    state: str
    """`pending`, `sending` (under way, or cut off by a crash: it comes again), `sent` or `dead`."""
    attempts: int
    tried_at: int
    """First, by our clock, ns; 0: not yet."""
    sent_at: int
    """Taken by the receiver, ns; 0: not yet."""
    next_at: int
    """Of one that is not sent: tried again then, ns; 0: at once."""
    last_error: str
    """Of the last try that failed; of a dead one, why."""


@dataclass(frozen=True, slots=True)
class PublishedEvent:
    """An alert event as it stands in the outbox."""

    event: AlertEvent
    offset: int
    """What is before it in the journal has brought the event about; 0: it is not from the journal."""
    receipts: tuple[Receipt, ...]
    """By name of the receiver."""


class AlertReceipts(AlertHistory):
    """As an AlertHistory, read-only, beside a running tocsin."""

    def with_id(self, prefix: str, limit: int = 10) -> list[PublishedEvent]:
        """Events whose id begins with `prefix`, by id; at most `limit`."""
        return self._published(
            "events.id >= ? AND events.id < ? ORDER BY events.id LIMIT ?", prefix, prefix + "~", limit
        )

    def with_fingerprint(self, fingerprint: str, limit: int) -> list[AlertEvent]:
        """The newest firings of an alert with these labels, of whatever rule; the newest first."""
        return self._events("fingerprint = ? AND state = 'firing' ORDER BY seq DESC LIMIT ?", fingerprint, limit)

    def of_same_alert(self, event: AlertEvent) -> list[PublishedEvent]:
        """The firing and the resolving that belong together, as far as they are there, in order."""
        return self._published(
            "fingerprint = ? AND rule = ? AND starts_at = ? ORDER BY seq",
            event.fingerprint,
            event.rule,
            event.starts_at,
        )

    def detected_at(self, time: int, limit: int = 1_000) -> list[PublishedEvent]:
        """What a reading or tick received at exactly `time` (ns) has shown, in order of publishing."""
        return self._published("detected_at = ? AND journal_offset > 0 ORDER BY seq LIMIT ?", time, limit)

    def after(self, time: int, devices: Iterable[str], limit: int) -> list[PublishedEvent]:
        """The first events of these devices that were detected after `time` (ns)."""
        names = tuple(devices)
        marks = ",".join("?" * len(names))
        return self._published(
            f"detected_at > ? AND json_extract(labels, '$.device') IN ({marks}) ORDER BY detected_at, seq LIMIT ?",
            time,
            *names,
            limit,
        )

    def _published(self, condition: str, *values: object) -> list[PublishedEvent]:
        rows = self._query(f"SELECT {EVENT}, seq, journal_offset FROM events WHERE {condition}", *values)  # noqa: S608  # ours
        return [
            PublishedEvent(event_of(row[:_WIDTH]), row[_WIDTH + 1], tuple(self._receipts(row[_WIDTH]))) for row in rows
        ]

    def _receipts(self, seq: int) -> Iterable[Receipt]:
        query = (
            "SELECT receiver, state, attempts, tried_at, sent_at, next_at, last_error FROM deliveries "
            "WHERE seq = ? ORDER BY receiver"
        )
        return (Receipt(*row) for row in self._query(query, seq))
