"""Reception: all that receives. MQTT session, inbox, receiver and journal, in this process.

Here: how these four are put together. Not here: the same in a process of its own (`reception_process`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ingest.config import JournalConfig, MqttConfig
from ingest.guarantee import Wanted
from ingest.inbox import Inbox
from ingest.journal import Journal
from ingest.mqtt import Session
from ingest.receiver import Receiver
from telemetry import Clock, Counters


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The journal to be opened."""

    directory: Path
    config: JournalConfig
    read_to: int
    """Somebody has read all before this offset."""


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """The session to be kept; see `ingest.mqtt.Session`."""

    config: MqttConfig
    filters: tuple[str, ...]
    former: tuple[str, ...]
    wanted: Mapping[str, Wanted]
    record: Path


class Reception:
    """`receiver.start` begins, `receiver.stop` ends; what is in `journal` can be read and added to until `close`."""

    failure = ""
    """Why it has ended by itself: never, in this process."""

    def __init__(self, settings: JournalSettings, *, clock: Clock, counters: Counters) -> None:
        """Opens the journal. Raises as Journal."""
        self._clock, self._counters = clock, counters
        self.journal = Journal(settings.directory, config=settings.config, counters=counters, read_to=settings.read_to)

    def open_session(self, settings: SessionSettings) -> None:
        """Makes `session` and `receiver`, once. Raises ConfigError."""
        inbox = Inbox()
        self.session = Session(
            settings.config,
            settings.filters,
            inbox,
            clock=self._clock,
            counters=self._counters,
            former=settings.former,
            wanted=settings.wanted,
            record=settings.record,
        )
        self.receiver = Receiver(inbox, self.journal, self.session, clock=self._clock, counters=self._counters)

    def close(self) -> None:
        self.journal.close()
