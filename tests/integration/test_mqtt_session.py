"""Laws of the MQTT session against a real broker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.config import MqttConfig
from ingest.inbox import Inbox
from ingest.mqtt import Session
from telemetry import Counters, SystemClock
from tests.ingest.deliveries import Delivery, arrived, deliveries
from tests.integration.brokers import Mosquitto
from tests.integration.certificates import Certificates
from tests.integration.servers import free_port, wait_until

MosquittoFactory = Callable[..., Mosquitto]


class Client:
    """A session with its inbox, and what was taken out of it."""

    def __init__(
        self, url: str, *, filters: tuple[str, ...] = ("t/#",), former: tuple[str, ...] = (), **config: object
    ) -> None:
        fields = {"client_id": "under-test", "connect_timeout": "5s", "reconnect_delay_max": "1s"} | config
        self.inbox, self.counters = Inbox(), Counters()
        self.session = Session(
            MqttConfig(url=url, **fields),
            filters,
            self.inbox,
            clock=SystemClock(),
            counters=self.counters,
            former=former,
        )
        self.taken: list[Delivery] = []
        self.session.start()

    @property
    def payloads(self) -> list[bytes]:
        return [d.message.payload for d in self.taken]

    @property
    def error(self) -> str:
        return self.session.status.last_error

    def connected(self) -> bool:
        return self.session.wait_connected(20)

    def take(self, count: int) -> list[Delivery]:
        """The next deliveries, `count` at least."""
        before = len(self.taken)

        def enough() -> bool:
            self.taken += deliveries(self.inbox.take(0.05))
            return len(self.taken) >= before + count

        wait_until(enough, what=f"{count} messages arrive")
        return self.taken[before:]


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def start(url: str, **config: object) -> Client:
        clients.append(Client(url, **config))
        return clients[-1]

    yield start
    for client in clients:
        client.session.stop()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_arrive_as_they_were_published(mosquitto: Mosquitto, connect: Callable[..., Client], protocol: str):
    mosquitto.publish("t/old", b"kept", retain=True)
    client = connect(mosquitto.url, protocol=protocol)
    assert client.connected()
    mosquitto.publish("t/ü", b"\x00\xff", qos=1)
    mosquitto.publish("t/0", b"z", qos=0)
    taken = client.take(3)
    assert [(d.message.topic, d.message.payload, d.message.qos, d.message.retain) for d in taken] == [
        ("t/old", b"kept", 1, True),
        ("t/ü", b"\x00\xff", 1, False),
        ("t/0", b"z", 0, False),
    ]
    status = client.session.status
    assert (status.state, status.last_error, status.granted) == ("connected", "", {"t/#": 1})
    assert (status.session_present, status.reconnects) == (False, 0)
    assert status.last_message == taken[-1].message.received


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_published_while_we_were_away_arrive_afterwards(
    mosquitto: Mosquitto, connect: Callable[..., Client], protocol: str
):
    first = connect(mosquitto.url, protocol=protocol)
    assert first.connected()
    first.session.stop()
    assert first.session.status.state == "stopped"
    expected = [b"%d" % i for i in range(50)]
    mosquitto.publish_lines("t/x", [p.decode() for p in expected])
    second = connect(mosquitto.url, protocol=protocol)
    while len(second.taken) < 50:
        second.session.acknowledge(arrived(second.take(1)))  # with 3.1.1, the broker sends 20 ahead
    assert second.payloads == expected
    assert second.session.status.session_present is True


def test_the_acknowledged_stays_away_and_the_unacknowledged_comes_again(
    mosquitto: Mosquitto, connect: Callable[..., Client]
):
    first = connect(mosquitto.url)
    assert first.connected()
    mosquitto.publish_lines("t/x", [str(i) for i in range(20)])
    taken = first.take(20)
    first.session.acknowledge(arrived(taken[:12]))
    first.session.stop()
    # It reads one packet at a time, and would leave the rest unread when another comes with the same client id.
    wait_until(lambda: "Client under-test disconnected" in mosquitto.log_tail(), what="the broker has read it all")
    second = connect(mosquitto.url)
    again = second.take(8)
    assert second.payloads == [b"%d" % i for i in range(12, 20)]
    assert all(d.message.dup for d in again)


def test_the_session_comes_back_after_the_broker_was_killed(
    mosquitto_factory: MosquittoFactory, connect: Callable[..., Client]
):
    broker = mosquitto_factory(persistence=True)
    client = connect(broker.url)
    assert client.connected()
    broker.publish_lines("t/x", ["a", "b", "c"])
    old = client.take(3)
    broker.save()
    broker.kill()
    wait_until(lambda: "is the broker running" in client.error, what="the session notices")
    broker.start()
    assert client.connected()
    assert client.session.status.reconnects == 1
    assert client.session.status.session_present is True
    again = client.take(3)
    assert [d.message.payload for d in again] == [b"a", b"b", b"c"]
    assert {d.epoch for d in again}.isdisjoint({d.epoch for d in old})
    # Acknowledgements of the old connection must not reach the new one, where the identifiers are in use again.
    client.session.acknowledge(arrived(old))
    assert client.counters.get("ingest.stale_acks") == 3
    broker.publish("t/x", "d")
    client.take(1)
    client.session.stop()
    after = connect(broker.url)
    assert [d.message.payload for d in after.take(4)] == [b"a", b"b", b"c", b"d"]


def test_a_lost_session_is_reported(
    mosquitto: Mosquitto, connect: Callable[..., Client], caplog: pytest.LogCaptureFixture
):
    client = connect(mosquitto.url)
    assert client.connected()
    mosquitto.kill()  # without persistence, it forgets everything
    wait_until(lambda: client.session.status.state != "connected", what="the session notices")
    mosquitto.start()
    assert client.connected()
    assert client.session.status.session_present is False
    assert client.counters.get("ingest.sessions_lost") == 1
    assert "the broker has forgotten our session" in caplog.text


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_wrong_password_is_told(
    mosquitto_factory: MosquittoFactory, connect: Callable[..., Client], tmp_path: Path, protocol: str
):
    broker = mosquitto_factory(users={"ada": "s3cret"})
    wrong = connect(broker.url, protocol=protocol, username="ada", password="guess")
    wait_until(lambda: wrong.session.status.state == "refused", what="the broker refuses")
    assert wrong.error == "the broker refused user 'ada': check mqtt.username and mqtt.password"
    assert "guess" not in repr(wrong.session.status)
    nobody = connect(broker.url, protocol=protocol)
    wait_until(lambda: nobody.session.status.state == "refused", what="the broker refuses")
    assert nobody.error.startswith("the broker wants to know who we are: set mqtt.username")
    (tmp_path / "password").write_text("s3cret\n")
    right = connect(broker.url, client_id="other", username="ada", password_file=tmp_path / "password")
    assert right.connected()


def test_an_unreachable_broker_is_told_and_waited_for(
    mosquitto: Mosquitto, connect: Callable[..., Client], caplog: pytest.LogCaptureFixture
):
    mosquitto.stop()
    client = connect(mosquitto.url)
    wait_until(lambda: client.error != "", what="the error shows")
    expected = f"cannot reach {mosquitto.url} (connection refused): is the broker running? check mqtt.url"
    assert client.error == expected
    assert not client.session.wait_connected(0)
    mosquitto.start()
    assert client.connected()
    assert client.error == ""
    assert caplog.text.count(expected) == 1, "once, not at every attempt"


def test_a_host_without_address_is_told(connect: Callable[..., Client]):
    client = connect("mqtt://no-such-host.invalid:1883")
    wait_until(lambda: "no address for 'no-such-host.invalid'" in client.error, what="the error shows")


def test_a_broker_that_hangs_is_told(mosquitto: Mosquitto, connect: Callable[..., Client]):
    mosquitto.freeze()
    client = connect(mosquitto.url, connect_timeout="500ms")
    wait_until(lambda: "did not answer when asked for an MQTT 5 session" in client.error, what="the error shows")
    mosquitto.thaw()
    assert client.connected()


def test_a_broker_that_hangs_later_is_noticed_by_keepalive(mosquitto: Mosquitto, connect: Callable[..., Client]):
    client = connect(mosquitto.url, keepalive="1s", connect_timeout="500ms")
    assert client.connected()
    mosquitto.freeze()
    wait_until(lambda: client.session.status.state != "connected", what="the session notices")
    mosquitto.thaw()
    assert client.connected()


# --- TLS ---


def test_tls_with_an_authority_of_our_own(
    mosquitto_factory: MosquittoFactory, certificates: Certificates, connect: Callable[..., Client]
):
    broker = mosquitto_factory(tls=certificates)
    client = connect(broker.url, ca_file=certificates.ca)
    assert client.connected()
    broker.publish("t/x", "over TLS")
    assert client.take(1)[0].message.payload == b"over TLS"


def test_an_unknown_authority_is_refused(
    mosquitto_factory: MosquittoFactory, certificates: Certificates, connect: Callable[..., Client]
):
    broker = mosquitto_factory(tls=certificates)
    client = connect(broker.url)
    wait_until(lambda: client.error != "", what="the error shows")
    assert "signed by an unknown authority" in client.error
    assert "set mqtt.ca_file to that of its authority" in client.error
    assert client.session.status.state == "disconnected"


def test_insecure_connects_anyway_and_warns(
    mosquitto_factory: MosquittoFactory,
    certificates: Certificates,
    connect: Callable[..., Client],
    caplog: pytest.LogCaptureFixture,
):
    broker = mosquitto_factory(tls=certificates)
    assert connect(broker.url, insecure=True).connected()
    assert "mqtt.insecure is on" in caplog.text


def test_a_certificate_for_another_host_is_refused(
    mosquitto_factory: MosquittoFactory, certificates: Certificates, connect: Callable[..., Client]
):
    broker = mosquitto_factory(tls=certificates)
    client = connect(broker.url.replace("127.0.0.1", "127.1"), ca_file=certificates.ca)
    wait_until(lambda: "its certificate is not for '127.1'" in client.error, what="the error shows")
    assert client.session.status.state != "connected"


def test_a_client_certificate_lets_us_in(
    mosquitto_factory: MosquittoFactory, certificates: Certificates, connect: Callable[..., Client]
):
    broker = mosquitto_factory(tls=certificates, client_certificates=True)
    ours = connect(broker.url, ca_file=certificates.ca, cert_file=certificates.client, key_file=certificates.client_key)
    assert ours.connected()
    nobody = connect(broker.url, ca_file=certificates.ca, client_id="nobody")
    wait_until(lambda: nobody.error != "", what="the error shows")
    assert not nobody.session.wait_connected(0)


def test_tls_against_a_plain_port_and_plain_against_a_tls_port(
    mosquitto_factory: MosquittoFactory, certificates: Certificates, connect: Callable[..., Client]
):
    plain, secured = mosquitto_factory(), mosquitto_factory(tls=certificates)
    client = connect(plain.url.replace("mqtt:", "mqtts:"), ca_file=certificates.ca)
    wait_until(lambda: "does that port speak TLS?" in client.error, what="the error shows")
    client = connect(secured.url.replace("mqtts:", "mqtt:"))
    wait_until(lambda: "without TLS?" in client.error, what="the error shows")


# --- the rest of the protocol ---


def test_websockets(mosquitto_factory: MosquittoFactory, connect: Callable[..., Client]):
    broker = mosquitto_factory(websockets=True)
    client = connect(broker.websockets_url)
    assert client.connected()
    broker.publish("t/x", "over HTTP")
    assert client.take(1)[0].message.payload == b"over HTTP"


def test_a_client_id_used_twice_is_told(mosquitto: Mosquitto, connect: Callable[..., Client]):
    first = connect(mosquitto.url)
    assert first.connected()
    second = connect(mosquitto.url)
    assert second.connected()
    advice = "'under-test' is used twice; give every tocsin its own mqtt.client_id"
    wait_until(lambda: advice in first.error + second.error, what="the error shows")


def test_more_messages_than_the_window_flow_while_they_are_acknowledged(
    mosquitto_factory: MosquittoFactory, connect: Callable[..., Client]
):
    broker = mosquitto_factory(max_inflight=20)
    client = connect(broker.url, receive_maximum=10)
    assert client.connected()
    broker.publish_lines("t/x", [str(i) for i in range(2000)])
    while len(client.taken) < 2000:
        client.session.acknowledge(arrived(client.take(1)))
    assert client.payloads == [b"%d" % i for i in range(2000)]


def test_a_full_inbox_makes_the_broker_wait_and_loses_nothing(mosquitto: Mosquitto, connect: Callable[..., Client]):
    client = connect(mosquitto.url)
    client.inbox._max_messages = 10
    assert client.connected()
    mosquitto.publish_lines("t/x", [str(i) for i in range(500)])
    wait_until(lambda: len(client.inbox) >= 10, what="the inbox is full")
    assert len(client.inbox) < 500, "what was read at once, and no more"
    while len(client.taken) < 500:
        client.session.acknowledge(arrived(client.take(1)))
    assert client.payloads == [b"%d" % i for i in range(500)]


def test_stop_does_not_hang_on_a_full_inbox_or_a_dead_host(mosquitto: Mosquitto, connect: Callable[..., Client]):
    client = connect(mosquitto.url)
    client.inbox._max_messages = 1
    assert client.connected()
    mosquitto.publish_lines("t/x", ["a", "b", "c"])
    wait_until(lambda: len(client.inbox) >= 1, what="the inbox is full")
    client.session.stop()
    assert client.session.status.state == "stopped"
    dead = connect(f"mqtt://127.0.0.1:{free_port()}")
    dead.session.stop()
    assert dead.session.status.state == "stopped"


def test_stopped_and_started_again_it_goes_on(mosquitto: Mosquitto, connect: Callable[..., Client]):
    client = connect(mosquitto.url)
    for i in range(3):
        assert client.connected()
        mosquitto.publish("t/x", str(i))
        client.session.acknowledge(arrived(client.take(1)))
        client.session.stop()
        client.session.start()
    assert client.payloads == [b"0", b"1", b"2"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_what_is_no_longer_wanted_no_longer_comes(mosquitto: Mosquitto, connect: Callable[..., Client], protocol: str):
    first = connect(mosquitto.url, protocol=protocol, filters=("t/#", "u/#"))
    assert first.connected()
    first.session.stop()
    second = connect(mosquitto.url, protocol=protocol, filters=("u/#",), former=("t/#", "u/#"))
    assert second.connected()

    mosquitto.publish("t/1", b"old")
    mosquitto.publish("u/1", b"new")

    assert [d.message.topic for d in second.take(1)] == ["u/1"]
