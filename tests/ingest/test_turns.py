"""Laws of the network thread's turns: what comes on a silent line is read at once, on a busy one much together."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from ingest.arrivals import Arrivals
from ingest.shortcut import TappedClient, Tapping
from ingest.turns import LINGER_SECONDS, Linger, Turns
from tests.ingest.fake_broker import Connection, FakeBroker

A_LOT = 1 << 20


class Line:
    """A socket whose far side sends so many bytes a second from `begin` to `end`, and its clock."""

    def __init__(self, rate: float, *, begin: float = 0.0, end: float = 1e9) -> None:
        self.rate, self.begin, self.end = rate, begin, end
        self.now, self.paused, self._read = 100.0, 0.0, 0

    def time(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds
        self.paused += seconds

    def waiting(self) -> int:
        return self._sent() - self._read

    def read(self) -> int:
        size, self._read = self.waiting(), self._sent()
        return size

    def _sent(self) -> int:
        return int(self.rate * max(0.0, min(self.now, self.end) - self.begin))


def lingering(line: Line) -> Linger:
    """After a first read at the line's time."""
    linger = Linger(now=line.time, pause=line.pause)
    linger.wait(line.waiting)
    line.read()
    return linger


def test_what_comes_on_a_silent_line_is_read_at_once():
    line = Line(1e6, begin=100.0)
    linger = lingering(line)
    line.now += LINGER_SECONDS

    linger.wait(line.waiting)

    assert line.paused == 0


def test_the_first_read_of_a_connection_is_at_once():
    line = Line(1e6, begin=100.0)

    lingering(line)

    assert line.paused == 0


def test_a_busy_line_is_read_no_more_often_than_the_linger():
    line = Line(1e6, begin=100.0)
    linger = lingering(line)
    reads = []
    for _ in range(100):
        line.now += 0.0001
        linger.wait(line.waiting)
        reads.append((line.now, line.read()))

    assert [b - a for (a, _), (b, _) in pairwise(reads)] == pytest.approx([LINGER_SECONDS] * 99)
    assert all(size == pytest.approx(1e6 * LINGER_SECONDS, abs=2) for _, size in reads[1:])


def test_a_line_that_falls_silent_is_read_soon():
    """A broker with a small window sends no more before it has our acknowledgements."""
    line = Line(1e6, begin=100.0, end=100.0005)
    linger = lingering(line)
    line.now += 0.0006

    linger.wait(line.waiting)

    assert line.read() == 500
    assert line.now < 100.0 + 0.7 * LINGER_SECONDS


class Window(Line):
    """A far side that sends so many bytes at once, and more only some time after they were read."""

    def __init__(self, size: int, answer_seconds: float) -> None:
        super().__init__(0)
        self._size, self._answer, self._since = size, answer_seconds, self.now

    def waiting(self) -> int:
        return self._size if self.now >= self._since else 0

    def read(self) -> int:
        size, self._since = self.waiting(), self.now + self._answer
        return size


def test_a_broker_that_waits_for_acknowledgements_is_hardly_slowed_down():
    line = Window(1_000, 0.0005)
    linger = lingering(line)
    began, reads = line.now, 1_000
    for _ in range(reads):
        line.now += 0.0005
        linger.wait(line.waiting)
        assert line.read() == 1_000

    assert line.now - began < 1.1 * 0.0005 * reads
    assert line.paused > 0, "it is still tried, since lines change"


def test_a_line_that_is_busy_again_is_lingered_on_again():
    line = Window(1_000, 0.0005)
    linger = lingering(line)
    for _ in range(1_000):
        line.now += 0.0005
        linger.wait(line.waiting)
        line.read()
    busy = Line(1e6, begin=line.now)
    busy.now = line.now
    linger._now, linger._pause = busy.time, busy.pause
    for _ in range(100):
        busy.now += 0.0001
        linger.wait(busy.waiting)
        busy.read()

    assert busy.now - line.now > 60 * LINGER_SECONDS


def test_what_is_enough_for_one_read_does_not_wait_for_more():
    line = Line(1e9, begin=100.0)
    linger = lingering(line)
    line.now += 0.0001

    linger.wait(line.waiting)

    assert line.paused == 0


# ---- turns


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as fake:
        yield fake


class Driven:
    """A client, the broker's end of its connection, and the turns that drive it."""

    def __init__(self, broker: FakeBroker) -> None:
        self.taken: list[Arrivals] = []
        self.client = TappedClient(CallbackAPIVersion.VERSION2, client_id="c", manual_ack=True)
        self.client.tap = Tapping(self.taken.append, bytes.decode, lambda: 0, 1)
        self.client.connect("127.0.0.1", int(broker.url.rpartition(":")[2]))
        self.wire: Connection = broker.connection()
        self.turns = Turns(self.client)
        self.result = MQTTErrorCode.MQTT_ERR_SUCCESS

    def until(self, condition: Callable[[], bool], seconds: float = 1) -> None:
        """`seconds`: of a turn."""
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.result = self.turns.turn(seconds)


@pytest.fixture
def driven(broker: FakeBroker) -> Iterator[Driven]:
    one = Driven(broker)
    with one.turns:
        one.wire.read()
        one.wire.send(0x20, b"\0\0")
        one.until(one.client.is_connected)
        yield one
        one.client.disconnect()
        one.turns.turn(0)


def test_messages_are_read(driven: Driven):
    driven.wire.publish(b"a", b"1", 1)
    driven.until(lambda: len(driven.taken) == 1)
    driven.wire.publish(b"a", b"2", 2)
    driven.until(lambda: len(driven.taken) == 2)

    assert [arrivals.payloads for arrivals in driven.taken] == [[b"1"], [b"2"]]


def test_what_another_thread_queues_ends_the_wait_and_is_sent(driven: Driven):
    for mid in range(1, 20):
        began = time.monotonic()
        sender = threading.Timer(0.001, driven.client._packet_queue, (paho.PUBACK, b"\x40\x02\0%c" % mid, 0, 1))
        sender.start()

        driven.turns.turn(10)
        while driven.client.want_write():
            driven.turns.turn(0)
        sender.join()

        driven.turns.turn(0)
        assert driven.wire.read().body == b"\0%c" % mid
        assert time.monotonic() - began < 9


def test_what_the_socket_does_not_take_at_once_is_sent_as_soon_as_it_does(driven: Driven):
    acknowledgements = b"\x40\x02\0\1" * A_LOT
    driven.client._packet_queue(paho.PUBACK, acknowledgements, 0, 1)
    driven.turns.turn(0)
    assert driven.client.want_write(), "otherwise nothing was left over"
    got: list[bytes] = []

    def read() -> None:
        while sum(map(len, got)) < len(acknowledgements):
            got.append(driven.wire.wire.recv(A_LOT))

    reader = threading.Thread(target=read)
    began = time.monotonic()
    reader.start()
    driven.until(lambda: not driven.client.want_write(), seconds=10)
    reader.join()

    assert b"".join(got) == acknowledgements
    assert time.monotonic() - began < 9


def test_a_turn_without_anything_ends_in_time(driven: Driven):
    assert driven.turns.turn(0) == MQTTErrorCode.MQTT_ERR_SUCCESS


def test_the_end_of_the_connection_is_told(driven: Driven):
    driven.wire.close()

    driven.until(lambda: driven.result != MQTTErrorCode.MQTT_ERR_SUCCESS)

    assert driven.client.socket() is None
    assert driven.turns.turn(10) == MQTTErrorCode.MQTT_ERR_NO_CONN


def test_who_queues_after_the_end_does_no_harm(driven: Driven):
    client, wire = driven.client, socket.socket()
    client.disconnect()
    driven.turns.turn(0)
    driven.turns.__exit__()

    client.on_socket_register_write(client, None, wire)

    wire.close()
