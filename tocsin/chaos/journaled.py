"""What a journal holds, read with nothing remembered; and what its rules must make of it, evaluated from scratch.

The replay is the first of two oracles for alerts: live must equal replay. The second one (`alert_oracle`) knows nothing
of the engine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.journal import SAMPLES, TICK, Journal
from ingest.recorded import decode_samples, series_of
from ingest.rejection import Rejection
from rules import Engine
from telemetry import AlertEvent, Counters, SeriesTable, Tick
from tocsin.chaos.witness import Key
from tocsin.config import load_config

Rows = dict[str, dict[int, float]]
"""Series as text → event time, ns → value."""


@dataclass(frozen=True, slots=True)
class Journaled:
    """The records of a journal, by kind."""

    records: list[tuple[Key, int]]
    """Messages and our clock at their receipt, and ticks (with NO_MESSAGE for a key), in order."""
    samples: Rows = field(default_factory=dict)
    samples_repeated: int = 0
    """Recorded samples that were written more than once."""

    @property
    def messages(self) -> list[Key]:
        return [key for key, _ in self.records if key != NO_MESSAGE]


NO_MESSAGE: Key = ("", b"")
"""What a tick has for a key."""


def read_journal(directory: Path) -> Journaled:
    """Everything. Raises JournalError."""
    journal = Journal(directory, read_only=True)
    found = Journaled([])
    repeated = 0
    offset = journal.start
    while len(records := journal.read(offset)):
        for topic, payload, flag, received in zip(
            records.topics, records.payloads, records.flags.tolist(), records.received.tolist(), strict=True
        ):
            if flag == TICK:
                found.records.append((NO_MESSAGE, received))
            elif flag & SAMPLES:
                repeated += _take(found.samples, bytes(payload))
            else:
                found.records.append(((topic, bytes(payload)), received))
        offset = records.next
    return Journaled(found.records, found.samples, repeated)


def _take(rows: Rows, payload: bytes) -> int:
    """Adds the samples of a record; how many were there already."""
    time, samples = decode_samples(payload)
    repeated = 0
    for labels, value in samples:
        of_series = rows.setdefault(str(series_of(labels)), {})
        repeated += time in of_series
        of_series[time] = value
    return repeated


def replay(config: Path, until: int) -> list[AlertEvent]:
    """The events that all before the offset `until` brings about, in one go and with nothing remembered."""
    loaded = load_config(config)
    table, counters = SeriesTable(), Counters()
    journal = Journal(loaded.data_dir.journal, read_only=True)
    decoder = Decoder(loaded.config.streams, loaded.config.limits, table, counters=counters)
    feed = Feed(journal, decoder, table, dead_letters=_Nowhere(), counters=counters)
    rules = [rule for group in loaded.groups for rule in group.rules]
    engine = Engine(rules, table, staleness=decoder.staleness)
    events: list[AlertEvent] = []
    while feed.offset < min(until, journal.end):
        for item in feed.poll(0, limit=until - feed.offset):
            events += engine.tick(item) if isinstance(item, Tick) else engine.apply(item)
        engine.take_recorded()
    return events


class _Nowhere:
    def add(self, rejections: Sequence[Rejection]) -> None:
        pass
