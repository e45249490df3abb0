"""README.md is true: every rule in it does what the text says, and what it calls unsupported is refused so."""

import json
import re
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from rules import load_rules
from rules.promql import FUNCTIONS, ExpressionError, parse
from rules.rule_file import NOT_YET, NoData, RuleGroup
from tests.offline import EPOCH, SECOND, Arrived, Outcome, run, with_ticks
from tests.readme import block, loaded, section
from tocsin.cli import main

NOON = EPOCH + 12 * 3_600 * SECOND


def rule_groups() -> list[RuleGroup]:
    groups, problems = load_rules(yaml.safe_load(block("Write a rule", "yaml")))
    assert problems == []
    return groups


def test_the_functions_and_keys_are_all_that_there_are():
    text = section("Write a rule")
    supported = text[text.index("Supported:") : text.index("**When")]
    assert set(FUNCTIONS) <= set(re.findall(r"`(\w+)`", supported))
    assert set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)) == {"no_data", *map(str, NoData)}
    refused = section("What is not supported yet")
    assert set(NOT_YET) == set(re.findall(r"\(?`(\w+)`\)?", refused[refused.rindex("Recording rules") :]))


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


Case = tuple[list[dict[str, object]], int]


def uploaded(readings: int, directory: Path) -> Outcome:
    """So many hot readings, a minute apart, an hour old, that arrive together at NOON; then five minutes of ticks."""
    streams = loaded(block("JSON objects", "yaml"), directory).config.streams
    texts = [f'{{"temperature": 90, "ts": {NOON // 10**6 + (n - 60) * 60_000}}}' for n in range(readings)]
    sent = [Arrived(NOON, "sensors/a/d1/telemetry", text.encode()) for text in texts]
    return run([*sent, *(Arrived(NOON + n * SECOND) for n in range(300))], streams, rule_groups())


def test_one_old_reading_does_not_satisfy_for(tmp_path: Path):
    events = uploaded(1, tmp_path).events
    assert [(e.rule, e.starts_at - NOON) for e in events] == [("plant/TooHot", -59 * 60 * SECOND)]
    assert NOON + 60 * SECOND <= events[0].detected_at <= NOON + 61 * SECOND


def test_a_backlog_counts_as_the_time_that_it_covers(tmp_path: Path):
    events = uploaded(10, tmp_path).events
    assert [(e.rule, e.starts_at - NOON) for e in events] == [("plant/TooHot", -59 * 60 * SECOND)]
    assert events[0].detected_at == NOON


FIRES: dict[str, Case] = {
    "TooHot": ([{"temperature": 81}], 61),
    "Vibrates": ([{"vibration": 7, "running": True}], 1),
    "FilterClogged": ([{"pressure_in": 500, "pressure_out": 430}], 1),
    "DoorOpen": ([{"door": "closed"}, {"door": "open"}], 182),
    "Silent": ([{"temperature": 20}], 302),
}
QUIET: dict[str, Case] = {
    "TooHot": ([{"temperature": 81}], 59),
    "Vibrates": ([{"vibration": 7, "running": False}], 1),
    "FilterClogged": ([{"pressure_in": 500, "pressure_out": 450}], 1),
    "DoorOpen": ([{"door": "open"}, {"door": "closed"}], 182),
    "Silent": ([{"temperature": 20}], 299),
}


def outcome_of(messages: list[dict[str, object]], seconds: int, groups: list[RuleGroup], directory: Path) -> Outcome:
    """One message a second from EPOCH on, and ticks for so many seconds."""
    streams = loaded(block("JSON objects", "yaml"), directory).config.streams
    sent = [
        Arrived(EPOCH + n * SECOND, "sensors/a/d1/telemetry", json.dumps(message).encode())
        for n, message in enumerate(messages)
    ]
    return run(with_ticks(sent, EPOCH + seconds * SECOND), streams, groups)


@pytest.mark.parametrize("alert", FIRES)
def test_the_rules_fire_when_they_should_and_only_then(alert: str, tmp_path: Path):
    groups = rule_groups()
    assert set(FIRES) == {rule.alert for group in groups for rule in group.rules}
    fired = outcome_of(*FIRES[alert], groups, tmp_path).events
    assert [dict(event.labels)["alertname"] for event in fired] == [alert]
    assert outcome_of(*QUIET[alert], groups, tmp_path).events == []


@pytest.mark.parametrize(("choice", "states"), [("keep", []), ("resolve", ["resolved"]), ("fire", [])])
def test_no_data_decides_what_becomes_of_a_firing_alert(choice: str, states: list[str], tmp_path: Path):
    rule = {"alert": "A", "expr": "temperature > 80", "no_data": choice}
    groups, _ = load_rules({"groups": [{"name": "g", "rules": [rule]}]})
    events = outcome_of([{"temperature": 81}], 400, groups, tmp_path).events
    assert [str(event.state) for event in events] == ["firing", *states]


@pytest.mark.parametrize(("choice", "states"), [("keep", []), ("resolve", []), ("fire", ["firing"])])
def test_no_data_decides_whether_silence_fires(choice: str, states: list[str], tmp_path: Path):
    rule = {"alert": "A", "expr": "temperature > 80", "no_data": choice}
    groups, _ = load_rules({"groups": [{"name": "g", "rules": [rule]}]})
    events = outcome_of([{"temperature": 20}], 400, groups, tmp_path).events
    assert [str(event.state) for event in events] == states


def test_the_rules_have_only_keys_of_prometheus():
    """The keys; promtool itself is asked in tests/integration."""
    for group in yaml.safe_load(block("Write a rule", "yaml"))["groups"]:
        for rule in group["rules"]:
            assert set(rule) <= {"alert", "expr", "for", "keep_firing_for", "labels", "annotations"}


@pytest.mark.parametrize("line", block("What is not supported yet", "text", 1).splitlines())
def test_what_is_not_supported_is_refused_in_these_words(line: str):
    expr, reason = re.split(r"   +", line)
    with pytest.raises(ExpressionError) as refusal:
        parse(expr)
    assert str(refusal.value).startswith(reason)


def test_a_refusal_names_its_place_as_shown(tmp_path: Path):
    shown = block("What is not supported yet", "text").strip()
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/plant.yml").write_text(
        textwrap.dedent("""\
            groups:
              - name: plant
                rules:
                  - alert: A
                    expr: avg by (site) (temperature) > 30
            """)
    )
    (tmp_path / "tocsin.yaml").write_text("streams: [{name: a, topic: 'a/{device}'}]\nrules: [rules/*.yml]\n")
    said = CliRunner().invoke(main, ["check", "-c", str(tmp_path / "tocsin.yaml")])
    assert said.stdout.strip() == f"{tmp_path}/{shown}"
