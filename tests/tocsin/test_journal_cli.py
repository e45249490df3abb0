"""Laws of `tocsin journal`: it shows what is there, finds what is not, and a replay says what was said live."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from ingest.config import JournalConfig
from ingest.journal import Journal
from ingest.streams import LimitsConfig, StreamConfig
from sinks.alert_history import AlertHistory
from sinks.outbox import Outbox
from telemetry import Cursor, ManualClock, Message, SystemClock
from tests.tocsin.evaluation_rig import START, Rig, S, until
from tests.tocsin.pipeline_rig import prepare, receive, running
from tocsin.cli import main
from tocsin.data_dir import DataDir
from tocsin.own_alerts import GROUP
from tocsin.stream_record import save_streams

RULES = {
    "groups": [
        {
            "name": "g",
            "interval": "1s",
            "rules": [
                {"alert": "Hot", "expr": "temperature > 50", "for": "2s", "keep_firing_for": "1s"},
                {"alert": "Silent", "expr": "age(temperature) > 4"},
                {"record": "all:temperature:sum", "expr": "sum(temperature)"},
                {"alert": "HotTogether", "expr": "all:temperature:sum > 90"},
            ],
        }
    ]
}


def run(data: DataDir, *args: str, expect: int = 0) -> Result:
    done = CliRunner().invoke(main, ["journal", *args, "--data-dir", str(data.path)])
    assert done.exit_code == expect, (done.output, done.exception)
    return done


def objects(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def lived(directory: Path, *, seed: int = 1) -> tuple[DataDir, Path]:
    """The data of several lives, one of them without its snapshots, and the rule file."""
    random, clock = Random(seed), None
    rules = directory / "rules.yml"
    rules.write_text(yaml.safe_dump(RULES))
    data = directory / "data"
    for life in range(4):
        rig = Rig(data, RULES["groups"][0]["rules"], clock=clock)
        rig.cursor.full, clock = False, rig.clock
        for _ in range(60):
            if random.random() < 0.5:
                rig.tick()
            else:
                rig.receive(random.choice((20, 40, 60, 80)), random.choice(("d1", "d2", "d3")))
        until(lambda rig=rig: rig.feed.offset == rig.journal.end)
        rig.stop()
        if life == 1:
            shutil.rmtree(rig.data.snapshots)
    save_streams(rig.data, [StreamConfig(name="s", topic="{device}/{metric}")], LimitsConfig())
    return rig.data, rules


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[DataDir, Path]:
    return lived(tmp_path_factory.mktemp("life"))


def published(data: DataDir) -> list[str]:
    """Ids of all events, in order."""
    history = AlertHistory(data.alerts)
    try:
        return [event.id for event in history.recent(0, 10_000)]
    finally:
        history.close()


# --- replay ---


def test_a_replay_of_the_journal_gives_the_very_events_that_there_were(life: tuple[DataDir, Path]) -> None:
    data, rules = life
    replayed = [event["id"] for event in objects(run(data, "replay", "--rules", str(rules), "--json"))]
    assert len(replayed) > 20
    assert sorted(replayed) == sorted(published(data))
    same = run(data, "replay", "--rules", str(rules), "--diff")
    assert same.stdout == ""
    assert f"{len(replayed)} events, 0 differences" in same.stderr


def test_a_replay_of_an_export_gives_them_too_wherever_it_is(life: tuple[DataDir, Path], tmp_path: Path) -> None:
    data, rules = life
    file = tmp_path / "all.jsonl.gz"
    told = run(data, "export", str(file))
    assert "all.jsonl.gz: " in told.stderr
    nowhere = DataDir(tmp_path / "nowhere")
    replayed = objects(run(nowhere, "replay", str(file), "--rules", str(rules), "--json"))
    assert sorted(event["id"] for event in replayed) == sorted(published(data))
    assert not nowhere.path.exists()
    run(data, "replay", str(file), "--rules", str(rules), "--from", "1h", expect=2)


def test_diff_tells_what_other_rules_would_have_said(life: tuple[DataDir, Path], tmp_path: Path) -> None:
    data, rules = life
    changed = yaml.safe_load(rules.read_text())
    changed["groups"][0]["rules"][0] = {"alert": "Warm", "expr": "temperature > 30"}
    other = tmp_path / "other.yml"
    other.write_text(yaml.safe_dump(changed))
    told = objects(run(data, "replay", "--rules", str(other), "--diff", "--json", expect=1))
    names = {(event["diff"], event["labels"]["alertname"]) for event in told}
    assert names == {("-", "Hot"), ("+", "Warm")}
    assert {line[0] for line in run(data, "replay", "--rules", str(other), "--diff", expect=1).stdout.splitlines()} == {
        "-",
        "+",
    }


def test_diff_takes_no_notice_of_tocsin_s_own_alerts(life: tuple[DataDir, Path], tmp_path: Path) -> None:
    data, rules = DataDir(tmp_path / "copy"), life[1]
    shutil.copytree(life[0].path, data.path)
    outbox = Outbox(data.alerts, clock=ManualClock())
    own = outbox.recent()[-1]
    outbox.publish([replace(own, id="", rule=f"{GROUP}/TocsinSinkDown", starts_at=own.starts_at + 1)], offset=1)
    outbox.close()
    assert run(data, "replay", "--rules", str(rules), "--diff").stdout == ""


def test_a_replay_writes_nothing(life: tuple[DataDir, Path]) -> None:
    data, rules = life
    before = {path: path.read_bytes() for path in data.path.rglob("*") if path.is_file()}
    run(data, "replay", "--rules", str(rules))
    for command in ("stats", "fsck", "dump"):
        run(data, command)
    after = {path: path.read_bytes() for path in data.path.rglob("*") if path.is_file()}
    assert {path for path in after if after[path] != before.get(path)} <= set(data.path.glob("alerts.db-*"))


def test_without_rules_it_asks_for_them(
    life: tuple[DataDir, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "which rules? Name a rule file with --rules" in run(life[0], "replay", expect=1).stderr


def test_with_a_configuration_its_rules_and_streams_are_taken(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    with running(pipeline):
        receive(pipeline, 40, 60, 40)
        until(lambda: pipeline.counters.get("alerts.resolved") == 1)
    done = CliRunner().invoke(main, ["journal", "replay", "-c", str(tmp_path / "tocsin.yaml"), "--json"])
    assert [event["state"] for event in objects(done)] == ["firing", "resolved"]
    assert [event["id"] for event in objects(done)] == published(pipeline.data)
    assert "1 fired, 1 resolved" in done.stderr


# --- dump ---


@pytest.fixture
def small(tmp_path: Path) -> DataDir:
    """Ten messages, one a second, and a tick."""
    data = DataDir(tmp_path)
    data.create()
    journal = Journal(data.journal)
    for i in range(10):
        payload = b"\xff\x00" if i == 9 else f"{i} °".encode()
        journal.append([Message(f"plant/{i % 2}/t", payload, qos=1, received=START + i * S, mid=i + 1)])
    journal.append_tick(START + 10 * S)
    journal.close()
    return data


def dumped(data: DataDir, *args: str) -> list[int]:
    return [record["offset"] for record in objects(run(data, "dump", *args))]


def test_dump_prints_each_record(small: DataDir) -> None:
    records = objects(run(small, "dump"))
    assert records[3] == {
        "offset": 3,
        "received": "2023-11-14T22:13:23.000000000Z",
        "topic": "plant/1/t",
        "payload": "3 °",
        "qos": 1,
        "mid": 4,
    }
    assert records[9]["payload_base64"] == "/wA="
    assert records[10] == {"offset": 10, "received": "2023-11-14T22:13:30.000000000Z", "kind": "tick"}


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--from", "7"], [7, 8, 9, 10]),
        (["--from", "2", "--to", "4"], [2, 3]),
        (["--to", "2023-11-14T22:13:21Z"], [0]),
        (["--from", "2023-11-14T22:13:28.5Z"], [9, 10]),
        (["--from", "1m"], []),
        (["--limit", "2"], [0, 1]),
        (["--topic", "plant/1/#", "--limit", "3"], [1, 3, 5]),
        (["--topic", "plant/+/t", "--from", "8"], [8, 9]),
        (["--from", "99"], []),
        (["--from", "5", "--to", "3"], []),
    ],
)
def test_dump_of_a_part(small: DataDir, args: list[str], expected: list[int]) -> None:
    assert dumped(small, *args) == expected


def test_a_part_ends_where_it_should_although_its_end_is_lost(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    data.create()
    journal = Journal(data.journal, config=JournalConfig(segment_bytes=4096))
    for i in range(40):
        journal.append([Message("t", b"x" * 500, received=START + i)])
    journal.close()
    _, second, third, *_ = sorted(data.journal.glob("*.journal"))
    second.unlink()
    lost, there = int(second.stem), int(third.stem)
    assert dumped(data, "--from", str(lost - 1), "--to", str(there - 1)) == [lost - 1]
    assert dumped(data, "--from", str(lost), "--to", str(there + 1)) == [there]
    assert f"records {lost} to {there - 1} are lost" in run(data, "fsck", expect=1).stdout


def test_what_devices_send_does_not_steer_the_terminal(small: DataDir) -> None:
    journal = Journal(small.journal)
    journal.append([Message("t", b"\x1b[2J \xc2\x9b2J")])
    journal.close()
    line = run(small, "dump", "--from", "11").stdout.rstrip("\n")
    assert line.isprintable()
    assert json.loads(line)["payload"] == "\x1b[2J \x9b2J"


def test_a_wrong_topic_filter_is_wrong_usage(small: DataDir) -> None:
    assert "# may only be the last level" in run(small, "dump", "--topic", "a/#/b", expect=2).stderr


# --- export ---


def test_an_export_holds_what_dump_prints_and_how_it_is_decoded(small: DataDir, tmp_path: Path) -> None:
    save_streams(small, [StreamConfig(name="s", topic="plant/{device}/{metric}")], LimitsConfig())
    file = tmp_path / "x.jsonl.gz"
    run(small, "export", str(file), "--from", "2", "--to", "2023-11-14T22:13:25Z")
    first, *records, last = [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]
    assert records == objects(run(small, "dump", "--from", "2", "--to", "5"))
    assert (first["format"], first["version"], first["streams"][0]["name"]) == ("tocsin journal", 1, "s")
    assert last == {"end": 5, "records": 3}


def test_an_export_that_cannot_be_written_is_told(small: DataDir, tmp_path: Path) -> None:
    save_streams(small, [StreamConfig(name="s", topic="{device}")], LimitsConfig())
    assert "cannot write" in run(small, "export", str(tmp_path / "no" / "x"), expect=1).stderr


# --- stats and fsck ---


def test_stats_tell_what_is_there_and_who_lags(small: DataDir) -> None:
    Cursor(small.cursor("store")).save(11)
    Cursor(small.cursor("influx")).save(4)
    stats = json.loads(run(small, "stats", "--json").stdout)
    assert stats["records"] == {"messages": 10, "ticks": 1, "samples": 0}
    assert (stats["first"], stats["next"], stats["segments"], stats["lost"]) == (0, 11, 1, 0)
    assert stats["newest"] - stats["oldest"] == 10 * S
    readers = {reader["name"]: reader for reader in stats["readers"]}
    assert {name: reader["lag"] for name, reader in readers.items()} == {"store": 0, "influx": 7}
    assert readers["store"]["age"] == readers["store"]["bytes"] == 0
    now = SystemClock().now()
    assert now - readers["influx"]["age"] == pytest.approx(START + 4 * S, abs=60 * S)
    text = run(small, "stats").stdout
    assert "records 0 to 11" in text
    assert "10 messages, 1 ticks" in text
    assert re.search(r"influx +at +4  7 behind", text)


def test_stats_and_dump_work_beside_a_running_writer(small: DataDir) -> None:
    journal = Journal(small.journal)
    journal.append([Message("t", b"now", received=START + 11 * S)])
    assert json.loads(run(small, "stats", "--json").stdout)["next"] == 12
    assert dumped(small, "--from", "10") == [10, 11]
    assert "all is well" in run(small, "fsck").stdout
    journal.close()


def test_fsck_tells_of_damage_with_its_place_and_fails(small: DataDir) -> None:
    assert "11 records in 1 files" in run(small, "fsck").stdout
    [file] = small.journal.glob("*.journal")
    content = bytearray(file.read_bytes())
    content[200] ^= 1
    file.write_bytes(content)
    told = run(small, "fsck", expect=1).stdout
    assert re.search(rf"{file.name}:\d+: damaged blocks \(\d+ B\): records 1 to 1 are lost", told)
    found = json.loads(run(small, "fsck", "--json", expect=1).stdout)
    assert (found["lost"], found["records"], found["findings"][0]["damage"]) == (1, 10, True)
    assert json.loads(run(small, "stats", "--json").stdout)["lost"] == 1


def test_without_a_journal_it_says_so(tmp_path: Path) -> None:
    for command in ("stats", "fsck", "dump"):
        assert "there is no data directory" in run(DataDir(tmp_path / "no"), command, expect=1).stderr


def test_an_end_that_is_missing_is_damage_if_a_reader_was_further(tmp_path: Path):
    data, _ = lived(tmp_path)
    run(data, "fsck")
    end = max(reader["offset"] for reader in json.loads(run(data, "stats", "--json").stdout)["readers"])
    for file in data.journal.glob("*.journal"):
        file.unlink()

    assert f"records 0 to {end - 1} are lost" in run(data, "fsck", expect=1).stdout
    assert f"{end:,} records are lost" in run(data, "stats").stdout


def test_a_journal_without_files_is_no_bug(tmp_path: Path):
    data = DataDir(tmp_path)
    data.create()

    assert "0 records in 0 files" in run(data, "fsck").stdout
    assert "records 0 to 0" in run(data, "stats").stdout
