"""The HTTP API gives what a real Prometheus gives over the same samples: values, shapes, statuses.

Prometheus is 2.42 (Debian): its windows hold a sample exactly at their start. So instants and windows lie on a grid
that no sample is on: see test_reference_equals_promtool.py, whose expressions these are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3

from rules import load_rules
from tests.integration.promql_cases import CASES, PLANT
from tests.integration.prometheus_server import Prometheus, Samples, served, stored
from tests.integration.test_reference_equals_promtool import SPACING, placed
from tocsin.yaml_source import parse_yaml

T0 = 1_699_999_200
"""s; a full hour"""
AT = T0 + 1_005
PLACED: Samples = {
    series: [((T0 + i * SPACING) * 1000, value) for i, value in enumerate(placed(values)) if value is not None]
    for series, values in PLANT.items()
}
RULES = """\
groups:
  - name: plant
    interval: 20s
    limit: 7
    rules:
      - alert: TooHot
        expr: gauge > 1e9
        for: 1m30s
        keep_firing_for: 30s
        labels: {severity: "critical {{ $labels.device }}"}
        annotations: {summary: "{{ $value }}"}
      - record: device:gauge:sum
        expr: sum by (device) (gauge)
        labels: {kind: made}
  - name: other
    rules:
      - record: all
        expr: sum(gauge)
"""


class Both:
    """Asks both the same."""

    def __init__(self, ours: str, theirs: str) -> None:
        self._urls = (ours, theirs)
        self._http = urllib3.PoolManager(retries=False, timeout=30)

    def ask(self, path: str, method: str = "GET", **fields: Any) -> tuple[tuple[int, Any], tuple[int, Any]]:
        """Status and JSON of ours and theirs."""
        pairs = [
            (name.replace("match", "match[]"), value)
            for name, values in fields.items()
            for value in (values if isinstance(values, list) else [values])
        ]
        ours, theirs = (
            self._http.request(method, f"{url}/api/v1{path}", fields=pairs, encode_multipart=False)
            for url in self._urls
        )
        return (ours.status, ours.json()), (theirs.status, theirs.json())


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    prometheus = Prometheus(tmp_path_factory.mktemp("prometheus"), PLACED, rules=RULES)
    file = str(prometheus.directory / "rules.yml")
    groups, problems = load_rules(parse_yaml(RULES, file, only_text=True).data, file=file)
    assert not problems
    try:
        prometheus.start()
        with served(stored(tmp_path_factory.mktemp("tocsin"), PLACED), groups=groups) as url:
            yield Both(url, prometheus.url)
    finally:
        prometheus.kill()


def of_now(expr: str) -> str:
    """The expression with its fixed instants moved to where the samples are."""
    return re.sub(r"@ (\d+)", lambda m: f"@ {T0 + int(m[1])}", expr)


UNORDERED = re.compile(r"^(topk|bottomk|count_values)")
"""Which of equal values topk keeps is open."""


def normal(answer: Any) -> Any:
    """Without what is open: the order of a vector; numbers as such."""
    if answer.get("status") != "success":
        return answer["status"], answer["errorType"]
    data = answer["data"]
    if data["resultType"] in ("scalar", "string"):
        return data["resultType"], data["result"]
    key = "value" if data["resultType"] == "vector" else "values"
    return data["resultType"], sorted(
        (sorted(element["metric"].items()), element[key] if key == "values" else [element[key]])
        for element in data["result"]
    )


def same(a: Any, b: Any) -> bool:
    """But for rounding of values."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, str) and isinstance(b, str) and a != b:
        try:
            x, y = float(a), float(b)
        except ValueError:
            return False
        return (math.isnan(x) and math.isnan(y)) or math.isclose(x, y, rel_tol=1e-9, abs_tol=1e-9)
    return bool(a == b)


@pytest.mark.parametrize("topic", CASES)
def test_instant_queries(topic: str, both: Both):
    different = {}
    for expr in map(of_now, CASES[topic]):
        ours, theirs = both.ask("/query", query=expr, time=AT)
        if ours[0] != theirs[0] or not same(normal(ours[1]), normal(theirs[1])):
            different[expr] = ours, theirs
    assert different == {}


@pytest.mark.parametrize("topic", CASES)
def test_range_queries(topic: str, both: Both):
    different = {}
    for expr in map(of_now, CASES[topic]):
        ours, theirs = both.ask("/query_range", "POST", query=expr, start=T0 + 15, end=T0 + 1_820, step="2m30s")
        if ours[0] != theirs[0] or not same(normal(ours[1]), normal(theirs[1])):
            different[expr] = ours, theirs
    assert different == {}
