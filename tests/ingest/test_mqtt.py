"""Laws of the MQTT session that a real broker does not let us test: bytes on the wire, and brokers that misbehave."""

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import paho.mqtt.client as paho
import pytest

from ingest import mqtt as mqtt_module
from ingest.arrivals import Arrivals
from ingest.config import MqttConfig
from ingest.inbox import Inbox
from ingest.mqtt import Session
from ingest.session_watch import SessionWatch
from telemetry import Counters, ManualClock
from tests.ingest.deliveries import Delivery, arrived, deliveries
from tests.ingest.fake_broker import FakeBroker, Packet


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    with FakeBroker() as fake:
        yield fake


class Client:
    def __init__(self, url: str, inbox: Inbox | None = None, filters: Sequence[str] = ("#",), **config: object) -> None:
        self.inbox = Inbox() if inbox is None else inbox
        self.counters, self.clock = Counters(), ManualClock()
        fields = {"protocol": "3.1.1", "client_id": "us", "connect_timeout": "2s"} | config
        self.session = Session(
            MqttConfig(url=url, **fields), filters, self.inbox, clock=self.clock, counters=self.counters
        )
        self.session.start()

    def take(self, count: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while len(taken) < count:
            more = self.inbox.take(20)
            assert more
            taken += deliveries(more)
        return taken


@pytest.fixture
def connect(broker: FakeBroker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Client]]:
    monkeypatch.setattr(mqtt_module, "_FIRST_PAUSE_SECONDS", 0.05)
    clients: list[Client] = []

    def start(**options: object) -> Client:
        clients.append(Client(broker.url, **options))
        return clients[-1]

    yield start
    for client in clients:
        client.session.stop()


def test_acknowledgements_go_out_in_order_of_arrival_and_only_for_qos_1(
    broker: FakeBroker, connect: Callable[..., Client]
):
    client, wire = connect(), broker.connection()
    wire.accept()
    wire.publish(b"a", b"1", 7)
    wire.publish(b"a", b"2")
    wire.publish(b"a", b"3", 5)
    wire.publish(b"a", b"4", 65_535)
    client.session.acknowledge(arrived(client.take(4)))
    assert [wire.read() for _ in range(3)] == [Packet(0x40, mid) for mid in (b"\x00\x07", b"\x00\x05", b"\xff\xff")]


def test_nothing_is_acknowledged_on_its_own(broker: FakeBroker, connect: Callable[..., Client]):
    client, wire = connect(), broker.connection()
    wire.accept()
    wire.publish(b"a", b"1", 1)
    client.take(1)
    wire.send(0xD0, b"")  # unasked-for PINGRESP: the client has read everything before it when it reads what follows
    wire.publish(b"a", b"2", 2)
    client.session.acknowledge(arrived(client.take(1)))
    assert wire.read() == Packet(0x40, b"\x00\x02")


def test_acknowledgements_of_an_old_connection_never_reach_the_new_one(
    broker: FakeBroker, connect: Callable[..., Client]
):
    client, wire = connect(), broker.connection()
    wire.accept()
    wire.publish(b"a", b"old", 1)
    old = client.take(1)
    wire.close()
    wire = broker.connection()
    client.session.acknowledge(arrived(old))  # while the new connection is being made: the first packet must be CONNECT
    wire.accept(session_present=False)
    wire.publish(b"a", b"another message under the same identifier", 1)
    wire.publish(b"a", b"new", 2)
    new = client.take(2)
    client.session.acknowledge(arrived(old))
    client.session.acknowledge(arrived([new[1]]))
    assert wire.read() == Packet(0x40, b"\x00\x02")
    assert client.counters.get("ingest.stale_acks") == 2
    assert {d.epoch for d in old}.isdisjoint({d.epoch for d in new})


def test_a_topic_that_is_not_utf8_is_delivered_escaped_and_acknowledged(
    broker: FakeBroker, connect: Callable[..., Client]
):
    client, wire = connect(), broker.connection()
    wire.accept()
    wire.publish(b"a/\xff\xfe", b"1", 1)
    wire.publish(b"\xff" * 16_300, b"", 2)
    wire.publish(b"a/b", b"2", 3)
    taken = client.take(3)
    assert [d.message.topic for d in taken][::2] == ["a/\\xff\\xfe", "a/b"]
    assert len(taken[1].message.topic.encode()) <= 65_535
    client.session.acknowledge(arrived(taken))
    assert [wire.read().body for _ in range(3)] == [b"\x00\x01", b"\x00\x02", b"\x00\x03"]
    assert client.counters.get("ingest.invalid_topics") == 2


class BrokenInbox(Inbox):
    def __init__(self) -> None:
        super().__init__()
        self.failures = 1

    def put(self, arrivals: Arrivals, timeout: float | None = None) -> bool:
        if self.failures:
            self.failures -= 1
            raise RuntimeError("a bug")
        return super().put(arrivals, timeout)


def test_the_session_outlives_any_exception_and_the_message_comes_again(
    broker: FakeBroker, connect: Callable[..., Client], caplog: pytest.LogCaptureFixture
):
    client, wire = connect(inbox=BrokenInbox()), broker.connection()
    wire.accept()
    wire.publish(b"a", b"1", 1)
    wire = broker.connection()
    wire.accept(session_present=True)
    wire.publish(b"a", b"1", 1, dup=True)
    [delivery] = client.take(1)
    assert (delivery.message.payload, delivery.message.dup) == (b"1", True)
    assert client.counters.get("ingest.session_errors") == 1
    assert "the MQTT session broke off" in caplog.text


@pytest.mark.parametrize("callback", ["connected", "subscribed", "tend", "left"])
def test_the_session_outlives_an_exception_in_any_callback(
    broker: FakeBroker, connect: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, callback: str
):
    works, failures = getattr(SessionWatch, callback), [RuntimeError("a bug")]

    def once(*args: object, **options: object) -> None:
        if failures:
            raise failures.pop()
        works(*args, **options)

    monkeypatch.setattr(SessionWatch, callback, once)
    client, wire = connect(), broker.connection()
    with suppress(AssertionError, OSError):  # the connection may end early
        wire.accept()
        wire.close()
    wire = broker.connection()
    wire.accept(session_present=True)
    wire.publish(b"a", b"1", 1)
    client.session.acknowledge(arrived(client.take(1)))
    assert wire.read() == Packet(0x40, b"\x00\x01")
    assert client.counters.get("ingest.session_errors") == 1


def test_messages_carry_our_time_of_arrival(broker: FakeBroker, connect: Callable[..., Client]):
    client, wire = connect(), broker.connection()
    wire.accept()
    client.clock.advance(5)
    wire.publish(b"a", b"1")
    [delivery] = client.take(1)
    assert delivery.message.received == client.clock.now() == client.session.status.last_message


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1, ""),  # paho gives up before it tells us
        (2, "the broker refused the client id 'us': set another mqtt.client_id"),
        (3, "the broker is not ready for us (server unavailable): trying again"),
        (4, "the broker refused user 'ada': check mqtt.username and mqtt.password"),
        (5, "the broker refused user 'ada': check mqtt.username and mqtt.password"),
    ],
)
def test_refusals_are_told_in_one_line(broker: FakeBroker, connect: Callable[..., Client], code: int, expected: str):
    client, wire = connect(username="ada", password="s3cret"), broker.connection()
    wire.read()
    wire.send(0x20, bytes([0, code]))
    until(lambda: client.session.status.last_error != "")
    if expected:
        assert client.session.status.last_error == expected
        assert client.session.status.state in ("refused", "connecting")
    assert "s3cret" not in repr(client.session.status)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (0, "the broker granted only QoS 0 for 'b': messages can be lost on the way; allow QoS 1 at the broker"),
        (0x80, "the broker refuses the subscription to 'b' (unspecified error): check its access list"),
    ],
)
def test_a_subscription_that_is_not_granted_is_told(
    broker: FakeBroker, connect: Callable[..., Client], answer: int, expected: str
):
    client, wire = connect(filters=("a", "b")), broker.connection()
    wire.accept(1, answer)
    assert client.session.wait_connected(20)
    assert client.session.status.last_error.startswith(expected)
    assert client.session.status.granted == {"a": 1, "b": answer}


@pytest.mark.slow
def test_something_that_is_no_broker_is_told(broker: FakeBroker, connect: Callable[..., Client]):
    client, wire = connect(), broker.connection()
    wire.read()
    wire.close()
    until(lambda: "closed the connection when asked for an MQTT 3.1.1 session" in client.session.status.last_error)
    wire = broker.connection()
    wire.wire.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    until(lambda: client.session.status.state == "disconnected")


def test_the_session_is_never_asked_to_begin_anew(broker: FakeBroker, connect: Callable[..., Client]):
    connect(protocol="3.1.1")
    connection = broker.connection().read()
    flags, keepalive = connection.body[7], connection.body[8:10]
    assert flags & 2 == 0, "clean session"
    assert keepalive == (60).to_bytes(2, "big")
    assert connection.body[10:] == b"\x00\x02us"


def test_mqtt_5_asks_for_a_lasting_session_and_a_bounded_window(broker: FakeBroker, connect: Callable[..., Client]):
    connect(protocol="5", session_expiry="2h", receive_maximum=500, max_packet_bytes=1 << 20)
    wire = broker.connection()
    connection = wire.read()
    assert connection.body[7] & 2 == 0, "clean start"
    properties = connection.body[11 : 11 + connection.body[10]]
    assert b"\x11" + (7200).to_bytes(4, "big") in properties, "session expiry interval"
    assert b"\x21" + (500).to_bytes(2, "big") in properties, "receive maximum"
    assert b"\x27" + (1 << 20).to_bytes(4, "big") in properties, "maximum packet size"
    wire.send(0x20, b"\x01\x00\x00")
    subscribe = wire.read()
    assert subscribe.body[-4:] == b"\x00\x01#" + bytes([0b01_0001]), "QoS 1, retained messages only when new"


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_without_expiry_the_broker_is_asked_to_keep_nothing(
    broker: FakeBroker, connect: Callable[..., Client], protocol: str
):
    connect(protocol=protocol, session_expiry="0s")
    assert broker.connection().read().body[7] & 2 == 2, "clean start, clean session"


def test_without_expiry_nobody_misses_the_session(broker: FakeBroker, connect: Callable[..., Client]):
    client = connect(session_expiry="0s")
    for i in range(2):
        wire = broker.connection()
        wire.accept()
        until(lambda count=i: client.session.status.reconnects == count)
        wire.close()
    assert client.counters.get("ingest.sessions_lost") == 0


def test_every_reconnect_goes_for_the_session_again(broker: FakeBroker, connect: Callable[..., Client]):
    client = connect()
    for i in range(3):
        wire = broker.connection()
        assert wire.accept(session_present=i > 0).body[7] & 2 == 0
        assert client.session.wait_connected(20)
        until(lambda count=i: client.session.status.reconnects == count)
        wire.close()
    assert client.counters.get("ingest.sessions_lost") == 0


def test_paho_is_as_we_know_it():
    """What we use beyond its public interface."""
    assert list(inspect.signature(paho.Client._packet_queue).parameters)[:5] == [
        "self",
        "command",
        "packet",
        "mid",
        "qos",
    ]
