"""How time and memory grow: with devices, with the journal that a start has to read, with series.

Here: the stages together by the number of devices, how long a start takes, what a million series keep in memory. Not
here: how time grows with rules (bench_sweeps).
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from ingest.journal import Journal
from sinks.store import Store
from telemetry import Message
from tests.bench.bench_flood import stages_alone
from tests.bench.measuring import Effort, Figure, Report
from tests.bench.processes import ROOT, SECONDS, configuration, rule_file, wait_stored
from tests.bench.traffic import METRICS, WARM_ROUNDS, Traffic
from tests.integration.brokers import Mosquitto, MosquittoOptions
from tests.integration.tocsin_process import TOCSIN, Tocsin

MESSAGES = 50_000
DEVICES = (100, 1_000, 10_000, 100_000, 1_000_000)
SERIES = 1_000_000
JOURNALS = (0, 10_000, 100_000, 1_000_000)


def bench_devices(effort: Effort, report: Report) -> None:
    """CPU of all stages together, from socket to store, by the number of devices; 20 rules, 3 values a message."""
    for devices in DEVICES:
        if devices > effort.sweep_to:
            break
        rounds = WARM_ROUNDS + max(1, effort.of(MESSAGES) // devices)
        spent = stages_alone(Traffic.until_now(devices, rounds))
        report(f"{devices:,} devices", Figure.of(sum(one.cpu_ns for one in spent.values()), "ns/message"))


def bench_start(effort: Effort, report: Report) -> None:
    """Until `tocsin --help` has ended, and until `tocsin run` receives and has gone through a journal; wall time."""
    helps = [_seconds(lambda: subprocess.run([TOCSIN, "--help"], check=True, capture_output=True)) for _ in range(5)]
    report("tocsin --help", Figure.of(min(helps), "s, the least"))
    for messages in JOURNALS:
        if messages <= effort.sweep_to:
            receiving, through, again = _started(messages)
            report(f"journal of {messages:,}, receiving", Figure.of(receiving, "s"))
            if messages:
                report(f"journal of {messages:,}, replayed and stored", Figure.of(through, "s"))
            report(f"journal of {messages:,}, receiving after a stop", Figure.of(again, "s"))


def bench_memory(effort: Effort, report: Report) -> None:
    """What decoder, lateness and 20 rules keep of so many series, each with three readings."""
    series = min(SERIES, 10 * effort.sweep_to)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.memory", str(series)],
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=5 * SECONDS,
    )  # fmt: skip
    found = json.loads(done.stdout)
    report(f"{series:,} series, process", Figure.of(found["peak_bytes"] / 1e9, "GB at the peak"))
    report(f"{series:,} series, growth", Figure.of(found["grown_bytes"] / series, "bytes/series"))


def _started(messages: int) -> tuple[float, float, float]:
    """Seconds until a first start receives, until it has stored a journal of so many, until a second one receives."""
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "broker").mkdir()
        (Path(directory) / "tocsin").mkdir()
        broker = Mosquitto(Path(directory) / "broker", MosquittoOptions(lines=["log_type none"]))
        broker.start()
        try:
            tocsin = Tocsin(Path(directory) / "tocsin", configuration(broker.port), rules=yaml.safe_dump(rule_file()))
            _fill(tocsin.data.journal, messages)
            try:
                began = time.monotonic()
                tocsin.start()
                receiving = time.monotonic() - began
                with Store(tocsin.data.store, read_only=True) as store:
                    wait_stored(store, len(METRICS) * messages)
                through = time.monotonic() - began
                tocsin.stop()
                again = _seconds(tocsin.start)
            finally:
                tocsin.kill()
        finally:
            broker.kill()
    return receiving, through, again


def _fill(journal: Path, messages: int) -> None:
    """As 1,000 devices would have, up to now."""
    devices = 1_000
    traffic = Traffic.until_now(devices, -(-messages // devices))
    written = Journal(journal)
    for i, (time_ns, payloads) in enumerate(zip(traffic.times.tolist(), traffic.payloads(), strict=True)):
        count = min(devices, messages - i * devices)
        written.append([Message(f"plant/d{d:06d}", payloads[d], 1, received=time_ns, mid=d + 1) for d in range(count)])
    written.close()


def _seconds(way: Callable[[], Any]) -> float:
    began = time.monotonic()
    way()
    return time.monotonic() - began
