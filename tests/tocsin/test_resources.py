"""Laws of tocsin's own resources over HTTP: devices, streams, dead letters, pipeline, alerts."""

from __future__ import annotations

import base64
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
import urllib3

from telemetry import Series, SeriesTable, SystemClock
from tests.tocsin.pipeline_rig import settle, until
from tests.tocsin.resource_rig import HOSTILE, TestClient, client, filled, pages, publish, stored
from tocsin.backend import RunningBackend, StoredBackend
from tocsin.data_dir import DataDir
from tocsin.http.access import Principal, Role
from tocsin.http.config import HttpConfig
from tocsin.http.server import HttpServer, listening
from tocsin.pipeline import Pipeline

OWN = "/api/v1/tocsin"
README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def tocsin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Pipeline, RunningBackend]]:
    with filled(tmp_path_factory.mktemp("tocsin")) as found:
        yield found


@pytest.fixture(scope="module")
def ask(tocsin: tuple[Pipeline, RunningBackend]) -> TestClient:
    return client(tocsin[1])


@pytest.fixture(scope="module")
def served(tocsin: tuple[Pipeline, RunningBackend]) -> Iterator[HttpServer]:
    with listening(HttpConfig(listen="127.0.0.1:0"), tocsin[0].data.http) as server:
        assert server is not None
        server.start(tocsin[1])
        yield server


def test_devices_come_in_pages_that_have_each_of_them_once(ask: TestClient) -> None:
    whole = [device["device"] for device in ask.get(f"{OWN}/devices").json()["devices"]]
    assert whole == sorted(["d1", "d2", *HOSTILE])
    for limit in (1, 3, len(whole), 1_000):
        found = pages(ask, f"{OWN}/devices", "devices", limit=limit)
        assert [device["device"] for page in found for device in page] == whole
        assert {len(page) for page in found[:-1]} <= {limit}
        assert found[-1]


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({"search": "D"}, ["a/b?c=d&e#f%2F", "d1", "d2"]),
        ({"search": "SCRIPT"}, ["<script>alert(1)</script>"]),
        ({"device": "d"}, []),
        ({"device": ".."}, [".."]),
        ({"state": "silent"}, []),
        ({"state": "reporting", "stream": "plain"}, ["d1", "d2"]),
        ({"label": "batch=1", "search": ".."}, [".."]),
        ({"label": ["batch=1", "batch=2"]}, []),
    ],
)
def test_devices_are_filtered(ask: TestClient, filters: dict[str, str], found: list[str]) -> None:
    answer = ask.get(f"{OWN}/devices", params=filters).json()
    assert [device["device"] for device in answer["devices"]] == found
    assert answer["total"] == len(found)


@pytest.mark.parametrize("device", [name for name in HOSTILE if name != ".."])
def test_a_device_is_found_by_whatever_name_it_has_given_itself(served: HttpServer, device: str) -> None:
    answer = urllib3.request("GET", f"{served.url}{OWN}/devices/{quote(device, safe='')}")
    assert answer.headers["content-type"] == "application/json"
    told = json.loads(answer.data)
    assert (told["device"], told["series"], told["streams"], told["firing"]) == (device, 1, ["named"], 1)
    [series] = told["all_series"]
    assert (series["metric"], series["value"], series["labels"]) == (
        "temperature",
        90.5,
        {"batch": "1", "device": device},
    )
    assert series["time"] == told["last_time"] == told["last_seen"]
    assert [(alert["rule"], alert["state"], alert["value"]) for alert in told["alerts"]] == [("g/Hot", "firing", 90.5)]


def test_a_device_has_the_least_guarantee_of_its_streams(tmp_path: Path) -> None:
    with stored(tmp_path) as backend:
        said = backend.snapshot()
        row = replace(said.streams[0], guarantee="G2")
        rows = tuple(
            replace(row, name=name, guarantee=level) for name, level in (("a", "G2"), ("b", "G0"), ("c", "none"))
        )
        backend._told = lambda: replace(said, streams=rows)
        known = backend.devices()[0]
        levels = {}
        for streams in ((), ("a",), ("a", "b"), ("b", "c"), ("unknown",)):
            backend.devices = lambda streams=streams: [replace(known, device="d", streams=streams)]  # type: ignore[method-assign]
            levels[streams] = client(backend).get(f"{OWN}/devices").json()["devices"][0]["guarantee"]
    assert list(levels.values()) == ["", "G2", "G0", "none", ""]


def test_errors_say_what_is_wrong_in_the_envelope(ask: TestClient) -> None:
    for path, status, type_, why in (
        ("devices/nobody", 404, "not_found", "there is no device 'nobody'"),
        ("devices?limit=1001", 400, "bad_data", 'invalid parameter "limit"'),
        ("devices?cursor=W10", 400, "bad_data", "not the next_cursor"),
        ("devices?cursor=%00", 400, "bad_data", "not the next_cursor"),
        ("devices?label=site", 400, "bad_data", "is not NAME=VALUE"),
        ("dead-letters?topic=a%23", 400, "bad_data", 'invalid parameter "topic"'),
        ("dead-letters?since=yesterday", 400, "bad_data", 'invalid parameter "since"'),
        (f"dead-letters/{1 << 63}", 400, "bad_data", 'invalid parameter "id"'),
        ("dead-letters/999", 404, "not_found", "there is no dead letter 999"),
        ("dead-letters/replays/999", 404, "not_found", "nothing is known of a replay 999"),
        ("alerts/recent?state=pending", 400, "bad_data", 'invalid parameter "state"'),
        ("alerts/0000", 404, "not_found", "there is no alert event 0000"),
    ):
        answer = ask.get(f"{OWN}/{path}")
        told = answer.json()
        assert (answer.status_code, told["status"], told["errorType"]) == (status, "error", type_), path
        assert why in told["error"], path


def test_each_stream_tells_how_far_its_messages_come_and_why_not_further(ask: TestClient) -> None:
    streams = {stream["name"]: stream for stream in ask.get(f"{OWN}/streams").json()["streams"]}
    counts = {n: (s["seen"], s["decoded"], s["matched"], s["stored"]) for n, s in streams.items()}
    assert counts == {
        "named": (len(HOSTILE),) * 4,
        "picky": (1, 1, 0, 0),
        "strict": (1, 0, 0, 0),
        "silent": (0, 0, 0, 0),
        "plain": (5, 5, 5, 5),
    }
    assert "bad_" in streams["strict"]["last_error"]
    assert all("not connected" in stream["why"] for stream in streams.values())


def test_dead_letters_come_in_pages_the_newest_first_and_are_shown_whole(ask: TestClient) -> None:
    letters = [letter for page in pages(ask, f"{OWN}/dead-letters", "letters", limit=2) for letter in page]
    assert [letter["id"] for letter in letters] == [3, 2, 1]
    assert [letter["received"] for letter in letters] == sorted((x["received"] for x in letters), reverse=True)
    newest = ask.get(f"{OWN}/dead-letters/3").json()
    assert base64.b64decode(newest["payload_base64"]) == b"\xff<script>"
    assert (newest["payload"], newest["stream"], newest["bytes"]) == ("\\xff<script>", "strict", 9)
    assert "dead-letters replay 3" in newest["advice"]
    for query, ids in (("reason=unknown_topic", [2, 1]), ("topic=strict/%23", [3]), ("stream=strict&since=1h", [3])):
        assert [letter["id"] for letter in ask.get(f"{OWN}/dead-letters?{query}").json()["letters"]] == ids
    assert ask.get(f"{OWN}/dead-letters?until=1h").json()["letters"] == []
    reasons = ask.get(f"{OWN}/dead-letters/reasons?topic=nobody/%23").json()["reasons"]
    assert [(row["reason"], row["letters"], row["readings"]) for row in reasons] == [("unknown_topic", 2, 2)]


def test_the_pipeline_tells_where_everything_is(ask: TestClient, tocsin: tuple[Pipeline, RunningBackend]) -> None:
    settle(tocsin[0])
    told = ask.get(f"{OWN}/pipeline").json()
    assert (told["running"], told["ready"], told["session"]["state"] == "connected") == (True, False, False)
    assert any("not connected" in why for why in told["not_ready_because"])
    assert told["readings"] == 5 + len(HOSTILE) + 3
    assert told["time"] > told["started"] > "2026"
    assert [sink["name"] for sink in told["sinks"]] == ["store", "log"]
    stages = {stage["stage"]: stage for stage in told["accounts"]}
    assert stages["readings"]["received"] == sum(stages["readings"]["outcomes"].values())


def test_alert_events_come_in_pages_the_last_first_with_receipts_and_trace(ask: TestClient) -> None:
    events = [event for page in pages(ask, f"{OWN}/alerts/recent", "events", limit=3) for event in page]
    assert len({event["id"] for event in events}) == len(events) == 2 + len(HOSTILE)
    assert [event["detected_at"] for event in events] == sorted((e["detected_at"] for e in events), reverse=True)
    answer = ask.get(f"{OWN}/alerts/recent", params={"label": "device=d1", "state": "resolved"}).json()
    [resolved] = answer["events"]
    assert (resolved["rule"], resolved["value"], resolved["ends_at"] > resolved["starts_at"]) == ("g/Hot", 70, True)
    shown = ask.get(f"{OWN}/alerts/{resolved['id']}").json()
    [receipt] = shown["receipts"]
    assert (receipt["receiver"], receipt["state"], receipt["attempts"], shown["id"]) == (
        "log",
        "sent",
        1,
        resolved["id"],
    )
    trace = ask.get(f"{OWN}/alerts/{resolved['id'][:12]}/trace").json()
    assert [event["state"] for event in trace["events"]] == ["firing", "resolved"]
    assert trace["expression"] == "temperature > 50"
    assert trace["readings"][0]["values"] == [60, 70, 45]
    assert ask.get(f"{OWN}/alerts/recent", params={"label": "device=nobody"}).json()["events"] == []
    assert ask.get(f"{OWN}/alerts/recent", params={"rule": "g/Cold"}).json()["events"] == []


def test_an_operator_replays_and_purges(tmp_path: Path) -> None:
    with filled(tmp_path) as (pipeline, backend):
        ask = client(backend)
        asked = ask.post(f"{OWN}/dead-letters/replays", json={"reason": "unknown_topic"})
        assert (asked.status_code, asked.json()["letters"]) == (202, 2)
        path = f"{OWN}/dead-letters/replays/{asked.json()['replay']}"
        until(lambda: ask.get(path).json()["done"])
        assert ask.get(path).json() | {"to_come": 0, "refused": 2, "decoded": 0} == ask.get(path).json()
        for unclear in (
            {},
            {"all": False},
            {"all": True, "ids": [1]},
            {"ids": []},
            {"reason": "x", "ids": [1]},
            {"no": 1},
        ):
            answer = ask.post(f"{OWN}/dead-letters/purge", json=unclear)
            assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data"), unclear
        assert ask.post(f"{OWN}/dead-letters/purge", json={"topic": "strict/#"}).json() == {"purged": 1}
        assert ask.post(f"{OWN}/dead-letters/purge", json={"all": True}).json() == {"purged": 2}
        assert ask.get(f"{OWN}/dead-letters").json()["letters"] == []
        publish(pipeline, "still/alive", b"1")


def test_a_reader_may_look_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = stored(tmp_path)
    ask = client(backend)
    monkeypatch.setattr("tocsin.http.access.LOCAL", Principal("reader", Role.READER))
    for path in ("replays", "purge"):
        answer = ask.post(f"{OWN}/dead-letters/{path}", json={"all": True})
        assert (answer.status_code, answer.json()["errorType"]) == (403, "forbidden")
    assert len(ask.get(f"{OWN}/dead-letters").json()["letters"]) == 3


def test_files_alone_are_shown_and_changed_too(tmp_path: Path) -> None:
    with stored(tmp_path) as backend:
        ask = client(backend)
        assert [d["device"] for d in ask.get(f"{OWN}/devices").json()["devices"]] == sorted(["d1", "d2", *HOSTILE])
        assert ask.get(f"{OWN}/devices/d1").json()["all_series"][0]["value"] == 45
        assert [s["why"][:20] for s in ask.get(f"{OWN}/streams").json()["streams"]] == ["tocsin does not run:"] * 5
        assert ask.post(f"{OWN}/dead-letters/replays", json={"ids": [1]}).json()["to_come"] == 1
        assert ask.post(f"{OWN}/dead-letters/purge", json={"all": True}).json() == {"purged": 3}


def test_half_a_character_is_written_as_its_escape(tmp_path: Path) -> None:
    """No series has one today; if one came, it would break no page."""
    with stored(tmp_path) as backend:
        table = SeriesTable()
        table.add(Series.of("t", device="half \ud800", site="\udfff"))
        backend._table = table
        told = client(backend).get(f"{OWN}/devices").json()["devices"]
    assert [(device["device"], device["labels"]) for device in told] == [("half \\ud800", {"site": "\\udfff"})]


def test_where_nothing_has_run_yet_it_says_so(tmp_path: Path) -> None:
    with StoredBackend(DataDir(tmp_path / "nothing"), SystemClock()) as backend:
        ask = client(backend)
        for path in ("devices", "streams", "dead-letters", "pipeline", "alerts/recent"):
            answer = ask.get(f"{OWN}/{path}")
            assert (answer.status_code, answer.json()["errorType"]) == (503, "unavailable"), path
            assert "start `tocsin run" in answer.json()["error"], path


def test_all_routes_have_a_name_a_summary_and_errors_in_the_document(ask: TestClient) -> None:
    document = ask.get("/api/openapi.json").json()
    operations = [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        if path.startswith(OWN)
        for method, operation in methods.items()
    ]
    assert len(operations) >= 14
    for name, operation in operations:
        assert operation["summary"], name
        assert operation["description"], name
        assert operation["tags"], name
        assert operation["responses"]["400"]["content"]["application/json"]["schema"], name
        assert "422" not in operation["responses"], name
        for parameter in operation.get("parameters", []):
            assert parameter.get("description"), (name, parameter["name"])
    for schema in ("Device", "Stream", "Letter", "Event", "Pipeline", "ResourceFailure"):
        assert document["components"]["schemas"][schema]["description"], schema


def test_the_readme_lists_the_paths_that_there_are(ask: TestClient) -> None:
    paths = {path for path in ask.get("/api/openapi.json").json()["paths"] if path.startswith(OWN)}
    listed = set(re.findall(rf"^\| `({OWN}[^`]*)` \|", README, re.MULTILINE))
    assert listed == paths - {f"{OWN}/alerts/{{id}}/trace", f"{OWN}/dead-letters/replays/{{replay}}"}


@pytest.mark.parametrize("command", re.findall(rf"^curl .*{OWN}.*$", README, re.MULTILINE))
def test_what_the_readme_asks_is_answered(ask: TestClient, command: str) -> None:
    words = shlex.split(command)
    url = urlsplit(words[-1])
    if url.path.endswith("/events"):
        return  # it would not end: see test_events
    body = json.loads(words[words.index("--json") + 1]) if "--json" in words else None
    path = f"{url.path}?{url.query}"
    answer = ask.get(path) if body is None else ask.post(path, json=body)
    assert answer.status_code in (200, 202), answer.text
