"""What the embedded broker does, for both protocol versions; EmbeddedBroker's docstring is this file in words."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from simulators.broker import MAX_INFLIGHT, MAX_PAYLOAD, EmbeddedBroker
from telemetry import TocsinError

Version = Literal["5", "3.1.1"]


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker(backlog_bytes=8 << 20) as running:
        yield running


def until(condition: Callable[[], Any], seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


class Client:
    """A paho client that acknowledges only when told to."""

    def __init__(
        self, broker: EmbeddedBroker, version: Version, name: str, *, clean: bool = False, **options: Any
    ) -> None:
        five = version == "5"
        self.five, self.got, self.mids = five, list[paho.MQTTMessage](), list[int]()
        self.granted: list[int] = []
        self.session_present: bool | None = None
        self.lost = threading.Event()
        self.paho = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{name}-{version}",
            clean_session=None if five else clean,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            manual_ack=True,
            reconnect_on_failure=options.get("reconnect", True),
        )
        self.paho.reconnect_delay_set(1, 1)
        self.paho.on_connect = self._connected
        self.paho.on_message = lambda _c, _d, message: self.got.append(message)
        self.paho.on_subscribe = lambda _c, _d, _m, codes, _p: self.granted.extend(code.value for code in codes)
        self.paho.on_disconnect = lambda *_: self.lost.set()
        properties = Properties(1)  # CONNECT
        properties.SessionExpiryInterval = options.get("expiry", 86_400)
        properties.ReceiveMaximum = options.get("receive_maximum", 500)
        more: dict[str, Any] = {"clean_start": clean, "properties": properties} if five else {}
        self.paho.connect("127.0.0.1", broker.port if five else broker.port_v311, 30, **more)
        self.paho.loop_start()
        assert until(lambda: self.session_present is not None)

    def _connected(self, _client: Any, _data: Any, flags: Any, _reason: Any, _properties: Any) -> None:
        self.session_present = flags.session_present

    def subscribe(self, topic: str, qos: int = 1, retain_handling: int = 1) -> "Client":
        before = len(self.granted)
        for _ in range(3):
            self.lost.clear()
            if self.five:
                self.paho.subscribe(topic, options=SubscribeOptions(qos=qos, retainHandling=retain_handling))
            else:
                self.paho.subscribe(topic, qos)
            assert until(lambda: len(self.granted) > before or self.lost.is_set())
            if len(self.granted) > before:
                return self
            assert until(self.paho.is_connected)  # the broker closed a connection that came too soon after another
        raise AssertionError(f"no subscription to {topic}")

    def publish(self, topic: str, *payloads: bytes, qos: int = 1, retain: bool = False) -> None:
        for info in [self.paho.publish(topic, payload, qos, retain) for payload in payloads]:
            info.wait_for_publish(5)
            assert info.is_published()

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.got]

    def acknowledge(self, messages: list[paho.MQTTMessage]) -> None:
        for message in messages:
            self.paho.ack(message.mid, message.qos)

    def leave(self) -> None:
        """Lose the connection without a DISCONNECT, as EmbeddedBroker's docstring advises."""
        self.lost.clear()
        self.paho._reconnect_on_failure = False
        connection: Any = self.paho.socket()
        connection.shutdown(socket.SHUT_RDWR)
        assert self.lost.wait(5)
        self.paho.loop_stop()

    def say_goodbye(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()


both = pytest.mark.parametrize("version", ["5", "3.1.1"])
NUMBERS = [b"%d" % n for n in range(30)]


@both
def test_a_persistent_session_redelivers_what_was_not_acknowledged_in_order(
    broker: EmbeddedBroker, version: Version
) -> None:
    topic = f"redeliver/{version}"
    first = Client(broker, version, "keeper").subscribe(topic + "/#")
    assert first.session_present is False
    sender = Client(broker, version, "sender", clean=True)
    sender.publish(topic + "/a", *NUMBERS[:20])
    assert until(lambda: len(first.got) == 20)
    first.acknowledge(first.got[:8])
    assert until(lambda: not first.paho.want_write())
    first.subscribe("behind/the/acknowledgements")
    first.leave()
    sender.publish(topic + "/a", *NUMBERS[20:])
    again = Client(broker, version, "keeper")
    assert again.session_present is True
    assert until(lambda: again.payloads()[-1:] == NUMBERS[-1:])
    assert again.payloads() == NUMBERS[8:]
    assert not any(message.dup for message in again.got)  # rumqttd does not set it, against MQTT-3.3.1-1
    for client in (again, sender):
        client.leave()


@both
def test_a_session_outlives_an_orderly_disconnect_and_a_clean_start_ends_it(
    broker: EmbeddedBroker, version: Version
) -> None:
    sender = Client(broker, version, "sender", clean=True)
    Client(broker, version, "comeback", expiry=0).subscribe(f"comeback/{version}").say_goodbye()
    for _ in range(30):  # the broker needs a moment to forget the number of the connection
        sender.publish("other/topic", b"x")
    sender.publish(f"comeback/{version}", b"while you were out")
    back = Client(broker, version, "comeback", expiry=0)
    assert back.session_present is True  # in spite of expiry 0, which MQTT 5 says ends the session
    assert until(lambda: back.payloads() == [b"while you were out"])
    back.leave()
    fresh = Client(broker, version, "comeback", clean=True)
    assert fresh.session_present is False
    fresh.leave()
    sender.leave()


@both
def test_the_window_is_the_brokers_own_whatever_receive_maximum_says(broker: EmbeddedBroker, version: Version) -> None:
    slow = Client(broker, version, "window", receive_maximum=10).subscribe(f"window/{version}")
    sender = Client(broker, version, "sender", clean=True)
    sender.publish(f"window/{version}", *[b"x"] * (MAX_INFLIGHT + 100))
    assert until(lambda: len(slow.got) >= MAX_INFLIGHT)
    sender.publish("other/topic", *[b"gives more of them time to arrive"] * 20)
    assert len(slow.got) == MAX_INFLIGHT
    done = 0
    deadline = time.monotonic() + 10
    while done < MAX_INFLIGHT + 100 and time.monotonic() < deadline:
        fresh = slow.got[done:]
        slow.acknowledge(fresh)
        done += len(fresh)
        time.sleep(0.002)
    assert done == MAX_INFLIGHT + 100
    slow.leave()
    sender.leave()


@both
def test_retained_messages_come_with_the_first_subscription_of_a_session_only(
    broker: EmbeddedBroker, version: Version
) -> None:
    topic = f"retained/{version}"
    sender = Client(broker, version, "sender", clean=True)
    sender.publish(topic, b"old", retain=True)
    reader = Client(broker, version, "reader").subscribe(topic, retain_handling=2)  # "never", and yet:
    assert until(lambda: [(m.payload, m.retain) for m in reader.got] == [(b"old", True)])
    reader.subscribe(topic, retain_handling=0)  # "always", and yet:
    sender.publish(topic, b"new", retain=True)
    assert until(lambda: len(reader.got) > 1)
    assert [(m.payload, bool(m.retain)) for m in reader.got] == [(b"old", True), (b"new", False)]
    reader.leave()
    sender.leave()


@both
def test_the_subscription_decides_the_qos(broker: EmbeddedBroker, version: Version) -> None:
    reader = Client(broker, version, "qos", clean=True).subscribe(f"qos/{version}", qos=1)
    assert reader.granted == [1]
    sender = Client(broker, version, "sender", clean=True)
    for qos in (0, 1):
        sender.publish(f"qos/{version}", b"x", qos=qos)
    assert until(lambda: len(reader.got) == 2)
    assert [message.qos for message in reader.got] == [1, 1]
    reader.leave()
    sender.leave()


@both
def test_payloads_may_be_256_kib_and_not_much_more(broker: EmbeddedBroker, version: Version) -> None:
    reader = Client(broker, version, "big", clean=True).subscribe(f"big/{version}")
    sender = Client(broker, version, "sender", clean=True)
    sender.publish(f"big/{version}", b"x" * MAX_PAYLOAD)
    assert until(lambda: [len(payload) for payload in reader.payloads()] == [MAX_PAYLOAD])
    rude = Client(broker, version, "rude", clean=True, reconnect=False)
    rude.paho.publish(f"big/{version}", b"x" * (MAX_PAYLOAD + 4096), 1)
    assert rude.lost.wait(5)
    assert len(reader.got) == 1
    rude.paho.loop_stop()
    sender.leave()
    reader.leave()


def test_a_lag_beyond_the_backlog_loses_the_oldest(broker: EmbeddedBroker) -> None:
    Client(broker, "5", "laggard").subscribe("lag").leave()
    sender = Client(broker, "5", "sender", clean=True)
    numbers = [b"%03d" % n + b"x" * 100_000 for n in range(120)]
    sender.publish("lag", *numbers)
    back = Client(broker, "5", "laggard")
    assert until(lambda: back.payloads()[-1:] == numbers[-1:])
    assert back.payloads() == numbers[-len(back.got) :]
    assert 60 <= len(back.got) < 120
    back.leave()
    sender.leave()


def test_it_listens_on_loopback_only(broker: EmbeddedBroker) -> None:
    with open("/proc/net/tcp", encoding="ascii") as table:  # noqa: PTH123  # no regular file
        rows = [line.split() for line in table.readlines()[1:]]
    ports = {f"{port:04X}" for port in (broker.port, broker.port_v311)}
    listening = [row[1] for row in rows if row[3] == "0A" and row[1].split(":")[1] in ports]
    assert sorted(address.split(":")[0] for address in listening) == ["0100007F", "0100007F"]


def test_a_taken_port_is_said_clearly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(TocsinError) as caught, EmbeddedBroker(port):
            pass
    assert str(caught.value) == f"port {port} is in use: choose another with --port or stop the other broker"


def test_stop_ends_the_child_frees_the_port_and_may_be_called_twice() -> None:
    running = EmbeddedBroker().start()
    pid, port = running.pid, running.port
    assert pid is not None
    running.stop()
    running.stop()
    assert not running.running
    assert _gone(pid)
    with EmbeddedBroker(port) as again:
        assert again.port == port


def test_the_child_dies_with_its_parent_even_by_kill_9() -> None:
    script = "from simulators.broker import EmbeddedBroker as B\nb = B().start()\nprint(b.pid, flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not _gone(pid)
        parent.kill()
        parent.wait()
    assert until(lambda: _gone(pid))


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:  # noqa: PTH123  # no regular file
            return stat.read().rpartition(") ")[2].startswith("Z")
    except (ProcessLookupError, FileNotFoundError):
        return True
