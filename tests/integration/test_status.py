"""What a running tocsin tells over HTTP and in `tocsin status`, checked with Prometheus' own tools."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import urllib3

from telemetry import SystemClock
from tests.integration.brokers import Mosquitto
from tests.integration.servers import free_port, wait_until
from tests.integration.tocsin_process import Tocsin, tocsin
from tocsin.http.instance import read_instance

TocsinFactory = Callable[..., Tocsin]
RULES = '{"groups": [{"name": "g", "rules": [{"alert": "Hot", "expr": "temperature > 50"}]}]}'
HTTP = urllib3.PoolManager(retries=False, timeout=20)


def report(broker: Mosquitto, *payloads: str) -> None:
    """`NOW` in a payload is the present, a millisecond later each time."""
    now = SystemClock().now() // 10**6
    lines = [payload.replace("NOW", str(now + n)) for n, payload in enumerate(payloads)]
    broker.publish_lines("sensors/s1/d1/telemetry", lines)


def url(program: Tocsin) -> str:
    instance = read_instance(program.data.http)
    assert instance is not None
    return instance.url


def get(program: Tocsin, path: str) -> urllib3.BaseHTTPResponse:
    return HTTP.request("GET", url(program) + path)


def test_promtool_finds_nothing_wrong_with_the_metrics_of_a_busy_tocsin(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory, promtool: Path
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}, "receivers": [{"type": "log"}]}, rules=RULES)
    program.start()
    sound = '{"temperature": 60, "ts": NOW}', '{"temperature": 40, "x": null, "ts": NOW}'
    report(mosquitto, *sound, "{", '{"temperature": 41, "ts": 12}')
    program.wait_stored(2)
    wait_until(
        lambda: b'stage_rows_total{cause="bad_json"' in get(program, "/metrics").data, what="the refused message"
    )
    body = get(program, "/metrics").data
    done = subprocess.run([promtool, "check", "metrics"], input=body, capture_output=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    for line in (
        b'tocsin_stage_rows_total{cause="",outcome="acknowledged",stage="session"} 4.0',
        b'tocsin_stage_rows_total{cause="",outcome="stored",stage="store"} 2.0',
        b'tocsin_stream_messages_total{stream="telemetry"} 4.0',
        b"tocsin_accounting_balanced 1.0",
        b"process_resident_memory_bytes ",
    ):
        assert line in body
    program.stop()
    assert not program.data.http.exists()


def test_status_tells_of_a_tocsin_that_works_loses_its_broker_and_is_killed(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    program = tocsin_factory({"mqtt": {"url": mosquitto.url}, "receivers": [{"type": "log"}]}, rules=RULES)
    program.start()
    report(mosquitto, '{"temperature": 60, "ts": NOW}', '{"temperature": 61, "ts": NOW}', "{")
    program.wait_stored(2)
    wait_until(lambda: get(program, "/readyz").status == 200, what="it is ready")
    wait_until(lambda: program.view("status")["fired"] == 1, what="the alert is told")
    told = program.view("status")
    (stream,) = told["streams"]
    assert (stream["messages"], stream["rejected"], stream["guarantee"]) == (3, 1, "G2")
    assert stream["last_error"].startswith("bad_json")
    assert told["imbalances"] == []
    others = [file for file in program.data.path.rglob("*") if file.is_file() and file.stat().st_mode & 0o077]
    assert others == [], "what is received is the owner's"
    done = tocsin("status", "-c", program.config)
    assert (done.returncode, "everything is accounted for" in done.stdout) == (0, True), done.stdout

    mosquitto.stop()
    wait_until(lambda: get(program, "/readyz").status == 503, what="it is not ready without a broker")
    (reason,) = json.loads(get(program, "/readyz").data)["reasons"]
    assert reason.startswith(f"not connected to {mosquitto.url}: ")
    assert get(program, "/healthz").status == 200

    program.kill()
    done = tocsin("status", "-c", program.config)
    assert (done.returncode, "no tocsin runs with this data" in done.stdout) == (1, True), done.stdout
    assert "alerts: 1 firing" in done.stdout


def test_a_port_that_is_taken_is_told_before_anything_is_received(
    mosquitto: Mosquitto, tocsin_factory: TocsinFactory
) -> None:
    first, second = (tocsin_factory({"mqtt": {"url": mosquitto.url, "client_id": f"t{n}"}}) for n in (1, 2))
    port = free_port()
    for program in (first, second):
        program.change(http={"listen": f"127.0.0.1:{port}"})
    first.start()
    done = tocsin("run", "-c", second.config)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}: another program listens there" in done.stderr
    assert "subscribed" not in done.stderr
    first.stop()
