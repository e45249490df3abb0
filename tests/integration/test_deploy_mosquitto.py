"""deploy/mosquitto does what it says: real mosquitto with that configuration, and tocsin's session as its user."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.inbox import Inbox
from ingest.mqtt import Session
from telemetry import Counters, Message, SystemClock
from tests.ingest.deliveries import deliveries
from tests.integration.certificates import Certificates
from tests.integration.servers import Server, free_port, program, wait_until
from tocsin.config import load_config

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
PASSWORDS = {"tocsin": "read", "p17": "write", "f042": "cold"}


class Broker(Server):
    """Mosquitto with the example configuration, its paths and its port moved to where a test may write."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        port = free_port()
        super().__init__(
            [program("mosquitto", "mosquitto"), "-c", directory / "mosquitto.conf"], directory=directory, port=port
        )
        self.certificates = certificates
        for name, password in PASSWORDS.items():
            new = [] if (directory / "passwords").exists() else ["-c"]
            command: list[str | Path] = [
                program("mosquitto_passwd", "mosquitto"),
                "-b",
                *new,
                directory / "passwords",
                name,
                password,
            ]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
        (directory / "tocsin.acl").write_text((DEPLOY / "mosquitto/tocsin.acl").read_text())
        text = (DEPLOY / "mosquitto/tocsin.conf").read_text()
        for written, here in (
            ("listener 8883", f"listener {port} {self.host}"),
            ("/etc/mosquitto/certs/ca.pem", str(certificates.ca)),
            ("/etc/mosquitto/certs/server.pem", str(certificates.server)),
            ("/etc/mosquitto/certs/server.key", str(certificates.server_key)),
            ("/etc/mosquitto/", f"{directory}/"),
        ):
            assert written in text
            text = text.replace(written, here)
        debian = f"user root\npersistence true\npersistence_location {directory}/\n"  # what the main file has there
        (directory / "mosquitto.conf").write_text(debian + text)

    def publish(self, user: str | None, topic: str, payload: str) -> subprocess.CompletedProcess[str]:
        command: list[str | Path] = [
            program("mosquitto_pub", "mosquitto-clients"),
            "-h",
            "localhost",
            "-p",
            str(self.port),
            "-q",
            "1",
        ]
        command += ["--cafile", self.certificates.ca, "-t", topic, "-m", payload]
        command += ["-u", user, "-P", PASSWORDS[user]] if user else []
        return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture
def broker(servers: list[Server], tmp_path: Path, certificates: Certificates) -> Broker:
    server = Broker(tmp_path, certificates)
    servers.append(server)
    server.start()
    return server


@pytest.fixture
def session(broker: Broker) -> Iterator[tuple[Session, Inbox]]:
    """The session of deploy/tocsin.yaml, with this broker's address and authority."""
    secrets = {"MQTT_PASSWORD": PASSWORDS["tocsin"], "INFLUX_TOKEN": "x", "HOOK_TOKEN": "x"}
    config = load_config(DEPLOY / "tocsin.yaml", env=secrets).config
    mqtt = config.mqtt.model_copy(update={"url": f"mqtts://localhost:{broker.port}", "ca_file": broker.certificates.ca})
    inbox = Inbox()
    filters = [stream.filter for stream in config.streams]
    found = Session(mqtt, filters, inbox, clock=SystemClock(), counters=Counters())
    found.start()
    yield found, inbox
    found.stop()


def test_tocsin_gets_its_topics_with_qos_1_and_the_devices_their_own(
    broker: Broker, session: tuple[Session, Inbox]
) -> None:
    tocsin, inbox = session
    assert tocsin.wait_connected(20), tocsin.status.last_error
    assert set(tocsin.status.granted.values()) == {1}

    broker.publish("p17", "plant/ams/pumps/p99", "forged")
    broker.publish("f042", "plant/ams/pumps/p17", "forged")
    for topic in ("plant/ams/pumps/p17", "plant/ams/pumps/tocsin", "plant/ams/lines/tocsin", "coldchain/a/tocsin/lid"):
        broker.publish("tocsin", topic, "written by the reader")
    broker.publish("f042", "coldchain/ber/f042/lid", "CLOSED")
    broker.publish("p17", "plant/ams/pumps/p17", '{"temperature": 45}')
    got: list[Message] = []

    def two() -> bool:
        got.extend(d.message for d in deliveries(inbox.take(0.05)))
        return len(got) >= 2

    wait_until(two, what="the two honest messages arrive")
    assert [(m.topic, m.payload) for m in got] == [
        ("coldchain/ber/f042/lid", b"CLOSED"),
        ("plant/ams/pumps/p17", b'{"temperature": 45}'),
    ]
    assert all(m.qos == 1 for m in got)


def test_nobody_comes_in_without_a_name(broker: Broker) -> None:
    assert broker.publish(None, "plant/ams/pumps/p17", "anonymous").returncode != 0


def test_what_comes_while_tocsin_is_away_waits_for_it_even_if_the_broker_restarts(
    broker: Broker, session: tuple[Session, Inbox]
) -> None:
    tocsin, inbox = session
    assert tocsin.wait_connected(20), tocsin.status.last_error
    tocsin.stop()
    sent = [f'{{"temperature": {n}}}' for n in range(5)]
    for payload in sent:
        assert broker.publish("p17", "plant/ams/pumps/p17", payload).returncode == 0
    broker.restart()
    tocsin.start()
    got: list[str] = []

    def all_of_them() -> bool:
        got.extend(d.message.payload.decode() for d in deliveries(inbox.take(0.05)))
        return len(got) >= len(sent)

    wait_until(all_of_them, what="what was kept arrives")
    assert got == sent
