"""Laws of rule files that are wrong: all that is wrong is told at once, each at its place."""

from __future__ import annotations

from typing import Any

import pytest

from rules import load_rules
from telemetry import Problem
from tests.rules.test_rule_file import in_group, record, rule


def problems_of(document: Any) -> list[tuple[str, tuple[str | int, ...], int]]:
    return [(p.message, p.loc, p.offset) for p in load_rules(document)[1]]


# ---- what is refused: (document, [(part of the message, loc, offset)])

GROUP, RULE = ("groups", 0), ("groups", 0, "rules", 0)
A_FILE_HAS_GROUPS: list[tuple[str, tuple[str | int, ...], int]] = [("key groups with a list", (), 0)]
AT_IN_A_SUBQUERY: list[tuple[str, tuple[str | int, ...], int]] = [("any @ in a subquery", (*RULE, "expr"), 0)]
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
    "record of what is no PromQL": (in_group(record(expr="x +")), [("ends after +", (*RULE, "expr"), 2)]),
    "record with the label __name__": (
        in_group(record(labels={"__name__": "c"})),
        [("'__name__' cannot be a label here", (*RULE, "labels", "__name__"), 0)],
    ),
    "a time": (
        in_group(rule(expr="x @ 1700000000 > 3")),
        [("@ with a time, and any @ in a", (*RULE, "expr"), 0)],
    ),
    "a time before an offset": (in_group(rule(expr="x offset 5m @ 1.5 > 3")), [("@ with a", (*RULE, "expr"), 0)]),
    "a time in a range": (in_group(rule(expr="y + rate(x[5m] @ 17)")), [("@ with a", (*RULE, "expr"), 0)]),
    "a time of a subquery": (
        in_group(rule(expr="max_over_time((x > 3)[5m:] @ 17)")),
        [("@ with a", (*RULE, "expr"), 0)],
    ),
    "a time in a subquery": (in_group(rule(expr="vector(scalar(x @ 0))")), [("@ with a", (*RULE, "expr"), 0)]),
    "@ start() in a subquery": (in_group(rule(expr="absent_over_time((x @ start())[5m:])")), AT_IN_A_SUBQUERY),
    "@ end() in a subquery": (in_group(record(expr="sum_over_time(sum(x @ end())[9m:1m])")), AT_IN_A_SUBQUERY),
    "@ of a subquery in a subquery": (
        in_group(rule(expr="min_over_time(max_over_time(x[5m:] @ end())[5m:])")),
        AT_IN_A_SUBQUERY,
    ),
    "a time in a record": (in_group(record(expr="sum(x @ 17)")), [("@ with a", (*RULE, "expr"), 0)]),
    "no expr": (in_group({"alert": "A"}), [("a rule needs an expression", RULE, 0)]),
    "expr is a list": (in_group(rule(expr=[])), [("a rule needs an expression", (*RULE, "expr"), 0)]),
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
