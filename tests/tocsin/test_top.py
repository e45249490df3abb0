"""`tocsin top`: the busiest devices and rules of a running tocsin, and a screen that fits the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from tests.tocsin.pipeline_rig import prepare, receive, running, settle, until
from tests.tocsin.test_http import NOW, SNAPSHOT
from tocsin.backend import RunningBackend
from tocsin.cli import main
from tocsin.http.config import HttpConfig
from tocsin.http.server import HttpServer
from tocsin.pipeline_status import PipelineStatus
from tocsin.top_view import BusyDevice, BusyRule, Top, TopView

S = 10**9
DEVICES = [
    BusyDevice(
        device=f"pump-{i}", state="reporting", readings_per_second=30 - i, last_seen=NOW - i * S, skew=None, firing=i
    )
    for i in range(12)
]
RULES = [BusyRule(rule=f"plant/Rule{i}", health="ok", firing=i, pending=0, share=0.3 / (i + 1)) for i in range(12)]


def top(directory: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["top", "--data-dir", str(directory), *more])


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """Of a tocsin that runs: d2 has sent more than d1, and is hot."""
    pipeline = prepare(tmp_path)
    with running(pipeline):
        server = HttpServer(HttpConfig(listen="127.0.0.1:0"), pipeline.data.http)
        server.start(RunningBackend(pipeline, PipelineStatus(pipeline, title="t")))
        try:
            receive(pipeline, 1.0)
            receive(pipeline, 60.0, 61.0, 62.0, topic="d2/temperature")
            settle(pipeline)
            until(lambda: pipeline.evaluation.alerts != [])
            yield pipeline.data.path
        finally:
            server.stop()


def test_the_busiest_devices_and_rules_come_first(data: Path) -> None:
    said = json.loads(top(data, "--json").stdout)
    assert [device["device"] for device in said["devices"]] == ["d2", "d1"]
    assert [device["firing"] for device in said["devices"]] == [1, 0]
    [rule] = said["rules"]
    assert (rule["rule"], rule["firing"], rule["pending"], rule["health"]) == ("g/Hot", 1, 0, "ok")
    assert 0 < rule["cpu_share"] < 10
    assert said["status"]["firing"] == 1


def test_without_a_terminal_it_prints_one_screen(data: Path) -> None:
    done = top(data)
    assert done.exit_code == 0, done.output
    for words in ("busiest devices", "d2", "busiest rules", "g/Hot", "FIRING", "sinks"):
        assert words in done.stdout, words


def test_where_nothing_runs_it_says_how_to_start(tmp_path: Path) -> None:
    done = top(tmp_path)
    assert done.exit_code == 1
    assert "start `tocsin run -c FILE` or `tocsin demo`" in done.output


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, 40), (120, 60)])
def test_the_screen_fits_the_terminal(width: int, height: int) -> None:
    many = replace(SNAPSHOT, alerts=SNAPSHOT.alerts * 60, firing=60)
    out = io.StringIO()
    console = Console(file=out, width=width, height=height, force_terminal=True, color_system=None)
    view = TopView(lambda: Top(many, DEVICES, RULES), console=console, refresh_seconds=1)
    view.show_once()
    lines = out.getvalue().rstrip("\n").split("\n")
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "FIRING" in text
    if height >= 40:
        assert text.index("pump-0") < text.index("pump-1") < text.index("plant/Rule0") < text.index("FIRING")
        assert "30.0%" in text


def test_a_device_may_call_itself_what_it_likes() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, height=40, force_terminal=True, color_system=None)
    hostile = [replace(DEVICES[0], device="[red]x\x1b[2J")]
    TopView(lambda: Top(SNAPSHOT, hostile, []), console=console, refresh_seconds=1).show_once()
    assert "[red]x" in out.getvalue()
    assert "\x1b[2J" not in out.getvalue()
