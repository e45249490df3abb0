"""Sinks and receivers that fail, with real servers and the whole program: nothing is lost, and nobody else waits."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sinks.config import InfluxConfig
from sinks.consumer import Consumer, ConsumerState
from sinks.influx import InfluxSink
from telemetry import Counters, Cursor, ReadingBatch, RetryLater, Series, SeriesTable, SystemClock
from tests.integration.brokers import Mosquitto
from tests.integration.certificates import Certificates
from tests.integration.databases import InfluxDB, VictoriaMetrics
from tests.integration.servers import Server, wait_until
from tests.integration.test_influx_sink import Steps, influx_config, of_series, read_influx, read_victoria, readings
from tests.integration.tocsin_process import Tocsin
from tests.sinks.far_side import Answer, FarSide, Request, far_side

MS = 10**6
S = 10**9
Parked = list[tuple[int, str]]


@contextmanager
def carrying(config: InfluxConfig, table: SeriesTable, batches: list[ReadingBatch], folder: Path) -> Iterator[Any]:
    """A running consumer of a real database; gives (consumer, what it parked, its counters)."""
    parked: Parked = []
    counters = Counters()
    consumer = Consumer(
        InfluxSink(config, table),
        Steps(batches),
        Cursor(folder / "cursor"),
        counters,
        park=lambda rows, why: parked.extend((t, why) for t in rows.time.tolist()),
        end=lambda: len(batches),
        batch_rows=500,
    )
    consumer.start()
    try:
        yield consumer, parked, counters
    finally:
        assert consumer.stop(timeout=20)


def cut(batch: ReadingBatch, rows: int) -> list[ReadingBatch]:
    return [batch.select(slice(i, i + rows)) for i in range(0, len(batch), rows)]


def all_carried(consumer: Consumer, steps: int) -> None:
    wait_until(lambda: consumer.status.offset == steps, what=f"all is carried: {consumer.status}")
    assert (consumer.status.lag, consumer.status.last_error) == (0, "")


def test_influxdb_that_freezes_with_open_connections_loses_nothing(influxdb: InfluxDB, tmp_path: Path) -> None:
    influxdb.create_database("plant")
    table = SeriesTable()
    batch = readings(table, 10_000, step_ns=MS, labels=["p", "q"])
    batches = cut(batch, 500)
    influxdb.freeze()
    with carrying(influx_config(influxdb, timeout="300ms"), table, batches, tmp_path) as (consumer, parked, counters):
        wait_until(lambda: consumer.status.state is ConsumerState.RETRYING, what="the sink notices")
        assert consumer.status.lag == len(batches)
        influxdb.thaw()
        wait_until(lambda: consumer.status.offset > 3, what=f"the sink goes on: {consumer.status}")
        influxdb.freeze()
        time.sleep(0.5)  # in the middle of some write
        influxdb.thaw()
        all_carried(consumer, len(batches))
    assert (parked, counters.snapshot()) == ([], {("influx.stored", ""): 10_000})
    for id_ in range(2):
        assert read_influx(influxdb, table[id_]) == of_series(batch, id_)


def test_victoria_metrics_that_freezes_with_open_connections_loses_nothing(
    victoria_metrics: VictoriaMetrics, tmp_path: Path
) -> None:
    """What is written twice it keeps twice, unless it is told to drop repetitions."""
    table = SeriesTable()
    batch = readings(table, 4_000, step_ns=MS, labels=["p", "q"])
    batches = cut(batch, 500)
    config = InfluxConfig.model_validate({"url": victoria_metrics.url, "bucket": "plant", "timeout": "300ms"})
    victoria_metrics.freeze()
    with carrying(config, table, batches, tmp_path) as (consumer, parked, counters):
        wait_until(lambda: consumer.status.state is ConsumerState.RETRYING, what="the sink notices")
        victoria_metrics.thaw()
        all_carried(consumer, len(batches))
    assert (parked, counters.snapshot()) == ([], {("influx.stored", ""): 4_000})
    for id_ in range(2):
        assert sorted(set(read_victoria(victoria_metrics, table[id_]))) == of_series(batch, id_)


def test_points_older_than_the_retention_of_influxdb_are_parked_with_its_words(influxdb: InfluxDB, tmp_path) -> None:
    """A partial write: it stores the other points of the same request, and answers 400."""
    influxdb.request("POST", "/query", fields={"q": 'CREATE DATABASE "plant" WITH DURATION 1h SHARD DURATION 1h'})
    now = SystemClock().now() // MS * MS
    table = SeriesTable()
    id_ = table.add(Series.of("temperature", device="d0", place="p"))
    times = [now - 240 * 3600 * S if i in (7, 80) else now - i * MS for i in range(100)]
    batch = ReadingBatch.of([id_] * 100, times, [float(i) for i in range(100)])
    with carrying(influx_config(influxdb), table, [batch], tmp_path) as (consumer, parked, counters):
        all_carried(consumer, 1)
    assert [t for t, _ in parked] == [times[7], times[80]]
    assert all("points beyond retention policy" in why for _, why in parked)
    assert counters.snapshot() == {("influx.stored", ""): 98, ("influx.parked", "rejected"): 2}
    order = np.argsort(times)
    good = [(times[i], float(i)) for i in order if i not in (7, 80)]
    assert read_influx(influxdb, table[id_]) == good


@pytest.fixture
def strict_influxdb(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> InfluxDB:
    """Asks for a password, and takes small requests only."""
    server = InfluxDB(tmp_path_factory.mktemp("influxdb"), http="auth-enabled = true\nmax-body-size = 4000")
    servers.append(server)
    server.start()
    server.request("POST", "/query", fields={"q": "CREATE USER ada WITH PASSWORD 'pw' WITH ALL PRIVILEGES"})
    return server


def test_influxdb_that_refuses_the_password_and_large_requests_gets_all_in_the_end(
    strict_influxdb: InfluxDB, tmp_path: Path
) -> None:
    server = strict_influxdb
    table = SeriesTable()
    batch = readings(table, 1_000, step_ns=MS, labels=["p"])
    as_ada = {"u": "ada", "p": "pw"}

    def ask(statement: str) -> Any:
        return server.json("POST", "/query", fields={"q": statement, "db": "plant", "epoch": "ns", **as_ada})

    wrong = InfluxSink(influx_config(server, username="ada", password="wrong"), table)
    with pytest.raises(RetryLater, match=r"refused the username and password \(401\): check username and password"):
        wrong.write(batch)
    wrong.close()
    ask("CREATE DATABASE plant")
    ask("CREATE USER bob WITH PASSWORD 'pw'")
    config = influx_config(server, username="bob", password="pw", gzip=False)
    with carrying(config, table, [batch], tmp_path) as (consumer, parked, counters):
        wait_until(lambda: "(403)" in consumer.status.last_error, what=f"it is refused: {consumer.status}")
        assert "give it write access to the database of sink influx" in consumer.status.last_error
        ask("GRANT WRITE ON plant TO bob")
        all_carried(consumer, 1)
    assert (parked, counters.snapshot()) == ([], {("influx.stored", ""): 1_000})
    (series,) = ask("SELECT value FROM temperature")["results"][0]["series"]
    assert [(t, v) for t, v in series["values"]] == of_series(batch, 0)


def test_a_database_whose_certificate_is_not_trusted_gets_nothing(certificates: Certificates) -> None:
    table = SeriesTable()
    batch = readings(table, 10, step_ns=MS, labels=["p"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    with far_side(tls=context) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        distrusting = InfluxSink(InfluxConfig(url=url, bucket="b"), table)
        with pytest.raises(RetryLater, match=r"no trusted connection .*: check its certificate and ca_file of sink"):
            distrusting.write(batch)
        distrusting.close()
        assert server.requests == []
        trusting = InfluxSink(InfluxConfig(url=url, bucket="b", ca_file=certificates.ca), table)
        trusting.write(batch)
        trusting.close()
        assert len(server.lines()) == 10


RULES = "groups: [{name: plant, rules: [{alert: Hot, expr: 'temperature > 50'}]}]"
ALERTS = 15
PROMPT_SECONDS = 2.0


class Hanging:
    """Takes every request and answers none until `release`."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def __call__(self, request: Request) -> Answer:
        return Answer(204 if self._released.wait(60) else 500)

    def release(self) -> None:
        self._released.set()


def test_a_sink_and_a_receiver_that_hang_delay_no_other_sink_no_alert_and_no_reading(
    mosquitto: Mosquitto, tocsin_factory: Callable[..., Tocsin]
) -> None:
    """Each reading is timed from its publication to the store, to the healthy database and to the healthy webhook."""
    with far_side() as deaf, far_side() as mute, far_side() as database, far_side() as webhook:
        deaf.answer, mute.answer = Hanging(), Hanging()
        program = tocsin_factory(
            {
                "mqtt": {"url": mosquitto.url},
                "sinks": [
                    {"type": "influx", "name": "deaf", "url": deaf.url, "bucket": "b", "timeout": "50s"},
                    {"type": "influx", "name": "healthy", "url": database.url, "bucket": "b"},
                ],
                "receivers": [hook("mute", mute), hook("well", webhook)],
            },
            rules=RULES,
        )
        program.start()
        mosquitto.publish_lines("sensors/s1/first/telemetry", [json.dumps({"temperature": 80})])
        wait_until(lambda: bool(deaf.requests) and bool(mute.requests), what="both have something to hang on")
        slowest = 0.0
        for i in range(ALERTS):
            began = time.monotonic()
            mosquitto.publish_lines(f"sensors/s1/d{i}/telemetry", [json.dumps({"temperature": 80})])
            program.wait_stored(i + 2)
            wait_until(lambda i=i: f"device=d{i}," in database_text(database), what="the other sink has it")  # type: ignore[misc]  # bound
            wait_until(lambda i=i: f"d{i}" in told(webhook), what="the other receiver was told")  # type: ignore[misc]  # bound
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < PROMPT_SECONDS
        assert (len(deaf.requests), len(mute.requests)) == (1, 1), "they hung all the time"
        deaf.answer.release()
        mute.answer.release()
        wait_until(lambda: len(set(deaf.lines())) == ALERTS + 1, what="the deaf one has caught up")
        wait_until(lambda: len(told(mute)) == ALERTS + 1, what="the mute one has caught up")
        program.stop()


def hook(name: str, server: FarSide) -> dict[str, Any]:
    return {
        "type": "webhook",
        "name": name,
        "url": server.url,
        "allow_private": ["127.0.0.0/8"],
        "timeout": "50s",
    }


def database_text(server: FarSide) -> str:
    return b"\n".join(server.lines()).decode()


def told(server: FarSide) -> set[str]:
    return {alert["labels"]["device"] for request in server.taken for alert in request.json()["alerts"]}
