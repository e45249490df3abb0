"""How fast the pipeline is without a broker's limit: whole, by thread, and each stage alone.

Here: a server that writes frames as fast as the socket takes them (`publisher serve`) against a pipeline in this
process; then every stage of it on the same messages. Not here: what a broker adds (bench_end_to_end).
"""

from __future__ import annotations

import json
import math
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ingest.arrivals import Arrivals, as_records
from ingest.decode import Decoder
from ingest.inbox import Inbox
from ingest.journal import Journal
from ingest.lateness import Lateness
from ingest.shortcut import Tap, Tapping
from ingest.streams import LimitsConfig, StreamConfig
from rules import Engine
from sinks.store import Store
from telemetry import Counters, ReadingBatch, SeriesTable, SystemClock
from tests.bench.bench_rules import parsed
from tests.bench.measuring import Effort, Figure, Report
from tests.bench.processes import far_side, pipeline_in, wait_stored
from tests.bench.traffic import METRICS, STREAM, WARM_ROUNDS, Traffic, rules

DEVICES = 1_000
ROUNDS = 200
REPEATS = 3
_READ_BYTES = 256 << 10
_BATCH = 10_000
_THREADS = (  # name of a thread → what it does; workers of libraries count as others
    ("tocsin-mqtt", "network"),
    ("tocsin-receiver", "receiver (journal)"),
    ("tocsin-evaluation", "evaluation (feed, rules)"),
    ("sink store", "store"),
    ("tocsin-store-compaction", "compaction"),
)


def bench_flood(effort: Effort, report: Report) -> None:
    """Frames as fast as they can be taken, until every reading is stored; and each stage alone, in turn."""
    traffic = Traffic.until_now(effort.of(DEVICES), WARM_ROUNDS + effort.of(ROUNDS * effort.longer, least=4))
    repeats = REPEATS if effort.share == 1 else 1
    whole, two = list[tuple[float, dict[str, float]]](), list[float]()
    for i in range(repeats):
        again = traffic._replace(begin_ms=traffic.begin_ms + i)
        whole.append(flood_whole(again))
        two.append(flood_whole(again, processes=2)[0])
    report("whole", Figure.of(np.array([rate for rate, _ in whole]), "messages/s"))
    report("whole, processes: 2", Figure.of(np.array(two), "messages/s"))
    report("whole, time", Figure.of(np.array([1e9 / rate for rate, _ in whole]), "ns/message"))
    for thread in whole[0][1]:
        report(f"thread {thread}, CPU", Figure.of(np.array([by[thread] for _, by in whole]), "ns/message"))
    turns = [stages_alone(traffic) for _ in range(repeats)]
    shares = np.array([[spent.cpu_ns for spent in turn.values()] for turn in turns])
    shares = shares / shares.sum(axis=1, keepdims=True)
    for i, stage in enumerate(turns[0]):
        report(f"stage {stage}, CPU", Figure.of(np.array([turn[stage].cpu_ns for turn in turns]), "ns/message"))
        report(f"stage {stage}, wall", Figure.of(np.array([turn[stage].wall_ns for turn in turns]), "ns/message"))
        report(f"stage {stage}, share of all stages' CPU", Figure.of(shares[:, i] * 100, "%"))
    total = np.array([sum(spent.cpu_ns for spent in turn.values()) for turn in turns])
    report("stages together, CPU", Figure.of(total, "ns/message"))


def flood_whole(traffic: Traffic, processes: int = 1) -> tuple[float, dict[str, float]]:
    """Messages a second until all are stored, and CPU ns a message by thread of this process."""
    with tempfile.TemporaryDirectory() as directory, far_side("serve", traffic) as server:
        port = int(server.hear())
        pipeline = pipeline_in(Path(directory), port, processes=processes)
        pipeline.start()
        try:
            wait_stored(pipeline.store, len(METRICS) * WARM_ROUNDS * traffic.devices)
            before, began = cpu_by_thread(), time.monotonic()
            server.go()
            wait_stored(pipeline.store, len(METRICS) * traffic.messages)
            ended, after = time.monotonic(), cpu_by_thread()
        finally:
            pipeline.stop()
            pipeline.close()
        began = max(began, json.loads(server.hear())["began"])
    count = traffic.messages - WARM_ROUNDS * traffic.devices
    return count / (ended - began), {name: (after[name] - before.get(name, 0)) / count for name in after}


def cpu_by_thread() -> dict[str, float]:
    """ns of the threads of this process, by what they do."""
    names = {thread.native_id or 0: thread.name for thread in threading.enumerate()}
    spent = dict.fromkeys([*(what for _, what in _THREADS), "others"], 0.0)
    for task in Path("/proc/self/task").iterdir():
        name = names.get(int(task.name), "")
        if name == "MainThread":
            continue
        what = next((what for begin, what in _THREADS if name.startswith(begin)), "others")
        spent[what] += int((task / "schedstat").read_text().split()[0])
    return spent


class Spent(NamedTuple):
    """A message."""

    cpu_ns: float
    wall_ns: float


def stages_alone(traffic: Traffic) -> dict[str, Spent]:
    """Each stage over all messages but those of the first rounds, which warm it up."""
    with tempfile.TemporaryDirectory() as directory:
        return Stages(traffic, Path(directory)).all()


class Stages:
    """The stages of the pipeline, one after another on the same messages, in one thread."""

    def __init__(self, traffic: Traffic, directory: Path) -> None:
        self.traffic, self.directory = traffic, directory
        self.spent: dict[str, Spent] = {}
        self.warm_share = max(0.1, WARM_ROUNDS / traffic.rounds)

    def all(self) -> dict[str, Spent]:
        arrived = self.walked()
        records = self.journalled(arrived)
        batches = self.decoded(records)
        engine = Engine(parsed(rules()), self.table)
        self.timed("rules", batches, engine.apply)
        with Store(self.directory / "store.db") as store:
            self.timed("store append", batches, lambda b: store.append(b.series, b.time, b.value))
            self.clocked("store compact", lambda: _exhaust(store.compact))
        return self.spent

    def timed(self, name: str, items: list[Any], way: Callable[[Any], Any]) -> list[Any]:
        """What the way makes of each; only the later ones count."""
        warm = min(math.ceil(len(items) * self.warm_share), len(items) - 1)
        out = [way(item) for item in items[:warm]]
        share = 1 - warm / len(items)
        cpu, wall = time.thread_time(), time.perf_counter()
        out += [way(item) for item in items[warm:]]
        self._note(name, time.thread_time() - cpu, time.perf_counter() - wall, self.traffic.messages * share)
        return out

    def clocked(self, name: str, way: Callable[[], object]) -> None:
        cpu, wall = time.thread_time(), time.perf_counter()
        way()
        self._note(name, time.thread_time() - cpu, time.perf_counter() - wall, self.traffic.messages)

    def _note(self, name: str, cpu: float, wall: float, messages: float) -> None:
        self.spent[name] = Spent(cpu / messages * 1e9, wall / messages * 1e9)

    def walked(self) -> list[Arrivals]:
        """Frames of QoS 1 from a socket that always has more, to the inbox."""
        frames, _ = self.traffic.frames(1)
        wire, inbox = _Memory(frames), Inbox(max_messages=1 << 30, max_bytes=1 << 40)
        clock, arrived = SystemClock(), list[Arrivals]()

        def take(arrivals: Arrivals) -> None:
            assert inbox.put(arrivals)

        tap = Tap(wire, Tapping(take, bytes.decode, clock.now, 1), v5=False)

        def read(_: int) -> None:
            try:
                tap.recv(1)
            except BlockingIOError:
                arrived.extend(inbox.take(0))

        self.timed("walk and inbox", list(range(-(-len(frames) // _READ_BYTES))), read)
        assert sum(map(len, arrived)) == self.traffic.messages
        self.timed("acknowledgements", arrived, lambda a: a.acknowledgements())
        return arrived

    def journalled(self, arrived: list[Arrivals]) -> list[Any]:
        journal = Journal(self.directory / "journal")
        try:
            self.timed("journal append", arrived, lambda a: journal.append_columns(as_records([a])))
            starts = list(range(0, self.traffic.messages, _BATCH))
            return self.timed("journal read", starts, lambda at: journal.read(at, _BATCH))
        finally:
            journal.close()

    def decoded(self, records: list[Any]) -> list[ReadingBatch]:
        self.table, lateness = SeriesTable(), Lateness()
        streams = [StreamConfig.model_validate(STREAM)]
        limits = LimitsConfig(max_series=1 << 30, max_new_series_per_hour=1 << 30)
        decoder = Decoder(streams, limits, self.table, counters=Counters())
        for one in records[:1]:
            decoder.decode(one)  # topics are learnt
        found = self.timed("decode", records, lambda one: decoder.decode(one).batch)
        assert sum(map(len, found)) == len(METRICS) * self.traffic.messages
        self.timed("lateness", found, lateness.flag)
        return found


class _Memory:
    """A socket whose far side is never too slow."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def recv(self, size: int) -> bytes:
        part = self._data[self._at : self._at + min(size, _READ_BYTES)]
        self._at += len(part)
        return part


def _exhaust(step: Callable[[], bool]) -> None:
    while step():
        pass
