"""Laws of the streams of live events: what arrives, who may watch, what a slow watcher misses, how they end."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import urllib3

from telemetry import LATE, AlertEvent, AlertState, ReadingBatch, Series, SeriesTable
from tests.tocsin.pipeline_rig import until
from tests.tocsin.resource_rig import filled, publish, stored
from tocsin.http.config import HttpConfig
from tocsin.http.event_text import MOST_READINGS, EventText, Filter
from tocsin.http.events import MOST_STREAMS
from tocsin.http.server import HttpServer, listening

EVENTS = "/api/v1/tocsin/events"
NOW = 1_700_000_000 * 10**9
ALERT = AlertEvent("g/Hot", (("alertname", "Hot"), ("device", "d1")), AlertState.FIRING, float("inf"), NOW, 0, NOW)


@dataclass
class Watcher:
    """Reads a stream in a thread of its own, until it ends."""

    url: str
    events: list[tuple[str, Any]] = field(default_factory=list)
    cut_off: bool = False
    """It did not end as HTTP says that it must."""

    def __post_init__(self) -> None:
        self._answer = urllib3.PoolManager().request(
            "GET", self.url, preload_content=False, timeout=urllib3.Timeout(connect=10, read=60)
        )
        assert self._answer.status == 200
        assert self._answer.headers["content-type"].startswith("text/event-stream")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        name, text = "", b""
        try:
            for chunk in self._answer.stream(1 << 14):
                text += chunk
                *blocks, text = text.split(b"\n\n")
                for block in blocks:
                    lines = dict(line.split(b": ", 1) for line in block.splitlines() if not line.startswith(b":"))
                    if b"event" in lines:
                        name = lines[b"event"].decode()
                        self.events.append((name, json.loads(lines[b"data"])))
        except (urllib3.exceptions.HTTPError, OSError):
            self.cut_off = True

    def named(self, name: str) -> list[Any]:
        found = [data for which, data in list(self.events) if which == name]
        return [one for data in found for one in (data if isinstance(data, list) else [data])]

    def join(self) -> None:
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def served(directory: Path, backend: Any) -> Iterator[HttpServer]:
    with listening(HttpConfig(listen="127.0.0.1:0"), directory / "http.json") as server:
        assert server is not None
        server.start(backend)
        yield server


def test_readings_and_alerts_of_a_running_pipeline_arrive_as_they_were_asked_for(tmp_path: Path) -> None:
    with filled(tmp_path) as (pipeline, backend), served(tmp_path, backend) as server:
        url = server.url + EVENTS
        everything, one, alerts = Watcher(url), Watcher(url + "?what=readings&device=d1"), Watcher(url + "?what=alerts")
        others = Watcher(url + "?metric=humidity&label=device=d2")
        until(lambda: len(pipeline.live._watches) == 4)
        publish(pipeline, "d1/temperature", b"99.5")
        publish(pipeline, "d2/humidity", b"7")
        publish(pipeline, "d3/temperature", b"51")
        until(lambda: len(everything.named("readings")) == 3 and len(alerts.named("alert")) == 2)
        until(lambda: len(one.named("readings")) == len(others.named("readings")) == 1)
        [reading] = one.named("readings")
        assert (reading["metric"], reading["labels"], reading["value"]) == ("temperature", {"device": "d1"}, 99.5)
        assert (reading["flags"], reading["time"]) == ([], reading["received"])
        assert others.named("readings")[0]["labels"] == {"device": "d2"}
        assert [alert["labels"]["device"] for alert in alerts.named("alert")] == ["d1", "d3"]
        assert {name for name, _ in alerts.events} == {"alert"}
        assert {name for name, _ in one.events} == {"readings"}
        assert alerts.named("alert")[0]["id"] in {event.id for event in backend.history.recent()}


def test_when_the_server_stops_the_streams_end_at_once_and_nobody_watches_any_more(tmp_path: Path) -> None:
    backend = stored(tmp_path)
    assert backend.live is not None
    with served(tmp_path, backend) as server:
        watchers = [Watcher(server.url + EVENTS) for _ in range(3)]
        until(lambda: len(backend.live._watches) == 3)
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 3
        for watcher in watchers:
            watcher.join()
            assert not watcher.cut_off
        assert backend.live._watches == ()
        assert server._thread is not None
        assert not server._thread.is_alive()


def test_who_goes_is_forgotten_and_there_is_a_limit_on_watchers(tmp_path: Path) -> None:
    backend = stored(tmp_path)
    assert backend.live is not None
    with served(tmp_path, backend) as server, ExitStack() as connections:
        watchers = [connections.enter_context(connected(server)) for _ in range(MOST_STREAMS)]
        until(lambda: len(backend.live._watches) == MOST_STREAMS)
        refused = urllib3.request("GET", server.url + EVENTS, timeout=10)
        assert (refused.status, json.loads(refused.data)["errorType"]) == (503, "unavailable")
        watchers[0].close()

        def is_gone() -> bool:
            backend.live.alerts([ALERT])  # what is written shows who has gone
            return len(backend.live._watches) == MOST_STREAMS - 1

        until(is_gone)
        connections.enter_context(connected(server))
        until(lambda: len(backend.live._watches) == MOST_STREAMS)


def connected(server: HttpServer) -> closing[socket.socket]:
    """A watcher who has still to read."""
    watcher = socket.socket()
    watcher.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    watcher.settimeout(10)
    watcher.connect(("127.0.0.1", int(server.url.rpartition(":")[2])))
    watcher.sendall(f"GET {EVENTS} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
    return closing(watcher)


def test_a_slow_watcher_is_told_what_he_has_missed_and_delays_nobody(tmp_path: Path) -> None:
    backend = stored(tmp_path)
    batch = ReadingBatch.of([0] * 200, [NOW] * 200, [1.5] * 200)
    with served(tmp_path, backend) as server, connected(server) as slow:
        until(lambda: len(backend.live._watches) == 1)
        [watch] = backend.live._watches

        def is_stuck() -> bool:
            for _ in range(100):
                backend.live.readings(batch)
            return watch._missed > 0

        until(is_stuck)
        received = bytearray()

        def is_told() -> bool:
            received.extend(slow.recv(1 << 20))
            return b'event: missed\ndata: {"batches":' in received

        until(is_told)


@pytest.mark.parametrize("query", ["what=nothing", "label=site"])
def test_what_cannot_be_watched_is_refused(tmp_path: Path, query: str) -> None:
    with served(tmp_path, stored(tmp_path)) as server:
        answer = urllib3.request("GET", f"{server.url}{EVENTS}?{query}", timeout=10)
    assert (answer.status, json.loads(answer.data)["errorType"]) == (400, "bad_data")


def test_values_and_names_are_json_whatever_they_are() -> None:
    table = SeriesTable()
    for name in ("d1", "<script>\u2028", "half \ud800"):
        table.add(Series.of("t", device=name))
    batch = ReadingBatch.of([0, 1, 2], [NOW, NOW + 1, 0], [float("nan"), float("-inf"), 1e300], flags=[0, LATE, 0])
    text = EventText(table, Filter()).of([batch, ALERT], 0)
    readings, alert, rest = text.split(b"\n\n")
    assert rest == b""
    first, second, third = json.loads(readings.partition(b"data: ")[2])
    assert (first["value"], second["value"], third["value"]) == ("NaN", "-Inf", 1e300)
    assert (first["time"], second["flags"]) == ("2023-11-14T22:13:20.000000000Z", ["late"])
    assert [one["labels"]["device"] for one in (first, second, third)] == ["d1", "<script>\u2028", "half \\ud800"]
    assert json.loads(alert.partition(b"data: ")[2])["value"] == "+Inf"
    assert f"id: {ALERT.id}".encode() in alert


def test_of_too_much_at_once_the_rest_counts_as_missed() -> None:
    table = SeriesTable()
    table.add(Series.of("t", device="d1"))
    table.add(Series.of("t", device="d2"))
    batch = ReadingBatch.of([0, 1] * 600, [NOW] * 1_200, [1.0] * 1_200)
    text = EventText(table, Filter(devices=frozenset(["d1"])))
    told = text.of([batch, batch], 7).split(b"\n\n")
    assert len(json.loads(told[0].partition(b"data: ")[2])) == MOST_READINGS
    assert json.loads(told[1].partition(b"data: ")[2]) == {"batches": 7, "readings": 200}
    assert EventText(table, Filter("alerts")).of([batch], 0) == b""
    assert EventText(table, Filter("readings")).of([ALERT], 0) == b""
    assert EventText(table, Filter(devices=frozenset(["d2"]))).of([ALERT], 0) == b""
    assert EventText(table, Filter(labels=(("device", "d1"),))).of([ALERT], 0)
