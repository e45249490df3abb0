"""The examples in deploy/ are true: they load, do what their comments say, and fit each other."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from rules import Record, Rule
from rules.syntax import Expression, Selector, operands
from simulators.truth import expectations, judge
from telemetry import parse_duration
from tests.offline import EPOCH, SECOND, Arrived, Outcome, run, simulated, with_ticks
from tocsin.cli.rules import rules as rules_command
from tocsin.config import LoadedConfig, load_config
from tocsin.scenario_file import load_scenario

DEPLOY = Path(__file__).parent.parent / "deploy"
SECRETS = {"MQTT_PASSWORD": "a", "INFLUX_TOKEN": "b", "HOOK_TOKEN": "c"}
SCENARIOS = sorted((DEPLOY / "scenarios").glob("*.yaml"))
RULES = sorted((DEPLOY / "rules").glob("*.yml"))
TESTS = sorted((DEPLOY / "rules/tests").glob("*.test.yml"))


@pytest.fixture(scope="module")
def loaded() -> LoadedConfig:
    return load_config(DEPLOY / "tocsin.yaml", env=SECRETS)


def outcome_of(arrived: list[Arrived], loaded: LoadedConfig) -> Outcome:
    return run(arrived, loaded.config.streams, loaded.groups, loaded.config.limits)


def test_the_configuration_is_valid_and_uses_every_rule_file(loaded: LoadedConfig):
    assert [path.name for path in loaded.rule_files] == [path.name for path in RULES]
    assert len(RULES) >= 2


def test_the_configuration_keeps_its_secrets_in_the_environment():
    text = (DEPLOY / "tocsin.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", re.sub(r"#.*", "", text))) == set(SECRETS)
    assert "insecure" not in text
    assert "verify_tls" not in text


def test_the_configuration_fits_the_service_and_the_container(loaded: LoadedConfig):
    directory = str(loaded.config.data_dir)
    assert f"WorkingDirectory={directory}" in (DEPLOY / "systemd/tocsin.service").read_text()
    assert f"VOLUME {directory}" in (DEPLOY / "container/Containerfile").read_text()
    for place in ("systemd/tocsin.service", "container/Containerfile"):
        assert "/etc/tocsin/tocsin.yaml" in (DEPLOY / place).read_text()


def test_every_message_in_a_comment_of_the_configuration_becomes_readings(loaded: LoadedConfig):
    examples = re.findall(r"^  # ([\w/]+)  +(\S.*)$", (DEPLOY / "tocsin.yaml").read_text(), re.MULTILINE)
    arrived = [Arrived(EPOCH + SECOND, topic, payload.encode()) for topic, payload in examples]
    outcome = outcome_of(arrived, loaded)

    assert outcome.rejections == []
    assert outcome.readings == [
        'temperature{device="p17", site="ams"} 45.2',
        'vibration{device="p17", site="ams"} 2.1',
        'running{device="p17", site="ams"} 1',
        'door{device="p17", site="ams", state="closed"} 1',
        'oven_Oven_T1{device="line3", site="ams"} 181.5',
        'temperature_limit{device="p17", site="ams"} 70',
        'freezer_temperature{device="f042", site="ber"} -21.5',
        'lid{device="f042", site="ber"} 1',
    ]


def test_a_bad_value_of_a_line_is_a_dead_letter_and_its_neighbour_is_stored(loaded: LoadedConfig):
    payload = (
        b'{"timestamp": 1767225600123, "values": [{"id": "A", "v": 1, "q": false}, {"id": "B", "v": 2, "q": true}]}'
    )
    outcome = outcome_of([Arrived(EPOCH + SECOND, "plant/ams/lines/line3", payload)], loaded)

    assert [rejection.reason for rejection in outcome.rejections] == ["bad_quality"]
    assert outcome.readings == ['oven_B{device="line3", site="ams"} 2']


def test_the_rule_files_are_prometheus_files_apart_from_no_data():
    """Group and rule keys as Prometheus' documentation lists them."""
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            assert set(group) <= {"name", "interval", "labels", "rules"}
            for rule in group["rules"]:
                keys = {"alert", "record", "expr", "for", "keep_firing_for", "labels", "annotations"}
                assert set(rule) - keys <= {"no_data"}


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
@pytest.mark.slow
def test_a_scenario_raises_exactly_the_alerts_that_it_expects(path: Path, loaded: LoadedConfig):
    scenario = load_scenario(path)
    expected = expectations(scenario, epoch_ns=EPOCH)
    verdict = judge(expected, outcome_of(simulated(scenario), loaded).events)

    assert verdict.passed, verdict.details
    assert verdict.detected == len(expected)


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_the_unit_tests_of_the_rules_end_as_expected(path: Path):
    done = CliRunner().invoke(rules_command, ["test", str(path)])

    assert done.exit_code == 0, done.stdout


def test_every_rule_of_the_examples_fires_in_some_scenario_or_unit_test(loaded: LoadedConfig):
    fired = {expect.alert for path in SCENARIOS for fault in load_scenario(path).faults for expect in fault.expect}
    fired |= {case["alertname"] for test in unit_tests() for case in test["alert_rule_test"] if case["exp_alerts"]}
    assert fired == {rule.alert for group in loaded.groups for rule in group.rules if isinstance(rule, Rule)}


def unit_tests() -> list[dict[str, Any]]:
    return [test for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]


def test_the_rough_network_shows_every_kind_of_trouble(loaded: LoadedConfig):
    """Otherwise its silence would say nothing."""
    outcome = outcome_of(simulated(load_scenario(DEPLOY / "scenarios/rough-network.yaml")), loaded)

    reasons = outcome.counters.reasons("ingest.rejected")
    assert {"bad_json", "bad_encoding", "time_too_old", "time_in_future"} & set(reasons) >= {
        "time_too_old",
        "time_in_future",
    }
    assert any(reason.startswith("bad_") for reason in reasons)
    assert len(outcome.readings) > 9_000


def test_an_hour_of_wrong_clock_is_no_silence(loaded: LoadedConfig):
    """The comment at PumpSilent, and its other half: real silence of that device fires, stamped by its own clock."""
    hour = 3_600 * SECOND
    arrivals = [EPOCH + i * SECOND for i in range(30)]
    payloads = [f'{{"temperature": 20, "ts": {(at - hour) // 10**6}}}' for at in arrivals]
    sent = [Arrived(at, "plant/ams/pumps/p1", text.encode()) for at, text in zip(arrivals, payloads, strict=True)]
    quiet = outcome_of(with_ticks(sent, EPOCH + 89 * SECOND), loaded)
    silent = outcome_of(with_ticks(sent, EPOCH + 95 * SECOND), loaded)

    assert quiet.events == []
    assert [event.rule for event in silent.events] == ["pumps/PumpSilent"]
    assert 0 < silent.events[0].starts_at - (EPOCH + 89 * SECOND - hour) <= SECOND


@pytest.mark.parametrize(("lost_for", "fires_at"), [(0, 10), (1, 10), (30, 36)])
def test_a_lost_sensor_stops_the_clock_of_freezer_warm(lost_for: int, fires_at: int, loaded: LoadedConfig):
    """The comment at FreezerWarm, in minutes: warm at 0, 1, 2 and 3, then lost, then warm again."""
    minute = 60 * SECOND
    again = 4 + lost_for
    sent = [
        Arrived(EPOCH + t * minute, "coldchain/ber/f1/freezer_temperature", b"-9")
        for t in [0, 1, 2, 3, *range(again, again + 8)]
    ]
    only = [group for group in loaded.groups if group.name == "cold-chain"]
    events = run(with_ticks(sent, EPOCH + (again + 8) * minute), loaded.config.streams, only).events

    warm = [event.starts_at for event in events if event.rule == "cold-chain/FreezerWarm"]
    assert warm == [EPOCH + fires_at * minute]


def test_a_lost_sensor_does_not_resolve_freezer_warm(loaded: LoadedConfig):
    minute = 60 * SECOND
    sent = [Arrived(EPOCH + t * minute, "coldchain/ber/f1/freezer_temperature", b"-9") for t in range(12)]
    only = [group for group in loaded.groups if group.name == "cold-chain"]
    events = run(with_ticks(sent, EPOCH + 40 * minute), loaded.config.streams, only).events

    warm = [str(event.state) for event in events if event.rule == "cold-chain/FreezerWarm"]
    assert warm == ["firing"]


def test_the_rules_mention_only_metrics_that_scenarios_unit_tests_or_rules_have(loaded: LoadedConfig):
    metrics = {name for path in SCENARIOS for fleet in load_scenario(path).fleets for name in fleet.metrics}
    metrics |= {given["series"].partition("{")[0] for test in unit_tests() for given in test["input_series"]}
    rules = [rule for group in loaded.groups for rule in group.rules]
    metrics |= {rule.record for rule in rules if isinstance(rule, Record)}
    assert {metric for rule in rules for metric in metrics_of(rule.expression)} <= metrics


def metrics_of(node: Expression) -> Iterator[str]:
    if isinstance(node, Selector):
        yield from (matcher.value for matcher in node.matchers if matcher.name == "__name__")
    for operand in operands(node):
        yield from metrics_of(operand)


def test_durations_in_comments_of_the_rules_are_those_of_the_rules(loaded: LoadedConfig):
    by_name = {rule.alert: rule for group in loaded.groups for rule in group.rules if isinstance(rule, Rule)}
    assert by_name["FreezerWarm"].hold == parse_duration("10m")
    assert by_name["FreezerNotProvenCold"].hold == parse_duration("15m")
    assert by_name["PumpDoorOpen"].hold == parse_duration("1m")
