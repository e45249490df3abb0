"""Accounts: for each stage, what it received and what came of it; what is on its way is measured where it waits.

    received = what came of it, by outcome + in flight

The left side is counted by whoever hands over, the outcomes by whoever takes, and "in flight" is read from queues and
offsets, never computed as what is left over: so a row that is lost anywhere shows as an imbalance. Not here: what is
done about one (`audit`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ingest.feed import Feed
from ingest.journal import Journal
from ingest.receiver import Receiver
from ingest.remote_reception import FollowedJournal, RemoteReceiver
from sinks.consumer import Consumer
from sinks.outbox import Outbox
from telemetry import Counters
from tocsin.evaluation import Evaluation
from tocsin.ledger import Ledger
from tocsin.status import AccountRow

STAGES = ("session", "journal", "messages", "readings", "evaluation")
"""Those that are always there; each sink and receiver is a further one, under its own name."""
IN_FLIGHT = "in flight"
_MESSAGES = ("decoded", "rejected", "empty", "ignored")
_KINDS = ("live", "recorded", "late", "duplicate", "other")
_WRITTEN = ("stored", "late", "duplicate", "other", "parked", "skipped")


@dataclass(frozen=True)
class Stages:
    """The parts whose books are kept."""

    counters: Counters
    ledger: Ledger
    receiver: Receiver | RemoteReceiver
    journal: Journal | FollowedJournal
    feed: Feed
    evaluation: Evaluation
    consumers: Sequence[Consumer]
    outbox: Outbox
    receivers: Sequence[str]


class Accounts:
    """To be made before anything starts; then for any thread.

    A row is read in several steps while the pipeline works, so it may be a little off, for a moment: an imbalance is
    real if it stays (`audit`), or if everything stands still.
    """

    def __init__(self, stages: Stages) -> None:
        self._s = stages
        self._backlog = stages.journal.end - stages.feed.offset
        self._pending = {name: stages.outbox.pending(name) for name in stages.receivers}

    def rows(self) -> tuple[AccountRow, ...]:
        """Every stage, in the order of the path."""
        return (
            self._session(),
            self._journal(),
            self._messages(),
            self._readings(),
            self._evaluation(),
            *(self._sink(consumer) for consumer in self._s.consumers),
            *(self._receiver(name) for name in self._s.receivers),
        )

    def _session(self) -> AccountRow:
        """From the broker to the acknowledgement."""
        c = self._s.counters
        causes = {"dropped": c.reasons("ingest.dropped")}
        parts = (
            ("acknowledged", c.get("ingest.acknowledged")),
            ("qos 0", c.get("ingest.unacknowledged")),
            ("stale", c.get("ingest.stale_acks")),
            ("dropped", sum(causes["dropped"].values())),
            (IN_FLIGHT, self._s.receiver.waiting),
        )
        return AccountRow("session", c.get("ingest.arrived"), parts, causes)

    def _journal(self) -> AccountRow:
        """From those who write to the journal to the head, which reads it: in records."""
        c = self._s.counters
        parts = (
            ("messages", c.get("ingest.messages")),
            ("ticks", c.get("ingest.ticks_read")),
            ("recorded", c.get("ingest.samples_read")),
            ("lost", c.get("ingest.lost")),
            (IN_FLIGHT, self._s.journal.end - self._s.feed.decoded_to),
        )
        written = c.get("ingest.received") + c.get("ingest.ticks") + c.get("rules.records")
        return AccountRow("journal", self._backlog + written, parts)

    def _messages(self) -> AccountRow:
        """From the head to the decoder's verdict. The head decodes within one step, so nothing is in flight."""
        c = self._s.counters
        parts = tuple((part, c.get(f"ingest.messages_{part}")) for part in _MESSAGES)
        return AccountRow("messages", c.get("ingest.messages"), parts)

    def _readings(self) -> AccountRow:
        """From the decoder to all consumers."""
        c, tally = self._s.counters, self._s.ledger.tally()
        causes = {"rejected": c.reasons("ingest.rejected")}
        parts = (
            *((kind, tally[kind]) for kind in _KINDS),
            ("rejected", sum(causes["rejected"].values())),
            (IN_FLIGHT, self._s.feed.undelivered_rows),
        )
        return AccountRow("readings", c.get("ingest.readings"), parts, causes)

    def _evaluation(self) -> AccountRow:
        c = self._s.counters
        parts = (
            ("evaluated", c.get("rules.evaluated")),
            ("passed over", c.get("rules.passed_over")),
            (IN_FLIGHT, self._s.evaluation.waiting),
        )
        return AccountRow("evaluation", self._s.ledger.received, parts)

    def _sink(self, consumer: Consumer) -> AccountRow:
        """From the head to the sink, however far it lags."""
        c, ledger, name = self._s.counters, self._s.ledger, consumer.sink.name
        causes = {part: c.reasons(f"{name}.{part}") for part in ("parked", "skipped")}
        done = tuple((part, c.get(f"{name}.{part}")) for part in _WRITTEN)
        waiting = consumer.waiting + ledger.unread(name, head=self._s.feed.offset)
        given = ledger.given(name) + c.get(f"{name}.replayed")
        return AccountRow(name, given, (*done, (IN_FLIGHT, waiting)), causes)

    def _receiver(self, name: str) -> AccountRow:
        """From the outbox to a receiver, in alert events."""
        c = self._s.counters
        causes = {"dead": c.reasons(f"{name}.dead")}
        parts = (
            ("delivered", c.get(f"{name}.sent")),
            ("dead", sum(causes["dead"].values())),
            (IN_FLIGHT, self._s.outbox.pending(name)),
        )
        return AccountRow(name, self._pending[name] + c.get("alerts.published"), parts, causes)
