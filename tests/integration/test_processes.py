"""Receiving in a process of its own: all is as in one process; when one of the two dies, both end and lose nothing."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.brokers import Mosquitto
from tests.integration.servers import wait_until
from tests.integration.tocsin_process import Tocsin, tocsin

TocsinFactory = Callable[..., Tocsin]
RULES = """
groups:
  - name: g
    interval: 1s
    rules:
      - {alert: Hot, expr: temperature > 50}
      - {record: site:temperature:max, expr: max by (site) (temperature)}
"""


@pytest.fixture
def program(mosquitto: Mosquitto, tocsin_factory: TocsinFactory) -> Tocsin:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}, "processes": 2}, rules=RULES)
    program.start()
    return program


def publish(mosquitto: Mosquitto, device: str, *temperatures: float) -> None:
    lines = [json.dumps({"temperature": value}) for value in temperatures]
    mosquitto.publish_lines(f"sensors/s1/{device}/telemetry", lines)


def temperatures(program: Tocsin, device: str) -> list[float]:
    """In the order of their times."""
    rows = (
        rows for name, rows in program.stored().items() if name.startswith("temperature{") and f'"{device}"' in name
    )
    return list(next(rows, {}).values())


def child(program: Tocsin) -> int:
    """The process that receives."""
    assert program.process is not None
    found = [
        int(p)
        for task in Path(f"/proc/{program.process.pid}/task").iterdir()
        for p in (task / "children").read_text().split()
    ]
    [only] = found
    return only


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_is_received_there_is_evaluated_recorded_and_stored_here(mosquitto: Mosquitto, program: Tocsin) -> None:
    publish(mosquitto, "d1", 20, 60, 30)
    wait_until(lambda: len(program.alerts()) == 2, what="the alert fires and is resolved")
    wait_until(lambda: any("site:temperature:max" in name for name in program.stored()), what="it is recorded")
    assert temperatures(program, "d1") == [20, 60, 30]
    status = program.view("status")
    assert status["session"]["state"] == "connected"
    assert [stream["guarantee"] for stream in status["streams"]] == ["G2"]
    assert status["imbalances"] == []
    session = next(row for row in status["accounts"] if row["stage"] == "session")
    assert session["received"] == 3
    assert status["journal"]["end"] > 3
    program.stop()
    assert not program.says("Traceback")


def test_dead_letters_come_back_through_the_other_process(mosquitto: Mosquitto, program: Tocsin) -> None:
    mosquitto.publish("elsewhere/d9/temperature", "70")
    mosquitto.publish("sensors/s1/d9/telemetry", '{"temperature": ')
    wait_until(lambda: program.view("dead-letters", "list") != [], what="it is parked")
    done = tocsin("dead-letters", "replay", "--all", "-c", program.config)
    assert done.returncode in (0, 1), done.stderr  # it is still no JSON
    assert "1" in done.stdout
    program.stop()


def test_when_the_receiving_process_dies_tocsin_ends_and_goes_on_at_the_next_start(
    mosquitto: Mosquitto, program: Tocsin
) -> None:
    publish(mosquitto, "d1", 1, 2)
    program.wait_stored(2)
    receiving, process = child(program), program.process
    os.kill(receiving, signal.SIGKILL)
    assert process is not None
    assert process.wait(30) == 1
    assert program.says("the process that receives has ended (exit code -9)")
    assert "nothing received is lost: restart tocsin" in program.said()
    program.process = None
    publish(mosquitto, "d1", 3)
    program.start()
    program.wait_stored(3)
    wait_until(lambda: temperatures(program, "d1") == [1, 2, 3], what="all is there")
    program.stop()


def test_the_receiving_process_does_not_outlive_tocsin(mosquitto: Mosquitto, program: Tocsin) -> None:
    publish(mosquitto, "d1", 1)
    program.wait_stored(1)
    receiving = child(program)
    program.kill()
    wait_until(lambda: not is_alive(receiving), what="it ends")
    program.start()
    publish(mosquitto, "d1", 2)
    wait_until(lambda: temperatures(program, "d1") == [1, 2], what="the next one has the journal")
    program.stop()


def test_ctrl_c_reaches_both_and_both_end_in_good_order(mosquitto: Mosquitto, program: Tocsin) -> None:
    publish(mosquitto, "d1", *range(200))
    receiving, process = child(program), program.process
    assert process is not None
    os.kill(receiving, signal.SIGINT)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0, program.log_tail()
    assert not is_alive(receiving)
    program.process = None
    program.start()
    program.wait_stored(200)
    assert temperatures(program, "d1") == list(range(200))
    program.stop()


def test_a_second_tocsin_is_refused_there_too(program: Tocsin) -> None:
    done = tocsin("run", "-c", program.config, "--headless")
    assert done.returncode == 1
    assert "another" in done.stderr
    assert "Traceback" not in done.stderr
    program.stop()
