"""The servers that the other integration tests build on do what their fixtures promise."""

import json
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.brokers import Mosquitto, Received, trusting
from tests.integration.certificates import Certificates
from tests.integration.databases import InfluxDB, VictoriaMetrics
from tests.integration.servers import Server, free_port, is_listening, program

MosquittoFactory = Callable[..., Mosquitto]


def subscribe_persistently(broker: Mosquitto) -> list[str]:
    """A client's command that keeps its session, for messages that come while it is away."""
    command = ["mosquitto_sub", "-h", broker.host, "-p", str(broker.port), "-i", "keeper", "-c", "-q", "1", "-t", "#"]
    subprocess.run([*command, "-E"], check=True, timeout=30)
    return command


def test_mosquitto_keeps_what_was_published(mosquitto: Mosquitto):
    mosquitto.publish("greeting/of day", b"\x00\xffhello\n", retain=True)
    assert mosquitto.subscribe("greeting/#", 1) == [Received("greeting/of day", b"\x00\xffhello\n")]


def test_mosquitto_publishes_lines_in_order_over_one_connection(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(persistence=True)
    command = subscribe_persistently(broker)
    broker.publish_lines("numbers", [str(i) for i in range(1500)])
    done = subprocess.run([*command, "-C", "1500", "-W", "30"], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [str(i) for i in range(1500)]


def test_mosquitto_comes_back_on_the_same_port(mosquitto: Mosquitto):
    port = mosquitto.port
    mosquitto.stop()
    assert not is_listening(port)
    mosquitto.restart()
    assert mosquitto.port == port
    assert is_listening(port)


def test_a_saved_session_survives_a_killed_mosquitto(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(persistence=True)
    command = subscribe_persistently(broker)
    broker.publish("kept", "for later")
    broker.save()
    broker.kill()
    broker.start()
    done = subprocess.run([*command, "-C", "1", "-W", "30"], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "for later\n"


def test_mosquitto_lets_only_its_users_in(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(users={"ada": "s3cret", "bob": "pa ss"})
    broker.publish("from", "bob", user="bob", retain=True)
    assert broker.subscribe("from", 1) == [Received("from", b"bob")]
    stranger = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "-t", "from", "-m", "x"]
    wrong = [*stranger, "-u", "ada", "-P", "guess"]
    for command in (stranger, wrong):
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
        assert b"not authorised" in done.stderr.lower()


def test_mosquitto_speaks_tls_under_the_tests_authority(
    mosquitto_factory: MosquittoFactory, certificates: Certificates
):
    broker = mosquitto_factory(tls=certificates)
    broker.publish("secret", "x", retain=True)
    assert broker.subscribe("secret", 1) == [Received("secret", b"x")]
    for name in ("localhost", "127.0.0.1"):
        with socket.create_connection((broker.host, broker.port), timeout=10) as plain:
            trusting(certificates).wrap_socket(plain, server_hostname=name).close()
    with (
        socket.create_connection((broker.host, broker.port), timeout=10) as plain,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


def test_mosquitto_asks_for_client_certificates(mosquitto_factory: MosquittoFactory, certificates: Certificates):
    broker = mosquitto_factory(tls=certificates, client_certificates=True)
    broker.publish("secret", "x", retain=True)
    assert broker.subscribe("secret", 1) == [Received("secret", b"x")]
    command = ["mosquitto_pub", "-h", broker.host, "-p", str(broker.port), "--cafile", str(certificates.ca)]
    done = subprocess.run([*command, "-t", "secret", "-m", "y"], capture_output=True, check=False, timeout=30)
    assert done.returncode != 0


def test_mosquitto_upgrades_to_websockets(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(websockets=True, max_inflight=5, lines=["max_keepalive 60"])
    upgrade = (
        "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    with socket.create_connection((broker.host, broker.websockets_port), timeout=10) as connection:
        connection.sendall(upgrade.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")


def test_a_server_that_cannot_start_fails_the_test_with_its_log(mosquitto_factory: MosquittoFactory):
    with pytest.raises(pytest.fail.Exception, match="no_such_option"):
        mosquitto_factory(lines=["no_such_option true"])


@pytest.mark.parametrize("path", ["/write", "/api/v2/write"])
def test_victoria_metrics_gives_back_what_was_written(victoria_metrics: VictoriaMetrics, path: str):
    body = b"room,device=d1 temperature=21.5 1700000000000000000\nroom,device=d1 temperature=22 1700000001000000000\n"
    victoria_metrics.request("POST", path, body=body)
    [series] = victoria_metrics.export('{device="d1"}')
    assert series["metric"]["__name__"] == "room_temperature"
    assert series["values"] == [21.5, 22]
    assert series["timestamps"] == [1_700_000_000_000, 1_700_000_001_000]
    [sample] = victoria_metrics.query("room_temperature", 1_700_000_001)
    assert sample["value"] == [1_700_000_001, "22"]


def test_victoria_metrics_keeps_its_data_over_a_restart(victoria_metrics: VictoriaMetrics):
    victoria_metrics.request("POST", "/write", body=b"room,device=d1 temperature=21.5 1700000000000000000\n")
    victoria_metrics.restart()
    assert [series["values"] for series in victoria_metrics.export("room_temperature")] == [[21.5]]


def test_influxdb_gives_back_what_was_written_even_after_a_kill(influxdb: InfluxDB):
    influxdb.create_database("house")
    influxdb.request("POST", "/write", fields={"db": "house"}, body=b"room,device=d1 t=0.1 1700000000000000001\n")
    influxdb.kill()
    influxdb.start()
    [series] = influxdb.query("house", 'SELECT "t" FROM "room" GROUP BY *')
    assert series["tags"] == {"device": "d1"}
    assert series["values"] == [[1_700_000_000_000_000_001, 0.1]]
    assert influxdb.query("house", 'SELECT * FROM "nothing"') == []


def test_influxdb_refusing_a_query_fails_the_test(influxdb: InfluxDB):
    with pytest.raises(pytest.fail.Exception, match="database not found"):
        influxdb.query("no_such_database", "SELECT * FROM room")


def test_a_frozen_server_holds_its_connections_and_says_nothing(mosquitto: Mosquitto):
    mosquitto.freeze()
    connect = b"\x10\x10\x00\x04MQTT\x04\x02\x00\x00\x00\x04test"
    with socket.create_connection((mosquitto.host, mosquitto.port), timeout=10) as connection:
        connection.sendall(connect)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(4)
        mosquitto.thaw()
        connection.settimeout(10)
        assert connection.recv(4) == b"\x20\x02\x00\x00"


def test_promtool_checks_a_rule_file(promtool: Path, tmp_path: Path):
    rule = {"alert": "Hot", "expr": "room_temperature > 30", "for": "1m"}
    rules = tmp_path / "rules.yaml"
    rules.write_text(json.dumps({"groups": [{"name": "house", "rules": [rule]}]}))
    done = subprocess.run([promtool, "check", "rules", rules], capture_output=True, text=True, check=True, timeout=30)
    assert "1 rules found" in done.stdout


def test_amtool_checks_a_config(amtool: Path, tmp_path: Path):
    config = tmp_path / "alertmanager.yaml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    done = subprocess.run([amtool, "check-config", config], capture_output=True, text=True, check=True, timeout=30)
    assert "SUCCESS" in done.stdout


def test_a_missing_program_fails_where_ci_is_true_and_skips_elsewhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"no-such-program is not installed \(Debian package nowhere\)"):
        program("no-such-program", "nowhere")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match=r"sh tests/servers\.sh"):
        program("no-such-program", "nowhere")


def test_free_ports_are_free_and_differ():
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert not any(is_listening(port) for port in ports)


def test_every_server_of_a_test_is_listed_to_be_ended_with_it(
    servers: list[Server], mosquitto: Mosquitto, influxdb: InfluxDB
):
    assert servers == [mosquitto, influxdb]
