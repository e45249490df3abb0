"""Bad input at every door: one clear line says what to do, and nothing else is lost."""

import json
import os
import re
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetry import SystemClock
from tests.integration.brokers import Mosquitto
from tests.integration.servers import free_port, wait_until
from tests.integration.tocsin_process import Stored, Tocsin, tocsin

TocsinFactory = Callable[..., Tocsin]
MosquittoFactory = Callable[..., Mosquitto]
S = 10**9
MS = 10**6
RULES = "groups: [{name: g, rules: [{alert: Hot, expr: temperature > 50}]}]\n"
CLOCK = SystemClock()


def messages(count: int, *, first: int = 0, padding: int = 0) -> tuple[list[str], Stored]:
    """Reports of one device, a millisecond apart and lately, and what must be stored of them."""
    begin = CLOCK.now() // S * 1000 - 60_000
    times = [begin + i for i in range(first, first + count)]
    lines = [json.dumps({"ts": t, "temperature": t % 97, "note": None, "pad": ["x" * padding]}) for t in times]
    return lines, {'temperature{device="d1", site="s1"}': {t * MS: float(t % 97) for t in times}}


TOPIC = "sensors/s1/d1/telemetry"


def one_line(program: Tocsin, *words: str) -> None:
    """Exactly one line of the log has all these words."""
    lines = [line for line in program.said().splitlines() if all(word in line for word in words)]
    assert len(lines) == 1, program.said()


def no_bug(program: Tocsin) -> None:
    assert "Traceback" not in program.log.read_text()
    assert "bug" not in program.log.read_text()


# --- files ---


def test_every_mistake_in_configuration_and_rules_is_told_with_its_place_before_anything_is_touched(
    tocsin_factory: TocsinFactory,
) -> None:
    rules = """groups:
  - name: g
    rules:
      - alert: Broken
        expr: temperature > > 50
      - alert: Unknown
        expr: frobnicate(temperature) > 1
        four: 5m
"""
    program = tocsin_factory({"mqtt": {"url": "http://broker", "pasword": "x"}}, rules=rules)
    run, check = (tocsin(command, "-c", program.config) for command in ("run", "check"))
    assert (run.returncode, check.returncode) == (1, 1)
    problems = run.stderr.splitlines()
    assert problems.pop() == "tocsin: error: 5 problems, see above"
    assert problems == check.stdout.splitlines()
    ours, rule_file = program.config, program.directory / "rules.yml"
    for problem, place, words in zip(
        problems,
        (f"{ours}:", f"{ours}:", f"{rule_file}:5:29:", f"{rule_file}:7:15:", f"{rule_file}:8:9:"),
        (
            "the URL must begin with mqtt://",
            "did you mean 'password'",
            "cannot follow",
            "frobnicate",
            "did you mean for",
        ),
        strict=True,
    ):
        assert problem.startswith(place)
        assert words in problem
    assert not program.data.path.exists()


def test_a_rule_file_that_is_broken_while_it_runs_harms_only_the_next_start(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}}, rules=RULES)
    program.start()
    good = (program.directory / "rules.yml").read_text()
    (program.directory / "rules.yml").write_text("groups: [{name: g, rules: [{alert: Hot, expr: 'temperature >'}]}]")
    lines, stored = messages(10)
    mosquitto.publish_lines(TOPIC, lines)
    program.wait_stored(10)
    program.stop()
    more, stored_later = messages(10, first=10)
    mosquitto.publish_lines(TOPIC, more)
    assert tocsin("run", "-c", program.config).returncode == 1
    (program.directory / "rules.yml").write_text(good)
    program.start()
    program.wait_stored(20)
    [series] = program.stored()
    assert program.stored() == {series: stored[series] | stored_later[series]}
    program.stop()


def test_a_missing_configuration_is_told(tmp_path: Path) -> None:
    done = tocsin("run", "-c", tmp_path / "no.yaml")
    assert done.returncode == 1
    assert "no.yaml: there is no such file: `tocsin config init` writes a commented sample" in done.stderr


# --- the broker ---


def test_an_unreachable_broker_is_told_once_and_waited_for(mosquitto: Mosquitto, tocsin_factory: TocsinFactory) -> None:
    mosquitto.stop()
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}})
    program.start(until="is the broker running? check mqtt.url")
    mosquitto.start()
    wait_until(lambda: program.says("subscribed to"), what="it connects")
    lines, stored = messages(10)
    mosquitto.publish_lines(TOPIC, lines)
    program.wait_stored(10)
    assert program.stored() == stored
    program.stop()
    one_line(program, f"cannot reach {mosquitto.url} (connection refused)")


def test_a_port_where_nothing_listens_does_not_keep_it_from_stopping(tocsin_factory: TocsinFactory) -> None:
    program = tocsin_factory({"mqtt": {"url": f"mqtt://127.0.0.1:{free_port()}"}})
    program.start(until="is the broker running? check mqtt.url")
    program.stop()
    assert "0 messages" in program.output.read_text()


def test_a_wrong_password_is_told_and_can_be_mended_without_a_restart(
    mosquitto_factory: MosquittoFactory, tocsin_factory: TocsinFactory
) -> None:
    broker = mosquitto_factory(users={"ada": "s3cret"})
    program = tocsin_factory({"mqtt": {"url": broker.url, "username": "ada", "password_file": "password"}})
    password = program.directory / "password"
    password.write_text("guess\n")
    program.start(until="the broker refused user 'ada': check mqtt.username and mqtt.password")
    password.write_text("s3cret\n")
    wait_until(lambda: program.says("subscribed to"), what="it connects")
    program.stop()
    one_line(program, "the broker refused user 'ada'")
    assert "guess" not in program.said()
    assert "s3cret" not in program.said()


# --- messages ---


def test_malformed_payloads_and_wrong_clocks_become_dead_letters_and_cost_nobody_else_anything(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}}, rules=RULES)
    program.start()
    lines, stored = messages(50)
    bad = {
        "bad_json": '{"ts": 17, "temperature": 9',
        "time_too_old": '{"ts": 86400000, "temperature": 99}',
        "time_in_future": '{"ts": 4102444800000, "temperature": 99}',
        "bad_time": '{"ts": true, "temperature": 99}',
    }
    mosquitto.publish_lines(TOPIC, [*lines[:25], *bad.values(), *lines[25:]])
    mosquitto.publish(TOPIC, b"\xff\xfe\x00")
    mosquitto.publish(TOPIC, b"[" * 100_000)
    mosquitto.publish(TOPIC, b'{"temperature": 1' + b"0" * 5_000 + b"}")
    mosquitto.publish("sensors/s1/quiet/telemetry", json.dumps({"ts": CLOCK.now() // MS, "temperature": 1}))
    program.wait_stored(51)
    shown = program.view("dead-letters", "list")
    assert len(shown["letters"]) == 7
    for reason, payload in bad.items():
        assert payload in [letter["payload"] for letter in shown["letters"] if letter["reason"] == reason]
    details = {letter["reason"]: letter["detail"] for letter in shown["letters"]}
    assert "set the device's clock, or raise limits.max_past" in details["time_too_old"]
    assert "1970-01-02T00:00:00" in details["time_too_old"]
    assert "set the device's clock, or raise limits.max_future" in details["time_in_future"]
    assert "2100-01-01T00:00:00" in details["time_in_future"]
    found = program.stored()
    assert found.pop('temperature{device="quiet", site="s1"}')
    assert found == stored
    assert not [event for event in program.alerts() if event.value == 99], "a refused reading drives no alert"
    program.stop()
    no_bug(program)


def test_a_topic_that_no_stream_knows_becomes_a_dead_letter(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    """It was queued for the subscription of an earlier configuration, which is given up at the next start."""
    program = tocsin_factory(
        {"mqtt": {"url": mosquitto.url}, "streams": [{"name": "old", "topic": "old/{device}/{metric}"}]}
    )
    program.start()
    program.stop()
    mosquitto.publish("old/d1/t", "1")
    program.change(streams=[{"name": "new", "topic": "new/{device}/{metric}"}])
    program.start()
    mosquitto.publish("old/d1/t", "3")
    mosquitto.publish("new/d1/t", "2")
    program.wait_stored(1)
    [letter] = program.view("dead-letters", "list")["letters"]
    assert (letter["topic"], letter["payload"], letter["reason"]) == ("old/d1/t", "1", "unknown_topic")
    assert "no stream has this topic: add one to streams" in letter["detail"]
    program.stop()


# --- the disk ---


def test_a_second_tocsin_on_the_same_data_is_refused_and_does_not_disturb_the_first(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}})
    program.start()
    done = tocsin("run", "-c", program.config)
    assert done.returncode == 1
    assert program.process is not None
    assert f"is in use by another tocsin (process {program.process.pid}): stop that one, or give" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    lines, stored = messages(10)
    mosquitto.publish_lines(TOPIC, lines)
    program.wait_stored(10)
    assert program.stored() == stored
    program.stop()
    one_line(program, "subscribed to")


def test_a_store_that_another_program_holds_is_told_and_waited_for(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}})
    program.start()
    lines, stored = messages(10)
    browser = sqlite3.connect(program.data.store, isolation_level=None)
    browser.execute("begin immediate")
    mosquitto.publish_lines(TOPIC, lines)
    wait_until(lambda: program.says("locked: close it (a database browser, a backup)"), what="the log tells of it")
    browser.execute("rollback")
    browser.close()
    program.wait_stored(10)
    assert program.stored() == stored
    program.stop()
    no_bug(program)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only who may mount a file system can fill one")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """A file that takes all the room there is."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 64, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    return ballast


def on_a_small_disk(mosquitto: Mosquitto, disk: Path) -> dict[str, object]:
    """With files that reserve little, so that a full disk is felt at once."""
    return {
        "mqtt": {"url": mosquitto.url},
        "data_dir": str(disk / "data"),
        "journal": {"segment_bytes": "64KiB"},
    }


def test_on_a_full_disk_it_stops_acknowledging_and_goes_on_by_itself_when_there_is_room(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory, small_disk: Path
) -> None:
    program = tocsin_factory(on_a_small_disk(mosquitto, small_disk), rules=RULES)
    program.start()
    lines, stored = messages(1_000, padding=300)
    mosquitto.publish_lines(TOPIC, lines[:100])
    program.wait_stored(100)
    ballast = fill(small_disk)
    mosquitto.publish_lines(TOPIC, lines[100:])
    wait_until(lambda: program.says("no space left: free some, or lower journal.retention_bytes"), what="it is told")
    assert program.says("disconnected from the broker, which keeps the messages")
    ballast.unlink()
    program.wait_stored(1_000, seconds=60)
    assert program.stored() == stored
    program.stop()
    no_bug(program)
    assert len({event.id for event in program.alerts()}) > 0


def test_killed_on_a_full_disk_it_says_so_at_the_next_start_and_nothing_is_lost(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory, small_disk: Path
) -> None:
    program = tocsin_factory(on_a_small_disk(mosquitto, small_disk), rules=RULES)
    program.start()
    lines, stored = messages(1_000, padding=300)
    mosquitto.publish_lines(TOPIC, lines[:100])
    program.wait_stored(100)
    ballast = fill(small_disk)
    mosquitto.publish_lines(TOPIC, lines[100:])
    wait_until(lambda: program.says("no space left: free some"), what="it is told")
    program.kill()
    ballast = fill(small_disk)  # what it may have given back when it ended
    done = tocsin("run", "-c", program.config)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    [line] = done.stderr.splitlines()
    assert "free" in line
    ballast.unlink()
    program.start()
    program.wait_stored(1_000, seconds=60)
    assert program.stored() == stored
    program.stop()
    no_bug(program)


def test_a_data_directory_that_cannot_be_written_is_told(tocsin_factory: TocsinFactory, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    program = tocsin_factory({"mqtt": {"url": "mqtt://127.0.0.1:1"}, "data_dir": str(tmp_path / "file" / "data")})
    done = tocsin("run", "-c", program.config)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "cannot create the data directory" in line
    assert "choose another in data_dir" in line


# --- the dry run ---


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_dry_run_tells_alerts_and_leaves_session_data_and_broker_as_they_are(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory, protocol: str
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url, "protocol": protocol}}, rules=RULES)
    program.start()
    mosquitto.publish(TOPIC, '{"temperature": 1}')
    program.wait_stored(1)
    program.stop()
    mosquitto.publish(TOPIC, '{"temperature": 2}')
    before = contents(program.directory)

    program.launch("--dry-run")
    wait_until(lambda: program.says("subscribed to"), what="it connects")
    mosquitto.publish(TOPIC, '{"temperature": 61.5}')
    printed = 'FIRING Hot{device="d1", site="s1"} 61.5 since '
    wait_until(lambda: printed in program.output.read_text(), what="the alert is printed")
    program.stop()
    assert contents(program.directory) == before
    connected = re.findall(r"as \S+-dry-run-\w+ \(p\d, c(\d),", mosquitto.log.read_text())
    assert connected == ["1"], "once, and the broker keeps nothing of it"

    program.start()
    program.wait_stored(3)
    [series] = program.stored().values()
    assert list(series.values()) == [1, 2, 61.5]
    program.stop()


def contents(directory: Path) -> dict[str, bytes]:
    """Every file, but for what the process says."""
    return {
        str(path): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name not in ("server.log", "output")
    }
