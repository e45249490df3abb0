"""How fast the embedded store is written, and how fast it is looked at once it is full; the line protocol beside Point.

Not here: queries (bench_query).
"""

from __future__ import annotations

import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np

from sinks.line_protocol import LineEncoder
from sinks.store import Store
from tests.bench.fleet import PERIOD, T0, Readings, fleet
from tests.bench.measuring import Effort, Figure, Report, cpu_seconds
from tests.bench.stored_fleet import YEAR, fill, fill_year

REPEATS = 5
WRITTEN = 1_000_000
LOOK = 100_000
"""Readings between two looks for what is to compact"""
POINTS = 10_000_000
DEVICES = 1_000
BUCKETS = 1_000


def bench_store(effort: Effort, report: Report) -> None:
    """Durable appends of a fleet's readings in batches, compacted as they come; rates by wall time."""
    for size in (1_000, 10_000, 100_000):
        batch = effort.of(size)
        count = max(2, effort.of(WRITTEN) // size)
        rows = list(islice(Readings(effort.of(1_000)).batches(batch), count))
        spent = np.zeros(3)  # wall, CPU of appends, CPU of compaction
        with tempfile.TemporaryDirectory() as directory, Store(Path(directory) / "store.db") as store:
            began = time.perf_counter()
            for i, rows_of in enumerate(rows, 1):
                at = time.thread_time()
                store.append(rows_of.series, rows_of.time, rows_of.value)
                appended = time.thread_time()
                while i * batch % effort.of(LOOK) == 0 and store.compact():
                    pass
                spent[1:] += appended - at, time.thread_time() - appended
            spent[0] = time.perf_counter() - began
        points = count * batch
        report(f"batches of {size:,}", Figure.of(points / spent[0] / 1e6, "M points/s"))
        report(f"batches of {size:,}, append, CPU", Figure.of(spent[1] / points * 1e9, "ns/point"))
        report(f"batches of {size:,}, compaction, CPU", Figure.of(spent[2] / points * 1e9, "ns/point"))


def bench_drawing(effort: Effort, report: Report) -> None:
    """Looks at a full store, CPU time: a fleet's, and one series' year of a reading every ten seconds."""
    for points in (POINTS, 10 * POINTS) if effort.longer > 1 else (POINTS,):
        _fleet(effort.of(DEVICES), effort.of(points) // effort.of(DEVICES), f"10^{len(str(points)) - 1} points", report)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        fill_year(path, share=effort.share)
        end = T0 + YEAR // effort.share
        with Store(path, read_only=True) as store:
            spent = cpu_seconds(
                lambda: store.read(0),
                lambda: store.downsample(0, T0, end, BUCKETS),
                lambda: store.envelope([0], T0, end, BUCKETS),
                repeats=REPEATS,
            )
    for what, seconds in zip(("read", "downsample", "envelope"), spent, strict=True):
        report(f"a year of one series, {what}", Figure.of(seconds * 1e3, "ms"))


def _fleet(devices: int, readings: int, name: str, report: Report) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        fill(path, devices, readings)
        report(f"{name}, on disk", Figure.of(path.stat().st_size / (devices * readings), "bytes/point"))
        end = T0 + readings * PERIOD
        some, steps = range(min(50, devices)), np.linspace(T0, end, BUCKETS).astype(np.int64)
        with Store(path, read_only=True) as store:
            looks = {
                "read one series": lambda: store.read(7),
                "envelope of one series": lambda: store.envelope([7], T0, end, BUCKETS),
                "envelope of 50 series": lambda: store.envelope(some, T0, end, BUCKETS),
                "newest of all series": lambda: store.latest(range(devices)),
                "all series as of 1,000 instants": lambda: store.read_at(range(devices), steps, 30 * PERIOD),
            }
            spent = cpu_seconds(*looks.values(), repeats=3)
    for what, seconds in zip(looks, spent, strict=True):
        report(f"{name}, {what}", Figure.of(seconds * 1e3, "ms"))


def bench_line_protocol(effort: Effort, report: Report) -> None:
    """Against influxdb-client's Point; what they write is compared."""
    from influxdb_client.client.write.point import Point  # noqa: PLC0415  # slow to import, and needed here only

    batch = effort.of(5_000)
    table, rows = fleet(batch), next(Readings(batch).batches(batch))
    encoder = LineEncoder(table)

    def points() -> list[str]:
        return [
            Point("temperature").tag("device", table[series].device).field("value", value).time(at).to_line_protocol()
            for series, at, value in zip(rows.series.tolist(), rows.time.tolist(), rows.value.tolist(), strict=True)
        ]

    assert list(map(_parsed, encoder.encode(rows).decode().splitlines())) == list(map(_parsed, points()))
    ours, theirs = cpu_seconds(lambda: encoder.encode(rows), points, repeats=REPEATS)
    report("ratio", Figure.of(theirs / ours, "×"))
    report("tocsin", Figure.of(ours / batch * 1e9, "ns/point"))
    report("Point", Figure.of(theirs / batch * 1e9, "ns/point"))


def _parsed(line: str) -> tuple[str, str, float, int]:
    """Series, field, value, time of a line whose names have no spaces."""
    series, field, at = line.split(" ")
    name, _, value = field.partition("=")
    return series, name, float(value), int(at)
