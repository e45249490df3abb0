"""README.md is true: every rule in it does what the text says, its unit tests end as shown, and what it calls refused
is refused so. What the rules do is in readme_rules.test.yml, beside what the README's own test file says."""

import json
import re
import textwrap
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest
import yaml
from click.testing import CliRunner, Result

from rules import load_rules
from rules.compile import is_pointwise
from rules.functions_known import FUNCTIONS
from rules.history import MAX_SAMPLES, History
from rules.patterns import MAX_MEMORY, MAX_PATTERN
from rules.promql import MAX_DEPTH, MAX_LENGTH, MAX_NODES, parse
from rules.ranking import MAX_VALUES
from rules.rule_file import DEFAULT_INTERVAL, GROUP_KEYS, NoData, RuleGroup
from rules.window_functions import WINDOW_FUNCTIONS
from rules.windows import MAX_SUBQUERY_CELLS
from telemetry import format_duration
from tests.offline import EPOCH, SECOND, Arrived, Outcome, run, with_ticks
from tests.readme import BLOCKS, PROSE, ROOT, block, loaded, section
from tocsin.cli import main
from tocsin.cli.rules import rules as rules_command
from tocsin.rule_tests.faults import Fault

NOON = EPOCH + 12 * 3_600 * SECOND
CHAPTER = PROSE.split("\n## Rules\n", 1)[1].split("\n## ", 1)[0]
FILES = {b.text.split("\n", 1)[0][2:]: b.text for b in BLOCKS if b.language == "yaml" and b.text.startswith("# ")}
"""The blocks that are rule files and test files, by the path in their first line."""
TESTS = [name for name in FILES if ".test." in name]


def rule_groups(text: str = block("Write a rule", "yaml")) -> list[RuleGroup]:
    groups, problems = load_rules(yaml.safe_load(text))
    assert problems == []
    return groups


def problem_of(rule: Mapping[str, object]) -> str:
    [problem] = load_rules({"groups": [{"name": "g", "rules": [{"alert": "A", **rule}]}]})[1]
    return problem.message


# ---- the examples, run


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of the README, where their first lines say, and the tests beside it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "more.test.yml").write_text((ROOT / "tests/readme_rules.test.yml").read_text())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rule_tests(*arguments: str) -> Result:
    return CliRunner().invoke(rules_command, ["test", *arguments])


@pytest.mark.usefixtures("directory")
def test_the_unit_tests_of_the_text_end_as_it_shows():
    done = rule_tests("rules/tests")

    assert done.exit_code == 0
    assert done.stdout == block("Test rules", "text")


@pytest.mark.usefixtures("directory")
def test_the_examples_do_what_they_say():
    done = rule_tests("more.test.yml")

    assert done.exit_code == 0, done.stdout


def test_of_every_rule_a_test_says_when_it_is_true_and_when_it_is_not():
    texts = [FILES[name] for name in TESTS] + [(ROOT / "tests/readme_rules.test.yml").read_text()]
    tests = [test for text in texts for test in yaml.safe_load(text)["tests"]]
    cases = [case for test in tests for case in test.get("alert_rule_test", ())]
    rules = [
        rule for text in FILES.values() for group in yaml.safe_load(text).get("groups", ()) for rule in group["rules"]
    ]
    alerts = {rule["alert"] for rule in rules if "alert" in rule}

    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == alerts
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} >= alerts - {"Hottest", "OverItsLimit"}
    asked = {case["expr"] for test in tests for case in test.get("promql_expr_test", ())}
    assert {rule["record"] for rule in rules if "record" in rule} <= asked


def test_the_exit_code_says_whether_a_case_failed_or_a_file_is_broken(directory: Path):
    test = directory / TESTS[0]
    test.write_text(FILES[TESTS[0]].replace("count: 1", "count: 2", 1))
    failed = rule_tests(str(test), "--json")
    test.write_text(FILES[TESTS[0]].replace("eval_time", "evaltime", 1))

    assert (failed.exit_code, json.loads(failed.stdout)["failed"]) == (1, 1)
    assert rule_tests(str(test)).exit_code == 2


@pytest.mark.usefixtures("directory")
def test_compat_ends_alerts_whose_data_has_vanished():
    done = rule_tests("rules/tests", "--compat", "prometheus", "--run", "lost")

    assert done.exit_code == 1
    assert "firing alerts TooHot at 11m" in done.stdout


def test_the_faults_of_tests_are_all_named():
    text = section("Test rules")
    named = re.search(r"`faults`, .*?: (.*?);", text, re.DOTALL)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) == set(get_args(Fault.model_fields["kind"].annotation))


# ---- when, whose clock, vanished data


def clock(ns: int) -> str:
    return datetime.fromtimestamp(ns // SECOND, UTC).strftime("%H:%M:%S")


def test_the_timeline_of_too_hot_is_what_happens(tmp_path: Path):
    streams = loaded(block("JSON objects", "yaml"), tmp_path).config.streams
    sent, told = [], []
    for line in block("Write a rule", "text").splitlines():
        at = NOON + (int(line[3:5]) * 60 + int(line[6:8])) * SECOND
        reading = re.search(r"temperature (\d+)", line)
        if reading:
            text = f'{{"temperature": {reading[1]}}}'
            sent.append(Arrived(at, "sensors/a/d1/telemetry", text.encode()))
        else:
            told.append((line[:8], "resolved" if "resolved" in line else "firing"))
    ticks = [Arrived(NOON + n * SECOND + SECOND // 2) for n in range(130)]
    events = run(sorted([*sent, *ticks], key=lambda a: a.received), streams, rule_groups()).events

    assert [(clock(e.ends_at or e.starts_at), str(e.state)) for e in events] == told
    assert all((e.ends_at or e.starts_at) % SECOND == 0 for e in events)
    assert dict(events[0].annotations)["summary"] == "d1 is at 82.0 °C"


@pytest.mark.parametrize("readings", [1, 10])
def test_one_old_reading_does_not_satisfy_for_and_a_backlog_counts_as_the_time_that_it_covers(
    readings: int, tmp_path: Path
):
    """Readings a minute apart, an hour old, that arrive together at NOON; then five minutes of ticks."""
    streams = loaded(block("JSON objects", "yaml"), tmp_path).config.streams
    texts = [f'{{"temperature": 90, "ts": {NOON // 10**6 + (n - 60) * 60_000}}}' for n in range(readings)]
    sent = [Arrived(NOON, "sensors/a/d1/telemetry", text.encode()) for text in texts]
    [event] = run([*sent, *(Arrived(NOON + n * SECOND) for n in range(300))], streams, rule_groups()).events

    assert (event.rule, event.starts_at - NOON) == ("plant/TooHot", -59 * 60 * SECOND)
    late = NOON + 60 * SECOND if readings == 1 else NOON
    assert late <= event.detected_at <= late + SECOND


PER_READING = [
    'x{site=~"a.*"}', "x + y > 3", "x and on (device) y", "x unless ignoring (unit) y", "abs(x)", "x > bool 1",
    "rate(x[5m])", "x offset 1d", "age(x)", 'label_replace(x, "area", "$1", "site", "(.).*")',
]  # fmt: skip
ON_THE_GRID = [
    "sum(x)", "x > on (site) y", "x > on (device) group_left y", "y > on (device) group_right x", "scalar(x)",
    "max_over_time(x[1h:1m])", "absent(x)", "vector(1)", "time()", "histogram_quantile(0.9, x)", "sort(x)", "hour()",
    "x @ end()", "x offset -5m", 'label_replace(x, "device", "$1", "site", "(.).*")', "recorded",
]  # fmt: skip


@pytest.mark.parametrize(("expressions", "per_reading"), [(PER_READING, True), (ON_THE_GRID, False)])
def test_what_is_evaluated_per_reading_is_told_apart_as_the_table_says(expressions: list[str], *, per_reading: bool):
    assert [is_pointwise(parse(expr), {"recorded"}) for expr in expressions] == [per_reading] * len(expressions)
    assert f"every `interval` of the group ({format_duration(DEFAULT_INTERVAL)})" in CHAPTER


def test_the_keys_are_all_that_there_are():
    rows = re.findall(r"^\| `([^`]+)` \|", section("When a rule is evaluated"), re.MULTILINE)
    keys = {row.partition(":")[0] for row in rows}
    assert keys == {"no_data", *map(str, NoData)} | (set(GROUP_KEYS) - {"name", "rules", "interval", "labels"})


def outcome_of(rule: Mapping[str, object], messages: Sequence[Mapping[str, object]], directory: Path) -> Outcome:
    """One message a second from EPOCH on, and ticks for 400 seconds."""
    streams = loaded(block("JSON objects", "yaml"), directory).config.streams
    sent = [
        Arrived(EPOCH + n * SECOND, "sensors/a/d1/telemetry", json.dumps(message).encode())
        for n, message in enumerate(messages)
    ]
    groups = rule_groups(json.dumps({"groups": [{"name": "g", "rules": [{"alert": "A", **rule}]}]}))
    return run(with_ticks(sent, EPOCH + 400 * SECOND), streams, groups)


@pytest.mark.parametrize("expr", ["temperature > 80", "sum(temperature) > 80"])
@pytest.mark.parametrize(
    ("choice", "hot", "cool"),
    [("keep", ["firing"], []), ("resolve", ["firing", "resolved"], []), ("fire", ["firing"], ["firing"])],
)
def test_no_data_decides_what_becomes_of_an_alert_and_whether_silence_fires(
    expr: str, choice: str, hot: list[str], cool: list[str], tmp_path: Path
):
    rule = {"expr": expr, "no_data": choice}
    for temperature, states in ((81, hot), (20, cool)):
        events = outcome_of(rule, [{"temperature": temperature}], tmp_path).events
        assert [str(event.state) for event in events] == states


def test_annotations_see_the_labels_of_the_rule(tmp_path: Path):
    rule = {"expr": "x > 0", "labels": {"severity": "page"}, "annotations": {"s": "{{ $labels.severity }}"}}
    [event] = outcome_of(rule, [{"x": 1}], tmp_path).events
    assert event.annotations == (("s", "page"),)


# ---- what is refused, limits


def test_a_refusal_names_its_place_as_shown(tmp_path: Path):
    shown = block("What is refused", "text").strip()
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/plant.yml").write_text(
        textwrap.dedent("""\
            groups:
              - name: plant
                rules:
                  - alert: A
                    expr: avg_ovr_time(temperature[5m]) > 30
            """)
    )
    (tmp_path / "tocsin.yaml").write_text("streams: [{name: a, topic: 'a/{device}'}]\nrules: [rules/*.yml]\n")
    said = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "tocsin.yaml")])
    assert said.stdout.strip() == f"{tmp_path}/{shown}"


@pytest.mark.parametrize("line", block("What is refused", "text", 1).splitlines())
def test_what_is_refused_is_refused_in_these_words(line: str):
    expr, reason = re.split(r"   +", line)
    assert reason in problem_of({"expr": expr})


def test_what_rules_must_not_say_is_refused():
    assert "must not depend on the value" in problem_of({"expr": "x > 1", "labels": {"v": "{{ $value }}"}})
    assert "is not known here" in problem_of({"expr": "x > 1", "annotations": {"s": "{{ if true }}x{{ end }}"}})


def test_functions_in_the_text_exist_and_those_of_windows_have_their_memory_told():
    called = re.findall(r"\b([a-z_]+)\(", "\n".join(re.findall(r"`([^`]+)`", CHAPTER)))
    assert set(called) <= FUNCTIONS
    rows = re.findall(
        r"^\| ((?:`\w+`(?:, )?)+)(?: \([^|]*\))? \| (\d+) \|$", section("Memory and limits"), re.MULTILINE
    )
    told = {name: int(size) for names, size in rows for name in re.findall(r"`(\w+)`", names)}
    assert told.pop("absent_over_time") == told["present_over_time"]
    assert told == {name: _bytes(function.channels) for name, function in WINDOW_FUNCTIONS.items()}
    everything = {channel for function in WINDOW_FUNCTIONS.values() for channel in function.channels}
    assert f"{_bytes(everything)} bytes for all functions together" in CHAPTER
    assert f"4096 × {told['avg_over_time']} bytes = {4096 * told['avg_over_time'] // 1024} KiB" in CHAPTER


def _bytes(channels: set[str] | frozenset[str]) -> int:
    """Of one sample: its time, and its cells."""
    return 8 + 8 * History(channels).layout.width


@pytest.mark.parametrize(
    "limit",
    [
        f"{MAX_SAMPLES:,}; the oldest",
        f"{MAX_LENGTH:,} characters, {MAX_NODES:,} nodes, {MAX_DEPTH} levels",
        f"| {MAX_SUBQUERY_CELLS:,} |",
        f"| {MAX_VALUES:,} |",
        f"{MAX_PATTERN:,} characters, {MAX_MEMORY // 2**20} MiB",
    ],
)
def test_limits_are_as_told(limit: str):
    assert limit in section("Memory and limits")
