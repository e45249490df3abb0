"""The law that matters most: what the broker was told we have, we have; after any kill."""

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingest.journal import TICK, Journal
from tests.integration.brokers import Mosquitto
from tests.integration.servers import wait_until

MosquittoFactory = Callable[..., Mosquitto]
ROOT = Path(__file__).parents[2]
KILLS = 5
BATCH = 2000

RECEIVER = """
import sys, threading
from pathlib import Path
from ingest.config import MqttConfig
from ingest.inbox import Inbox
from ingest.journal import Journal
from ingest.mqtt import Session
from ingest.receiver import Receiver
from telemetry import Counters, SystemClock
inbox, clock, counters = Inbox(), SystemClock(), Counters()
config = MqttConfig(url=sys.argv[1], client_id="receiver", protocol=sys.argv[3])
session = Session(config, ["t/#"], inbox, clock=clock, counters=counters)
journal = Journal(Path(sys.argv[2]))
receiver = Receiver(inbox, journal, session, clock=clock, counters=counters)
receiver.start()
assert session.wait_connected(20)
print("ready", flush=True)
sys.stdin.readline()
receiver.stop()
print(counters.get("ingest.received"), flush=True)
"""


@contextmanager
def receiving(broker: Mosquitto, directory: Path, protocol: str) -> Iterator[subprocess.Popen[str]]:
    """A receiver process, connected; killed in the end if it still runs."""
    command = [sys.executable, "-c", RECEIVER, broker.url, str(directory), protocol]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def payloads(journal: Journal) -> list[str]:
    found: list[str] = []
    offset = journal.start
    while len(records := journal.read(offset)):
        found += [p.decode() for p, flag in zip(records.payloads, records.flags, strict=True) if flag != TICK]
        offset = records.next
    return found


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_no_kill_of_the_receiver_loses_a_message(mosquitto_factory: MosquittoFactory, tmp_path: Path, protocol: str):
    broker = mosquitto_factory()
    expected = [str(i) for i in range(KILLS * BATCH)]
    for round_ in range(KILLS):
        part = expected[round_ * BATCH : (round_ + 1) * BATCH]
        flood = threading.Thread(target=broker.publish_lines, args=("t/x", part))
        with receiving(broker, tmp_path, protocol) as process:
            follower = Journal(tmp_path, read_only=True)
            goal = follower.end + BATCH // 5
            flood.start()
            wait_until(lambda goal=goal, follower=follower: follower.wait(goal, 0.1), what="the journal grows")
            process.kill()
        flood.join()
    with receiving(broker, tmp_path, protocol):
        wait_until(lambda: len(set(read(tmp_path))) == len(expected), what="everything is in the journal")
    assert list(dict.fromkeys(read(tmp_path))) == expected, "first seen in the order of publishing"


def test_a_clean_stop_acknowledges_everything_so_that_nothing_comes_twice(mosquitto: Mosquitto, tmp_path: Path):
    for part in range(3):
        with receiving(mosquitto, tmp_path, "5") as process:
            mosquitto.publish_lines("t/x", [f"{part}-{i}" for i in range(500)])
            wait_until(lambda n=500 * (part + 1): len(read(tmp_path)) >= n, what="all are in the journal")
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("stop\n")
            process.stdin.flush()
            assert int(process.stdout.readline()) == 500
            process.wait()
    assert read(tmp_path) == [f"{part}-{i}" for part in range(3) for i in range(500)]


def read(directory: Path) -> list[str]:
    return payloads(Journal(directory, read_only=True))
