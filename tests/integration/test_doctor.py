"""tocsin doctor against brokers with known settings: it finds them, names what to change, and leaves nothing behind."""

import json
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ingest.config import MqttConfig
from ingest.streams import StreamConfig
from simulators.broker import MAX_INFLIGHT, EmbeddedBroker
from telemetry import SystemClock
from tests.integration.brokers import Mosquitto
from tests.integration.certificates import Certificates
from tests.integration.servers import free_port, wait_until
from tests.integration.tocsin_process import TOCSIN
from tocsin.cli import main
from tocsin.doctor import connecting, messages, sessions
from tocsin.doctor.examine import examine
from tocsin.doctor.finding import CannotTell, Finding
from tocsin.doctor.target import Scope, Target

MosquittoFactory = Callable[..., Mosquitto]
Check = Callable[[Target], Iterator[Finding]]


def scope(url: str, *, streams: tuple[str, ...] = (), **options: object) -> Scope:
    mine = {key: options.pop(key) for key in ("messages", "max_payload_bytes") if key in options}
    named = tuple(StreamConfig(name=f"s{i}", topic=topic) for i, topic in enumerate(streams))
    return Scope(mqtt=MqttConfig(url=url, connect_timeout="5s", **options), streams=named, **({"messages": 300} | mine))


def found(url: str, **options: object) -> dict[str, Finding]:
    """The whole examination, by check."""
    return {finding.check: finding for finding in examine(scope(url, **options), SystemClock())}


def checked(check: Check, url: str, **options: object) -> list[Finding]:
    """One check alone, after that which tells the broker's name."""
    target = Target(scope(url, **options), SystemClock())
    try:
        list(connecting.protocols(target))
        list(connecting.software(target))
        return list(check(target))
    finally:
        target.clean_up()


def traces(broker: Mosquitto) -> list[str]:
    """Sessions and topics of ours that the broker saves to its disk."""
    broker.save()
    data = (broker.directory / "mosquitto.db").read_bytes()
    return [word for word in ("tocsin-dr-", "tocsin-doctor/") if word.encode() in data]


def test_a_good_broker_has_no_problems_and_nothing_is_left_there(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(persistence=True)
    findings = found(broker.url)
    assert {f.check for f in findings.values() if f.severity not in ("ok", "note")} == set()
    assert findings["protocol"].summary == "MQTT 5 and 3.1.1 work here"
    assert findings["software"].summary.startswith("mosquitto version ")
    assert findings["round trip"].figures["messages_per_second"] > 0
    assert findings["window (5)"].figures == {"ahead": 1000}
    assert findings["window (3.1.1)"].figures == {"ahead": 20}
    assert findings["session"].figures == {"present": True, "redelivered": 3, "dup": True}
    assert findings["queue"].figures == {"sent": 300, "acknowledged": 300, "kept": 300}
    assert findings["expiry"].figures == {"honoured": True}
    assert findings["retained"].figures == {"kept": True, "come_again": False}
    assert findings["payload size"].figures == {"passes_bytes": 262_144}
    assert "mosquitto.conf: persistence true" in findings["disk"].change
    assert traces(broker) == []


def test_a_short_queue_is_a_problem_and_the_setting_that_helps_is_named(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(lines=["max_queued_messages 100"])
    [finding] = checked(sessions.queue, broker.url)
    assert (finding.severity, finding.figures) == ("problem", {"sent": 300, "acknowledged": 300, "kept": 100})
    assert "the newest were dropped" in finding.summary
    setting = finding.change[0].removeprefix("mosquitto.conf: ")
    better = mosquitto_factory(lines=[setting])
    assert [f.severity for f in checked(sessions.queue, better.url)] == ["ok"]


def test_a_small_window_counts_for_the_protocol_in_use(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(max_inflight=7)
    v5, v3 = checked(messages.window, broker.url)
    assert (v5.severity, v5.figures, v3.severity, v3.figures) == ("ok", {"ahead": 1000}, "note", {"ahead": 7})
    v3, v5 = checked(messages.window, broker.url, protocol="3.1.1")
    assert (v3.severity, v3.figures) == ("warning", {"ahead": 7})
    assert v3.change == ("mosquitto.conf: max_inflight_messages 1000",)
    better = mosquitto_factory(lines=[v3.change[0].removeprefix("mosquitto.conf: ")])
    assert checked(messages.window, better.url, protocol="3.1.1")[0].severity == "ok"


def test_a_size_limit_is_found_and_named(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(lines=["message_size_limit 20000"])
    [finding] = checked(messages.payload_size, broker.url, max_payload_bytes=65_536)
    assert finding.severity == "warning"
    assert 17_500 <= finding.figures["passes_bytes"] <= 20_000
    assert finding.change[0] == "mosquitto.conf: message_size_limit 65536, or no such line"
    assert [f.severity for f in checked(messages.payload_size, broker.url, max_payload_bytes=20_000)] == ["ok"]


def test_a_broker_without_retained_messages_is_no_problem(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(lines=["retain_available false"])
    [finding] = checked(messages.retained, broker.url)
    assert (finding.severity, finding.figures) == ("note", {"kept": False})


def test_a_broker_that_takes_only_qos_0_is_a_problem(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory()
    broker.stop()
    config = broker.directory / "mosquitto.conf"
    config.write_text(config.read_text() + "max_qos 0\n")
    broker.start()
    [finding] = checked(connecting.announcement, broker.url)
    assert (finding.severity, finding.figures["maximum_qos"]) == ("problem", 0)


def test_a_session_that_the_broker_forgets_is_a_problem(monkeypatch: pytest.MonkeyPatch, mosquitto: Mosquitto):
    monkeypatch.setattr(Target, "lasting", lambda self, name, expiry=0: self.client(name))  # as if it did
    [finding] = checked(sessions.reconnect, mosquitto.url)
    assert (finding.severity, finding.figures) == ("problem", {"present": False})


def test_tls_and_a_password(mosquitto_factory: MosquittoFactory, certificates: Certificates, tmp_path: Path):
    broker = mosquitto_factory(tls=certificates, users={"ada": "s3cret"})
    (tmp_path / "password").write_text("s3cret\n")
    access = {"username": "ada", "password_file": tmp_path / "password", "ca_file": certificates.ca}
    findings = found(broker.url, **access)
    assert {f.check for f in findings.values() if f.severity not in ("ok", "note")} == {"encryption"}
    assert findings["encryption"].figures["certificate_days"] in (0, 1)
    assert "good for" in findings["encryption"].summary
    assert findings["strangers"].summary == "without a name, the broker lets nobody in"
    assert "s3cret" not in repr(findings)
    [finding] = checked(connecting.encryption, broker.url, username="ada", password="s3cret", insecure=True)
    assert finding.severity == "warning"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"username": "ada", "password": "guess"}, "the broker refused user 'ada'"),
        ({}, "the broker wants to know who we are"),
    ],
)
def test_who_is_not_let_in_learns_why(mosquitto_factory: MosquittoFactory, options: dict[str, str], said: str):
    broker = mosquitto_factory(users={"ada": "s3cret"})
    findings = found(broker.url, **options)
    assert list(findings) == ["connection"]
    assert findings["connection"].severity == "problem"
    assert findings["connection"].summary.startswith(said)


def test_who_may_not_publish_learns_what_to_allow(mosquitto_factory: MosquittoFactory, tmp_path: Path):
    acl = tmp_path / "acl"
    acl.write_text("user ada\ntopic read $SYS/#\n")
    broker = mosquitto_factory(users={"ada": "s3cret"}, lines=[f"acl_file {acl}"])
    access = {"username": "ada", "password": "s3cret"}
    findings = found(broker.url, **access)
    assert "queue" not in findings
    assert findings["access"].severity == "warning"
    lines = [line.removeprefix("the file of acl_file: ") for line in findings["access"].change[:2]]
    acl.write_text("\n".join(["user ada", "topic read $SYS/#", *lines, ""]))
    broker.restart()
    [finding] = checked(messages.access, broker.url, **access)
    assert finding.severity == "ok"


def test_streams_that_are_heard_are_told_from_those_that_are_not(mosquitto: Mosquitto):
    target = Target(scope(mosquitto.url, streams=("busy/{device}", "quiet/{device}")), SystemClock())
    busy, quiet = _while_publishing(mosquitto, "busy/d1", 1, lambda: list(messages.streams(target)))
    assert (busy.check, busy.severity, quiet.severity) == ("stream s0", "ok", "note")
    busy, quiet = _while_publishing(mosquitto, "busy/d1", 0, lambda: list(messages.streams(target)))
    assert (busy.severity, busy.change) == ("warning", ("devices: publish with QoS 1",))


def _while_publishing(broker: Mosquitto, topic: str, qos: int, ask: Callable[[], list[Finding]]) -> list[Finding]:
    enough = threading.Event()

    def publish() -> None:
        while not enough.is_set():
            broker.publish(topic, b"1", qos=qos)

    publisher = threading.Thread(target=publish)
    publisher.start()
    try:
        return ask()
    finally:
        enough.set()
        publisher.join()


def test_the_embedded_broker_is_seen_for_what_it_is():
    with EmbeddedBroker() as broker:
        findings = found(broker.url)
        problems = {f.check for f in findings.values() if f.severity in ("problem", "warning")}
        assert problems == set()
        assert findings["protocol"].summary == "MQTT 5 work here"
        assert findings["software"].severity == "note"
        assert findings["window (5)"].figures == {"ahead": MAX_INFLIGHT}
        assert findings["session"].figures == {"present": True, "redelivered": 3, "dup": False}
        assert findings["queue"].figures["kept"] == 300
        assert found(broker.url_v311)["protocol"].change == ('tocsin.yaml: mqtt.protocol: "3.1.1"',)


def test_a_broker_that_dies_meanwhile_is_told_and_nothing_hangs(mosquitto: Mosquitto):
    target = Target(scope(mosquitto.url), SystemClock())
    list(connecting.protocols(target))
    mosquitto.kill()
    told: list[str] = []
    with pytest.raises(CannotTell, match="is the broker running"):
        list(sessions.queue(target))
    target.clean_up(told.append)
    [line] = told
    assert line.startswith("cannot end the session 'tocsin-dr-")


# --- the command ---


def test_the_command_says_it_all_and_exits_with_1_for_a_problem(mosquitto_factory: MosquittoFactory):
    broker = mosquitto_factory(lines=["max_queued_messages 100"])
    done = CliRunner().invoke(main, ["doctor", "--broker", broker.url, "--messages", "200"])
    assert done.exit_code == 1
    assert "✗ queue            100 of 200 messages waited" in done.output
    assert "→ mosquitto.conf: max_queued_messages 1000000" in done.output
    problems = done.output.count("\n✗ ")  # 2 where such a queue also loses messages of the burst, which is a race
    ends = f"{problems} problem{'' if problems == 1 else 's'}, 0 warnings: see the arrows for what to change\n"
    assert done.output.endswith(ends)


def test_the_command_takes_everything_from_the_configuration(mosquitto_factory: MosquittoFactory, tmp_path: Path):
    broker = mosquitto_factory(users={"ada": "s3cret"})
    text = f"mqtt: {{url: {broker.url}, username: ada, password: s3cret, session_expiry: 2h}}\n"
    (tmp_path / "tocsin.yaml").write_text(text + "streams: [{name: plant, topic: 'plant/{device}'}]\n")
    options = ["doctor", "-c", str(tmp_path / "tocsin.yaml"), "--messages", "100", "--json"]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    said = json.loads(done.output)
    assert (said["ok"], said["broker"]) == (True, broker.url)
    by_check = {finding["check"]: finding for finding in said["findings"]}
    assert by_check["stream plant"]["severity"] == "note"
    assert by_check["announcement"]["figures"]["session_expiry_seconds"] == 7_200
    wrong = CliRunner().invoke(main, [*options, "--username", "bob"], env={"TOCSIN_DOCTOR_PASSWORD": "x"})
    assert wrong.exit_code == 1
    assert "refused user 'bob'" in wrong.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind(mosquitto_factory: MosquittoFactory, number: signal.Signals):
    broker = mosquitto_factory(persistence=True)
    command = [TOCSIN, "doctor", "--broker", broker.url, "--messages", "60000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_until(lambda: "-queue-p" in broker.log.read_text(), what="it fills the queue")
    assert "tocsin-dr-" in traces(broker), "there is something to clean up"
    process.send_signal(number)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert traces(broker) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--broker", "broker:1883"], "the URL must begin with mqtt://"),
        (["--broker", "mqtt://h", "--ca-file", "x"], "ca_file is about TLS"),
        (["--broker", "mqtt://h", "--prefix", "a/#"], "write plain topic levels"),
        (["--broker", f"mqtt://127.0.0.1:{free_port()}"], "connection refused"),
    ],
)
def test_what_cannot_be_examined_is_told_in_one_line(options: list[str], said: str):
    done = CliRunner().invoke(main, ["doctor", *options])
    assert done.exit_code in (1, 2)
    assert said in done.output
