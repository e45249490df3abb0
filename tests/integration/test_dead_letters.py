"""Dead letters of the real program: what was refused goes through once the configuration is mended, exactly once."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from telemetry import SystemClock
from telemetry.crash_points import VARIABLE
from tests.integration.brokers import Mosquitto
from tests.integration.servers import wait_until
from tests.integration.tocsin_process import STREAM, TOCSIN, Tocsin, tocsin
from tests.sinks.far_side import Answer, far_side

TocsinFactory = Callable[..., Tocsin]
CLOCK = SystemClock()
MS = 10**6
TOPIC = "plant/hall-1/d1"
MENDED = [STREAM, {"name": "plant", "topic": "plant/{site}/{device}", "time": {"field": "ts", "unit": "ms"}}]


def messages(count: int, *, device: str = "d1", first: int = 0) -> tuple[list[str], dict[str, dict[int, float]]]:
    """Lines for mosquitto_pub, and what must be stored of them: one reading a millisecond."""
    times = [CLOCK.now() // MS - 60_000 + first + i for i in range(count)]
    series = f'temperature{{device="{device}", site="hall-1"}}'
    return [json.dumps({"ts": t, "temperature": t % 97}) for t in times], {
        series: {t * MS: float(t % 97) for t in times}
    }


def letters(program: Tocsin) -> list[dict[str, Any]]:
    return program.view("dead-letters", "list", "-n", "100000")["letters"]


@pytest.fixture
def program(mosquitto: Mosquitto, tocsin_factory: TocsinFactory) -> Tocsin:
    made = tocsin_factory({"mqtt": {"url": mosquitto.url}, "streams": [STREAM]})
    strict = {**MENDED[1], "time": {"field": "ts", "unit": "s"}}
    made.change(streams=[STREAM, strict])
    return made


def wrong_unit(program: Tocsin, broker: Mosquitto, count: int) -> dict[str, dict[int, float]]:
    """Publishes messages whose times are in ms, to a stream that reads them as s."""
    program.start()
    lines, stored = messages(count)
    broker.publish_lines(TOPIC, lines)
    wait_until(lambda: program.data.dead_letters.exists() and len(letters(program)) == count, what="they are refused")
    return stored


@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
def test_after_the_configuration_is_mended_everything_is_stored_at_its_own_time_exactly_once(
    program: Tocsin, mosquitto: Mosquitto, killed: bool
) -> None:
    stored = wrong_unit(program, mosquitto, 300)
    mosquitto.publish(TOPIC, "{broken")
    wait_until(lambda: len(letters(program)) == 301, what="the broken one is refused")
    received = {letter["received"] for letter in letters(program) if letter["reason"] == "bad_json"}
    program.kill() if killed else program.stop()
    program.change(streams=MENDED)
    program.start()
    assert len(letters(program)) == 301, "decoding again what a crash has left brings none of them twice"

    done = tocsin("dead-letters", "replay", "--all", "-c", program.config)
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "301 dead letters: 300 decoded, 1 refused again (1 bad_json)"
    program.wait_stored(300)
    [left] = letters(program)
    assert (left["reason"], left["payload"], {left["received"]}) == ("bad_json", "{broken", received)
    more, later = messages(5, first=50_000)
    mosquitto.publish_lines(TOPIC, more)
    program.wait_stored(305)
    [series] = stored
    assert program.stored() == {series: stored[series] | later[series]}
    program.stop()  # checks that the accounts balance

    program.start()
    assert program.count() == 305
    purged = tocsin("dead-letters", "purge", "--all", "--yes", "-c", program.config)
    assert purged.stdout == "1 dead letter deleted\n"
    program.kill()
    program.change(streams=[*MENDED, {"name": "more", "topic": "more/{device}"}])  # the journal is read from its start
    program.start()
    mosquitto.publish(TOPIC, "{broken too")
    wait_until(lambda: bool(letters(program)), what="it is refused")
    assert [letter["payload"] for letter in letters(program)] == ["{broken too"]
    program.stop()


def test_a_replay_that_is_asked_for_while_nothing_runs_is_done_at_the_next_start(
    program: Tocsin, mosquitto: Mosquitto
) -> None:
    stored = wrong_unit(program, mosquitto, 20)
    program.stop()
    done = tocsin("dead-letters", "replay", "--reason", "bad_time", "-c", program.config)
    assert (done.returncode, done.stdout) == (0, "20 dead letters: 20 to come at the next start\n")
    program.change(streams=MENDED)
    program.start()
    program.wait_stored(20)
    assert program.stored() == stored
    assert letters(program) == []
    program.stop()


@pytest.mark.parametrize("count", [1, 2])
def test_a_kill_in_the_middle_of_a_replay_loses_no_letter_and_replays_none_twice(
    program: Tocsin, mosquitto: Mosquitto, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = wrong_unit(program, mosquitto, 500)
    program.stop()
    program.change(streams=MENDED)
    tocsin("dead-letters", "replay", "--all", "-c", program.config)
    monkeypatch.setenv(VARIABLE, f"dead_letter.replayed:{count}")
    program.launch()
    assert program.process is not None
    assert program.process.wait(30) == -9
    program.process = None
    monkeypatch.delenv(VARIABLE)
    program.start()
    program.wait_stored(500)
    assert program.stored() == stored
    assert letters(program) == []
    program.stop()
    dumped = subprocess.run(
        [TOCSIN.parent / "python", "-c", COUNT_REPLAYED, program.data.journal],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(dumped.stdout) == 500


COUNT_REPLAYED = """
import sys
from pathlib import Path
from ingest.journal import REPLAYED, Journal
journal, at, n = Journal(Path(sys.argv[1]), read_only=True), 0, 0
while at < journal.end:
    records = journal.read(at)
    n, at = n + int((records.flags & REPLAYED != 0).sum()), records.next
print(n)
"""


def test_points_that_a_sink_has_refused_go_to_it_alone_once_it_takes_them(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    with far_side() as server:
        conflict = Answer(400, body=b'{"message": "field type conflict"}')
        server.answer = lambda request: conflict if b"device=d2" in request.body else Answer()
        sink = {"type": "influx", "name": "plant", "url": server.url, "bucket": "b", "token": "t"}
        program = tocsin_factory({"mqtt": {"url": mosquitto.url}, "streams": MENDED, "sinks": [sink]})
        program.start()
        good, stored = messages(30)
        bad, refused = messages(3, device="d2")
        mosquitto.publish_lines(TOPIC, good)
        mosquitto.publish_lines(TOPIC.replace("d1", "d2"), bad)
        wait_until(lambda: program.data.dead_letters.exists() and len(letters(program)) == 3, what="they are parked")
        assert [letter["topic"] for letter in letters(program)] == list(refused) * 3
        wait_until(lambda: len(server.lines()) == 30, what="all others are written")

        again = tocsin("dead-letters", "replay", "--reason", "refused_by_plant", "-c", program.config)
        assert again.returncode == 1
        assert again.stdout.splitlines()[-1] == "3 dead letters: 3 refused again (3 refused_by_plant)"
        assert len(letters(program)) == 3
        server.answer = lambda request: Answer()
        program.kill()
        program.start()
        done = tocsin("dead-letters", "replay", "--all", "-c", program.config)
        assert (done.returncode, done.stdout) == (0, "3 dead letters: 3 written\n"), done.stderr
        assert letters(program) == []
        lines = {line for line in server.lines() if b"device=d2" in line}
        [readings] = refused.values()
        assert lines == {f"temperature,device=d2,site=hall-1 value={v} {t}".encode() for t, v in readings.items()}
        assert program.stored() == stored | refused
        program.stop()
