"""`tocsin status`: of a running tocsin, of one that has stopped, of one that was killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from telemetry import Message
from tests.tocsin.pipeline_rig import prepare, receive, running, settle, until
from tests.tocsin.test_http import SNAPSHOT, Served
from tocsin.cli import main
from tocsin.cli.status import is_well
from tocsin.http.instance import Instance, write_instance
from tocsin.pipeline_status import PipelineStatus
from tocsin.status import StandstillRow
from tocsin.status_text import lines

WELL = replace(SNAPSHOT, imbalances=(), pid=0)


def status(directory: Path, *more: str) -> Result:
    return CliRunner().invoke(main, ["status", "--data-dir", str(directory), *more])


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    served = Served(tmp_path)
    served.snapshot = replace(WELL, pid=json.loads(served.file.read_text())["pid"])
    yield served
    served.server.stop()


def test_a_running_tocsin_tells_how_it_is(served: Served, tmp_path: Path) -> None:
    done = status(tmp_path)
    assert done.exit_code == 0, done.output
    for words in (
        "version 1.2",
        "connected for 0s, mqtt://b:1883, newest message 0s ago, 2 reconnects",
        "offsets 3 to 9, 100 bytes, room for 1,000 bytes more, full in 8s",
        "✓ readings: 9 = 5 live + 3 rejected + 1 in flight",
        "everything is accounted for",
        "p50 2.0ms, p99 3.0ms",
        "alerts: 1 firing",
    ):
        assert words in done.stdout, words
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["t", "4", "1", "-", "G2"] in table
    assert ["store", "retrying", "3", "4", "full"] in table
    assert ["hook", "running", "2", "1"] in table
    assert json.loads(status(tmp_path, "--json").stdout)["accounts"][0]["stage"] == "readings"


def test_the_exit_code_tells_of_what_must_not_be(served: Served, tmp_path: Path) -> None:
    served.snapshot = replace(served.snapshot, imbalances=("store",))
    done = status(tmp_path)
    assert (done.exit_code, "THE BOOKS DO NOT BALANCE: store" in done.stdout) == (1, True)
    assert "✗ store: 5 ≠ 4 stored" in done.stdout
    served.snapshot = replace(WELL, pid=served.snapshot.pid, journal=replace(WELL.journal, error="disk full"))
    done = status(tmp_path)
    assert (done.exit_code, "CANNOT BE WRITTEN: disk full" in done.stdout) == (1, True)
    assert status(tmp_path, "--json").exit_code == 1
    waits = StandstillRow(error="cannot write the alerts", since=WELL.time - 5 * 10**9)
    served.snapshot = replace(WELL, pid=served.snapshot.pid, standstill=waits)
    done = status(tmp_path)
    assert (done.exit_code, "NOT EVALUATED: cannot write the alerts (since 5s ago)" in done.stdout) == (1, True)


def test_a_disk_without_room_for_alerts_is_seen_from_outside(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    told = PipelineStatus(pipeline, title="t")
    db = pipeline.outbox._db
    db.execute(f"pragma max_page_count = {db.execute('pragma page_count').fetchone()[0]}")
    with running(pipeline):
        assert told.snapshot().standstill is None
        for device in range(200):
            receive(pipeline, 60, topic=f"{device}/temperature")
        until(lambda: told.snapshot().standstill is not None)
        waits = told.snapshot()
        db.execute("pragma max_page_count = 1000000")
        settle(pipeline)
        until(lambda: told.snapshot().standstill is None)
    assert "full" in waits.standstill.error
    assert not is_well(waits)


def test_a_session_that_is_down_is_told_and_is_no_fault_of_ours(served: Served, tmp_path: Path) -> None:
    down = replace(WELL.session, state="disconnected", last_error="is the broker running?")
    served.snapshot = replace(served.snapshot, session=down)
    done = status(tmp_path)
    assert (done.exit_code, "is the broker running?" in done.stdout) == (0, True)
    assert is_well(served.snapshot)


def test_of_a_stopped_tocsin_the_files_tell(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    with running(pipeline):
        receive(pipeline, 40, 60)
        settle(pipeline)
    end = pipeline.journal.end
    pipeline = prepare(tmp_path)
    pipeline.journal.append([Message("d1/temperature", b"1")])
    pipeline.close()
    write_instance(pipeline.data.http, Instance("http://127.0.0.1:1", 1))  # left over from a crash
    done = status(pipeline.data.path)
    assert done.exit_code == 1, done.output
    assert "no tocsin runs with this data" in done.stdout
    assert f"offsets 0 to {end + 1}" in done.stdout
    table = [line.split() for line in done.stdout.splitlines()]
    assert ["store", "stopped", "1", "–"] in table
    assert ["log", "stopped", "0", "1"] in table
    assert "alerts: 1 firing" in done.stdout
    told = json.loads(status(pipeline.data.path, "--json").stdout)
    assert (told["running"], told["journal"]["end"]) == (False, end + 1)


def test_where_nothing_ever_ran_it_says_what_to_do(tmp_path: Path) -> None:
    done = status(tmp_path / "nowhere")
    assert done.exit_code == 1
    assert "start `tocsin run -c FILE`" in done.stderr


def test_another_program_in_its_place_is_not_believed(served: Served, tmp_path: Path) -> None:
    served.snapshot = replace(served.snapshot, pid=served.snapshot.pid + 1)
    done = status(tmp_path)
    assert done.exit_code == 1
    assert "version 1.2" not in done.output


def test_what_devices_and_servers_say_cannot_steer_the_terminal() -> None:
    evil = "\x1b[2Jevil"
    shown = replace(
        SNAPSHOT,
        session=replace(SNAPSHOT.session, last_error=evil),
        streams=tuple(replace(row, last_error=evil) for row in SNAPSHOT.streams),
        sinks=tuple(replace(row, error=evil) for row in SNAPSHOT.sinks),
        alerts=tuple(replace(row, device=evil) for row in SNAPSHOT.alerts),
        errors=(evil,),
    )
    assert not any("\x1b[2J" in line for line in lines(shown))


def test_many_alerts_are_cut() -> None:
    many = replace(SNAPSHOT, alerts=SNAPSHOT.alerts * 30, firing=30)
    shown = list(lines(many))
    assert sum(line.startswith("  ") and "firing" in line for line in shown) == 20
    assert "  and 10 more: tocsin alerts" in shown
