"""Laws of rule files: Prometheus' own load unchanged. What is wrong is in test_rule_file_problems.py."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest
import yaml

from rules import Record, Rule, RuleGroup, load_rules
from rules.rule_file import DEFAULT_INTERVAL, NoData
from tests.rules.notation import S

PROMETHEUS_FILE = """
groups:
  - name: freezers
    interval: 30s
    labels:
      team: cold
      severity: none
    rules:
      - alert: FreezerWarm
        expr: |
          temperature{room="freezer"} > -15  # °C
            and on(device) door == 0
        for: 10m
        keep_firing_for: 1h30m
        labels:
          severity: page
          where: "{{ $labels.site }}"
        annotations:
          summary: "{{ $labels.device }} has {{ $value | humanize }} °C"
          runbook: https://example.org/freezers
      - alert: FreezerSilent
        expr: age(temperature) > 600
  - name: rooms
    rules:
      - alert: Hot
        expr: temperature > 30
        for: 0
      - alert: Cold
        expr: temperature < 10
      - alert: Hot
        expr: temperature > 40
        no_data: fire
      - alert: Hot
        expr: temperature > 50
        no_data: resolve
  - name: nothing yet
    rules: []
"""


def loaded(document: Any) -> list[RuleGroup]:
    groups, problems = load_rules(document, file="rules.yml")
    assert problems == []
    return groups


def in_group(*rules: Any, **group: Any) -> dict[str, Any]:
    return {"groups": [{"name": "g", **group, "rules": list(rules)}]}


def rule(**more: Any) -> dict[str, Any]:
    return {"alert": "A", "expr": "x > 3", **more}


def record(**more: Any) -> dict[str, Any]:
    return {"record": "a:b", "expr": "sum(x)", **more}


def only(document: Any) -> Rule:
    (found,) = loaded(document)[0].rules
    assert isinstance(found, Rule)
    return found


def alerting(document: Any) -> list[Rule]:
    """The alerting rules of the first group."""
    return [rule for rule in loaded(document)[0].rules if isinstance(rule, Rule)]


def only_record(document: Any) -> Record:
    (found,) = loaded(document)[0].rules
    assert isinstance(found, Record)
    return found


# ---- what loads


def test_a_rule_file_of_prometheus_loads():
    freezers, rooms, nothing = loaded(yaml.safe_load(PROMETHEUS_FILE))
    warm, silent = freezers.rules

    assert (freezers.name, freezers.file, freezers.interval) == ("freezers", "rules.yml", 30 * S)
    assert (warm.id, warm.alert, warm.hold, warm.keep) == ("freezers/FreezerWarm", "FreezerWarm", 600 * S, 5400 * S)
    assert warm.expr == 'temperature{room="freezer"} > -15  # °C\n  and on(device) door == 0\n'
    assert (silent.hold, silent.keep, silent.annotations) == (0, 0, ())
    assert (rooms.interval, nothing.rules) == (DEFAULT_INTERVAL, ())


def test_later_rules_of_the_same_name_are_numbered():
    assert [r.id for r in loaded(yaml.safe_load(PROMETHEUS_FILE))[1].rules] == [
        "rooms/Hot", "rooms/Cold", "rooms/Hot#2", "rooms/Hot#3",
    ]  # fmt: skip


def test_names_are_numbered_in_each_group_anew():
    one, two = {"name": "one", "rules": [rule()]}, {"name": "two", "rules": [rule()]}

    assert [r.id for group in loaded({"groups": [one, two]}) for r in group.rules] == ["one/A", "two/A"]


def test_a_rules_labels_stand_over_those_of_its_group():
    warm, silent = loaded(yaml.safe_load(PROMETHEUS_FILE))[0].rules

    assert [(name, template.text) for name, template in warm.labels] == [
        ("severity", "page"), ("team", "cold"), ("where", "{{ $labels.site }}"),
    ]  # fmt: skip
    assert [(name, template.text) for name, template in silent.labels] == [("severity", "none"), ("team", "cold")]


def test_annotations_see_labels_and_the_value():
    annotations = dict(alerting(yaml.safe_load(PROMETHEUS_FILE))[0].annotations)

    assert annotations["summary"].expand({"device": "f1"}, -9.25) == "f1 has -9.25 °C"
    assert annotations["runbook"].expand({}, 0) == "https://example.org/freezers"


def test_no_data_is_keep_unless_something_else_is_said():
    rooms = loaded(yaml.safe_load(PROMETHEUS_FILE))[1]

    assert [r.no_data for r in rooms.rules] == [NoData.KEEP, NoData.KEEP, NoData.FIRE, NoData.RESOLVE]


@pytest.mark.parametrize(
    ("text", "ns"), [("0", 0), (0, 0), ("0s", 0), ("500ms", S // 2), ("90s", 90 * S), ("1d12h", 129_600 * S), (None, 0)]
)
def test_durations(text: Any, ns: int):
    found = only(in_group(rule(**{"for": text, "keep_firing_for": text})))

    assert (found.hold, found.keep) == (ns, ns)


def test_numbers_may_stand_where_texts_are_wanted():
    found = only(in_group(rule(labels={"level": 3}, annotations={"limit": 1.5})))

    assert [(n, t.text) for n, t in (*found.labels, *found.annotations)] == [("level", "3"), ("limit", "1.5")]


def test_empty_mappings_may_be_left_empty():
    found = only(in_group(rule(labels=None, annotations=None), labels=None, interval=None))

    assert (found.labels, found.annotations) == ((), ())


# ---- recording rules

RECORDING_FILE = """
groups:
  - name: rooms
    interval: 1m
    limit: 100
    query_offset: 30s
    labels: {team: cold, site: none}
    rules:
      - record: site:temperature:avg5m
        expr: avg by (site) (avg_over_time(temperature[5m]))
      - record: site:temperature:avg5m
        expr: avg without (device) (humidity)
        labels: {site: all, kind: humidity}
      - alert: Hot
        expr: site:temperature:avg5m > 30
"""


def test_recording_rules_stand_beside_alerting_rules():
    averages, more, hot = loaded(yaml.safe_load(RECORDING_FILE))[0].rules

    assert isinstance(averages, Record)
    assert isinstance(more, Record)
    assert [r.id for r in (averages, more, hot)] == [
        "rooms/site:temperature:avg5m", "rooms/site:temperature:avg5m#2", "rooms/Hot",
    ]  # fmt: skip
    assert (averages.record, averages.expr) == (
        "site:temperature:avg5m", "avg by (site) (avg_over_time(temperature[5m]))",
    )  # fmt: skip
    assert averages.labels == (("site", "none"), ("team", "cold"))
    assert more.labels == (("kind", "humidity"), ("site", "all"), ("team", "cold"))


def test_all_rules_have_what_their_group_says():
    for found in loaded(yaml.safe_load(RECORDING_FILE))[0].rules:
        assert (found.interval, found.limit, found.query_offset, found.compat) == (60 * S, 100, 30 * S, False)


@pytest.mark.parametrize(("limit", "expected"), [(7, 7), ("7", 7), (0, 0), ("0", 0), (None, 0)])
def test_a_limit_of_0_is_none(limit: Any, expected: int):
    assert only(in_group(rule(), limit=limit)).limit == expected


@pytest.mark.parametrize("labels", [{"page": True}, {"level": 3}, None])
def test_labels_of_a_record_may_be_numbers_or_nothing(labels: Any):
    expected = () if labels is None else tuple((name, str(value).lower()) for name, value in labels.items())

    assert only_record(in_group(record(labels=labels))).labels == expected


def test_whether_a_rule_is_evaluated_on_the_grid_is_said_by_its_group():
    assert not only(in_group(rule())).wants_grid
    assert not only(in_group(rule(), interval="1s", limit=0, query_offset="0s")).wants_grid
    for option in ({"limit": 1}, {"query_offset": "1s"}, {"compat": "prometheus"}):
        assert only(in_group(rule(), **option)).wants_grid


# ---- compat: prometheus


def test_under_compat_vanished_data_is_false():
    as_said, everywhere = in_group(rule(), compat="prometheus"), in_group(rule())

    assert only(as_said).no_data is NoData.RESOLVE
    assert only(as_said).compat
    assert not only(everywhere).compat
    (found,) = load_rules(everywhere, compat=True)[0][0].rules
    assert isinstance(found, Rule)
    assert (found.no_data, found.compat) == (NoData.RESOLVE, True)


@pytest.mark.parametrize("no_data", list(NoData))
def test_compat_of_all_files_overrules_no_data(no_data: NoData):
    """But a group that says both contradicts itself (test_rule_file_problems.py)."""
    groups, problems = load_rules(in_group(rule(no_data=str(no_data))), compat=True)

    assert problems == []
    (found,) = groups[0].rules
    assert isinstance(found, Rule)
    assert found.no_data is NoData.RESOLVE


def test_a_group_may_say_nothing_of_compat():
    assert only(in_group(rule(), compat=None)) == only(in_group(rule()))


# ---- expressions of rules


@pytest.mark.parametrize(
    "expr",
    ["vector(1)", "time() > bool 5", "scalar(x) > bool 3", "x @ end() > 3", "max_over_time(x[5m:1m] @ start()) > 3",
     "pi()", "absent(x)", "sum(x) > 3", "max_over_time(sum(x)[10m:]) > 3", 'count_values("v", x) > 3', "x"],
)  # fmt: skip
def test_expressions_that_are_more_than_a_comparison(expr: str):
    assert only(in_group(rule(expr=expr))).expr == expr
    assert only_record(in_group(record(expr=expr))).expr == expr


def test_a_number_may_stand_for_an_expression():
    """As YAML has it; in Prometheus, too, it is an alert that is always there."""
    assert only(in_group(rule(expr=3))).expression == only(in_group(rule(expr="3"))).expression


# ---- speed

VARIED = [
    'temperature{{site="s{i}", room!~"a|b"}} > {i}',
    "avg_over_time(temperature[5m]) > {i} and on(device) door == 0",
    "sum by (site, room) (rate(energy[{i}m])) / on(site) group_left(owner) site:size > 0.{i}",
    "max_over_time((temperature - temperature offset 1h)[30m:1m]) > {i} unless on(device) age(door) > 600",
    'histogram_quantile(0.9, sum by (le) (rate(latency_bucket{{job="j{i}"}}[10m]))) > {i}',
    'label_replace(topk({i}, humidity), "place", "$1-{i}", "room", "(.*)") >= 50',
    "count(temperature > 30) > {i} or absent(temperature)",
    "clamp_max(abs(x - {i}), 10) * 2 ^ 3 % 7 < bool -1.5e3",
]


def test_a_thousand_varied_rules_load_in_a_second():
    expressions = [VARIED[i % len(VARIED)].format(i=i) for i in range(1, 1001)]
    rules = [
        {"record": f"level:of:{i}", "expr": expr, "labels": {"number": str(i)}}
        if i % 4 == 0
        else rule(
            alert=f"Alert{i}", expr=expr, **{"for": f"{i}m"}, labels={"severity": "page", "at": "{{ $labels.site }}"},
            annotations={"summary": "{{ $labels.device }} is at {{ $value | humanize }}", "runbook": f"https://r/{i}"},
        )
        for i, expr in enumerate(expressions)
    ]  # fmt: skip
    groups = [{"name": f"g{i}", "interval": "30s", "rules": rules[i : i + 20]} for i in range(0, 1000, 20)]
    load_rules(in_group(rule()))  # what is imported at first use does not count

    before = process_time()
    found = loaded({"groups": groups})
    took = process_time() - before

    assert sum(len(group.rules) for group in found) == 1000
    assert took < 1


def test_a_boolean_label_is_written_as_in_yaml():
    assert only(in_group(rule(labels={"page": True}))).labels[0][1].text == "true"


def test_a_group_may_have_no_rules():
    assert loaded({"groups": [{"name": "g", "rules": None}]})[0].rules == ()
