"""The HTTP API gives what a real Prometheus gives over the same samples: values, shapes, statuses.

Prometheus is 2.42 (Debian): its windows hold a sample exactly at their start. So instants and windows lie on a grid
that no sample is on: see test_reference_equals_promtool.py, whose expressions these are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from rules import load_rules
from tests.integration.prometheus_server import Prometheus, Samples, served, stored
from tests.integration.promql_cases import CASES, PLANT
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
        text = urlencode(pairs)
        form = {"body": text, "headers": {"Content-Type": "application/x-www-form-urlencoded"}}
        ours, theirs = (
            self._http.request("POST", f"{url}/api/v1{path}", **form)
            if method == "POST"
            else self._http.request("GET", f"{url}/api/v1{path}?{text}")
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


NOT_ALIKE = {
    "avg_over_time(gauge[5m:])": "without a step, ours is 15 s, which is the grid that windows of 2.42 are closed on",
    "predict_linear(gauge[5m] @ 615, 60)": "at other instants than the first, 2.42 sees other samples than at 615",
}
"""In a range query"""


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


def differences(both: Both, expressions: list[str], path: str, **fields: Any) -> dict[str, Any]:
    """Answers that are not the same."""
    found = {}
    for expr in expressions:
        ours, theirs = both.ask(path, "POST", query=of_now(expr), **fields)
        if ours[0] != theirs[0] or not same(normal(ours[1]), normal(theirs[1])):
            found[expr] = ours, theirs
    return found


@pytest.mark.parametrize("topic", CASES)
def test_instant_queries(topic: str, both: Both):
    expressions = [expr for expr in CASES[topic] if "[5m:]" not in expr]
    assert differences(both, expressions, "/query", time=AT) == {}


@pytest.mark.parametrize("topic", CASES)
def test_range_queries(topic: str, both: Both):
    expressions = [expr for expr in CASES[topic] if expr not in NOT_ALIKE and "[5m:]" not in expr]
    assert differences(both, expressions, "/query_range", start=T0 + 15, end=T0 + 1_820, step="2m30s") == {}


def test_ranges_scalars_and_strings_at_an_instant(both: Both):
    expressions = [
        "gauge[5m]", "odd[20m]", "gauge[5m] offset 2m", "gauge[5m] @ 615", "gone[20m]", "nothing[5m]", "(gauge[2m])",
        "gauge[5m:30s]", "sum(gauge)[5m:1m]", "gauge[5m:1m] offset 1m", "time()[2m:30s]", "gauge[10s]",
        "1", "-Inf", "NaN", "1e21", "1e-7", "0.000001", "123456789012345680", "-0", "time()", "2 ^ 70", "pi()",
        '"text"', "'a\\nb'", '"é"',
    ]  # fmt: skip
    assert differences(both, expressions, "/query", time=AT) == {}


def test_values_are_written_alike(both: Both):
    numbers = ["1e21", "1e-7", "0.000001", "123456789012345680", "-0", "2 ^ 70", "NaN", "-Inf", "1 / 3", "1e300", "5"]
    for text in numbers:
        ours, theirs = both.ask("/query", query=f"vector({text})", time=AT)
        assert ours == theirs


@pytest.mark.parametrize("expr", ["sort(gauge)", "sort_desc(gauge)", "sort(odd)", "sort_desc(odd)", "topk(3, counter)"])
def test_a_vector_that_is_sorted_comes_in_that_order(expr: str, both: Both):
    ours, theirs = both.ask("/query", query=expr, time=AT)
    values = [[element["value"] for element in answer["data"]["result"]] for _, answer in (ours, theirs)]
    assert values[0] == values[1]
    assert len(values[0]) > 1


REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("/query", {}),
    ("/query", {"query": "foo{"}),
    ("/query", {"query": "gauge", "time": "noon"}),
    ("/query", {"query": "gauge", "time": "2023-13-01T00:00:00Z"}),
    ("/query", {"query": "gauge", "timeout": "soon"}),
    ("/query", {"query": "state + on(device) state", "time": AT}),
    ("/query_range", {"query": "gauge"}),
    ("/query_range", {"query": "gauge", "start": AT, "end": AT}),
    ("/query_range", {"query": "gauge", "start": AT, "end": AT - 5, "step": 1}),
    ("/query_range", {"query": "gauge", "start": AT, "end": AT + 5, "step": 0}),
    ("/query_range", {"query": "gauge", "start": AT, "end": AT + 5, "step": "-5s"}),
    ("/query_range", {"query": "gauge", "start": AT, "end": AT + 11_001, "step": 1}),
    ("/query_range", {"query": "gauge[5m]", "start": AT, "end": AT + 1, "step": 1}),
    ("/query_range", {"query": "'x'", "start": AT, "end": AT + 1, "step": 1}),
    ("/series", {}),
    ("/series", {"match": "foo{"}),
    ("/series", {"match": '{a=""}'}),
    ("/series", {"match": "gauge", "end": "later"}),
    ("/labels", {"start": "before"}),
    ("/label/a-b/values", {}),
    ("/metadata", {"limit": "few"}),
    ("/rules", {"type": "good"}),
]


@pytest.mark.parametrize(("path", "fields"), REFUSED)
def test_what_is_wrong_has_the_same_status_and_type(path: str, fields: dict[str, Any], both: Both):
    ours, theirs = both.ask(path, **fields)
    assert ours[0] == theirs[0] >= 400
    assert ours[1].keys() == theirs[1].keys()
    assert ours[1]["errorType"] == theirs[1]["errorType"]


ACCEPTED: list[tuple[str, dict[str, Any]]] = [
    ("/query", {"query": "gauge", "time": "2023-11-14T22:16:45+00:00", "timeout": "1m"}),
    ("/query", {"query": "gauge", "time": "2023-11-15T03:46:45.1239+05:30", "timeout": "5"}),
    ("/query", {"query": "gauge", "time": f"{AT}.1239"}),
    ("/query", {"query": "gauge", "time": "1.700000205e9"}),
    ("/query_range", {"query": "gauge", "start": f"{AT}.5", "end": f"{AT + 11_000}.5", "step": 1}),
    ("/query_range", {"query": "gauge", "start": AT, "end": AT, "step": "0.5"}),
    ("/query_range", {"query": "gauge", "start": f"{AT}.5", "end": AT + 300, "step": "1m500ms"}),
    ("/query_range", {"query": "vector(1)", "start": AT, "end": AT + 1, "step": "0.1"}),
    ("/query_range", {"query": "nothing", "start": AT, "end": AT + 1, "step": "1"}),
    ("/query_range", {"query": "1", "start": AT, "end": AT + 1, "step": "1"}),
    ("/query_exemplars", {"query": "gauge", "start": 1, "end": 2}),
    ("/series", {"match": "gauge"}),
    ("/series", {"match": ["gauge", '{device="a"}']}),
    ("/series", {"match": '{__name__=~"g.*", device!="a"}'}),
    ("/series", {"match": "nothing"}),
    ("/series", {"match": "gauge", "start": T0, "end": T0 + 3_600}),
    ("/series", {"match": "gauge", "start": T0 + 86_400, "end": T0 + 90_000}),
    ("/labels", {}),
    ("/labels", {"match": "state"}),
    ("/labels", {"match": "nothing"}),
    ("/labels", {"match": ["state", "gauge"]}),
    ("/label/device/values", {}),
    ("/label/device/values", {"match": "odd"}),
    ("/label/__name__/values", {}),
    ("/label/__name__/values", {"match": '{site="s"}', "start": T0, "end": T0 + 3_600}),
    ("/label/nothing/values", {}),
    ("/alerts", {}),
]


@pytest.mark.parametrize(("path", "fields"), ACCEPTED)
def test_answers_are_the_same_to_the_last_character(path: str, fields: dict[str, Any], both: Both):
    ours, theirs = both.ask(path, **fields)
    assert ours == theirs
    assert ours[0] == 200


@pytest.mark.parametrize("fields", [{}, {"type": "alert"}, {"type": "record"}])
def test_rules_are_told_alike(fields: dict[str, Any], both: Both):
    ours, theirs = both.ask("/rules", **fields)
    assert ours[0] == theirs[0] == 200
    expected = [group for group in theirs[1]["data"]["groups"] if group["rules"]]  # Prometheus 3 leaves out empty ones
    text = timeless(expected).replace("gauge > 1e+09", "gauge > 1e9")  # they write it anew
    assert timeless(ours[1]["data"]["groups"]) == text


def timeless(groups: Any) -> str:
    """Without what depends on whether Prometheus has evaluated the rules by now."""
    text = re.sub(r"'(evaluationTime|lastEvaluation)': [^,}]+", r"'\1': ", str(groups))
    return re.sub(r"'health': '(ok|unknown)'", "'health': ", text)


def test_the_build_has_the_same_fields(both: Both):
    ours, theirs = both.ask("/status/buildinfo")
    assert ours[1]["data"].keys() == theirs[1]["data"].keys()
