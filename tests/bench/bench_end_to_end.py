"""How much of what a broker can deliver gets through: tocsin whole, beside the least and the usual that one can do.

Publisher, mosquitto and subscriber share this machine. Here: who takes turns, and the ratios. Not here: the subscribers
(`subscribers`), the publisher (`publisher`).
"""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tests.bench.measuring import Effort, Figure, Report
from tests.bench.processes import TICK_SECONDS, Subscriber, Used, WholeTocsin, far_side
from tests.bench.publisher import connected, flood
from tests.bench.traffic import WARM_ROUNDS, Traffic
from tests.integration.brokers import Mosquitto, MosquittoOptions

REPEATS = 3
DEVICES = 1_000
ROUNDS = {"raw": 60, "paho": 20, "straightforward": 6, "tocsin": 60}
"""Of messages, by subscriber: what is slower gets fewer."""


class Run(NamedTuple):
    """One subscriber, once."""

    rate: float
    """Messages a second, from the first that was sent to the last that was through."""
    cpu_us: float
    """A message."""
    peak_mb: float
    behind_ms: float
    """From the last message sent to the last one that was through"""


def bench_end_to_end(effort: Effort, report: Report) -> dict[str, Any]:
    """Messages through mosquitto by each subscriber, in turn; of tocsin, until they are stored, and stored exactly."""
    found: dict[str, Any] = {}
    for qos in (1, 0):
        runs: dict[str, list[Run]] = defaultdict(list)
        for _ in range(REPEATS if effort.share == 1 else 1):
            for way, most in ROUNDS.items():
                devices, rounds = effort.of(DEVICES), WARM_ROUNDS + effort.of(most * effort.longer, least=4)
                runs[way].append(run(way, qos, devices, rounds))
        found[f"qos{qos}"] = summary(runs)
        tell(f"QoS {qos}", runs, report)
    return found


def run(way: str, qos: int, devices: int, rounds: int) -> Run:
    """The first rounds warm the subscriber up, and are not counted."""
    traffic = Traffic.until_now(devices, rounds)
    with tempfile.TemporaryDirectory() as directory:
        lines = ["log_type none", "max_inflight_messages 1000"]
        (Path(directory) / "broker").mkdir()
        (Path(directory) / "subscriber").mkdir()
        broker = Mosquitto(Path(directory) / "broker", MosquittoOptions(lines=lines))
        broker.start()
        try:
            return measure(way, qos, traffic, broker.port, Path(directory) / "subscriber")
        finally:
            broker.kill()


def measure(way: str, qos: int, traffic: Traffic, port: int, directory: Path) -> Run:
    marks = [WARM_ROUNDS * traffic.devices, traffic.messages]
    ours = way == "tocsin"
    subscriber = WholeTocsin(directory, port) if ours else Subscriber(way, directory, port, qos, marks)
    try:
        with connected(port, b"bench-warm") as wire:
            flood(wire, *traffic.frames(qos, slice(WARM_ROUNDS)), qos)
        subscriber.wait(marks[0])
        before = Used.by(subscriber.pid)
        with far_side("flood", traffic, port=port, qos=qos) as publisher:
            assert publisher.hear() == "ready"
            publisher.go()
            said = json.loads(publisher.hear())
            ended = subscriber.wait(marks[1])
        after = Used.by(subscriber.pid)
    finally:
        subscriber.stop(traffic)
    count = marks[1] - marks[0]
    cpu = max(after.cpu_seconds - before.cpu_seconds, TICK_SECONDS) / count * 1e6
    return Run(count / (ended - said["began"]), cpu, after.peak_mb, (ended - said["ended"]) * 1e3)


def summary(runs: dict[str, list[Run]]) -> dict[str, Any]:
    """For machines: medians; `spread` is the least and the most of the rates."""
    rate = {way: np.array([run.rate for run in some]) for way, some in runs.items()}
    cpu = {way: float(np.median([run.cpu_us for run in some])) for way, some in runs.items()}
    peak = {way: float(np.median([run.peak_mb for run in some])) for way, some in runs.items()}
    return {
        **{way: round(float(np.median(some))) for way, some in rate.items()},
        "ratio_raw": round(float(np.median(rate["tocsin"] / rate["raw"])), 3),
        "ratio_straightforward": round(float(np.median(rate["tocsin"] / rate["straightforward"])), 2),
        "cpu_us": round(cpu["tocsin"], 2),
        "peak_mb": round(peak["tocsin"], 1),
        **{f"cpu_us_{way}": round(one, 2) for way, one in cpu.items() if way != "tocsin"},
        **{f"peak_mb_{way}": round(one, 1) for way, one in peak.items() if way != "tocsin"},
        "ratio_cpu_paho": round(cpu["tocsin"] / cpu["paho"], 3),
        "spread": {way: [round(float(some.min())), round(float(some.max()))] for way, some in rate.items()},
    }


def tell(qos: str, runs: dict[str, list[Run]], report: Report) -> None:
    raw = np.array([run.rate for run in runs["raw"]])
    for way, some in runs.items():
        rate, cpu, peak, behind = np.array(some).T
        report(f"{qos}, {way}", Figure.of(rate, "messages/s"))
        report(f"{qos}, {way}, of raw", Figure.of(rate / raw, "×"))
        report(f"{qos}, {way}, CPU", Figure.of(cpu, "µs/message"))
        report(f"{qos}, {way}, peak memory", Figure.of(peak, "MB"))
        report(f"{qos}, {way}, behind the publisher", Figure.of(behind, "ms"))
