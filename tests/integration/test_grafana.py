"""deploy/grafana is true: the data source leads to tocsin, and every query of the dashboard is answered with data."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml

from telemetry import ManualClock
from tests.integration.prometheus_server import Samples, served, stored
from tocsin.http.config import DEFAULT_PORT

GRAFANA = Path(__file__).parent.parent.parent / "deploy/grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards/fleet.json").read_text())
[SOURCE] = yaml.safe_load((GRAFANA / "provisioning/datasources/tocsin.yaml").read_text())["datasources"]
T0 = 1_699_999_200
END = T0 + 3_600
SILENT_SINCE = T0 + 2_000
SAMPLES: Samples = {
    f'{metric}{{device="pump-{i:04}", site="{site}"}}': [
        (at * 1000, 40 + i + math.sin(at / 300)) for at in range(T0, SILENT_SINCE if i == 3 else END, 15)
    ]
    for metric in ("temperature", "pressure")
    for i, site in enumerate(("ams", "ams", "ber", "cph"))
}
TARGETS = [(panel["title"], target) for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    data = stored(tmp_path_factory.mktemp("grafana"), SAMPLES)
    with served(data, clock=ManualClock(END * 10**9)) as url:
        yield url


def substituted(text: str, device: str = "pump-0001|pump-0002") -> str:
    """As Grafana does it: several values are alternatives, all of them are allValue."""
    values = {"metric": "temperature", "site": VARIABLES["site"]["allValue"], "device": device}
    values |= {"__rate_interval": "1m0s"}
    return re.sub(r"\$(\w+)", lambda m: values[m[1]], text)


def asked(url: str, method: str, path: str, **fields: str) -> Any:
    http = urllib3.PoolManager(retries=False, timeout=30)
    options: dict[str, Any] = {"encode_multipart": False} if method == "POST" else {}
    answer = http.request(method, f"{url}/api/v1{path}", fields=fields, **options)
    told = answer.json()
    assert told["status"] == "success", told
    return told["data"]


@pytest.mark.parametrize(("title", "target"), TARGETS, ids=[f"{t}-{q['refId']}" for t, q in TARGETS])
def test_every_query_of_the_dashboard_has_an_answer(title: str, target: dict[str, Any], url: str):
    assert target["range"] != target["instant"]
    for device in ("pump-0001|pump-0002", VARIABLES["device"]["allValue"]):
        query = substituted(target["expr"], device)
        if target["range"]:
            fields = {"query": query, "start": str(T0), "end": str(END), "step": "15"}
            found = asked(url, "POST", "/query_range", **fields)
        else:
            found = asked(url, "POST", "/query", query=query, time=str(END))
        assert found["result"], query
        labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        assert all(labels <= element["metric"].keys() for element in found["result"])


def newest(url: str, title: str) -> float:
    """What a panel with one number shows at the end."""
    [target] = [target for panel, target in TARGETS if panel == title]
    [element] = asked(url, "POST", "/query", query=substituted(target["expr"]), time=str(END))["result"]
    return float(element["value"][1])


def test_the_numbers_are_those_of_the_fleet(url: str):
    assert newest(url, "Devices that report") == 3
    assert newest(url, "Silent devices") == 1
    assert newest(url, "Readings a second") == pytest.approx(9 / 60)  # of three devices, the minute is left-open
    values = [
        SAMPLES[f'temperature{{device="pump-000{i}", site="{s}"}}'][-1][1] for i, s in enumerate(("ams", "ams", "ber"))
    ]
    assert newest(url, "Mean of the fleet") == pytest.approx(sum(values) / 3)


def options(url: str, query: str) -> list[str]:
    """What Grafana asks for label_values(label), and for label_values(selector, label)."""
    found = re.fullmatch(r"label_values\((?:(.*), )?(\w+)\)", query)
    assert found, query
    fields = {"start": str(T0), "end": str(END)} | ({"match[]": substituted(found[1])} if found[1] else {})
    values: list[str] = asked(url, "GET", f"/label/{found[2]}/values", **fields)
    return values


def test_the_variables_offer_what_there_is(url: str):
    offered = {name: options(url, variable["query"]["query"]) for name, variable in VARIABLES.items()}
    assert offered == {
        "metric": ["pressure", "temperature"],
        "site": ["ams", "ber", "cph"],
        "device": ["pump-0000", "pump-0001", "pump-0002", "pump-0003"],
    }
    assert VARIABLES["metric"]["current"]["value"] in offered["metric"]


def test_the_data_source_is_the_one_that_the_dashboard_asks(url: str):
    assert SOURCE["url"] == f"http://127.0.0.1:{DEFAULT_PORT}"
    sources = {q["datasource"]["uid"] for _, q in TARGETS} | {v["datasource"]["uid"] for v in VARIABLES.values()}
    assert sources == {SOURCE["uid"]}
    assert SOURCE["jsonData"]["prometheusVersion"] == asked(url, "GET", "/status/buildinfo")["version"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/tocsin.yaml").read_text())["providers"]
    assert provider["options"]["path"] in (GRAFANA / "README.md").read_text()


def test_grafana_finds_the_data_source_in_order(url: str):
    """What Save & test, the explorer and the list of alerts ask."""
    assert asked(url, "POST", "/query", query="1+1", time=str(END))["result"][1] == "2"
    assert asked(url, "GET", "/metadata", limit="10000").keys() == {"pressure", "temperature"}
    assert asked(url, "POST", "/labels", start=str(T0), end=str(END)) == ["__name__", "device", "site"]
    assert asked(url, "POST", "/query_exemplars", query="temperature", start=str(T0), end=str(END)) == []
    assert asked(url, "GET", "/rules") == {"groups": []}


def test_panels_are_told_apart_and_do_not_overlap():
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & places
        places |= cells
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
