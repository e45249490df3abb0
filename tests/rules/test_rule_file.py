"""Laws of rule files: Prometheus' own load unchanged, and all that is wrong is told at once, each at its place."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest
import yaml

from rules import Record, Rule, RuleGroup, load_rules
from rules.rule_file import DEFAULT_INTERVAL, NoData
from telemetry import Problem
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


def problems_of(document: Any) -> list[tuple[str, tuple[str | int, ...], int]]:
    return [(p.message, p.loc, p.offset) for p in load_rules(document)[1]]


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


def test_a_group_may_say_nothing_of_compat():
    assert only(in_group(rule(), compat=None)) == only(in_group(rule()))


# ---- expressions of rules


@pytest.mark.parametrize(
    "expr",
    ["vector(1)", "time() > bool 5", "scalar(x) > bool 3", "x @ end() > 3", "max_over_time(x[5m] @ start()) > 3",
     "pi()", "absent(x)", "sum(x) > 3", "max_over_time(sum(x)[10m:]) > 3", 'count_values("v", x) > 3', "x"],
)  # fmt: skip
def test_expressions_that_are_more_than_a_comparison(expr: str):
    assert only(in_group(rule(expr=expr))).expr == expr
    assert only_record(in_group(record(expr=expr))).expr == expr


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


# ---- what is refused: (document, [(part of the message, loc, offset)])

GROUP, RULE = ("groups", 0), ("groups", 0, "rules", 0)
A_FILE_HAS_GROUPS: list[tuple[str, tuple[str | int, ...], int]] = [("key groups with a list", (), 0)]
BROKEN: dict[str, tuple[Any, list[tuple[str, tuple[str | int, ...], int]]]] = {
    "no document": (None, A_FILE_HAS_GROUPS),
    "a list": ([], A_FILE_HAS_GROUPS),
    "no groups": ({"group": []}, A_FILE_HAS_GROUPS),
    "groups is a mapping": ({"groups": {}}, A_FILE_HAS_GROUPS),
    "key beside groups": ({"groups": [], "global": 1}, [("unknown key 'global'", ("global",), 0)]),
    "group is a text": ({"groups": ["g"]}, [("a group is a mapping", GROUP, 0)]),
    "group without name": ({"groups": [{"rules": []}]}, [("needs a name", (*GROUP, "name"), 0)]),
    "group with number": ({"groups": [{"name": 3, "rules": []}]}, [("needs a name", (*GROUP, "name"), 0)]),
    "group twice": (
        {"groups": [{"name": "g", "rules": []}, {"name": "h"}, {"name": "g"}]},
        [("name 'g' is used twice", ("groups", 2, "name"), 0)],
    ),
    "group key": (in_group(interva="1m"), [("unknown key 'interva': did you mean interval?", (*GROUP, "interva"), 0)]),
    "limit": (in_group(limit="few"), [("limit is a number: how many alerts", (*GROUP, "limit"), 0)]),
    "limit below 0": (in_group(limit=-1), [("limit is a number", (*GROUP, "limit"), 0)]),
    "limit is a fraction": (in_group(limit=1.5), [("limit is a number", (*GROUP, "limit"), 0)]),
    "limit is true": (in_group(limit=True), [("limit is a number", (*GROUP, "limit"), 0)]),
    "limit is a list": (in_group(limit=[5]), [("limit is a number", (*GROUP, "limit"), 0)]),
    "limit beyond all bounds": (in_group(limit=10**10), [("limit is a number", (*GROUP, "limit"), 0)]),
    "query_offset": (in_group(query_offset="soon"), [("'soon' is not a duration", (*GROUP, "query_offset"), 0)]),
    "query_offset without unit": (in_group(query_offset=5), [("5 is not a duration", (*GROUP, "query_offset"), 0)]),
    "query_offset below 0": (in_group(query_offset="-1m"), [("'-1m' is not", (*GROUP, "query_offset"), 0)]),
    "compat": (in_group(compat="promethues"), [("compat can only be prometheus", (*GROUP, "compat"), 0)]),
    "compat is true": (in_group(compat=True), [("compat can only be prometheus", (*GROUP, "compat"), 0)]),
    "compat of a rule": (in_group(rule(compat="prometheus")), [("unknown key 'compat'", (*RULE, "compat"), 0)]),
    "limit of a rule": (in_group(rule(limit=5)), [("unknown key 'limit'", (*RULE, "limit"), 0)]),
    "no_data under compat": (
        in_group(rule(no_data="keep"), compat="prometheus"),
        [("no_data has no place in a group with compat: prometheus", (*RULE, "no_data"), 0)],
    ),
    "interval": (in_group(interval="5 min"), [("'5 min' is not a duration", (*GROUP, "interval"), 0)]),
    "rules is a mapping": ({"groups": [{"name": "g", "rules": {}}]}, [("list of rules", (*GROUP, "rules"), 0)]),
    "rule is a text": (in_group("x > 3"), [("a rule is a mapping", RULE, 0)]),
    "neither alert nor record": (in_group({"expr": "x > 3"}), [("a rule needs a name", RULE, 0)]),
    "empty alert": (in_group(rule(alert="")), [("a rule needs a name", RULE, 0)]),
    "both alert and record": (
        in_group({"alert": "A", "record": "a:b", "expr": "x"}),
        [("either alert or record", (*RULE, "record"), 0)],
    ),
    "record is no metric": (in_group(record(record="a-b")), [("'a-b' is not a metric name", (*RULE, "record"), 0)]),
    "record begins with a digit": (in_group(record(record="5m")), [("'5m' is not a", (*RULE, "record"), 0)]),
    "empty record": (in_group(record(record="")), [("'' is not a metric name", (*RULE, "record"), 0)]),
    "record is a number": (in_group(record(record=5)), [("5 is not a metric name", (*RULE, "record"), 0)]),
    "record is nothing": (in_group(record(record=None)), [("None is not a metric name", (*RULE, "record"), 0)]),
    "record with for": (in_group(record(**{"for": "5m"})), [("for is for alerts", (*RULE, "for"), 0)]),
    "record with keys of alerts": (
        in_group(record(keep_firing_for="5m", annotations={"a": "b"}, no_data="fire")),
        [
            ("keep_firing_for is for alerts", (*RULE, "keep_firing_for"), 0),
            ("annotations is for alerts", (*RULE, "annotations"), 0),
            ("no_data is for alerts", (*RULE, "no_data"), 0),
        ],
    ),
    "record with an unknown key": (in_group(record(lables={})), [("did you mean labels?", (*RULE, "lables"), 0)]),
    "record without expr": (in_group({"record": "a:b"}), [("a rule needs an expression", RULE, 0)]),
    "record of a number": (in_group(record(expr="1")), [("the expression is a number", (*RULE, "expr"), 0)]),
    "record of what is no PromQL": (in_group(record(expr="x +")), [("ends after +", (*RULE, "expr"), 2)]),
    "record with the label __name__": (
        in_group(record(labels={"__name__": "c"})),
        [("'__name__' cannot be a label here", (*RULE, "labels", "__name__"), 0)],
    ),
    "a time": (in_group(rule(expr="x @ 1700000000 > 3")), [("@ with a time is for queries", (*RULE, "expr"), 0)]),
    "a time before an offset": (in_group(rule(expr="x offset 5m @ 1.5 > 3")), [("@ with a", (*RULE, "expr"), 0)]),
    "a time in a range": (in_group(rule(expr="y + rate(x[5m] @ 17)")), [("@ with a", (*RULE, "expr"), 0)]),
    "a time of a subquery": (
        in_group(rule(expr="max_over_time((x > 3)[5m:] @ 17)")),
        [("@ with a", (*RULE, "expr"), 0)],
    ),
    "a time in a subquery": (in_group(rule(expr="vector(scalar(x @ 0))")), [("@ with a", (*RULE, "expr"), 0)]),
    "a time in a record": (in_group(record(expr="sum(x @ 17)")), [("@ with a", (*RULE, "expr"), 0)]),
    "no expr": (in_group({"alert": "A"}), [("a rule needs an expression", RULE, 0)]),
    "expr is a list": (in_group(rule(expr=[])), [("a rule needs an expression", (*RULE, "expr"), 0)]),
    "expr is a number": (in_group(rule(expr=3)), [("the expression is a number", (*RULE, "expr"), 0)]),
    "expr gives a number": (in_group(rule(expr="1 + 1")), [("the expression is a number", (*RULE, "expr"), 0)]),
    "expr refused": (
        in_group(rule(expr="x > 3 or\nhistogram_count(x)")),
        [("native histogram", (*RULE, "expr"), 9)],
    ),
    "expr is no PromQL": (in_group(rule(expr="x > > 3")), [("> cannot follow >", (*RULE, "expr"), 4)]),
    "expr is a range": (in_group(rule(expr="x[5m]")), [("a range is no condition", (*RULE, "expr"), 1)]),
    "expr is a string": (in_group(rule(expr="'x'")), [("a string is not a condition", (*RULE, "expr"), 0)]),
    "rule key": (in_group(rule(annotation={})), [("did you mean annotations?", (*RULE, "annotation"), 0)]),
    "rule key far off": (in_group(rule(zzz=1)), [("unknown key 'zzz': known are alert, ", (*RULE, "zzz"), 0)]),
    "for": (in_group(rule(**{"for": "5x"})), [("'5x' is not a duration", (*RULE, "for"), 0)]),
    "for without unit": (in_group(rule(**{"for": 5})), [("5 is not a duration", (*RULE, "for"), 0)]),
    "keep_firing_for": (in_group(rule(keep_firing_for="1m2h")), [("'1m2h' is not", (*RULE, "keep_firing_for"), 0)]),
    "no_data": (in_group(rule(no_data="ok")), [("one of keep, resolve, fire", (*RULE, "no_data"), 0)]),
    "labels is a list": (in_group(rule(labels=["a"])), [("labels is a mapping", (*RULE, "labels"), 0)]),
    "label is a list": (in_group(rule(labels={"a": []})), [("labels is a mapping", (*RULE, "labels", "a"), 0)]),
    "label is nothing": (in_group(rule(labels={"a": None})), [("labels is a mapping", (*RULE, "labels", "a"), 0)]),
    "label name": (in_group(rule(labels={"a-b": "c"})), [("'a-b' cannot be a label", (*RULE, "labels", "a-b"), 0)]),
    "label __name__": (
        in_group(rule(labels={"__name__": "c"})),
        [("'__name__' cannot be a label here", (*RULE, "labels", "__name__"), 0)],
    ),
    "label of the value": (
        in_group(rule(labels={"v": "{{ $value }}"})),
        [("must not depend on the value", (*RULE, "labels", "v"), 0)],
    ),
    "label text": (in_group(rule(labels={"v": "a {{ $x }}"})), [("{{ $x }} is not known", (*RULE, "labels", "v"), 2)]),
    "group label of the value": (
        in_group(labels={"v": "{{ .Value }}"}),
        [("must not depend on the value", (*GROUP, "labels", "v"), 0)],
    ),
    "annotation": (
        in_group(rule(annotations={"a": "ok {{ end }}"})),
        [("{{ end }} is not known here", (*RULE, "annotations", "a"), 3)],
    ),
    "annotation is open": (
        in_group(rule(annotations={"a": "é {{ $value"})),
        [("{{ has no }}", (*RULE, "annotations", "a"), 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_wrong_is_told_at_its_place(name: str):
    document, expected = BROKEN[name]

    found = problems_of(document)

    assert [(loc, offset) for _, loc, offset in found] == [(loc, offset) for _, loc, offset in expected]
    for (message, *_), (part, *_) in zip(found, expected, strict=True):
        assert part in message


def test_all_problems_are_told_at_once_and_sound_rules_are_loaded():
    document = in_group(
        rule(alert="Fine"),
        rule(expr="sum(x", fro="5m", labels={"a-b": "c", "v": "{{ $value }}"}, annotations={"a": "{{ x }}"}),
        "nonsense",
        rule(alert="AlsoFine"),
        rule(**{"for": "5x"}, no_data="what", keep_firing_for="2x"),
        {"record": "a b", "expr": "sum(x) by", "for": "1m"},
        {"record": "fine", "expr": "sum(x)"},
        limit="x",
        query_offset="y",
        compat="z",
    )
    document["groups"] += [7, {"name": "h", "rules": [rule(alert="Good")]}]

    groups, problems = load_rules(document, file="some.yml")

    assert [r.id for group in groups for r in group.rules] == ["g/Fine", "g/AlsoFine", "g/fine", "h/Good"]
    assert {p.file for p in problems} == {"some.yml"}
    in_rules = [(1, "expr"), (1, "fro"), (1, "labels", "a-b"), (1, "labels", "v"), (1, "annotations", "a"), (2,)]
    in_rules += [(4, "for"), (4, "no_data"), (4, "keep_firing_for")]
    in_rules += [(5, "record"), (5, "expr"), (5, "for")]
    wrong = [(*GROUP, "rules", *loc) for loc in in_rules] + [("groups", 1)]
    wrong += [(*GROUP, key) for key in ("limit", "query_offset", "compat")]
    assert sorted(map(str, (p.loc for p in problems))) == sorted(map(str, wrong))


def test_a_problem_names_its_file():
    assert load_rules(None, file="some.yml")[1] == [
        Problem("a rule file has the key groups with a list, as in: groups: [{name: …, rules: [...]}]", file="some.yml")
    ]


def test_a_boolean_label_is_written_as_in_yaml():
    assert only(in_group(rule(labels={"page": True}))).labels[0][1].text == "true"


def test_a_group_may_have_no_rules():
    assert loaded({"groups": [{"name": "g", "rules": None}]})[0].rules == ()
