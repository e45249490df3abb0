"""The laws of the house that hold for every source file: who imports whom, how long a file may be, what it never says.

telemetry ◀ {ingest, rules, sinks, simulators} ◀ tocsin        (◀: is imported by)
"""

import ast
import re
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
ROOMS = ("telemetry", "ingest", "rules", "sinks", "simulators", "tocsin")
MAY_IMPORT = {
    "telemetry": {"telemetry"},
    "ingest": {"telemetry", "ingest"},
    "rules": {"telemetry", "rules"},
    "sinks": {"telemetry", "sinks"},
    "simulators": {"telemetry", "simulators"},
    "tocsin": set(ROOMS),
}
NEVER = {"tests"}
TELEMETRY_MAY_IMPORT = {"numpy"}  # besides the standard library
# What talks to the world stays behind one door each, so that it can be replaced, faked and reasoned about.
DOORS = {
    "paho": (
        "ingest/mqtt.py",
        "ingest/mqtt_client.py",
        "ingest/shortcut.py",
        "ingest/turns.py",
        "simulators/publisher.py",
        "tocsin/doctor/client.py",
    ),
    "influxdb_client": ("sinks/influx.py",),
    "iotcore": ("simulators/broker.py",),
    "argon2": ("tocsin/http/passwords.py",),
    "uvicorn": ("tocsin/http/server.py",),
    "starlette": ("tocsin/http/*.py", "tocsin/console/*.py"),
    "fastapi": ("tocsin/http/*.py", "tocsin/console/*.py"),
    "nicegui": ("tocsin/console/*.py",),
    "opentelemetry": ("tocsin/tracing.py",),
    "prometheus_client": ("tocsin/http/metrics.py",),
    "sqlite3": ("sinks/*.py", "ingest/dead_letters.py"),
    "promql_parser": ("rules/promql.py", "rules/promql_mistakes.py"),
    "re2": ("rules/patterns.py",),
}
# Rules are a pure function of the journal.
IMPURE = {
    "asyncio",
    "concurrent",
    "multiprocessing",
    "random",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
}
MOST_LINES = 400
UNSAFE = re.compile(r"\b(eval|exec)\s*\(")
CLOCK_CALLS = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
CLOCK_FILE = "telemetry/clock.py"


def sources(root: Path) -> list[Path]:
    return sorted(path for room in ROOMS for path in (root / room).rglob("*.py"))


def imported_modules(source: Path, root: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute module name) of every import: statements of all forms, and importlib's."""
    for node in ast.walk(ast.parse(source.read_text(), filename=str(source))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = source.relative_to(root).parent.parts
            above = package[: len(package) + 1 - node.level] if node.level else ()
            yield node.lineno, ".".join((*above, *([node.module] if node.module else [])))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            name = node.args[0] if node.args else None
            yield node.lineno, str(name.value) if isinstance(name, ast.Constant) else "a module named at run time"


def import_offences(root: Path) -> list[str]:
    """One line for each import that breaks the law."""
    return [
        f"{source.relative_to(root)}:{line}: imports {module}: {why}"
        for source in sources(root)
        for line, module in imported_modules(source, root)
        if (why := forbidden(source.relative_to(root).as_posix(), module))
    ]


def forbidden(file: str, module: str) -> str | None:
    room, top = file.split("/", maxsplit=1)[0], module.split(".", maxsplit=1)[0]
    if " " in module:
        return None if room == "tocsin" else "the law cannot be checked"  # tocsin may import every room anyway
    if top in ROOMS and top not in MAY_IMPORT[room]:
        return f"{room} may import only {', '.join(sorted(MAY_IMPORT[room]))}"
    if top in NEVER:
        return "only tests import tests"
    if room == "telemetry" and top not in {*ROOMS, *TELEMETRY_MAY_IMPORT, *sys.stdlib_module_names}:
        return "telemetry imports numpy and the standard library only"
    if room == "rules" and top in IMPURE:
        return "rules have no I/O, no clock, no threads, no dice"
    if top in DOORS and not any(fnmatch(file, door) for door in DOORS[top]):
        return f"only {', '.join(DOORS[top])} may"
    return None


def clock_offences(root: Path) -> list[str]:
    """One line for each reading of the wall clock outside telemetry's clock."""
    return [
        f"{source.relative_to(root)}:{node.lineno}: {ast.unparse(node)}"
        for source in sources(root)
        if source.relative_to(root).as_posix() != CLOCK_FILE
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Attribute) and ".".join(ast.unparse(node).split(".")[-2:]) in CLOCK_CALLS
    ]


def test_every_room_is_there():
    assert {path.relative_to(REPOSITORY).parts[0] for path in sources(REPOSITORY)} == set(ROOMS)


def test_no_file_breaks_the_import_law():
    offences = import_offences(REPOSITORY)
    assert not offences, "\n".join(offences)


def test_the_wall_clock_is_read_in_one_place():
    offences = clock_offences(REPOSITORY)
    assert not offences, "\n".join(offences)


def test_no_source_file_is_too_long():
    lengths = {str(path.relative_to(REPOSITORY)): len(path.read_text().splitlines()) for path in sources(REPOSITORY)}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_no_source_file_evaluates_text_as_code():
    assert [str(path.relative_to(REPOSITORY)) for path in sources(REPOSITORY) if UNSAFE.search(path.read_text())] == []


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("telemetry/series.py", "import pydantic"),
        ("telemetry/series.py", "from ingest import journal"),
        ("telemetry/series.py", "import tocsin"),
        ("telemetry/series.py", "from tocsin.cli import main"),
        ("ingest/feed.py", "from rules import Engine"),
        ("ingest/feed.py", "import sinks.store"),
        ("ingest/feed.py", "def late():\n    import simulators"),
        ("rules/engine.py", "import os, ingest"),
        ("rules/engine.py", "from importlib import import_module\nimport_module('sinks.store')"),
        ("rules/engine.py", "import importlib\nimportlib.import_module(name)"),
        ("rules/engine.py", "import threading"),
        ("rules/functions/age.py", "from time import time"),
        ("sinks/store.py", "from tests.conftest import settings"),
        ("sinks/influx.py", "import rules"),
        ("simulators/fleet.py", "import tocsin.config"),
        ("ingest/receiver.py", "import paho.mqtt.client"),
        ("tocsin/pipeline.py", "from paho.mqtt import client"),
        ("sinks/store.py", "import influxdb_client"),
        ("tocsin/foreground.py", "import uvicorn"),
        ("tocsin/cli/status.py", "from starlette.applications import Starlette"),
        ("ingest/receiver.py", "from prometheus_client import Counter"),
        ("tocsin/demo.py", "import iotcore"),
        ("ingest/journal.py", "import sqlite3"),
        ("tocsin/query.py", "import sqlite3"),
        ("tocsin/query.py", "import promql_parser"),
        ("rules/compile.py", "import promql_parser"),
        ("rules/promql.py", "import re2"),
    ],
)
def test_an_import_against_the_law_is_found(tmp_path: Path, file: str, text: str):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    [offence] = import_offences(tmp_path)
    line = len(text.splitlines())
    assert offence.startswith(f"{file}:{line}: imports ")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("telemetry/series.py", "import json\nimport numpy.typing\nfrom telemetry.errors import Rejected"),
        ("telemetry/series.py", "from . import errors\nfrom .errors import Rejected"),
        ("ingest/mqtt.py", "import paho.mqtt.client\nimport pydantic\nfrom ingest.inbox import Inbox"),
        ("ingest/formats/json.py", "from .. import decode\nfrom ..streams import StreamConfig\nimport telemetry"),
        ("ingest/dead_letters.py", "import sqlite3"),
        ("sinks/outbox.py", "import sqlite3"),
        ("sinks/influx.py", "import influxdb_client"),
        ("rules/promql.py", "import promql_parser"),
        ("rules/patterns.py", "import re2"),
        ("simulators/publisher.py", "import paho.mqtt.client"),
        ("simulators/broker.py", "import iotcore"),
        ("tocsin/pipeline.py", "import ingest, rules, sinks, simulators, telemetry\nimport click"),
        ("tocsin/cli.py", "import importlib\nimportlib.import_module(name)"),
    ],
)
def test_an_import_within_the_law_is_left_alone(tmp_path: Path, file: str, text: str):
    path = tmp_path / file
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert import_offences(tmp_path) == []


@pytest.mark.parametrize("call", ["time.time()", "time.time_ns()", "datetime.now(tz=UTC)", "datetime.datetime.now()"])
def test_a_second_reading_of_the_wall_clock_is_found(tmp_path: Path, call: str):
    for file in ("sinks/delivery.py", CLOCK_FILE):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text(f"now = {call}")
    assert clock_offences(tmp_path) == [f"sinks/delivery.py:1: {call.split('(', maxsplit=1)[0]}"]


@pytest.mark.parametrize("text", ["eval('1')", "exec (code)", "builtins.eval(x)"])
def test_the_words_for_running_text_are_recognised(text: str):
    assert UNSAFE.search(text)
    assert not UNSAFE.search("evaluate(x); retrieval(x); executor(x)")
