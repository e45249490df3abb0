"""`tocsin chaos` as users run it in their own CI, and what it says when tocsin really loses something."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import program, wait_until
from tests.integration.tocsin_process import TOCSIN
from tocsin.chaos.child import SABOTAGE

SECONDS = 280
KEYS = {
    "acknowledged", "lost", "invented", "corrupted", "reordered", "duplicates", "alerts_expected", "alerts_lost",
    "alerts_invented", "notifications_repeated", "recovery_ms",
}  # fmt: skip


def chaos(directory: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [TOCSIN, "chaos", "--json", "--keep", directory / "evidence", *arguments]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=SECONDS
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Exactly one JSON object."""
    assert done.stdout.count("\n") == 1, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_over_twenty_kills_and_all_other_troubles_nothing_is_lost(tmp_path: Path):
    done = chaos(tmp_path, "--kills", "20")
    said = result(done)
    why = f"{done.stderr}\n{json.dumps(said, indent=1)}"
    assert done.returncode == 0, why
    assert said.keys() >= KEYS
    assert said["kills"] == 20, why
    assert sum(said["points"].values()) > 5, why
    assert said["acknowledged"] > 500, why
    assert said["alerts_expected"] > 50, why
    assert 0 < said["recovery_ms"]["p50"] <= said["recovery_ms"]["max"]
    assert {said[name] for name in ("lost", "invented", "corrupted", "alerts_lost", "alerts_invented")} == {0}


@pytest.mark.slow
def test_a_mosquitto_that_is_restarted_loses_nothing_either(tmp_path: Path):
    program("mosquitto", "mosquitto")
    done = chaos(tmp_path, "--kills", "4", "--broker", "mosquitto", "--faults", "kill,broker,network,storm", "--cold")
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    assert result(done)["lost"] == 0


@pytest.mark.slow
def test_a_tocsin_that_acknowledges_and_drops_is_found_out(tmp_path: Path):
    done = chaos(tmp_path, "--kills", "1", "--faults", "kill", "--duration", "5", **{SABOTAGE: "acknowledge-and-drop"})
    said = result(done)
    assert done.returncode == 1
    assert said["lost"] > 0
    assert said["ok"] is False
    assert any("acknowledged by tocsin, and not in the journal" in example for example in said["examples"])
    assert said["evidence"] == str(tmp_path / "evidence")
    assert (tmp_path / "evidence" / "data" / "journal").is_dir()


def children(of: int) -> list[int]:
    """Processes that descend from one, or that did when we looked before."""
    found, parents = [], {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = int(words[1])
    generation = {of}
    while generation := {pid for pid, parent in parents.items() if parent in generation}:
        found += generation
    return found


def gone(pids: list[int]) -> bool:
    return not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "broker"), [(signal.SIGINT, "embedded"), (signal.SIGKILL, "mosquitto")])
def test_nothing_outlives_a_chaos_that_is_interrupted_or_killed(tmp_path: Path, number: int, broker: str):
    if broker == "mosquitto":
        program("mosquitto", "mosquitto")
    command = [TOCSIN, "chaos", "--kills", "1000", "--broker", broker, "--keep", tmp_path / "evidence"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "round 2" in line:
                break
        descendants = children(process.pid)
        assert len(descendants) >= 3, "broker, nursery and tocsin"
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    assert process.returncode == (130 if number == signal.SIGINT else -9), said
    wait_until(lambda: gone(descendants), what="all processes have ended", seconds=10)


def test_what_cannot_be_done_is_said_at_once(tmp_path: Path):
    (tmp_path / "evidence").mkdir()
    (tmp_path / "evidence" / "file").touch()
    began = time.monotonic()
    done = chaos(tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not empty: name another directory" in done.stderr
    for arguments, words in (
        (("--kills", "3", "--faults", "sink"), "--kills needs kill or point"),
        (("--faults", "sink,fire"), "'fire' is none of: all, kill, point"),
    ):
        done = chaos(tmp_path / "other", *arguments)
        assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert time.monotonic() - began < 60
