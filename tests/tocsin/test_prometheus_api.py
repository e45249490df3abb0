"""Laws of the HTTP API in Prometheus' shape that need no Prometheus. Beside it: tests/integration/test_prometheus_*."""

from __future__ import annotations

import math
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from rules import Alert, load_rules
from sinks.store import Store
from telemetry import ManualClock, Series, SeriesTable
from tests.tocsin.fake_backend import FakeBackend
from tests.tocsin.pipeline_rig import until
from tocsin.data_dir import DataDir
from tocsin.http import prometheus, prometheus_query
from tocsin.http.prometheus_answers import ApiError, exponential, rfc3339, seconds
from tocsin.http.prometheus_query import Deadline, Gate
from tocsin.staleness_file import save_staleness
from tocsin.status import Snapshot

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a successor of httpx
    from starlette.testclient import TestClient

S = 10**9
T0 = 1_700_000_000
NOW = T0 + 1_000
VALUES = [0.1, -0.0, math.nan, math.inf, 1e21, 1e-7, 123456789012345680.0, 5.0]
GROUPS = """
- name: plant
  rules:
    - {alert: Hot, expr: temperature > 80, for: 1m, labels: {severity: page}}
    - {alert: Cold, expr: temperature < 0}
- name: sums
  rules: [{record: "site:energy:sum", expr: "sum by (site) (energy_joules_total)"}]
"""


class Asked:
    """The API over a data directory, in this process."""

    def __init__(self, directory: Path) -> None:
        self.data = DataDir(directory)
        self.data.create()
        self.clock = ManualClock(NOW * S)
        groups = load_rules({"groups": yaml.safe_load(GROUPS)}, file="plant.yml")[0]
        self.backend = FakeBackend(directory, lambda: Snapshot(time=0, started=0), clock=self.clock, groups=groups)
        app = FastAPI()
        app.include_router(prometheus.router(self.backend))
        self._client = TestClient(app, raise_server_exceptions=False)

    def store(self, *series: Series, times: list[float], values: list[float]) -> None:
        table = SeriesTable(self.data.series)
        ids = [table.add(s) for s in series]
        table.sync()
        with Store(self.data.store) as store:
            for id_ in ids:
                time = np.array([round(at * 1000) * 10**6 for at in times], np.int64)
                store.append(np.full(len(times), id_, np.int32), time, np.array(values, np.float64))

    def get(self, path: str, status: int = 200, **fields: Any) -> Any:
        found = self._client.get(f"/api/v1{path}", params={k.replace("match", "match[]"): v for k, v in fields.items()})
        assert found.status_code == status, found.text
        assert found.headers["content-type"] == "application/json"
        return found.json()

    def post(self, path: str, status: int = 200, **more: Any) -> Any:
        found = self._client.post(f"/api/v1{path}", **more)
        assert found.status_code == status, found.text
        return found.json()

    def result(self, expr: str, **fields: Any) -> Any:
        return self.get("/query", query=expr, **fields)["data"]["result"]


@pytest.fixture
def asked(tmp_path: Path) -> Iterator[Asked]:
    asked = Asked(tmp_path)
    with asked.backend:
        yield asked


def fleet(asked: Asked, n: int = 3) -> None:
    times = [T0 + i * 10 for i in range(len(VALUES))]
    asked.store(*(Series.of("temperature", device=f"d{i}", site="n") for i in range(n)), times=times, values=VALUES)


def test_values_are_texts_that_read_back_as_what_is_stored(asked: Asked):
    fleet(asked, 1)
    [element] = asked.result("temperature[10m]", time=T0 + 100)
    assert element["metric"] == {"__name__": "temperature", "device": "d0", "site": "n"}
    assert [time for time, _ in element["values"]] == [T0 + i * 10 for i in range(len(VALUES))]
    texts = [text for _, text in element["values"]]
    assert texts == ["0.1", "-0", "NaN", "+Inf", "1e+21", "1e-07", "123456789012345680", "5"]
    stored = asked.backend.store.read(0)[1]
    assert np.array(list(map(float, texts))).tobytes() == stored.tobytes()


def test_times_are_seconds_to_the_millisecond(asked: Asked):
    asked.store(Series.of("x", device="d"), times=[T0 + 0.5, T0 + 1.25], values=[1, 2])
    [element] = asked.result("x[10s]", time=T0 + 2)
    assert element["values"] == [[T0 + 0.5, "1"], [T0 + 1.25, "2"]]
    assert asked.result("x", time=f"{T0 + 1}.2509")[0]["value"] == [T0 + 1.251, "2"]
    asked.clock.time = (T0 + 3) * S + 7_654_321
    assert asked.result("x")[0]["value"] == [T0 + 3.007, "2"]


def test_instants_are_cut_to_milliseconds_and_written_as_short_as_can_be():
    for ns, text in (
        (1_999_999, b"0.001"),
        (T0 * S, b"1700000000"),
        (-1, b"-0.001"),
        (-2 * S, b"-2.0"),
        (S - 1, b"0.999"),
    ):
        assert seconds(ns) == text


def test_a_reading_is_seen_for_as_long_as_its_stream_says_or_the_query(asked: Asked):
    asked.store(Series.of("x", device="d"), Series.of("y", device="d"), times=[T0], values=[1])
    assert [len(asked.result(m, time=T0 + 299)) for m in "xy"] == [1, 1]
    assert [len(asked.result(m, time=T0 + 300)) for m in "xy"] == [0, 0]
    save_staleness(asked.data, {1: 900 * S})
    assert [len(asked.result(m, time=T0 + 899)) for m in "xy"] == [0, 1]
    assert [len(asked.result(m, time=T0 + 100, lookback_delta="2m")) for m in "xy"] == [1, 1]
    assert [len(asked.result(m, time=T0 + 120, lookback_delta="120")) for m in "xy"] == [0, 0]
    found = asked.get("/query_range", query="y", start=T0, end=T0 + 2_000, step=100)["data"]["result"]
    assert len(found[0]["values"]) == 9


def test_everything_is_answered_before_the_first_reading(asked: Asked):
    assert asked.result("1 + 1") == [NOW, "2"]
    assert asked.result("temperature") == []
    assert asked.get("/query_range", query="temperature", start=1, end=2, step=1)["data"]["result"] == []
    assert asked.get("/series", match="temperature")["data"] == []
    assert asked.get("/labels", start=1)["data"] == asked.get("/label/device/values")["data"] == []
    assert asked.get("/metadata")["data"] == {}
    assert asked.get("/alerts")["data"] == {"alerts": []}


def test_the_place_of_a_mistake_is_told_in_lines_and_columns(asked: Asked):
    told = asked.get("/query", 400, query="temperature >\n  nonsense(x)")
    assert told["errorType"] == "bad_data"
    assert told["error"].startswith('invalid parameter "query": 2:3: parse error: there is no function nonsense()')
    assert '"match[]": 1:3:' in asked.get("/series", 400, match="a b")["error"]
    assert "longer than 10000 characters" in asked.get("/query", 400, query="x" * 10_001)["error"]


def test_a_form_says_more_than_the_url(asked: Asked):
    fleet(asked)
    told = asked.post(f"/query?query=2&time={T0}", data={"query": "1"})["data"]["result"]
    assert told == [T0, "1"]
    found = asked.post("/series?match[]=nothing", data={"match[]": ['{device="d1"}', '{device="d2"}']})["data"]
    assert [series["device"] for series in found] == ["d1", "d2"]
    assert asked.post("/labels", content=b"")["data"] == ["__name__", "device", "site"]


def test_a_body_is_limited_and_says_its_length(asked: Asked):
    long = asked.post("/query", 400, data={"query": "x" * (1 << 20)})
    chunked = asked.post("/query", 400, content=iter([b"query=", b"1"]))
    assert "at most 1048576 bytes" in long["error"]
    assert "says how many" in chunked["error"]
    assert "valid string" in asked.post("/query", 400, files={"query": ("name", b"1")})["error"]


def test_a_limit_cuts_and_warns(asked: Asked):
    fleet(asked)
    for path, fields in (("/series", {"match": "temperature"}), ("/label/device/values", {}), ("/labels", {})):
        assert len(asked.get(path, **fields)["data"]) == 3
        assert "warnings" not in asked.get(path, limit=3, **fields)
        cut = asked.get(path, limit=2, **fields)
        assert (len(cut["data"]), cut["warnings"]) == (2, ["results truncated due to limit"])
        assert len(asked.get(path, limit=0, **fields)["data"]) == 3
        assert "non-negative" in asked.get(path, 400, limit=-1, **fields)["error"]
    cut = asked.get("/query", query="temperature", time=T0, limit=1)
    assert (len(cut["data"]["result"]), cut["warnings"]) == (1, ["results truncated due to limit"])
    assert "warnings" not in asked.get("/query", query="1", limit=1)


def test_an_answer_and_what_is_read_for_it_are_limited(asked: Asked, monkeypatch: pytest.MonkeyPatch):
    fleet(asked, 300)
    step = {"start": T0, "end": T0 + 10_000, "step": 1}
    told = asked.get("/query_range", 422, query="temperature", **step)
    assert told["errorType"] == "execution"
    assert "300 elements × 10001 steps are too many" in told["error"]
    assert asked.get("/query_range", query="sum(temperature)", **step)["status"] == "success"
    whole = {"query": "temperature[10m]", "time": T0 + 100}
    for together in (1_000_000, 100, 1):  # samples that are read at once, or those of one series
        monkeypatch.setattr(prometheus_query, "_MOST_TOGETHER", together)
        monkeypatch.setattr(prometheus_query, "MOST_SAMPLES", 300 * len(VALUES))
        assert len(asked.result("temperature[10m]", time=T0 + 100)) == 300
        monkeypatch.setattr(prometheus_query, "MOST_SAMPLES", 300 * len(VALUES) - 1)
        assert f"more than {300 * len(VALUES) - 1} samples" in asked.get("/query", 422, **whole)["error"]
    monkeypatch.setattr(prometheus_query, "MOST_SAMPLES", len(VALUES) - 2)
    monkeypatch.setattr(Store, "read_many", None)
    assert "samples" in asked.get("/query", 422, **whole)["error"]  # seen before any is read


def test_a_query_that_takes_too_long_ends(asked: Asked):
    fleet(asked)
    told = asked.get("/query", 503, query="temperature", time=T0, timeout="0.000001")
    assert (told["status"], told["errorType"]) == ("error", "timeout")
    assert asked.get("/query", query="temperature", time=T0, timeout="30s")["status"] == "success"


def test_two_queries_run_some_wait_and_more_are_sent_away():
    gate, inside, go = Gate(at_once=2, waiting=3), [], threading.Event()

    def ask() -> None:
        with gate.entered(Deadline(20)):
            inside.append(1)
            go.wait(20)

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    until(lambda: gate._waiting == 3)
    assert len(inside) == 2
    with pytest.raises(ApiError, match="3 queries wait already") as error, gate.entered(Deadline(20)):
        pass
    assert error.value.type == "unavailable"
    go.set()
    for thread in threads:
        thread.join(20)
    assert len(inside) == 5
    too_late = pytest.raises(ApiError, match="timed out while it waited")
    with gate.entered(Deadline(20)), gate.entered(Deadline(20)), too_late, gate.entered(Deadline(0)):
        pass


def test_series_that_ended_before_the_start_are_left_out(asked: Asked):
    asked.store(Series.of("old", device="d1"), times=[T0], values=[1])
    asked.store(Series.of("young", device="d2"), times=[T0, T0 + 100], values=[1, 2])
    names = lambda **fields: asked.get("/label/__name__/values", **fields)["data"]  # noqa: E731  # one expression
    assert names() == names(start=T0, end=T0 + 100) == ["old", "young"]
    assert names(start=T0 + 1) == names(start=T0 + 100) == ["young"]
    assert names(start=T0 + 101) == names(start=5, end=4) == []
    assert names(start="-292273086-05-16T16:47:06Z", end="292277025-08-18T07:12:54.999999999Z") == ["old", "young"]
    assert asked.get("/label/device/values", match=["old", "young"], start=T0 + 1)["data"] == ["d2"]
    assert asked.get("/series", match='{device=~".+"}', start=T0 + 1)["data"] == [{"__name__": "young", "device": "d2"}]
    assert asked.get("/labels", match="old", start=T0 + 1)["data"] == []


def test_what_is_known_of_a_metric_is_what_its_name_says(asked: Asked):
    names = ["temperature", "temperature_celsius", "energy_joules_total", "site:energy:sum"]
    asked.store(*(Series.of(name, device="d") for name in names), times=[T0], values=[1])
    told = asked.get("/metadata")["data"]
    assert {name: (entry["type"], entry["unit"]) for name, [entry] in told.items()} == {
        "temperature": ("gauge", ""),
        "temperature_celsius": ("gauge", "celsius"),
        "energy_joules_total": ("counter", "joules"),
        "site:energy:sum": ("unknown", ""),
    }
    assert told["site:energy:sum"][0]["help"] == "recorded by sums/site:energy:sum: sum by (site) (energy_joules_total)"
    assert list(asked.get("/metadata", metric="temperature")["data"]) == ["temperature"]
    assert len(asked.get("/metadata", limit=2)["data"]) == 2


HOT = Alert("plant/Hot", (("alertname", "Hot"), ("device", "d")), (("summary", "s"),), "firing", T0 * S + 5, 85.25)
PENDING = Alert("plant/Hot", (("alertname", "Hot"), ("device", "e")), (), "pending", T0 * S, 1e9)


def test_rules_have_the_state_of_their_alerts_and_the_health_of_their_evaluation(asked: Asked):
    asked.backend.active = [PENDING, HOT]
    asked.backend.errors = {"plant/Cold": "two elements have the same labels"}
    plant, sums = asked.get("/rules")["data"]["groups"]
    hot, cold = plant["rules"]
    assert (hot["state"], cold["state"]) == ("firing", "inactive")
    assert (hot["health"], cold["health"]) == ("ok", "err")
    assert cold["lastError"] == "two elements have the same labels"
    assert hot["alerts"][1] == {
        "labels": {"alertname": "Hot", "device": "d"},
        "annotations": {"summary": "s"},
        "state": "firing",
        "activeAt": "2023-11-14T22:13:20.000000005Z",
        "value": "8.525e+01",
    }
    assert asked.get("/alerts")["data"]["alerts"] == hot["alerts"]
    assert (hot["duration"], hot["type"], sums["rules"][0]["type"]) == (60, "alerting", "recording")
    asked.backend.active = [PENDING]
    assert asked.get("/rules")["data"]["groups"][0]["rules"][0]["state"] == "pending"


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({}, ["Hot", "Cold", "site:energy:sum"]),
        ({"type": "alert"}, ["Hot", "Cold"]),
        ({"type": "record"}, ["site:energy:sum"]),
        ({"rule_name[]": ["Cold", "site:energy:sum"]}, ["Cold", "site:energy:sum"]),
        ({"rule_group[]": "sums"}, ["site:energy:sum"]),
        ({"file[]": "other.yml"}, []),
        ({"file[]": "plant.yml", "rule_name[]": "Hot"}, ["Hot"]),
    ],
)
def test_rules_are_chosen_by_type_name_group_and_file(fields: dict[str, Any], names: list[str], asked: Asked):
    groups = asked.get("/rules", **fields)["data"]["groups"]
    assert [rule["name"] for group in groups for rule in group["rules"]] == names


def test_rules_may_be_told_without_their_alerts(asked: Asked):
    asked.backend.active = [HOT]
    for text, count in (("true", 0), ("1", 0), ("false", 1), ("", 1)):
        groups = asked.get("/rules", exclude_alerts=text)["data"]["groups"]
        assert len(groups[0]["rules"][0]["alerts"]) == count
    assert "neither true nor false" in asked.get("/rules", 400, exclude_alerts="maybe")["error"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(25, "2.5e+01"), (1, "1e+00"), (0, "0e+00"), (-0.5, "-5e-01"), (1e100, "1e+100"), (5e-324, "5e-324"),
     (123456789, "1.23456789e+08"), (math.inf, "+Inf"), (math.nan, "NaN"), (1e21, "1e+21"), (0.1, "1e-01")],
)  # fmt: skip
def test_the_value_of_an_alert_is_written_with_an_exponent(value: float, text: str):
    assert exponential(value) == text


@given(st.floats(allow_nan=False))
def test_the_value_of_an_alert_reads_back_as_the_same(value: float):
    assert float(exponential(value)) == value


def test_instants_of_alerts_are_exact():
    assert rfc3339(T0 * S) == "2023-11-14T22:13:20Z"
    assert rfc3339(T0 * S + 120_000_000) == "2023-11-14T22:13:20.12Z"
    assert rfc3339(-1) == "1969-12-31T23:59:59.999999999Z"


ANYTHING = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"[-+]?[0-9]{1,25}(\.[0-9]{1,12})?(e[-+]?[0-9]{1,4})?", fullmatch=True),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})"),
    st.from_regex(r"[0-9]{1,30}(ms|[smhdwy])", fullmatch=True),
    st.sampled_from(
        ["temperature", "temperature[5m]", "sum(temperature)", "1", "'x'", "NaN", "Inf", "-1", "\0", "1e999"]
    ),
)
NAMES = [
    "query", "time", "start", "end", "step", "timeout", "limit", "lookback_delta", "match[]", "metric",
    "limit_per_metric", "type", "rule_name[]", "exclude_alerts",
]  # fmt: skip
PATHS = [
    "/query", "/query_range", "/series", "/labels", "/label/device/values", "/metadata", "/rules", "/alerts",
    "/query_exemplars", "/status/buildinfo",
]  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    asked = Asked(tmp_path_factory.mktemp("shared"))
    fleet(asked)
    with asked.backend:
        yield asked


@given(data=st.data())
def test_whatever_is_asked_is_answered_or_refused(data: st.DataObject, shared: Asked):
    path = data.draw(st.sampled_from(PATHS))
    fields = data.draw(st.dictionaries(st.sampled_from(NAMES), ANYTHING, max_size=6))
    for method in ("GET", "POST"):
        if method == "POST" and path not in ("/query", "/query_range", "/series", "/labels"):
            continue
        told = shared._client.request(method, f"/api/v1{path}", **{"params" if method == "GET" else "data": fields})
        assert told.status_code in (200, 400, 422, 503), (path, fields, told.text)
        body = told.json()
        assert body["status"] == ("success" if told.status_code == 200 else "error")
