"""Laws of crash points: a process dies exactly where and when it was told to, and otherwise nothing happens."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry.crash_points import POINTS, VARIABLE, reached

ROOT = Path(__file__).parents[2]
ROOMS = ("telemetry", "ingest", "rules", "sinks", "tocsin")
FILES = {"snapshot", "json"}
"""Suffixes of what telemetry.atomic_file writes; the points of that file are named after them."""
PROGRAM = """
from telemetry.crash_points import reached
for n in range(5):
    reached("sink.written")
    reached("journal.synced")
    print(n, flush=True)
"""


def run(crash_at: str | None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    environment |= {} if crash_at is None else {VARIABLE: crash_at}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("crash_at", "lines"), [("journal.synced", 0), ("journal.synced:1", 0), ("journal.synced:4", 3)]
)
def test_the_process_is_killed_when_the_point_is_reached_so_often(crash_at: str, lines: int):
    done = run(crash_at)
    assert (done.returncode, done.stdout.split()) == (-signal.SIGKILL, [str(n) for n in range(lines)])


@pytest.mark.parametrize("crash_at", [None, "", "journal.synced:6", "journal.written"])
def test_nothing_happens_otherwise(crash_at: str | None):
    done = run(crash_at)
    assert (done.returncode, done.stdout.split()) == (0, ["0", "1", "2", "3", "4"])


def test_a_point_that_is_none_is_an_error():
    done = run("journal.sinced")
    assert done.returncode == 1
    assert "'journal.sinced' is no crash point: use one of journal.written" in done.stderr
    assert "'soon' is no count: write journal.synced:2" in run("journal.synced:soon").stderr


def test_here_it_is_not_even_looked_at():
    assert reached.__name__ == "_go_on", "tests and production run with the variable unset"


def names_reached() -> set[str]:
    """Every point that the code names."""
    found = set()
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "reached":
                match node.args[0]:
                    case ast.Constant(value=str(name)):
                        found.add(name)
                    case ast.JoinedStr(values=[_, ast.Constant(value=str(rest))]):
                        found |= {f"{suffix}{rest}" for suffix in FILES}
    return found


def test_the_points_that_are_listed_are_those_that_the_code_has():
    assert names_reached() - {"json.replaced"} == set(POINTS)  # of which cursor.saved is the better name
