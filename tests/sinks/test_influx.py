"""Laws of the InfluxDB sink, against a small HTTP server that answers as it is told."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from sinks.config import InfluxConfig
from sinks.consumer import Consumer
from sinks.influx import InfluxSink
from sinks.sink import RejectedRows
from telemetry import Counters, Cursor, ManualClock, ReadingBatch, Rejected, RetryLater, Series, SeriesTable
from tests.sinks.far_side import Answer, FarSide, Request, far_side


@pytest.fixture
def server() -> Iterator[FarSide]:
    with far_side() as it:
        yield it


def table_of(n: int) -> SeriesTable:
    table = SeriesTable()
    for i in range(n):
        table.add(Series.of("temperature", device=f"d{i}"))
    return table


def batch_of(n: int) -> ReadingBatch:
    return ReadingBatch.of(list(range(n)), list(range(1000, 1000 + n)), [i + 0.5 for i in range(n)])


def line(i: int) -> bytes:
    return f"temperature,device=d{i} value={i + 0.5} {1000 + i}".encode()


@pytest.fixture
def sink_for(server):
    sinks = []

    def make(**changes) -> InfluxSink:
        fields = {"url": server.url, "bucket": "plant", "org": "acme", "token": "t0p", **changes}
        sinks.append(InfluxSink(InfluxConfig(**fields), table_of(100), clock=ManualClock()))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()


@pytest.mark.parametrize("compressed", [True, False])
def test_v2_sends_every_row_once_with_token_bucket_and_precision(server, sink_for, compressed):
    sink_for(gzip=compressed, batch_rows=40).write(batch_of(100))

    assert server.lines() == [line(i) for i in range(100)]
    assert [len(request.body.splitlines()) for request in server.requests] == [40, 40, 20]
    request = server.requests[0]
    assert request.path.startswith("/api/v2/write?")
    assert request.query == {"org": ["acme"], "bucket": ["plant"], "precision": ["ns"]}
    assert request.headers["Authorization"] == "Token t0p"
    assert request.headers["Content-Encoding"] == ("gzip" if compressed else "identity")


def test_v1_sends_database_retention_policy_and_basic_credentials(server, sink_for):
    v1 = {"api": "v1", "bucket": "", "org": "", "token": None, "database": "plant", "retention_policy": "year"}
    sink_for(**v1, username="ada", password="pw", precision="us").write(
        ReadingBatch.of([0], [5_000_999], [1.0]),
    )

    request = server.requests[0]
    assert request.path.startswith("/write?")
    assert request.query == {"db": ["plant"], "rp": ["year"], "precision": ["u"]}
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"ada:pw").decode()
    assert request.body == b"temperature,device=d0 value=1.0 5000\n"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "refused the token (401): check token of sink influx"),
        (403, "does not let this token write (403): give it write access to the org and bucket of sink influx"),
        (404, "does not know the org and bucket of sink influx (404)"),
        (429, "asks us to slow down (429)"),
        (500, "is in trouble (500)"),
        (503, "is in trouble (503)"),
        (405, "answered 405: check url and api"),
        (301, "points elsewhere (301)"),
    ],
)
def test_what_may_pass_is_tried_again_and_the_message_says_what_to_do(server, sink_for, status, words):
    detail = json.dumps({"code": "x", "message": "the server's\nown words"}).encode()
    server.answer = lambda request: Answer(status, {"Retry-After": "17", "Location": "http://127.0.0.1:1/"}, detail)
    with pytest.raises(RetryLater) as error:
        sink_for().write(batch_of(3))

    assert words in str(error.value)
    assert str(error.value).endswith(": the server's own words")
    assert "t0p" not in str(error.value)
    assert error.value.retry_after == 17.0


@pytest.mark.parametrize("status", [400, 422])
def test_what_the_server_will_never_take_is_rejected_with_its_words(server, sink_for, status):
    server.answer = lambda request: Answer(status, body=b'{"error":"partial write: field type conflict"}')
    with pytest.raises(Rejected, match=r"partial write: field type conflict"):
        sink_for().write(batch_of(3))


def test_a_body_that_is_too_large_is_halved_until_it_fits_and_stays_small(server, sink_for):
    server.answer = lambda request: Answer(413 if request.body.count(b"\n") > 10 else 204)
    sink = sink_for()
    sink.write(batch_of(100))
    assert server.lines() == [line(i) for i in range(100)]
    before = len(server.requests)
    sink.write(batch_of(100))
    assert max(request.body.count(b"\n") for request in server.requests[before:]) <= 10


def test_a_single_point_that_is_too_large_is_rejected(server, sink_for):
    server.answer = lambda request: Answer(413)
    with pytest.raises(Rejected, match="413"):
        sink_for().write(batch_of(3))


def test_a_server_that_is_down_is_tried_again():
    with FarSide() as gone:
        url = gone.url
    sink = InfluxSink(InfluxConfig(url=url, bucket="b"), table_of(1))
    with pytest.raises(RetryLater, match=r"cannot reach InfluxDB at http://127.0.0.1:\d+ .*start it, or mend the url"):
        sink.write(batch_of(1))
    sink.close()


def test_a_server_that_hangs_is_left_after_the_timeout(server, sink_for):
    release = threading.Event()
    server.answer = lambda request: Answer(204 if release.wait(5) else 500)
    with pytest.raises(RetryLater, match="ReadTimeoutError"):
        sink_for(timeout="50ms").write(batch_of(1))
    release.set()


def test_a_token_file_is_read_again_when_the_token_is_refused(server, sink_for, tmp_path):
    file = tmp_path / "token"
    sink = sink_for(token=None, token_file=file)
    with pytest.raises(RetryLater, match="cannot read the token of sink influx"):
        sink.write(batch_of(1))
    file.write_text("old\n")
    server.answer = lambda request: Answer(401)
    with pytest.raises(RetryLater):
        sink.write(batch_of(1))
    file.write_text("new\n")
    server.answer = lambda request: Answer()
    sink.write(batch_of(1))
    assert server.taken[0].headers["Authorization"] == "Token new"


def test_rows_that_cannot_be_written_are_named_before_anything_is_sent(server, sink_for):
    batch = ReadingBatch.of([0, 1, 2, 3], [1, 2, 3, 4], [1.0, float("nan"), float("-inf"), 2.0])
    with pytest.raises(RejectedRows) as error:
        sink_for().write(batch)
    assert error.value.rows.tolist() == [False, True, True, False]
    assert server.requests == []


def test_what_rules_recorded_and_influxdb_cannot_hold_is_skipped_and_what_devices_sent_is_parked(
    server, sink_for, tmp_path
):
    values = [1.5, float("nan"), float("inf"), float("nan"), 5.5]
    batch = ReadingBatch.of([0, 1, 2, 3, 4], [1000, 1001, 1002, 1003, 1004], values, flags=[16, 16, 16, 0, 16])

    class Steps:
        def read(self, timeout: float):
            return steps.pop() if steps else None

    steps, parked, counters = [SimpleNamespace(batch=batch, next=5)], [], Counters()
    consumer = Consumer(
        sink_for(), Steps(), Cursor(tmp_path / "cursor"), counters, park=lambda rows, why: parked.append((rows, why))
    )
    consumer._advance()

    assert [line for request in server.taken for line in request.body.splitlines()] == [
        b"temperature,device=d0 value=1.5 1000",
        b"temperature,device=d4 value=5.5 1004",
    ]
    assert [(rows.series.tolist(), why) for rows, why in parked] == [([3], "InfluxDB has no NaN and no infinity")]
    assert counters.get("influx.skipped", "unrepresentable") == counters.get("influx.stored") == 2


def test_with_a_consumer_only_the_poison_points_are_parked(server, sink_for, tmp_path):
    poison = {line(3), line(77)}

    def answer(request: Request) -> Answer:
        bad = poison & set(request.body.splitlines())
        return Answer(400, body=b'{"error":"field type conflict"}') if bad else Answer()

    class Steps:
        def read(self, timeout: float):
            return steps.pop() if steps else None

    class Step:
        batch, next = batch_of(100), 100

    server.answer = answer
    steps, parked, counters = [Step()], [], Counters()
    consumer = Consumer(
        sink_for(batch_rows=30),
        Steps(),
        Cursor(tmp_path / "cursor"),
        counters,
        park=lambda rows, reason: parked.append((rows.series.tolist(), reason)),
    )
    consumer._advance()

    assert list(dict.fromkeys(server.lines())) == [line(i) for i in range(100) if i not in (3, 77)]
    assert [ids for ids, _ in parked] == [[3], [77]]
    assert all("field type conflict" in reason for _, reason in parked)
    assert counters.snapshot() == {("influx.stored", ""): 98, ("influx.parked", "rejected"): 2}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"url": "ftp://x", "bucket": "b"}, "http:// or https://"),
        ({"url": "http://u:p@x", "bucket": "b"}, "user and password out of the URL"),
        ({"url": "http://x"}, "api v2 needs a bucket"),
        ({"url": "http://x", "api": "v1"}, "api v1 needs a database"),
        ({"url": "http://x", "api": "v1", "database": "d", "token": "t"}, "are for api: v2"),
        ({"url": "http://x", "bucket": "b", "username": "u"}, "are for api: v1"),
        ({"url": "http://x", "bucket": "b", "token": "t", "token_file": "f"}, "either token or token_file"),
        ({"url": "http://x", "bucket": "b", "bukcet": "b"}, "bukcet"),
        ({"url": "http://x", "bucket": "b", "timeout": "10"}, "is not a duration"),
    ],
)
def test_a_wrong_configuration_is_refused_with_what_would_be_right(fields, words):
    with pytest.raises(ValidationError, match=words):
        InfluxConfig(**fields)


def test_secrets_do_not_show():
    config = InfluxConfig(url="http://x", bucket="b", token="t0p-secret")
    assert "t0p-secret" not in repr(config) + config.model_dump_json()
