"""The publisher against mosquitto: its narrow window is kept, and a restart of the broker loses nothing."""

import threading
from collections.abc import Callable

import pytest

from simulators.publisher import run
from simulators.scenario import Scenario
from simulators.sender import PublisherStats
from telemetry import SystemClock, TocsinError
from tests.integration.brokers import Mosquitto
from tests.integration.certificates import Certificates

S = 10**9
CLOCK = SystemClock()


def scenario(duration: str) -> Scenario:
    fleet = {"name": "pump", "devices": 50, "interval": "100ms", "metrics": {"t": {"level": 1, "noise": 1}}}
    return Scenario.model_validate({"duration": duration, "fleets": [fleet]})


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_every_message_is_acknowledged(mosquitto: Mosquitto, protocol: str) -> None:
    report = run(
        scenario("5s"),
        f"mqtt://127.0.0.1:{mosquitto.port}",
        clock=CLOCK,
        stop=threading.Event(),
        epoch_ns=CLOCK.now() - 3600 * S,
        protocol="5" if protocol == "5" else "3.1.1",
    )
    assert report.complete
    assert report.stats.acked == report.stats.messages > 2000
    assert report.stats.reconnects == 0


def test_a_restart_of_the_broker_is_survived(mosquitto: Mosquitto) -> None:
    restarted = threading.Event()

    def restart(stats: PublisherStats) -> None:
        if stats.messages > 200 and not restarted.is_set():
            restarted.set()
            mosquitto.kill()
            mosquitto.start()

    url = f"mqtt://127.0.0.1:{mosquitto.port}"
    report = run(scenario("2s"), url, clock=CLOCK, stop=threading.Event(), progress=restart)
    assert restarted.is_set()
    assert report.complete
    assert report.stats.acked == report.stats.messages
    assert report.stats.reconnects == 4


def test_a_wrong_password_is_one_clear_error(mosquitto_factory: Callable[..., Mosquitto]) -> None:
    broker = mosquitto_factory(users={"sim": "right"})
    url = f"mqtt://127.0.0.1:{broker.port}"
    with pytest.raises(TocsinError, match=r"refuses the connection .*check user, password") as caught:
        run(scenario("1s"), url, clock=CLOCK, stop=threading.Event(), username="sim", password="wrong")
    assert "wrong" not in str(caught.value)
    assert run(scenario("1s"), url, clock=CLOCK, stop=threading.Event(), username="sim", password="right").complete


@pytest.mark.filterwarnings("ignore:unclosed <ssl:ResourceWarning")  # paho forgets the socket of a failed handshake
def test_tls_is_verified_and_a_private_authority_may_be_named(
    mosquitto_factory: Callable[..., Mosquitto], certificates: Certificates
) -> None:
    broker = mosquitto_factory(tls=certificates)
    url = f"mqtts://127.0.0.1:{broker.port}"
    with pytest.raises(TocsinError, match=r"cannot reach the broker at mqtts://.*certificate verify failed"):
        run(scenario("1s"), url, clock=CLOCK, stop=threading.Event())
    report = run(scenario("1s"), url, clock=CLOCK, stop=threading.Event(), ca_file=certificates.ca)
    assert report.complete
