"""The publisher against a real broker: everything arrives, in order, at its time, and over lost connections."""

import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Literal

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from simulators.broker import EmbeddedBroker
from simulators.fleet import publications
from simulators.publisher import Address, Report, run
from simulators.scenario import Scenario
from simulators.sender import PublisherStats
from telemetry import SystemClock, TocsinError

S = 10**9
CLOCK = SystemClock()


@pytest.fixture(scope="module")
def broker() -> Iterator[EmbeddedBroker]:
    with EmbeddedBroker() as running:
        yield running


@pytest.fixture
def inbox(broker: EmbeddedBroker) -> Iterator["queue.Queue[tuple[str, bytes]]"]:
    """All that reaches the broker, with the time of arrival."""
    found: queue.Queue[tuple[str, bytes]] = queue.Queue()
    ready = threading.Event()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv311)
    client.on_connect = lambda c, *_: c.subscribe("sensors/#", 1)
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _c, _d, message: found.put((message.topic, message.payload))
    client.connect("127.0.0.1", broker.port_v311)
    client.loop_start()
    assert ready.wait(5)
    yield found
    client.disconnect()
    client.loop_stop()


def scenario(*faults: dict[str, Any], duration: str = "1s", **fleet: Any) -> Scenario:
    fleet = {"name": "pump", "devices": 50, "interval": "100ms", "metrics": {"t": {"level": 1, "noise": 1}}} | fleet
    return Scenario.model_validate({"seed": 1, "duration": duration, "fleets": [fleet], "faults": list(faults)})


def publish(plan: Scenario, url: str, **options: Any) -> Report:
    return run(plan, url, clock=CLOCK, stop=options.pop("stop", threading.Event()), **options)


def take(inbox: "queue.Queue[tuple[str, bytes]]", count: int) -> list[tuple[str, bytes]]:
    return [inbox.get(timeout=5) for _ in range(count)]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize("qos", [0, 1])
def test_everything_arrives_once_and_in_order_for_each_device(
    broker: EmbeddedBroker, inbox: "queue.Queue[tuple[str, bytes]]", protocol: Literal["5", "3.1.1"], qos: int
) -> None:
    plan = scenario(qos=qos, duration="5s")
    epoch = CLOCK.now() - 3600 * S  # in the past: as fast as the broker takes it
    url = broker.url if protocol == "5" else broker.url_v311
    report = publish(plan, url, protocol=protocol, epoch_ns=epoch)
    planned, found = defaultdict(list), defaultdict(list)
    for p in publications(plan, epoch_ns=epoch):
        planned[p.topic].append(p.payload)
    for topic, payload in take(inbox, report.stats.messages):
        found[topic].append(payload)
    assert found == planned
    assert report.complete
    assert not report.stopped
    assert report.stats.acked == (report.stats.messages if qos else 0)
    assert report.stats.readings == report.stats.messages == sum(map(len, planned.values()))
    assert inbox.empty()


def test_messages_go_out_at_their_planned_time(broker: EmbeddedBroker) -> None:
    plan = scenario(duration="1s")
    begun = time.monotonic()
    report = publish(plan, broker.url)
    last = max(p.at_ns for p in publications(plan, epoch_ns=0)) / S
    assert last <= time.monotonic() - begun < last + 1
    assert report.stats.worst_lag_ns < S // 2


def test_a_storm_drops_every_connection_and_loses_nothing(
    broker: EmbeddedBroker, inbox: "queue.Queue[tuple[str, bytes]]"
) -> None:
    seen: list[PublisherStats] = []
    plan = scenario({"kind": "reconnect_storm", "at": "300ms", "for": "400ms"}, duration="1500ms")
    report = publish(plan, broker.url, progress=seen.append)
    assert report.stats.reconnects == 4
    assert report.complete
    assert any(stats.connections == 0 for stats in seen)
    wanted = {(p.topic, p.payload) for p in publications(plan, epoch_ns=report.epoch_ns)}
    found: set[tuple[str, bytes]] = set()
    while found != wanted:
        found.add(inbox.get(timeout=5))
    assert 300_000_000 < report.stats.worst_lag_ns < 3 * S


def test_it_stops_soon_when_asked_to_and_says_so(broker: EmbeddedBroker) -> None:
    stop = threading.Event()

    def enough(stats: PublisherStats) -> None:
        if stats.messages > 20:
            stop.set()

    report = publish(scenario(duration="0"), broker.url, stop=stop, progress=enough)
    assert report.stopped
    assert report.complete
    assert report.end_ns - report.epoch_ns < 5 * S


def test_nobody_at_the_address_is_one_clear_error() -> None:
    with pytest.raises(TocsinError, match=r"cannot reach the broker at mqtt://127\.0\.0\.1:1 .*is it running\?"):
        publish(scenario(), "mqtt://127.0.0.1:1")


def test_the_wrong_protocol_version_is_one_clear_error(broker: EmbeddedBroker) -> None:
    with pytest.raises(TocsinError, match="does it speak this MQTT version"):
        publish(scenario(), broker.url, protocol="3.1.1")


@pytest.mark.parametrize("url", ["http://host", "mqtt://", "mqtt://host:port", "mqtt://user:secret@host", "host:1883"])
def test_a_wrong_url_is_one_clear_error_without_secrets(url: str) -> None:
    with pytest.raises(TocsinError, match="a broker URL looks like") as caught:
        Address.parse(url)
    assert "secret" not in str(caught.value)


def test_a_url_without_a_port_means_the_usual_one() -> None:
    assert Address.parse("mqtt://host") == Address("host", 1883, tls=False)
    assert str(Address.parse("mqtts://host")) == "mqtts://host:8883"
