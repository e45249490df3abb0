"""promtool's unit tests of rules: `tocsin rules test` has promtool's verdict on every case of every file.

The cases are in tests/rules/promtool; they cover PromQL, the life of alerts, recording rules and templates. Promtool is
2.42 (Debian): its windows hold a sample that stands exactly where they begin, those of Prometheus 3 and ours do not; so
no sample of these files stands there. Functions have the names of Prometheus 3 in them.
"""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from rules.functions_known import FUNCTIONS, SAME
from tocsin.cli.rules import rules as rules_command

CASES = Path(__file__).parent.parent / "rules" / "promtool"
OLD_NAMES = {"double_exponential_smoothing": "holt_winters"}
"""Of Prometheus 3, and of 2.42."""

VANISHED = "an alert whose data has vanished stays as it is (no_data: keep)"
EACH_READING = "rules see each reading at its own time, not only what is newest at an evaluation"
BY_DESIGN = {
    "vanished: silence resolves after the lookback": VANISHED,
    "vanished: a stale marker resolves at once": VANISHED,
    "vanished: silence ends pending": VANISHED,
    "between: a dip between evaluations": EACH_READING,
}
"""Where tocsin's own mode differs from Prometheus, and why; `compat: prometheus` never does."""


class Case(NamedTuple):
    """One test of a file, as a file of its own."""

    name: str
    text: str


def cases() -> Iterator[Case]:
    for path in sorted(CASES.glob("*.test.yml")):
        head, *tests = re.split(r"^(?=  - name: )", path.read_text(), flags=re.MULTILINE)
        assert tests, path
        for test in tests:
            name = test.splitlines()[0].removeprefix("  - name: ")
            yield Case(f"{path.name.removesuffix('.test.yml')}: {name}", head + test)


ALL = list(cases())
of_all = pytest.mark.parametrize("case", ALL, ids=[case.name for case in ALL])


@cache
def promtool_failures(promtool: Path, text: str, directory: Path) -> Counter[str]:
    """The cases that promtool finds to be otherwise than expected, in the words of our report."""
    for name, old in OLD_NAMES.items():
        text = text.replace(name, old)
    file = directory / "promtool.yml"
    file.write_text(text)
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    found: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        if alert := re.match(r" +alertname: (.*), time: (\S+), $", line):
            found[f"firing alerts {alert[1]} at {alert[2]}"] += 1
        elif expr := re.match(r' +expr: (".*"), time: ([^ ,]+),', line):
            found[f"{json.loads(expr[1])} at {expr[2]}"] += 1
        elif rule := re.match(r" +rule: (.*), time: (\S+), err:", line):
            found[f"rule {rule[1]} at {rule[2]}"] += 1
    assert (done.returncode == 0) == (not found), done.stdout + done.stderr
    return found


def tocsin_report(file: Path, *options: str) -> dict:
    done = CliRunner().invoke(rules_command, ["test", str(file), "--json", *options])
    assert done.exit_code in (0, 1, 2), done.output
    report = json.loads(done.stdout)
    assert report["ok"] == (done.exit_code == 0)
    return report["files"][0]


def tocsin_failures(file: Path, *options: str) -> Counter[str]:
    report = tocsin_report(file, *options)
    assert report["problems"] == []
    return Counter(failure["case"] for test in report["tests"] for failure in test["failures"])


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the rule files beside which the cases expect to be."""
    made = tmp_path_factory.mktemp("promtool")
    for path in CASES.glob("*.rules.yml"):
        (made / path.name).write_text(path.read_text())
    return made


def test_there_are_enough_cases_and_each_has_its_own_name():
    assert len({case.name for case in ALL}) == len(ALL) >= 60
    assert BY_DESIGN.keys() <= {case.name for case in ALL}


NOT_IN_2_42 = {
    "first_over_time", "mad_over_time", "sort_by_label", "sort_by_label_desc", "ts_of_first_over_time",
    "ts_of_last_over_time", "ts_of_max_over_time", "ts_of_min_over_time", "age",
}  # fmt: skip
WORDS = {
    "sum", "avg", "min", "max", "count", "stddev", "stdvar", "quantile", "topk", "bottomk", "group", "count_values",
    "by", "without", "and", "or", "unless", "atan2", "bool", "on", "ignoring", "group_left", "group_right", "offset",
    "start()", "end()",
}  # fmt: skip
SIGNS = {"+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "=~", "!~", "@"}


def test_the_cases_hold_every_function_aggregation_and_operator():
    text = "\n".join(case.text for case in ALL if not case.name.startswith("failing: "))
    words = FUNCTIONS - NOT_IN_2_42 - set(SAME) | WORDS

    assert {word for word in words if not re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text)} == set()
    assert {sign for sign in SIGNS if sign not in text} == set()


@of_all
def test_the_verdict_is_promtools(case: Case, promtool: Path, directory: Path):
    theirs = promtool_failures(promtool, case.text, directory)
    (directory / "case.yml").write_text(case.text)

    assert bool(theirs) == case.name.startswith("failing: ")
    if case.name not in BY_DESIGN:
        assert tocsin_failures(directory / "case.yml") == theirs
        return
    assert tocsin_failures(directory / "case.yml") != theirs
    [test] = tocsin_report(directory / "case.yml")["tests"]
    for failure in test["failures"]:
        assert any(f"by design: {BY_DESIGN[case.name]};" in note for note in failure["notes"])


@of_all
def test_with_compat_the_verdict_is_always_promtools(case: Case, promtool: Path, directory: Path):
    theirs = promtool_failures(promtool, case.text, directory)
    (directory / "case.yml").write_text(case.text)

    assert tocsin_failures(directory / "case.yml", "--compat", "prometheus") == theirs


GOOD = "tests: [{interval: 1m, input_series: [{series: up, values: '1x5'}]}]"
BROKEN = {
    "an unknown key": "test: []",
    "an unknown key of a test": "tests: [{intervall: 1m}]",
    "an unknown key of a case": "tests: [{alert_rule_test: [{alertname: a, eval_tim: 1m}]}]",
    "a key twice": "tests: []\ntests: []",
    "a key of a test twice": "tests: [{interval: 1m, interval: 2m}]",
    "no YAML": "tests: [",
    "no mapping": "- tests",
    "no duration": "evaluation_interval: 1 minute",
    "a duration without a unit": "tests: [{interval: 60}]",
    "no alertname": "tests: [{alert_rule_test: [{eval_time: 1m}]}]",
    "a group twice": "group_eval_order: [a, b, a]",
    "a value that is none": "tests: [{input_series: [{series: up, values: '1 2 three'}]}]",
    "a step without times": "tests: [{input_series: [{series: up, values: '1+2'}]}]",
    "times of a name": "tests: [{input_series: [{series: up, values: 'NaNx3'}]}]",
    "stale repeated": "tests: [{input_series: [{series: up, values: 'stalex3'}]}]",
    "times that are no whole number": "tests: [{input_series: [{series: up, values: '1x1.5'}]}]",
    "values without a space": "tests: [{input_series: [{series: up, values: '1_'}]}]",
    "a histogram's bracket": "tests: [{input_series: [{series: up, values: '{{schema:1'}]}]",
    "values with a line break": 'tests: [{input_series: [{series: up, values: "1\\n2"}]}]',
    "a number that is too large": "tests: [{input_series: [{series: up, values: '1e999'}]}]",
    "a series that is none": "tests: [{input_series: [{series: 'up{job}', values: '1'}]}]",
    "a selector as series": "tests: [{input_series: [{series: 'up{job=~\"a\"}', values: '1'}]}]",
    "labels that are none": "tests: [{promql_expr_test: [{expr: up, exp_samples: [{labels: 'up{', value: 1}]}]}]",
    "a value that is no number": "tests: [{promql_expr_test: [{expr: up, exp_samples: [{labels: up, value: one}]}]}]",
    "a number in quotes": "tests: [{promql_expr_test: [{expr: 3, exp_samples: [{value: '3'}]}]}]",
    "nothing in quotes": "tests: [{promql_expr_test: [{expr: 0, exp_samples: [{value: ''}]}]}]",
    "a list instead of keys": "tests: [[1]]",
    "text instead of a list": "tests: none",
    "a rule file that is none": "rule_files: [broken.rules.yml]\n" + GOOD,
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_what_promtool_refuses_tocsin_refuses_with_its_place(text: str, promtool: Path, tmp_path: Path):
    file = tmp_path / "broken.yml"
    file.write_text(text + "\n")
    (tmp_path / "broken.rules.yml").write_text("groups: [{name: g, rules: [{alert: A, exp: up}]}]\n")

    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, timeout=60, check=False)
    problems = tocsin_report(file)["problems"]

    assert done.returncode == 1
    assert problems
    assert all(problem["line"] >= 1 and problem["column"] >= 1 for problem in problems)


ACCEPTED = {
    "nothing": "",
    "no tests": "tests: []",
    "keys without values": "rule_files:\ngroup_eval_order:\ntests:\n",
    "a test of nothing": "tests: [{}]",
    "a test without cases": GOOD,
    "a rule file that is missing": "rule_files: [nowhere.yml]\n" + GOOD,
    "an alert that no rule has": "tests: [{alert_rule_test: [{eval_time: 1m, alertname: None}]}]",
    "values in several lines": "tests: [{input_series: [{series: up, values: '1\n 2'}]}]",
    "a number as text": "tests: [{promql_expr_test: [{expr: 1, exp_samples: [{value: 1}]}]}]",
    "a number by its tag": "tests: [{promql_expr_test: [{expr: 3, exp_samples: [{value: !!float '3'}]}]}]",
    "numbers of all kinds": "tests: [{promql_expr_test: [{expr: 0x10, exp_samples: [{value: 0x10}]}, "
    "{expr: 16, exp_samples: [{value: 020}]}, {expr: 1e3, exp_samples: [{value: 1_000}]}, "
    "{expr: -Inf, exp_samples: [{value: -.inf}]}]}]",
    "labels without a value": "tests: [{promql_expr_test: [{expr: vector(1), exp_samples: [{labels: , value: 1}]}]}]",
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=ACCEPTED)
def test_what_promtool_accepts_tocsin_accepts(text: str, promtool: Path, tmp_path: Path):
    file = tmp_path / "odd.yml"
    file.write_text(text + "\n")

    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 0, done.stderr
    assert tocsin_report(file)["ok"]
