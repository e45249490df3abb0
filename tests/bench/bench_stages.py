"""How fast the first stages are: journal, decoder. Not here: the store and the line protocol (bench_store)."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ingest.decode import Decoder
from ingest.journal import Journal
from ingest.streams import LimitsConfig, StreamConfig
from telemetry import Counters, Message, SeriesTable
from tests.bench.fleet import T0
from tests.bench.measuring import Effort, Figure, Report, cpu_seconds, wall_seconds

PAYLOAD = b'{"ts":1700000000000,"temperature":21.5,"humidity":50.25,"vibration":0.125}'
REPEATS = 5


def messages(count: int) -> list[Message]:
    return [Message(f"s/d{i % 1000}/t", PAYLOAD, 1, received=T0) for i in range(count)]


def bench_journal(effort: Effort, report: Report) -> None:
    """Messages of 75 bytes in batches of 5,000, fsync included; wall time."""
    given = messages(effort.of(5_000))
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory))
        (spent,) = wall_seconds(lambda: journal.append(given), repeats=REPEATS)
        journal.close()
    report("append", Figure.of(spent / len(given) * 1e9, "ns/message"))


def bench_decode(effort: Effort, report: Report) -> None:
    """Flat JSON of three numbers, in batches of 5,000."""
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory))
        journal.append(messages(effort.of(5_000)))
        decoder = Decoder(
            [StreamConfig(name="s", topic="s/{device}/t")], LimitsConfig(), SeriesTable(), counters=Counters()
        )
        records = journal.read(0, effort.of(5_000))
        decoder.decode(records)
        (spent,) = cpu_seconds(lambda: decoder.decode(records), repeats=REPEATS)
        journal.close()
    report("decode", Figure.of(spent / len(records) * 1e9, "ns/message"))
