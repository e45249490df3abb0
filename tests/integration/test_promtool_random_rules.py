"""Law: what random rules record and alert, on random series, is what promtool says, if they are to be as in Prometheus.

Samples are a minute apart and windows an odd number of seconds long, so that none begins at a sample (2.42 and 3 differ
there). Values and functions are such that there is nothing to round.
"""

import json
import re
import subprocess
from pathlib import Path

import hypothesis.strategies as st
import pytest
import yaml
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings

from tocsin.cli.rules import rules as rules_command

MINUTES = 12
SERIES = ['x{device="a",site="n"}', 'x{device="b",site="n"}', 'x{device="c",site="s"}', 'y{device="a",site="n"}',
          'y{device="d",kind="k"}', 'z{device="a"}']  # fmt: skip
VALUES = ["0", "1", "2", "3", "5", "8", "-4", "_", "_", "stale", "NaN", "Inf"]
HISTORIES = st.lists(st.sampled_from(VALUES), min_size=MINUTES, max_size=MINUTES)

SELECTORS = st.sampled_from(["x", "y", "z", 'x{site="n"}', 'y{device=~"a|d"}', "x offset 1m", "y offset 125s"])
RANGES = st.sampled_from(["[71s]", "[143s]", "[261s]", "[143s] offset 1m", "[583s]"])
OVER_RANGE = st.sampled_from(
    ["sum_over_time", "max_over_time", "min_over_time", "count_over_time", "last_over_time", "present_over_time",
     "changes", "resets", "idelta", "absent_over_time"]
)  # fmt: skip
OPERATORS = st.sampled_from(["+", "-", "*", ">", "<=", "==", "!= bool", "> bool", "and", "or", "unless"])
MATCHINGS = st.sampled_from(["", "", " on(device)", " ignoring(kind)", " on(site)", " on()"])
GROUPINGS = st.sampled_from(["", " by (site)", " by (device)", " without (device)", " without (kind, site)"])
AGGREGATIONS = st.sampled_from(["sum", "min", "max", "count", "group"])
AROUND = st.sampled_from(
    ["-(%s)", "abs(%s)", "absent(%s)", "%s > 2", "%s < 3", "1 - (%s)", "vector(scalar(%s))", "timestamp(%s)",
     'label_replace(%s, "kind", "$1", "device", "(.*)")', "clamp_max(%s, 2)", "max_over_time((%s)[143s:1m])",
     "count_over_time((%s)[261s:30s])", "last_over_time((%s)[71s:])"]
)  # fmt: skip


def compound(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.builds("({} {}{} {})".format, inner, OPERATORS, MATCHINGS, inner).filter(is_grammatical),
        st.builds("{}{} ({})".format, AGGREGATIONS, GROUPINGS, inner),
        st.builds(lambda around, within: around % within, AROUND, inner),
    )


def is_grammatical(text: str) -> bool:
    """`on()` and set operators take no bool; all else goes together."""
    return not re.search(r"(and|or|unless) bool", text)


EXPRESSIONS = st.recursive(
    SELECTORS | st.builds(lambda f, s, r: f"{f}({s.partition(' ')[0]}{r})", OVER_RANGE, SELECTORS, RANGES),
    compound,
    max_leaves=4,
)
AFTER = st.sampled_from(["rec > 1", "sum_over_time(rec[143s])", "max by (site) (rec)", "absent(rec)", "rec offset 1m"])
DURATIONS = st.sampled_from(["0s", "1m", "90s", "2m"])
LABELS = st.sampled_from([{}, {}, {"kind": "own"}, {"extra": "label"}])
ASKED = [(f"{what}", f"{minute}m") for minute in range(MINUTES + 2) for what in ("rec", "ALERTS", "after")]
ASKED += [
    ("ALERTS_FOR_STATE", "5m"),
    ("ALERTS_FOR_STATE", "9m"),
    ("count_over_time({__name__=~'rec|ALERTS'}[1h])", "13m"),
]
Samples = list[dict[str, str]]


def a_file(histories: list[list[str]], expected: list[Samples]) -> str:
    series = [{"series": s, "values": " ".join(values)} for s, values in zip(SERIES, histories, strict=True)]
    cases = [{"expr": e, "eval_time": t, "exp_samples": s} for (e, t), s in zip(ASKED, expected, strict=True)]
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": cases}]
    text: str = yaml.safe_dump({"rule_files": ["rules.yml"], "tests": tests})
    return re.sub(r"value: '(.*)'", r"value: \1", text)


def rule_file(expr: str, after: str, hold: str, keep: str, labels: dict[str, str]) -> str:
    rules = [
        {"record": "rec", "expr": expr, "labels": labels},
        {"alert": "A", "expr": expr, "for": hold, "keep_firing_for": keep, "labels": labels},
        {"record": "after", "expr": after},
    ]
    text: str = yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]})
    return text


def answers(promtool: Path, directory: Path, histories: list[list[str]]) -> list[Samples] | None:
    """What promtool finds for each question; None if a rule is in error."""
    wrong = [[{"labels": "wrong", "value": "1"}]] * len(ASKED)
    (directory / "t.yml").write_text(a_file(histories, wrong))
    done = subprocess.run(
        [promtool, "test", "rules", directory / "t.yml"], capture_output=True, text=True, timeout=60, check=False
    )
    if " rule: " in done.stderr:
        return None
    found = re.findall(r"^        got: (.*)$", done.stderr, re.MULTILINE)
    assert len(found) == len(ASKED), done.stderr
    return [
        [{"labels": labels, "value": number(value)} for labels, value in re.findall(r"(\{.*?\}) (\S+?)(?:, |$)", got)]
        for got in found
    ]


def number(go: str) -> str:
    return {"NaN": ".nan", "+Inf": ".inf", "-Inf": "-.inf"}.get(go, go)


@pytest.mark.timeout(600)
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each step of shrinking would start promtool
)
@given(
    histories=st.tuples(*[HISTORIES] * len(SERIES)),
    rules=st.builds(rule_file, EXPRESSIONS, AFTER, DURATIONS, DURATIONS, LABELS),
)
def test_random_rules_do_what_they_do_in_prometheus(promtool: Path, tmp_path: Path, histories, rules):
    (tmp_path / "rules.yml").write_text(rules)
    theirs = answers(promtool, tmp_path, histories)
    (tmp_path / "t.yml").write_text(a_file(histories, theirs or [[]] * len(ASKED)))

    command = ["test", str(tmp_path / "t.yml"), "--compat", "prometheus", "--json"]
    done = CliRunner().invoke(rules_command, command, catch_exceptions=False)
    [test] = json.loads(done.stdout)["files"][0]["tests"]

    if theirs is None:
        assert any(failure["problem"] for failure in test["failures"])
    else:
        assert [failure for failure in test["failures"] if not is_the_same(failure)] == []


def is_the_same(failure: dict) -> bool:
    """Whether a case fails only because NaN equals nothing."""
    return sorted(map(str, failure["expected"])) == sorted(map(str, failure["got"])) and not failure["problem"]
