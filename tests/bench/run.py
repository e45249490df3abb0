"""`make bench`: how fast the stages are, each beside a straightforward way to do the same, in one run.

Figures of one machine say little; the ratios say more. Interleaved repetitions, medians. ARGS="--only rules --json".
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ingest.decode import Decoder
from ingest.journal import Journal
from ingest.streams import LimitsConfig, StreamConfig
from rules import Engine, load_rules
from sinks.line_protocol import LineEncoder
from sinks.store import Store
from telemetry import AlertEvent, AlertState, Counters, Message, ReadingBatch, Series, SeriesTable

S = 10**9
T0 = 1_700_000_000 * S
REPEATS = 5


def seconds(*ways: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """Median CPU time of this thread of each way, run in turns."""
    spent: list[list[float]] = [[] for _ in ways]
    for _ in range(repeats):
        for way, times in zip(ways, spent, strict=True):
            begin = time.thread_time()
            way()
            times.append(time.thread_time() - begin)
    return [statistics.median(times) for times in spent]


def fleet(devices: int) -> SeriesTable:
    table = SeriesTable()
    for i in range(devices):
        table.add(Series.of("temperature", device=f"d{i}"))
    return table


def readings(n: int, devices: int, turn: int) -> ReadingBatch:
    rng = np.random.default_rng(turn)
    at = np.arange(n, dtype=np.int64) + turn * n
    return ReadingBatch(
        series=((at % devices).astype(np.int32)),
        time=T0 + at * 1_000_000,
        value=np.round(rng.normal(20, 4, n), 2),
        received=T0 + at * 1_000_000,
        flags=np.zeros(n, np.uint8),
        offset=at,
    )


class OneObjectEach:
    """The straightforward way: an object for each (rule, series), asked at each reading."""

    def __init__(self, name: str, device: str, limit: float, hold: int) -> None:
        self.name, self.device, self.limit, self.hold = name, device, limit, hold
        self.since: int | None = None
        self.firing = False

    def reading(self, at: int, value: float) -> AlertEvent | None:
        if value > self.limit:
            self.since = at if self.since is None else self.since
            if self.firing or at - self.since < self.hold:
                return None
            self.firing = True
            return self.event(AlertState.FIRING, at, value)
        self.since = None
        if not self.firing:
            return None
        self.firing = False
        return self.event(AlertState.RESOLVED, at, value)

    def event(self, state: AlertState, at: int, value: float) -> AlertEvent:
        labels = (("alertname", self.name), ("device", self.device))
        return AlertEvent(f"g/{self.name}", labels, state, value, at, at, at)


def bench_rules(rules: int = 20, devices: int = 50_000, batch: int = 10_000) -> dict[str, Any]:
    """Thresholds with `for`: million evaluations a second, and against one object for each rule and series."""
    limits = [30.0 + i / 2 for i in range(rules)]  # exceeded rarely, as limits are
    document = [{"alert": f"A{i}", "expr": f"temperature > {x}", "for": "2m"} for i, x in enumerate(limits)]
    groups, problems = load_rules({"groups": [{"name": "g", "rules": document}]})
    assert not problems
    engine = Engine(groups[0].rules, fleet(devices))
    objects = [[OneObjectEach(f"A{i}", f"d{d}", x, 120 * S) for i, x in enumerate(limits)] for d in range(devices)]
    batches = [readings(batch, devices, turn) for turn in range(devices // batch + REPEATS)]
    one, other = iter(batches), iter(batches)

    def ours() -> None:
        engine.apply(next(one))

    def straightforward() -> None:
        rows = next(other)
        for series, at, value in zip(rows.series.tolist(), rows.time.tolist(), rows.value.tolist(), strict=True):
            for rule in objects[series]:
                rule.reading(at, value)

    for _ in range(devices // batch):  # every series is known before the clock runs
        ours()
        straightforward()
    gc.collect()
    gc.freeze()  # the many objects of the straightforward way are not to burden the other
    fast, slow = seconds(ours, straightforward)
    gc.unfreeze()
    evaluations = rules * batch
    return {
        "m_eval_s": evaluations / fast / 1e6,
        "straightforward_m_eval_s": evaluations / slow / 1e6,
        "ratio": slow / fast,
    }


def bench_decode(messages: int = 5_000) -> dict[str, Any]:
    """Flat JSON of three numbers: ns a message in the journal (fsync included, wall time) and in the decoder."""
    with tempfile.TemporaryDirectory() as directory:
        journal = Journal(Path(directory))
        payload = b'{"ts":1700000000000,"temperature":21.5,"humidity":50.25,"vibration":0.125}'
        batch = [Message(f"s/d{i % 1000}/t", payload, 1, received=T0) for i in range(messages)]
        begin = time.perf_counter()
        for _ in range(REPEATS):
            journal.append(batch)
        append = (time.perf_counter() - begin) / REPEATS
        stream = StreamConfig(name="s", topic="s/{device}/t")
        decoder = Decoder([stream], LimitsConfig(), SeriesTable(), counters=Counters())
        records = journal.read(0, messages)
        decoder.decode(records)
        (decode,) = seconds(lambda: decoder.decode(records))
        journal.close()
    return {"journal_ns": append / messages * 1e9, "decode_ns": decode / len(records) * 1e9}


def bench_store(batch: int = 10_000, batches: int = 50) -> dict[str, Any]:
    """Durable appends with compaction: points a second (wall time)."""
    with tempfile.TemporaryDirectory() as directory, Store(Path(directory) / "store.db") as store:
        rows = [readings(batch, 1_000, turn) for turn in range(batches)]
        begin = time.perf_counter()
        for b in rows:
            store.append(b.series, b.time, b.value)
            store.compact()
        return {"points_s": batch * batches / (time.perf_counter() - begin)}


def bench_line_protocol(batch: int = 5_000) -> dict[str, Any]:
    """Line protocol: ns a point, and against influxdb-client's Point."""
    from influxdb_client import Point  # noqa: PLC0415  # slow to import, and needed here only

    table, rows = fleet(1_000), readings(batch, 1_000, 0)
    encoder = LineEncoder(table)

    def points() -> None:
        for series, at, value in zip(rows.series.tolist(), rows.time.tolist(), rows.value.tolist(), strict=True):
            Point("temperature").tag("device", table[series].device).field("value", value).time(at).to_line_protocol()

    encoder.encode(rows)
    ours, theirs = seconds(lambda: encoder.encode(rows), points)
    return {"ns": ours / batch * 1e9, "point_ns": theirs / batch * 1e9, "ratio": theirs / ours}


BENCHES: dict[str, Callable[[], dict[str, Any]]] = {
    "rules": bench_rules,
    "decode": bench_decode,
    "store": bench_store,
    "line_protocol": bench_line_protocol,
}


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Measure the stages of tocsin, each beside a straightforward way.")
    parser.add_argument("--only", choices=BENCHES, action="append", help="run just this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    options = parser.parse_args(arguments)
    results: dict[str, dict[str, Any]] = {}
    if not options.json:
        print(f"{platform.machine()}, Python {platform.python_version()}, numpy {np.__version__}")  # noqa: T201
    for name in options.only or BENCHES:
        results[name] = {key: round(value, 2) for key, value in BENCHES[name]().items()}
        if not options.json:
            print(f"{name:<14}" + "  ".join(f"{key} {value:,}" for key, value in results[name].items()))  # noqa: T201
    if options.json:
        print(json.dumps(results))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
