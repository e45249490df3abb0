"""Laws of the HTTP server: who may ask, what is answered, and how others find it."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import urllib3
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from telemetry import TocsinError
from tests.tocsin.fake_backend import FakeBackend
from tests.tocsin.pipeline_rig import until
from tocsin.http.config import HttpConfig
from tocsin.http.instance import Instance, read_instance
from tocsin.http.metrics import Metrics
from tocsin.http.operations import not_ready
from tocsin.http.server import HttpServer
from tocsin.status import AccountRow, AlertRow, JournalRow, SessionRow, SinkRow, Snapshot, StandstillRow, StreamRow
from tocsin.status_json import from_json, to_json

NOW = 1_700_000_000 * 10**9
SNAPSHOT = Snapshot(
    version="1.2",
    pid=7,
    time=NOW,
    started=NOW - 10**9,
    session=SessionRow(url="mqtt://b:1883", state="connected", since=NOW, last_message=NOW, reconnects=2),
    journal=JournalRow(start=3, end=9, bytes=100, free_bytes=1000, seconds_to_full=7.5),
    streams=(StreamRow(name="t", topic="a/{device}", messages=4, rejected=1, guarantee="G2", notes=("kept",)),),
    accounts=(
        AccountRow("readings", 9, (("live", 5), ("rejected", 3), ("in flight", 1)), {"rejected": {"bad_json": 3}}),
        AccountRow("store", 5, (("stored", 4), ("in flight", 0))),
    ),
    imbalances=("store",),
    alerts=(AlertRow(state="firing", name="A", device="d", value=None, since=NOW),),
    firing=1,
    counters={"ingest.skipped": {"null": 5}, "ingest.session_errors": {"": 2}, "store.stored": {"": 4}},
    sinks=(
        SinkRow(name="store", state="retrying", lag=3, written=4, error="full"),
        SinkRow(name="hook", kind="receiver", state="running", lag=2, written=1),
    ),
    latency_p50=2_000_000,
    latency_p99=3_000_000,
)


class Served:
    """A server that tells `snapshot`."""

    def __init__(self, directory: Path) -> None:
        self.snapshot = SNAPSHOT
        self.file = directory / "http.json"
        self.server = HttpServer(HttpConfig(listen="127.0.0.1:0"), self.file)
        self.server.start(FakeBackend(directory, lambda: self.snapshot))
        self._http = urllib3.PoolManager(retries=False, timeout=20)

    def get(self, path: str, **headers: str) -> Any:
        return self._http.request("GET", self.server.url + path, headers=headers)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.server.stop()


@pytest.mark.parametrize("listen", ["127.0.0.1:8100", "127.9.9.9:0", "[::1]:1", "localhost:65535"])
def test_it_may_listen_on_this_machine(listen: str) -> None:
    assert HttpConfig(listen=listen).address[1] == int(listen.rpartition(":")[2])


@pytest.mark.parametrize(
    "listen",
    ["127.0.0.1", "8100", "127.0.0.1:65536", "127.0.0.1:http", "127.0.0.1:-1", ":8100", "example.org:80", "::1:8100"],
)
def test_what_is_no_address_is_refused_with_an_example(listen: str) -> None:
    with pytest.raises(ValueError, match=r"write 127\.0\.0\.1:\d+"):
        HttpConfig(listen=listen)


def test_a_name_that_was_made_to_point_here_gets_nothing(served: Served) -> None:
    for path in ("/metrics", "/api/v1/status/tocsin", "/healthz", "/nothing"):
        answer = served.get(path, Host="evil.org")
        assert answer.status == 421
        assert b"readings" not in answer.data
    assert served.get("/healthz").status == 200


def test_the_process_is_alive_and_ready(served: Served) -> None:
    assert served.get("/healthz").data == b"ok\n"
    answer = served.get("/readyz")
    assert (answer.status, json.loads(answer.data)) == (200, {"ready": True, "reasons": []})


def test_it_is_not_ready_while_nothing_can_be_received_and_says_why(served: Served) -> None:
    session = replace(SNAPSHOT.session, state="refused", last_error="bad password")
    served.snapshot = replace(
        SNAPSHOT, session=session, journal=replace(SNAPSHOT.journal, error="no space left on device")
    )
    answer = served.get("/readyz")
    assert answer.status == 503
    assert json.loads(answer.data) == {
        "ready": False,
        "reasons": [
            "the journal cannot be written: no space left on device",
            "not connected to mqtt://b:1883: bad password",
        ],
    }
    assert served.get("/healthz").status == 200
    assert list(not_ready(SNAPSHOT)) == []


def test_it_is_not_ready_while_rules_wait(served: Served) -> None:
    assert b"tocsin_evaluation_up 1.0" in served.get("/metrics").data
    served.snapshot = replace(SNAPSHOT, standstill=StandstillRow(error="cannot write the alerts", since=NOW))
    answer = served.get("/readyz")
    assert (answer.status, json.loads(answer.data)["reasons"]) == (
        503,
        ["rules are not evaluated: cannot write the alerts"],
    )
    assert b"tocsin_evaluation_up 0.0" in served.get("/metrics").data
    assert from_json(to_json(served.snapshot)) == served.snapshot


def test_the_status_is_the_snapshot_there_and_back(served: Served) -> None:
    answer = served.get("/api/v1/status/tocsin")
    assert answer.headers["content-type"] == "application/json"
    assert from_json(answer.data) == SNAPSHOT == from_json(to_json(SNAPSHOT))
    with pytest.raises(TocsinError, match="another version"):
        from_json(b'{"time": "yesterday"}')


def test_metrics_come_in_both_formats_and_say_the_same(served: Served) -> None:
    text = served.get("/metrics")
    assert text.headers["content-type"].startswith("text/plain")
    wanted = "application/openmetrics-text; version=1.0.0"
    openmetrics = served.get("/metrics", Accept=wanted)
    assert openmetrics.headers["content-type"].startswith(wanted)
    assert openmetrics.data.endswith(b"# EOF\n")
    plain, structured = (
        {(s.name, *sorted(s.labels.items())): s.value for family in families for s in family.samples}
        for families in (parse_text(text.data.decode()), parse_openmetrics(openmetrics.data.decode()))
    )
    ours = {key: value for key, value in plain.items() if key[0].startswith("tocsin_")}
    assert ours == {key: value for key, value in structured.items() if key[0].startswith("tocsin_")}
    assert ours["tocsin_stage_rows_total", ("cause", "bad_json"), ("outcome", "rejected"), ("stage", "readings")] == 3
    assert ours["tocsin_stage_rows_total", ("cause", ""), ("outcome", "live"), ("stage", "readings")] == 5
    assert ours["tocsin_stage_in_flight", ("stage", "readings")] == 1
    assert ours["tocsin_stage_missing", ("stage", "store")] == 1
    assert ours["tocsin_accounting_balanced",] == 0
    assert ours["tocsin_session_state", ("state", "connected")] == 1
    assert ours["tocsin_sink_up", ("sink", "store")] == 0
    assert ours["tocsin_receiver_pending_events", ("receiver", "hook")] == 2
    assert ours["tocsin_journal_full_seconds",] == 7.5
    assert ours["tocsin_alert_latency_seconds", ("quantile", "0.99")] == 0.003
    assert ours["tocsin_skipped_fields_total", ("reason", "null")] == 5
    assert ours["tocsin_session_errors_total",] == 2
    assert ours["tocsin_build_info", ("version", "1.2")] == 1


def test_every_metric_has_a_help_text_and_stands_once() -> None:
    body = Metrics(lambda: SNAPSHOT).text("")[0].decode()
    helped = re.findall(r"^# HELP (tocsin_\S+) \S+", body, re.MULTILINE)
    typed = re.findall(r"^# TYPE (tocsin_\S+) ", body, re.MULTILINE)
    assert helped == typed
    assert len(set(helped)) == len(helped) > 30
    lines = [line.rpartition(" ")[0] for line in body.splitlines() if not line.startswith("#")]
    assert len(set(lines)) == len(lines)


def test_others_find_it_by_its_file_which_is_the_owner_s_and_goes_with_it(tmp_path: Path) -> None:
    served = Served(tmp_path)
    assert read_instance(served.file) == Instance(served.server.url, os.getpid())
    assert stat.S_IMODE(served.file.stat().st_mode) == 0o600
    assert served.get("/healthz").status == 200
    served.server.stop()
    assert not served.file.exists()
    with pytest.raises(urllib3.exceptions.HTTPError):
        served.get("/healthz")


def test_what_a_crash_left_behind_is_replaced_and_nonsense_is_nobody(tmp_path: Path) -> None:
    file = tmp_path / "http.json"
    for nonsense in ("", "{", "[]", '{"url": 1}', '{"url": "x", "pid": "y"}'):
        file.write_text(nonsense)
        assert read_instance(file) is None
    file.with_suffix(".new").write_text("half")
    served = Served(tmp_path)
    assert read_instance(file) == Instance(served.server.url, os.getpid())
    served.server.stop()


def test_a_port_that_is_taken_is_told_or_another_is_taken(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = HttpConfig(listen=f"127.0.0.1:{other.getsockname()[1]}")
        with pytest.raises(TocsinError, match=r"another program listens there; choose another port with http\.listen"):
            HttpServer(taken, tmp_path / "http.json")
        server = HttpServer(taken, tmp_path / "http.json", any_port=True)
        assert not server.url.endswith(taken.listen)
        server.stop()


def test_a_server_that_is_stopped_at_once_ends(tmp_path: Path) -> None:
    for _ in range(3):
        served = Served(tmp_path)
        served.server.stop()
        assert served.server._thread is not None
        until(lambda thread=served.server._thread: not thread.is_alive())


def test_too_long_a_head_and_what_is_no_http_harm_nobody(served: Served) -> None:
    port = int(served.server.url.rpartition(":")[2])
    for garbage in (b"\x16\x03\x01 nonsense\r\n\r\n", b"GET /" + b"x" * 100_000):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(garbage)
            with suppress(ConnectionResetError):
                assert connection.recv(100).startswith((b"HTTP/1.1 4", b""))
    assert served.get("/healthz").status == 200
