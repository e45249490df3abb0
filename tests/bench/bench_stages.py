"""How fast the other stages are: journal, decoder, embedded store, line protocol."""

from __future__ import annotations

import tempfile
from itertools import islice
from pathlib import Path

from ingest.decode import Decoder
from ingest.journal import Journal
from ingest.streams import LimitsConfig, StreamConfig
from sinks.line_protocol import LineEncoder
from sinks.store import Store
from telemetry import Counters, Message, SeriesTable
from tests.bench.fleet import T0, Readings, fleet
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


def bench_store(effort: Effort, report: Report) -> None:
    """Durable appends of 10,000 readings, with compaction; wall time."""
    batch = effort.of(10_000)
    coming = islice(Readings(effort.of(1_000)).batches(batch), 50)
    rows = iter(list(coming))
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory) / "store.db") as store:

        def append() -> None:
            for b in islice(rows, 10):
                store.append(b.series, b.time, b.value)
                store.compact()

        (spent,) = wall_seconds(append, repeats=REPEATS)
    report("append and compact", Figure.of(10 * batch / spent / 1e6, "M readings/s"))


def bench_line_protocol(effort: Effort, report: Report) -> None:
    """Against influxdb-client's Point."""
    from influxdb_client.client.write.point import Point  # noqa: PLC0415  # slow to import, and needed here only

    batch = effort.of(5_000)
    table, rows = fleet(batch), next(Readings(batch).batches(batch))
    encoder = LineEncoder(table)

    def points() -> None:
        for series, at, value in zip(rows.series.tolist(), rows.time.tolist(), rows.value.tolist(), strict=True):
            Point("temperature").tag("device", table[series].device).field("value", value).time(at).to_line_protocol()

    encoder.encode(rows)
    ours, theirs = cpu_seconds(lambda: encoder.encode(rows), points, repeats=REPEATS)
    report("ratio", Figure.of(theirs / ours, "×"))
    report("tocsin", Figure.of(ours / batch * 1e9, "ns/point"))
    report("Point", Figure.of(theirs / batch * 1e9, "ns/point"))
