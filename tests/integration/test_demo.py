"""`tocsin demo` as a newcomer runs it: it judges itself, ends in order, and leaves nothing behind."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.servers import wait_until
from tests.integration.tocsin_process import TOCSIN, tocsin

STOP_SECONDS = 30


def children(pid: int) -> list[int]:
    """Processes that this process has started and that still run."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has just ended
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Demo:
    """An endless demo, in a process of its own, with its output in files."""

    def __init__(self, directory: Path) -> None:
        self.out, self.err, self.directory = directory / "out", directory / "err", directory / "demo"
        command: list[str | Path] = [
            TOCSIN,
            "demo",
            "--headless",
            "--json",
            "--devices",
            "20",
            "--data-dir",
            self.directory,
        ]
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(command, stdout=out, stderr=err, start_new_session=True)
        self.others: list[int] = []
        """The broker, and what else it has started."""

    def wait_until_it_runs(self) -> None:
        wait_until(self._has_fired, what="the demo runs", seconds=60)
        self.others = children(self.process.pid)
        assert self.others, "the broker is a process of its own"

    def _has_fired(self) -> bool:
        told = [line for line in self.err.read_text().splitlines() if " msgs/s" in line]
        return bool(told) and "(0 fired" not in told[-1]

    def end(self, number: signal.Signals) -> int:
        """Ctrl-C in a terminal reaches all processes, other signals only the one they are sent to."""
        if number == signal.SIGINT:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)
        return self.process.wait(STOP_SECONDS)

    def look(self, *arguments: str) -> str:
        return tocsin(*arguments, "--data-dir", self.directory / "data").stdout

    def all_ended(self) -> bool:
        return not any(map(runs, self.others))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    running = Demo(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def test_a_demo_accounts_for_everything_and_every_alert_is_right() -> None:
    done = tocsin("demo", "--headless", "--json", "--duration", "14", "--devices", "60")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert {"messages", "readings", "stored", "late", "duplicates", "rejected", "in_flight"} <= result.keys()
    assert result["readings"] == sum(result[part] for part in ("stored", "late", "duplicates", "rejected", "in_flight"))
    assert result["in_flight"] == 0
    assert result["messages"] > 700
    assert min(result["stored"], result["late"], result["duplicates"], result["rejected"]) > 0
    truth = result["truth"]
    assert truth["expected"] == truth["detected"] >= 5
    assert truth["missed"] == truth["false"] == 0
    assert result["alerts_fired"] == result["alerts_resolved"] == truth["detected"]
    assert 0 < result["latency_ms"]["p50"] <= result["latency_ms"]["p99"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_endless_demo_that_is_interrupted_sums_up_and_ends_well(demo: Demo, number: signal.Signals) -> None:
    """Ctrl-C is how an endless demo ends, so the exit code says whether all was well, as after a duration."""
    demo.wait_until_it_runs()
    assert "FIRING" in demo.look("alerts", "--all")
    assert demo.end(number) == 0, demo.err.read_text()
    result = json.loads(demo.out.read_text().splitlines()[-1])
    assert result["ok"] is True
    assert result["in_flight"] == 0
    assert result["truth"]["missed"] == result["truth"]["false"] == 0
    wait_until(demo.all_ended, what="the broker ends with it")
    assert "Traceback" not in demo.err.read_text()
    assert 'temperature{device="pump-0001", site="ams"}' in demo.look("series")
    assert len(demo.look("query", "temperature", "--csv").splitlines()) > 20


def test_a_demo_that_is_interrupted_while_it_starts_ends_without_a_fuss(demo: Demo) -> None:
    """Before it can sum up, the exit code is that of an interrupted program."""
    wait_until(lambda: bool(children(demo.process.pid)), what="the broker starts")
    demo.others = children(demo.process.pid)
    assert demo.end(signal.SIGINT) in (0, 130)
    assert "Traceback" not in demo.err.read_text()
    wait_until(demo.all_ended, what="the broker ends with it")


def test_a_demo_that_is_killed_leaves_no_process_behind(demo: Demo) -> None:
    demo.wait_until_it_runs()
    assert demo.end(signal.SIGKILL) == -signal.SIGKILL
    wait_until(demo.all_ended, what="broker and fleet end, too")
