"""Laws of a database that fails: whatever it answers, each row is stored once, or parked with the server's words."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from sinks.config import InfluxConfig
from sinks.consumer import Consumer, ConsumerState
from sinks.influx import InfluxSink
from telemetry import Counters, Cursor, ManualClock, ReadingBatch, RetryLater, Series, SeriesTable
from tests.sinks.far_side import NO_ANSWER, Answer, Request, far_side

HOUR_S = 3600


@dataclass(frozen=True)
class Step:
    batch: ReadingBatch
    next: int


class Steps:
    """A source over rows that are there already, some at a time."""

    def __init__(self, batch: ReadingBatch, rows: int) -> None:
        self.steps = [Step(batch.select(slice(i, i + rows)), i + rows) for i in range(0, len(batch), rows)]

    def read(self, timeout: float) -> Step | None:
        return self.steps.pop(0) if self.steps else None


class Rig:
    """A consumer with an InfluxSink of `rows` rows, on a clock of its own."""

    def __init__(self, folder, url: str, *, rows: int = 100, step: int = 100, **config: object) -> None:
        table = SeriesTable()
        for i in range(rows):
            table.add(Series.of("temperature", device=f"d{i}"))
        self.batch = ReadingBatch.of(list(range(rows)), list(range(1000, 1000 + rows)), [i + 0.5 for i in range(rows)])
        self.lines = [f"temperature,device=d{i} value={i + 0.5} {1000 + i}".encode() for i in range(rows)]
        self.rows, self.clock, self.counters = rows, ManualClock(), Counters()
        self.parked: list[tuple[int, str]] = []
        fields = {"url": url, "bucket": "plant", "timeout": "2s", **config}
        self.consumer = Consumer(
            InfluxSink(InfluxConfig.model_validate(fields), table, clock=self.clock),
            Steps(self.batch, step),
            Cursor(folder / "cursor"),
            self.counters,
            park=lambda some, why: self.parked.extend((i, why) for i in some.series.tolist()),
            clock=self.clock,
            end=lambda: rows,
            batch_rows=step,
        )

    def fails(self, times: int = 1) -> None:
        """Until it has failed so often, or all is done."""
        goal = self.consumer.status.attempts + times
        wait = self.consumer._wait_after

        class Enough(BaseException):
            pass

        def count(error: Exception) -> None:
            wait(error)
            if self.consumer.status.attempts >= goal:
                raise Enough

        self.consumer._wait_after = count  # type: ignore[method-assign]  # to stop in the middle
        try:
            self.to_the_end()
        except Enough:
            pass
        finally:
            self.consumer._wait_after = wait  # type: ignore[method-assign]

    def to_the_end(self) -> None:
        while self.consumer.status.offset < self.rows:
            self.consumer._advance()

    def assert_all_stored(self, lines: list[bytes]) -> None:
        assert list(dict.fromkeys(lines)) == self.lines
        assert self.counters.snapshot() == {("influx.stored", ""): self.rows}
        status = self.consumer.status
        assert (status.state, status.lag, status.last_error) == (ConsumerState.RUNNING, 0, "")
        self.consumer.sink.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def peer(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Something at a port that is no web server; its URL."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                talk(connection)

    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        ended.set()
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_a_database_that_is_down_for_hours_is_asked_seldom_shows_its_lag_and_gets_all(tmp_path, caplog):
    port = free_port()
    it = Rig(tmp_path, f"http://127.0.0.1:{port}", step=10)
    began = it.clock.now()
    tries = 0
    with caplog.at_level("INFO", "tocsin.sinks"):
        while (it.clock.now() - began) / 1e9 < 2 * HOUR_S:
            it.fails()
            tries += 1
        status = it.consumer.status
        assert (status.state, status.lag, status.attempts) == (ConsumerState.RETRYING, 100, tries)
        assert "cannot reach InfluxDB" in status.last_error
        assert tries <= 2 * HOUR_S / 15 + 10
        with far_side(port) as server:
            it.to_the_end()
            it.assert_all_stored(server.lines())
    told = [r.getMessage() for r in caplog.records]
    assert len(told) == 2, told
    assert told[1] == f"influx: works again after {tries} failed tries"


def test_an_answer_that_is_lost_after_the_write_costs_a_repetition_of_the_same_bytes(tmp_path):
    answers = [NO_ANSWER, Answer(204), NO_ANSWER, NO_ANSWER]
    with far_side() as server:
        server.answer = lambda request: answers.pop(0) if answers else Answer(204)
        it = Rig(tmp_path, server.url, step=25)
        it.to_the_end()
        it.assert_all_stored(server.lines())
        bodies = [request.body for request in server.taken]
    assert [bodies.count(body) for body in dict.fromkeys(bodies)] == [2, 3, 1, 1]


def test_a_database_that_takes_connections_and_never_answers_is_left_after_the_timeout(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        it = Rig(tmp_path, f"http://127.0.0.1:{deaf.getsockname()[1]}", timeout="100ms")
        began = time.monotonic()
        it.fails()
        assert time.monotonic() - began < 5
        assert "ReadTimeoutError" in it.consumer.status.last_error
        assert (it.consumer.status.state, it.consumer.status.lag) == (ConsumerState.RETRYING, 100)
        it.consumer.sink.close()


def test_an_answer_that_drips_cannot_hold_the_sink_beyond_the_timeout(tmp_path):
    def drip(connection: socket.socket) -> None:
        connection.recv(1 << 20)
        try:
            connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\n")
            while True:
                connection.sendall(b"x")
                time.sleep(0.01)
        except OSError:
            return

    with peer(drip) as url:
        it = Rig(tmp_path, url, timeout="200ms")
        began = time.monotonic()
        it.fails()
        assert time.monotonic() - began < 5
        assert "its answer does not end" in it.consumer.status.last_error
        it.consumer.sink.close()


def test_of_a_huge_answer_only_the_beginning_is_read(tmp_path):
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.recv(1 << 20)
        try:
            connection.sendall(b"HTTP/1.1 503 Busy\r\n\r\n")
            for _ in range(1000):
                connection.sendall(b"y" * (1 << 20))
                sent += 1 << 20
        except OSError:
            return

    with peer(pour) as url:
        it = Rig(tmp_path, url)
        it.fails()
        assert it.consumer.status.last_error.startswith("InfluxDB is in trouble (503): yyy")
        assert len(it.consumer.status.last_error) < 1000
        assert sent < 100 << 20
        it.consumer.sink.close()


CREDENTIALS = "InfluxDB refused the token (401): check token of sink influx"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, CREDENTIALS),
        (
            403,
            "InfluxDB does not let this token write (403): give it write access to the org and bucket of sink influx",
        ),
        (404, "InfluxDB does not know the org and bucket of sink influx (404): create it, or check url and api"),
        (405, "InfluxDB answered 405: check url and api of sink influx"),
        (500, "InfluxDB is in trouble (500)"),
        (502, "InfluxDB is in trouble (502)"),
        (503, "InfluxDB is in trouble (503)"),
    ],
)
def test_what_can_be_mended_is_waited_for_and_the_status_names_the_setting(tmp_path, status, words):
    with far_side() as server:
        server.answer = lambda request: Answer(status, body=b'{"message": "no"}')
        it = Rig(tmp_path, server.url)
        it.fails(times=3)
        assert it.consumer.status.last_error == f"{words}: no"
        assert it.parked == []
        server.answer = lambda request: Answer(204)
        it.to_the_end()
        it.assert_all_stored(server.lines())


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("header", ["600", "date"])
def test_retry_after_is_obeyed_in_seconds_and_as_a_date(tmp_path, status, header):
    with far_side() as server:
        it = Rig(tmp_path, server.url)
        began = it.clock.now()
        if header == "date":
            header = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(began / 1e9 + 600))
        server.answer = lambda request: Answer(status, {"Retry-After": header})
        it.fails()
        assert 599 <= (it.clock.now() - began) / 1e9 <= 601
        server.answer = lambda request: Answer(204)
        it.to_the_end()
        it.assert_all_stored(server.lines())


def test_a_redirect_is_not_followed_and_the_status_says_where_to_look(tmp_path):
    with far_side() as elsewhere, far_side() as server:
        server.answer = lambda request: Answer(307, {"Location": f"{elsewhere.url}/api/v2/write"})
        it = Rig(tmp_path, server.url)
        it.fails()
        assert (
            "points elsewhere (307): set the url of sink influx to where InfluxDB is" in it.consumer.status.last_error
        )
        assert elsewhere.requests == []
        it.consumer.sink.close()


def test_a_web_page_that_says_200_to_everything_is_not_taken_for_a_database(tmp_path):
    with far_side() as server:
        server.answer = lambda request: Answer(200, body=b"<html>please log in</html>")
        it = Rig(tmp_path, server.url)
        it.fails()
        assert "is not InfluxDB (it answered 200 with 26 bytes" in it.consumer.status.last_error
        assert it.counters.snapshot() == {}
        server.answer = lambda request: Answer(200)
        it.to_the_end()
        assert it.counters.get("influx.stored") == 100
        it.consumer.sink.close()


GARBAGE = [
    Answer(raw=b"\x15\x03\x01\x00\x02\x02\x16"),
    Answer(raw=b"SSH-2.0-OpenSSH_9.6\r\n"),
    Answer(raw=b"HTTP/1.1 999 Odd\r\n\r\n"),
    Answer(503, body=b"\xff\xfe\x00\x1b[2J" * 100),
    Answer(503, body=b"[" * 50_000),
    Answer(503, body=json.dumps({"message": {"a": [1, 2]}}).encode()),
    Answer(500, {"Content-Encoding": "gzip"}, b"this is not gzip"),
    Answer(500, {"Content-Length": "1000"}, b"short"),
]


@pytest.mark.parametrize("answer", GARBAGE, ids=str)
def test_garbage_is_trouble_and_never_success_nor_a_reason_to_park(tmp_path, answer):
    with far_side() as server:
        server.answer = lambda request: answer
        it = Rig(tmp_path, server.url, timeout="300ms")
        it.fails()
        status = it.consumer.status
        assert (it.parked, it.counters.snapshot(), status.state) == ([], {}, ConsumerState.RETRYING)
        assert status.last_error.isprintable()
        assert "unexpected" not in status.last_error
        assert answer.status != 503 or "(503)" in status.last_error
        server.answer = lambda request: Answer(204)
        it.to_the_end()
        assert it.counters.snapshot() == {("influx.stored", ""): 100}
        it.consumer.sink.close()


def test_a_server_that_speaks_no_tls_is_trouble_that_says_so(tmp_path):
    with far_side() as server:
        it = Rig(tmp_path, server.url.replace("http://", "https://"))
        it.fails()
        assert "check its certificate and ca_file of sink influx" in it.consumer.status.last_error
        assert server.requests == []
        it.consumer.sink.close()


class PartialWriter:
    """As InfluxDB 1.x: writes the good lines of a request that it answers with 400, and miscounts the others."""

    def __init__(self, poison: set[bytes], words: str) -> None:
        self.poison, self.words = poison, words
        self.stored: list[bytes] = []

    def __call__(self, request: Request) -> Answer:
        lines = request.body.splitlines()
        self.stored += [line for line in lines if line not in self.poison]
        return Answer(400, body=json.dumps({"error": self.words}).encode()) if self.poison & set(lines) else Answer(204)


@pytest.mark.parametrize("poison", [[0], [99], [3, 4], [0, 50, 99], list(range(0, 100, 7)), list(range(100))])
@pytest.mark.parametrize(
    "words", ["partial write: field type conflict dropped=1", "partial write: unable to parse dropped=0", ""]
)
def test_only_the_poison_points_of_a_partial_write_are_parked_whatever_it_says_of_their_number(tmp_path, poison, words):
    with far_side() as server:
        it = Rig(tmp_path, server.url)
        server.answer = database = PartialWriter({it.lines[i] for i in poison}, words)
        it.to_the_end()
        it.consumer.sink.close()
    good = [line for i, line in enumerate(it.lines) if i not in poison]
    assert sorted(set(database.stored)) == sorted(good)
    assert [i for i, _ in it.parked] == poison
    assert all(words in why for _, why in it.parked)
    expected = {("influx.parked", "rejected"): len(poison), ("influx.stored", ""): len(good)}
    assert it.counters.snapshot() == {name: n for name, n in expected.items() if n}


def test_one_poison_point_costs_few_requests(tmp_path):
    with far_side() as server:
        it = Rig(tmp_path, server.url, rows=4096, step=4096)
        server.answer = PartialWriter({it.lines[1234]}, "no")
        it.to_the_end()
        assert len(server.requests) <= 2 * 12 + 1
        it.consumer.sink.close()


def test_an_outage_in_the_middle_of_the_search_for_poison_parks_nothing_else(tmp_path):
    with far_side() as server:
        it = Rig(tmp_path, server.url)
        database = PartialWriter({it.lines[42]}, "no")
        turns = iter([None, Answer(503), None, NO_ANSWER, None, Answer(500), Answer(401)])
        server.answer = lambda request: next(turns, None) or database(request)
        it.to_the_end()
        assert it.parked == [(42, "InfluxDB refused it (400): no")]
        assert sorted(set(database.stored)) == sorted(line for line in it.lines if line != it.lines[42])
        assert it.counters.get("influx.stored") == 99
        it.consumer.sink.close()


def test_after_413_writes_become_small_and_later_large_again(tmp_path):
    with far_side() as server:
        server.answer = lambda request: Answer(413 if request.body.count(b"\n") > 3 else 204)
        it = Rig(tmp_path, server.url, rows=400, step=400, batch_rows=100)
        it.to_the_end()
        assert set(server.lines()) == set(it.lines)
        refused = len(server.requests) - len(server.taken)
        assert refused <= 5 + 400 / 3 / 64 + 1, "asked for more too often"
        server.answer = lambda request: Answer(204)
        before = len(server.requests)
        for _ in range(40):
            it.consumer.sink.write(it.batch)
        sizes = [request.body.count(b"\n") for request in server.requests[before:]]
        assert sizes[-1] == 100, "one large point must not make writes small for ever"
        it.consumer.sink.close()


def test_what_influxdb_cannot_hold_is_named_without_asking_it(tmp_path):
    with far_side() as server:
        it = Rig(tmp_path, server.url, rows=3)
        bad = ReadingBatch.of([0, 1, 2], [1, 2, 3], [float("nan"), float("inf"), 1.5])
        it.consumer._source.steps = [Step(bad, 3)]  # type: ignore[attr-defined]  # the source is ours
        it.to_the_end()
        assert server.lines() == [b"temperature,device=d2 value=1.5 3"]
        assert [i for i, _ in it.parked] == [0, 1]
        assert it.counters.get("influx.parked", "unrepresentable") == 2
        it.consumer.sink.close()


def test_a_database_that_is_slow_gets_everything_and_is_no_failure(tmp_path):
    with far_side() as server:
        server.answer = lambda request: (time.sleep(0.02), Answer(204))[1]
        it = Rig(tmp_path, server.url, step=10)
        it.to_the_end()
        it.assert_all_stored(server.lines())
        assert it.clock.now() == ManualClock().now(), "it never had to wait"


def test_a_ca_file_that_is_missing_is_trouble_that_can_be_mended(tmp_path):
    with far_side() as server:
        it = Rig(tmp_path, server.url.replace("http", "https"), ca_file=tmp_path / "none.pem")
        with pytest.raises(RetryLater, match=r"ca_file|none\.pem|No such file"):
            it.consumer.sink.write(it.batch)
        it.consumer.sink.close()
