"""Laws of the receiver: first on disk, then acknowledged; a journal that fails stops receiving and loses nothing."""

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ingest import receiver as receiver_module
from ingest.arrivals import Arrivals
from ingest.inbox import Inbox
from ingest.journal import TICK, Journal
from ingest.receiver import Receiver
from telemetry import Counters, ManualClock, Message


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class FakeSession:
    """Notes what it is told to do; checks that what it acknowledges is in the journal."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.calls: list[str] = []
        self.acknowledged: list[bytes] = []
        self.violations: list[bytes] = []
        self.on_stop: Callable[[], object] = lambda: None

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> None:
        self.calls.append("stop")
        self.on_stop()

    def acknowledge(self, arrived: Sequence[Arrivals]) -> None:
        kept = payloads(self.journal)
        said = [payload for each in arrived for payload in each.payloads]
        self.violations += [payload for payload in said if payload not in kept]
        self.acknowledged += said


class Setup:
    def __init__(self, directory: Path) -> None:
        self.directory, self.journal = directory, Journal(directory)
        self.session = FakeSession(self.journal)
        self.inbox, self.clock, self.counters = Inbox(), ManualClock(), Counters()
        self.receiver = Receiver(self.inbox, self.journal, self.session, clock=self.clock, counters=self.counters)

    def put(self, *texts: bytes, qos: int = 1) -> None:
        for text in texts:
            message = Message("t", text, qos, received=self.clock.now(), mid=1 if qos else 0)
            self.inbox.put(Arrivals.of(message, 1))


def records(journal: Journal) -> list[tuple[int, int, bytes]]:
    """Flags, time of arrival, payload of everything."""
    found: list[tuple[int, int, bytes]] = []
    offset = journal.start
    while len(part := journal.read(offset)):
        found += zip(part.flags.tolist(), part.received.tolist(), part.payloads, strict=True)
        offset = part.next
    return found


def payloads(journal: Journal) -> list[bytes]:
    return [payload for flags, _, payload in records(journal) if flags != TICK]


def ticks(journal: Journal) -> list[int]:
    return [time for flags, time, _ in records(journal) if flags == TICK]


@pytest.fixture
def setup(tmp_path: Path) -> Iterator[Setup]:
    made = Setup(tmp_path)
    yield made
    made.receiver.stop()
    made.journal.close()


class Disk:
    """Breaks os.write while `broken` is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.broken = threading.Event()
        whole = os.write

        def write(fd: int, data: bytes) -> int:
            if self.broken.is_set():
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return whole(fd, data)

        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(receiver_module, "_FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_everything_is_on_disk_before_it_is_acknowledged(setup: Setup):
    setup.receiver.start()
    expected = [b"%d" % i for i in range(200)]
    for payload in expected:
        setup.put(payload)
    until(lambda: len(setup.session.acknowledged) == 200)
    assert setup.session.acknowledged == payloads(setup.journal) == expected
    assert setup.session.violations == []
    assert setup.counters.get("ingest.received") == 200
    assert setup.receiver.status.state == "receiving"


def test_a_tick_is_written_once_a_second_by_our_clock(setup: Setup):
    start = setup.clock.now()
    setup.receiver.start()
    until(lambda: ticks(setup.journal) == [start])
    setup.clock.advance(0.5)
    setup.put(b"a")
    until(lambda: setup.session.acknowledged == [b"a"])
    assert ticks(setup.journal) == [start]
    setup.clock.advance(0.5)
    setup.put(b"b")
    until(lambda: len(ticks(setup.journal)) == 2)
    assert ticks(setup.journal) == [start, start + 10**9]


def test_ticks_go_on_after_the_clock_was_set_back(setup: Setup):
    setup.receiver.start()
    until(lambda: len(ticks(setup.journal)) == 1)
    setup.clock.advance(-3600)
    setup.put(b"a")
    until(lambda: len(ticks(setup.journal)) == 2)
    assert ticks(setup.journal)[1] == setup.clock.now()


def test_a_full_disk_closes_the_session_and_loses_nothing(setup: Setup, disk: Disk, caplog: pytest.LogCaptureFixture):
    setup.receiver.start()
    setup.put(b"before")
    until(lambda: setup.session.acknowledged == [b"before"])
    disk.broken.set()
    setup.put(b"during", b"at most once")
    until(lambda: setup.receiver.status.state == "journal_failed")
    assert "no space left: free some" in setup.receiver.status.last_error
    until(lambda: setup.counters.get("ingest.journal_failures") > 3)
    assert setup.session.calls == ["start", "stop"]
    assert setup.session.acknowledged == [b"before"]
    assert caplog.text.count("no space left") == 1, "said once, not at every attempt"
    disk.broken.clear()
    until(lambda: setup.session.calls == ["start", "stop", "start"])
    setup.put(b"after")
    until(lambda: len(setup.session.acknowledged) == 4)
    assert payloads(setup.journal) == [b"before", b"during", b"at most once", b"after"]
    assert setup.session.violations == []
    assert setup.receiver.status.state == "receiving"
    assert setup.receiver.status.last_error == ""


def test_after_a_failed_fsync_what_is_unacknowledged_goes_into_a_new_file_once(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(receiver_module, "_FIRST_PAUSE_SECONDS", 0.01)
    whole, failures = os.fdatasync, [errno.EIO, errno.EIO]

    def fdatasync(fd: int) -> None:
        whole(fd)  # it may well be on the disk: nobody knows
        if failures and any(b"held" in d.payloads for d in setup.receiver._held):
            raise OSError(failures.pop(), "fails")

    setup.receiver.start()
    setup.put(b"before")
    until(lambda: setup.session.acknowledged == [b"before"])
    [file] = setup.directory.glob("*.journal")
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    setup.put(b"held")
    until(lambda: setup.session.acknowledged == [b"before", b"held"])
    until(lambda: setup.session.calls == ["start", "stop", "start"])
    assert failures == []
    assert set(setup.directory.glob("*.journal")) - {file}, "a file whose fsync has failed is not written to again"
    assert payloads(setup.journal) == [b"before", b"held"]
    setup.receiver.stop()
    setup.journal.close()
    assert payloads(Journal(setup.directory)) == [b"before", b"held"]


def test_stop_writes_and_acknowledges_what_is_there_and_then_closes_the_session(setup: Setup):
    setup.receiver.start()
    until(lambda: setup.session.calls == ["start"])
    setup.put(b"a", b"b")
    setup.receiver.stop()
    assert setup.session.acknowledged == payloads(setup.journal) == [b"a", b"b"]
    assert setup.session.calls == ["start", "stop"]
    assert setup.receiver.status.state == "stopped"


def test_what_comes_while_stopping_is_kept_if_it_would_not_come_again(setup: Setup):
    def late() -> None:
        setup.put(b"comes again", qos=1)
        setup.put(b"does not", qos=0)

    setup.session.on_stop = late
    setup.receiver.start()
    setup.receiver.stop()
    assert payloads(setup.journal) == [b"does not"]


def test_stop_with_a_full_disk_counts_what_is_lost(setup: Setup, disk: Disk):
    setup.receiver.start()
    until(lambda: len(ticks(setup.journal)) == 1)
    disk.broken.set()
    setup.put(b"comes again", qos=1)
    setup.put(b"lost", qos=0)
    setup.receiver.stop()
    assert setup.counters.get("ingest.dropped", "journal_failed") == 1
    assert setup.session.acknowledged == []
    assert setup.receiver.status.state == "stopped"


def test_a_bug_in_acknowledging_does_not_end_receiving(setup: Setup, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(receiver_module, "_FIRST_PAUSE_SECONDS", 0.01)
    acknowledge = setup.session.acknowledge
    failures = [RuntimeError("a bug")]

    def once(arrived: Sequence[Arrivals]) -> None:
        if failures:
            raise failures.pop()
        acknowledge(arrived)

    setup.session.acknowledge = once
    setup.receiver.start()
    setup.put(b"a")
    until(lambda: setup.session.calls == ["start", "stop", "start"])
    setup.put(b"b")
    until(lambda: setup.session.acknowledged == [b"b"])
    assert payloads(setup.journal) == [b"a", b"b"], "and nothing is written twice"


def test_it_can_be_started_again(setup: Setup):
    for text in (b"a", b"b"):
        setup.receiver.start()
        setup.put(text)
        until(lambda text=text: setup.session.acknowledged[-1:] == [text])
        setup.receiver.stop()
    assert payloads(setup.journal) == [b"a", b"b"]
