"""What becomes of messages when the broker or the network fails: nothing acknowledged is lost, and a loss is seen."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.config import JournalConfig, MqttConfig
from ingest.guarantee import Guarantee
from ingest.inbox import Inbox
from ingest.journal import Journal
from ingest.mqtt import Session
from ingest.receiver import Receiver
from telemetry import Counters, SystemClock
from tests.ingest.deliveries import arrived, deliveries
from tests.integration.brokers import Mosquitto
from tests.integration.proxy import Proxy
from tests.integration.servers import wait_until

MosquittoFactory = Callable[..., Mosquitto]


class Reception:
    """Session, receiver and journal, as in a pipeline."""

    def __init__(self, directory: Path, url: str, **mqtt: object) -> None:
        self.counters, inbox, clock = Counters(), Inbox(), SystemClock()
        fields = {"client_id": "under-test", "connect_timeout": "1s", "reconnect_delay_max": "1s"} | mqtt
        (directory / "journal").mkdir(exist_ok=True)
        self.journal = Journal(directory / "journal", config=JournalConfig())
        self.session = Session(
            MqttConfig(url=url, **fields),
            ["t/#"],
            inbox,
            clock=clock,
            counters=self.counters,
            record=directory / "session.json",
        )
        self.receiver = Receiver(inbox, self.journal, self.session, clock=clock, counters=self.counters)
        self.receiver.start()
        assert self.session.wait_connected(20), self.session.status.last_error

    def close(self) -> None:
        self.receiver.stop()
        self.journal.close()

    @property
    def payloads(self) -> list[str]:
        """In the journal, in order, without repetitions."""
        found: dict[str, None] = {}
        offset = 0
        while len(records := self.journal.read(offset)):
            pairs = zip(records.topics, records.payloads, strict=True)
            found |= dict.fromkeys(payload.decode() for topic, payload in pairs if topic)
            offset = records.next
        return list(found)

    @property
    def guarantee(self) -> Guarantee:
        [only] = self.session.guarantees()
        return only

    def has(self, expected: list[str]) -> None:
        wait_until(lambda: len(self.payloads) >= len(expected), what=f"{len(expected)} messages are in the journal")
        assert self.payloads == expected


@pytest.fixture
def receive(tmp_path: Path) -> Iterator[Callable[..., Reception]]:
    opened: list[Reception] = []

    def start(url: str, **mqtt: object) -> Reception:
        opened.append(Reception(tmp_path, url, **mqtt))
        return opened[-1]

    yield start
    if opened:
        opened[-1].close()


@pytest.fixture
def proxy(mosquitto: Mosquitto) -> Iterator[Proxy]:
    with Proxy(mosquitto.port) as between:
        yield between


def numbers(begin: int, end: int) -> list[str]:
    return [str(i) for i in range(begin, end)]


def test_a_broker_that_restarts_with_its_sessions_on_disk_loses_nothing(
    mosquitto_factory: MosquittoFactory, receive: Callable[..., Reception]
):
    broker = mosquitto_factory(persistence=True)
    reception = receive(broker.url)
    assert (reception.guarantee.level, reception.guarantee.caveats) == ("G2", ())
    broker.publish_lines("t/x", numbers(0, 100))
    broker.restart()
    wait_until(lambda: reception.session.status.reconnects == 1, what="it comes back")
    broker.publish_lines("t/x", numbers(100, 200))
    reception.has(numbers(0, 200))
    assert reception.session.losses == ()


def test_a_broker_that_is_killed_and_forgets_is_a_loss_that_is_seen(
    mosquitto: Mosquitto, receive: Callable[..., Reception], caplog: pytest.LogCaptureFixture
):
    reception = receive(mosquitto.url)
    mosquitto.publish("t/x", "before")
    reception.has(["before"])
    killed = SystemClock().now()
    mosquitto.kill()
    wait_until(lambda: reception.guarantee.caveats != (), what="the guarantee shows that we are away")
    assert reception.guarantee.level == "G2"
    assert "not connected since" in reception.guarantee.caveats[0]
    mosquitto.start()
    assert reception.session.wait_connected(20)
    [loss] = reception.session.losses
    assert loss.since <= killed + 10**9
    assert killed < loss.until <= SystemClock().now()
    assert reception.counters.get("ingest.sessions_lost") == 1
    assert "the broker has forgotten our session 'under-test': what it had not delivered by" in caplog.text
    assert "had forgotten our session" in reception.guarantee.caveats[0]
    mosquitto.publish("t/x", "after")
    reception.has(["before", "after"])


def test_a_broker_that_forgets_while_tocsin_is_stopped_is_a_loss_that_is_seen(
    mosquitto: Mosquitto, receive: Callable[..., Reception]
):
    first = receive(mosquitto.url)
    first.close()
    mosquitto.publish("t/x", "waits for us")
    mosquitto.kill()
    mosquitto.start()
    second = receive(mosquitto.url)
    assert second.counters.get("ingest.sessions_lost") == 1
    assert len(second.session.losses) == 1


def test_a_connection_that_is_cut_again_and_again_loses_nothing(
    mosquitto: Mosquitto, proxy: Proxy, receive: Callable[..., Reception]
):
    reception = receive(proxy.url)
    for round_ in range(4):
        mosquitto.publish_lines("t/x", numbers(round_ * 500, round_ * 500 + 250))
        proxy.cut()
        mosquitto.publish_lines("t/x", numbers(round_ * 500 + 250, round_ * 500 + 500))
        wait_until(lambda n=round_: reception.session.status.reconnects > n, what="it comes back")
    reception.has(numbers(0, 2_000))
    assert reception.session.losses == ()
    assert reception.guarantee.level == "G2"


def test_what_was_not_acknowledged_when_the_network_stalled_comes_again_marked(
    mosquitto: Mosquitto, proxy: Proxy, tmp_path: Path
):
    counters, inbox = Counters(), Inbox()
    config = MqttConfig(url=proxy.url, client_id="under-test", keepalive="1s", connect_timeout="1s")
    session = Session(config, ["t/#"], inbox, clock=SystemClock(), counters=counters)
    session.start()
    try:
        assert session.wait_connected(20)
        mosquitto.publish_lines("t/x", ["a", "b"])
        wait_until(lambda: len(inbox) == 2, what="both arrive")
        held = arrived(deliveries(inbox.take(0)))
        proxy.stall()
        session.acknowledge(held[:1])  # into the void
        wait_until(lambda: session.status.state != "connected", what="the silence is noticed by keepalive")
        proxy.cut()
        proxy.flow()
        wait_until(lambda: session.status.reconnects == 1, what="it comes back")
        wait_until(lambda: len(inbox) >= 1, what="what was not acknowledged comes again")
        again = deliveries(inbox.take(0))
        wait_until(
            lambda: bool(again.extend(deliveries(inbox.take(0.05)))) or again[-1].message.payload == b"b",
            what="b comes",
        )
        assert all(d.message.dup for d in again)
        session.acknowledge(held)  # of the old connection: must not reach the new one
        assert counters.get("ingest.stale_acks") == 2
        session.stop()
        session.start()
        wait_until(lambda: len(inbox) >= len(again), what="they come again: nothing was acknowledged")
    finally:
        session.stop()


def test_a_network_that_is_silent_for_a_while_loses_nothing(
    mosquitto: Mosquitto, proxy: Proxy, receive: Callable[..., Reception]
):
    reception = receive(proxy.url, keepalive="1s")
    mosquitto.publish_lines("t/x", numbers(0, 100))
    proxy.stall()
    mosquitto.publish_lines("t/x", numbers(100, 200))
    wait_until(lambda: reception.session.status.state == "disconnected", what="the silence is noticed")
    assert reception.guarantee.level == "G2"
    proxy.flow()
    reception.has(numbers(0, 200))
    assert reception.session.losses == ()


def test_less_than_qos_1_is_shown_and_told_once(
    mosquitto_factory: MosquittoFactory, receive: Callable[..., Reception], caplog: pytest.LogCaptureFixture
):
    broker = mosquitto_factory()
    broker.stop()
    config = broker.directory / "mosquitto.conf"
    config.write_text(config.read_text() + "max_qos 0\n")
    broker.start()
    reception = receive(broker.url)
    assert reception.guarantee.level == "G0"
    assert any("max_qos" in reason for reason in reception.guarantee.reasons)
    broker.restart()
    wait_until(lambda: reception.session.status.reconnects == 1, what="it comes back")
    assert reception.session.wait_connected(20)
    assert caplog.text.count("t/#: only G0 now") == 1


def test_devices_that_publish_with_qos_0_lower_the_promise(mosquitto: Mosquitto, receive: Callable[..., Reception]):
    reception = receive(mosquitto.url)
    mosquitto.publish("t/x", "a", qos=0)
    wait_until(lambda: reception.guarantee.level == "G0", what="it shows")
    assert reception.guarantee.reasons == ("its devices publish with QoS 0: let them publish with QoS 1",)
    mosquitto.publish("t/x", "b", qos=1)
    wait_until(lambda: reception.guarantee.level == "G2", what="it shows")
    assert "some messages come with QoS 0" in reception.guarantee.caveats[0]
