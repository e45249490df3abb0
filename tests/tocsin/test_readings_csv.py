"""Laws of the readings as CSV: all of them, as they are stored, whatever a device calls itself."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import urllib3

from telemetry import Series
from tests.tocsin.console_store import NOW, stored_backend
from tocsin.http.config import HttpConfig
from tocsin.http.server import HttpServer
from tocsin.words import exact, iso

HOSTILE = '=cmd()|"\n,<script>'
PATH = "/api/v1/tocsin/readings.csv"
Ask = Callable[[dict[str, str]], urllib3.BaseHTTPResponse]
SPAN = {"start": str(NOW // 10**9 - 100), "end": str(NOW // 10**9 + 1)}


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    readings = {
        Series.of("t", device="d1"): [(3, 1.5), (2, float("nan")), (1, 0.1)],
        Series.of("t", device=HOSTILE): [(1, 4.0)],
    }
    server = HttpServer(HttpConfig(listen="127.0.0.1:0"), tmp_path / "http.json")
    with stored_backend(tmp_path, readings) as backend, urllib3.PoolManager() as pool:
        server.start(backend)
        yield lambda parameters: pool.request("GET", server.url + PATH, fields=SPAN | parameters)
        server.stop()


def table(ask: Ask, **parameters: str) -> list[list[str]]:
    answer = ask(parameters)
    assert answer.status == 200, answer.data
    assert answer.headers["content-type"].startswith("text/csv")
    assert "attachment" in answer.headers["content-disposition"]
    return list(csv.reader(io.StringIO(answer.data.decode(), newline="")))


def test_a_selector_gives_each_reading_as_it_is_stored(ask: Ask) -> None:
    assert table(ask, query='t{device="d1"}') == [
        ["time", "series", "value"],
        *(
            [iso(NOW - ago * 10**9), 't{device="d1"}', exact(value)]
            for ago, value in ((3, 1.5), (2, float("nan")), (1, 0.1))
        ),
    ]


def test_an_expression_is_evaluated_at_every_step(ask: Ask) -> None:
    rows = table(ask, query='2 * t{device="d1"}', step="1")
    assert rows[1] == [iso(NOW - 3 * 10**9), '{device="d1"}', "3"]
    assert rows[-1] == [iso(NOW + 10**9), '{device="d1"}', "0.2"]


def test_a_hostile_name_stays_in_its_cell(ask: Ask) -> None:
    [_, *rows] = table(ask, query="t")
    assert [len(row) for row in rows] == [3, 3, 3, 3]
    assert all(row[1].startswith("t{") for row in rows)  # no spreadsheet takes it for a formula


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"query": "t >"}, "query"),
        ({"query": "t", "start": "tomorrow"}, "start"),
        ({"query": "t", "end": "0"}, "end"),
        ({"query": "t", "step": "-1"}, "step"),
        ({}, "query"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(ask: Ask, parameters: dict[str, str], why: str) -> None:
    answer = ask(parameters)
    assert answer.status == 400
    assert f'invalid parameter "{why}"' in answer.json()["error"]


def test_an_expression_over_too_many_readings_is_refused(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.http.readings_csv.MOST_SAMPLES", 1)
    answer = ask({"query": "rate(t[1m])"})
    assert answer.status == 400
    assert "samples" in answer.json()["error"]
    assert len(table(ask, query="t")) == 5  # read one series at a time
