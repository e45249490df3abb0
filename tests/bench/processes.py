"""The processes of the benches of the whole pipeline: far side, subscribers, tocsin; what they used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import yaml

from sinks.store import Store
from telemetry import Series, SeriesTable
from tests.bench.traffic import METRICS, STREAM, Traffic, rules
from tests.integration.tocsin_process import Tocsin
from tocsin.config import load_config
from tocsin.evaluation import Published
from tocsin.pipeline import Pipeline

ROOT = Path(__file__).parent.parent.parent
SECONDS = 120
_LOOK_SECONDS = 0.02
_CALM_SECONDS, _CALM_SHARE = 0.5, 0.1
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")
"""In which the kernel counts CPU time"""


class Used(NamedTuple):
    """By one process, up to now."""

    cpu_seconds: float
    peak_mb: float

    @classmethod
    def by(cls, pid: int) -> Used:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        ticks = int(fields[11]) + int(fields[12])
        return cls(ticks * TICK_SECONDS, int(status["VmHWM"].split()[0]) * 1024 / 1e6)


class Process:
    """A module of the benches that says things line by line."""

    def __init__(self, module: str, *arguments: object) -> None:
        self._arguments = [sys.executable, "-m", f"tests.bench.{module}", *map(str, arguments)]
        self._child = subprocess.Popen(
            self._arguments,
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self._child.pid
        self._timer = threading.Timer(SECONDS, self._child.kill)
        self._timer.daemon = True
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._child.kill()
        self._child.communicate()

    def hear(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, f"{self._arguments} ended, or was too slow"
        return line.strip()

    def go(self) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()


def far_side(way: str, traffic: Traffic, **options: object) -> Process:
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return Process("publisher", way, "--traffic", json.dumps(traffic), *arguments)


class Subscriber:
    """One that tocsin is compared with."""

    def __init__(self, way: str, directory: Path, port: int, qos: int, marks: list[int]) -> None:
        self._process = Process(
            "subscribers", way, "--port", port, "--qos", qos, "--directory", directory, "--marks", json.dumps(marks)
        )
        self.pid = self._process.pid
        assert self._process.hear() == "ready"

    def wait(self, count: int) -> float:
        """When it was through with so many messages, by the monotonic clock; one of the marks, in order."""
        del count
        return float(self._process.hear())

    def stop(self, traffic: Traffic) -> None:
        del traffic
        self._process.__exit__()


class WholeTocsin:
    """`tocsin run` with twenty rules, the journal and the embedded store; a message is through when it is stored."""

    def __init__(self, directory: Path, port: int) -> None:
        self._program = Tocsin(directory, configuration(port), rules=yaml.safe_dump(rule_file()))
        self._program.start()
        assert self._program.process is not None
        self.pid = self._program.process.pid
        self._store = Store(self._program.data.store, read_only=True)
        wait_calm(self.pid)

    def wait(self, count: int) -> float:
        wait_stored(self._store, len(METRICS) * count)
        return time.monotonic()

    def stop(self, traffic: Traffic) -> None:
        """What was published must be what is stored."""
        self._store.close()
        self._program.stop()
        assert_stored(self._program.data.store, self._program.data.series, traffic)


def configuration(port: int) -> dict[str, Any]:
    mqtt = {"url": f"mqtt://127.0.0.1:{port}", "protocol": "3.1.1", "client_id": "bench-tocsin"}
    return {"mqtt": mqtt, "streams": [STREAM], "receivers": []}


def pipeline_in(
    directory: Path,
    port: int,
    *,
    published: Published | None = None,
    more: Sequence[dict[str, str]] = (),
    **config: Any,
) -> Pipeline:
    """As `tocsin run` has it, in this process; `more`: rules."""
    (directory / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "plant", "rules": [*rules(), *more]}]}))
    file = directory / "tocsin.yaml"
    file.write_text(yaml.safe_dump({"rules": ["rules.yml"], **configuration(port), **config}))
    return Pipeline(load_config(file), published=published)


def rule_file() -> dict[str, Any]:
    return {"groups": [{"name": "plant", "rules": rules()}]}


def wait_calm(pid: int) -> None:
    """What a process does only once, at its start, is over: importing what answers HTTP goes on while it receives."""
    deadline, before = time.monotonic() + SECONDS, -1.0
    while (used := Used.by(pid).cpu_seconds) > before + _CALM_SHARE * _CALM_SECONDS:
        assert time.monotonic() < deadline, f"process {pid} is still busy after {SECONDS} s"
        before = used
        time.sleep(_CALM_SECONDS)


def wait_stored(store: Store, rows: int) -> None:
    """Asks seldom, and only for sums that the store keeps: the machine is for what is measured."""
    deadline = time.monotonic() + SECONDS
    while (have := store.stats().rows) < rows:
        assert time.monotonic() < deadline, f"{have} of {rows} readings are stored after {SECONDS} s"
        time.sleep(_LOOK_SECONDS)


def assert_stored(store_file: Path, series_file: Path, traffic: Traffic) -> None:
    """Every reading with its very value, and no other."""
    table, times, values = SeriesTable(series_file, read_only=True), traffic.times, traffic.values
    ids = {str(table[i]): i for i in range(len(table))}
    with Store(store_file, read_only=True) as store:
        found = store.read_many(list(ids.values()))
        assert sum(len(t) for t, _ in found.values()) == len(METRICS) * traffic.messages
    for metric, expected in zip(METRICS, values, strict=True):
        for device in range(traffic.devices):
            at, value = found[ids[str(Series.of(metric, device=f"d{device:06d}"))]]
            assert np.array_equal(at, times), f"times of {metric} of device {device}"
            assert np.array_equal(value, expected[:, device]), f"values of {metric} of device {device}"


def broker_is_missing() -> str:
    """Empty if mosquitto is there."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin"
    return "" if shutil.which("mosquitto", path=path) else "needs mosquitto; as root: sh tests/servers.sh"
