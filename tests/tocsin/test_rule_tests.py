"""Laws of `tocsin rules test`: what it compares, what it says, how it ends. The verdicts are compared to promtool's in
tests/integration/test_promtool_agrees.py."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from tocsin.cli.rules import rules as rules_command

RULES = """\
groups:
  - name: g
    rules:
      - alert: Hot
        expr: temperature > 30
        for: 2m
        labels: {severity: page}
        annotations: {summary: '{{ $labels.device }} has {{ $value }}'}
      - record: hot
        expr: temperature > 30
"""
SERIES = "input_series: [{series: 'temperature{device=\"d1\"}', values: '%s'}]"


def run(*args: object):
    return CliRunner().invoke(rules_command, ["test", *map(str, args)])


@pytest.fixture
def write(tmp_path: Path):
    """write(tests, name) writes a test file beside the rules, of one test unless `tests` begins with `- `."""
    (tmp_path / "rules.yml").write_text(RULES)

    def to_file(text: str, name: str = "t.test.yml", head: str = "rule_files: [rules.yml]\n") -> Path:
        lines = text.strip("\n").splitlines()
        body = lines if text.lstrip("\n").startswith("- ") else ["- " + lines[0], *("  " + line for line in lines[1:])]
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(head + "tests:\n" + "".join(f"  {line}\n" for line in body))
        return tmp_path / name

    return to_file


def a_test(values: str, *more: str) -> str:
    return "\n".join(["interval: 1m", SERIES % values, *more])


FIRING = "[{exp_labels: {device: d1, severity: page}, exp_annotations: {summary: d1 has 35}}]"


# ---- verdicts


def test_what_is_as_expected_succeeds_and_is_counted(write):
    file = write(
        a_test(
            "25 35x9",
            "alert_rule_test:",
            f"  - {{eval_time: 3m, alertname: Hot, exp_alerts: {FIRING}}}",
            "  - {eval_time: 2m, alertname: Hot}",
            "promql_expr_test:",
            "  - {expr: hot, eval_time: 3m, exp_samples: [{labels: 'hot{device=\"d1\"}', value: 35}]}",
        )
    )

    done = run(file)

    assert (done.exit_code, done.stdout) == (
        0,
        f"{file}: SUCCESS (1 test, 3 cases)\n1 file, 3 cases: all as expected\n",
    )


def test_a_failure_has_its_place_and_shows_what_is_expected_above_what_there_is(write):
    file = write(
        a_test(
            "35x9",
            "name: all day",
            "alert_rule_test:",
            "  - eval_time: 5m",
            "    alertname: Hot",
            "    exp_alerts:",
            "      - exp_labels: {device: d1, severity: warning}",
            "        exp_annotations: {summary: d1 has 36}",
            "promql_expr_test:",
            "  - expr: temperature",
            "    eval_time: 1m",
            "    exp_samples: [{labels: 'temperature{device=\"d2\"}', value: 35}]",
        )
    )

    done = run(file)

    assert done.exit_code == 1
    assert (
        done.stdout
        == f"""\
{file}: FAILED (2 of 2 cases)
  {file}:7:9: firing alerts Hot at 5m  (test: all day)
      expected  alertname="Hot"  device="d1"  severity="warning"
                summary: "d1 has 36"
      got       alertname="Hot"  device="d1"  severity="page"
                summary: "d1 has 35"
  {file}:13:9: temperature at 1m  (test: all day)
      expected  temperature  device="d2"  35
      got       temperature  device="d1"  35
1 file, 2 cases: 2 failed
"""
    )


def test_nothing_where_something_is_expected_is_said_and_so_is_what_is_pending(write):
    file = write(a_test("35x9", "alert_rule_test:", f"  - {{eval_time: 1m, alertname: Hot, exp_alerts: {FIRING}}}"))

    done = run(file)

    assert done.exit_code == 1
    assert "      got       nothing\n" in done.stdout
    assert '      note: {device="d1", severity="page"} is pending since 0s\n' in done.stdout


def test_a_value_that_is_wrong_in_its_last_digit_fails_and_fuzzy_compare_takes_it(write):
    text = "promql_expr_test: [{expr: vector(0.1) + vector(0.2), exp_samples: [{value: 0.3}]}]"

    strict, fuzzy = run(write(text)), run(write(text, head="fuzzy_compare: true\n"))

    assert strict.exit_code == 1
    assert "note: only the last digits differ" in strict.stdout
    assert fuzzy.exit_code == 0


def test_fuzzy_compare_takes_one_bit_and_no_more(write):
    text = "promql_expr_test: [{expr: vector(0.1) + vector(0.2), exp_samples: [{value: 0.3000000000000002}]}]"

    assert run(write(text, head="fuzzy_compare: true\n")).exit_code == 1


def test_not_a_number_equals_nothing_and_the_report_says_how_to_compare(write):
    done = run(write("promql_expr_test: [{expr: vector(NaN), exp_samples: [{value: .nan}]}]"))

    assert done.exit_code == 1
    assert "note: NaN equals nothing, for promtool too" in done.stdout


def test_an_expression_in_error_has_the_place_of_the_mistake(write):
    file = write("promql_expr_test:\n  - expr: 'temperature >> 5'\n    eval_time: 1m")

    done = run(file)

    assert done.exit_code == 1
    assert f"  {file}:4:" in done.stdout
    assert "      error: " in done.stdout


def test_a_rule_in_error_ends_the_test(write, tmp_path):
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{record: r, expr: 'x * on(site) x'}]}]\n")
    series = ", ".join(f"{{series: 'x{{device=\"{device}\", site=\"s\"}}', values: '1x5'}}" for device in "ab")
    file = write(
        f"input_series: [{series}]\npromql_expr_test: [{{expr: '1', eval_time: 2m, exp_samples: [{{value: 1}}]}}]"
    )

    done = run(file)

    assert done.exit_code == 1
    assert "rule r at 0s" in done.stdout
    assert "      error: " in done.stdout


def test_a_test_begins_when_it_says(write):
    file = write(
        a_test(
            "1x5",
            "start_timestamp: 2026-01-31T12:00:00Z",
            "promql_expr_test:",
            "  - {expr: hour() * 60 + minute(), eval_time: 5m, exp_samples: [{value: 725}]}",
            "  - {expr: temperature, eval_time: 3m, exp_samples: [{labels: 'temperature{device=\"d1\"}', value: 1}]}",
        )
    )

    assert run(file).exit_code == 0, run(file).stdout


def test_without_an_interval_samples_are_as_far_apart_as_evaluations(write):
    case = "{expr: sum(temperature), eval_time: 40s, exp_samples: [{value: 3}]}"
    text = f"{SERIES % '1 2 3'}\npromql_expr_test: [{case}]"

    assert run(write(text, head="evaluation_interval: 20s\n")).exit_code == 0


def test_groups_are_evaluated_in_the_order_that_is_asked_for(write, tmp_path):
    (tmp_path / "rules.yml").write_text(
        "groups:\n"
        "  - {name: b, rules: [{record: two, expr: one + 1}]}\n"
        "  - {name: a, rules: [{record: one, expr: vector(1)}]}\n"
    )
    text = "promql_expr_test: [{expr: two, eval_time: 0s, exp_samples: [{labels: two, value: 2}]}]"

    in_order = run(write(text, head="rule_files: [rules.yml]\ngroup_eval_order: [a, b]\n"))
    otherwise = run(write(text, head="rule_files: [rules.yml]\ngroup_eval_order: [b, a]\n"))

    assert (in_order.exit_code, otherwise.exit_code) == (0, 1)


def test_a_day_of_minutes_is_tested_in_seconds(write):
    series = ", ".join(f"{{series: 'temperature{{device=\"d{i}\"}}', values: '0+0.02x1440'}}" for i in range(10))
    file = write(f"interval: 1m\ninput_series: [{series}]\nalert_rule_test: [{{eval_time: 24h, alertname: Cold}}]")

    assert run(file).exit_code == 0


# ---- what promtool does not have


@pytest.mark.parametrize(
    ("at", "case", "ok"),
    [
        ("1m", "exp_state: pending", True),
        ("3m", "exp_state: pending", False),
        ("3m", "exp_state: firing", True),
        ("1m", "exp_state: firing", False),
        ("3m", "exp_state: pending, exp_alerts: []", True),
        ("1m", "exp_state: pending, exp_alerts: []", False),
        ("1m", f"exp_state: pending, exp_alerts: {FIRING}", True),
        ("1m", "exp_state: pending, exp_alerts: {}".format(FIRING.replace("35", "36")), False),
        ("1m", "exp_alerts: {}".format(FIRING.replace("[{", "[{exp_state: pending, ")), True),
        ("3m", "exp_alerts: {}".format(FIRING.replace("[{", "[{exp_state: pending, ")), False),
    ],
)
def test_alerts_can_be_expected_to_be_pending(write, at, case, ok):
    file = write(a_test("35x9", f"alert_rule_test: [{{eval_time: {at}, alertname: Hot, {case}}}]"))

    assert run(file).exit_code == (0 if ok else 1)


def test_notifications_are_counted_over_the_whole_test(write):
    def counted(fired: int, resolved: int, of: str = "Hot"):
        counts = f"[{{alertname: {of}, state: firing, count: {fired}}}, {{state: resolved, count: {resolved}}}]"
        return run(
            write(
                a_test(
                    "35x4 25x2 35x4",
                    "alert_rule_test: [{eval_time: 10m, alertname: Cold}]",
                    f"exp_notifications: {counts}",
                )
            )
        )

    assert counted(2, 1).exit_code == 0
    assert counted(0, 1, of="Cold").exit_code == 0
    done = counted(1, 1)
    assert done.exit_code == 1
    assert "firing notifications of Hot during the test" in done.stdout
    assert "      expected  1\n      got       2\n" in done.stdout


LOOK = "alert_rule_test: [{eval_time: 12m, alertname: Cold}]"


def told(write, values: str, *faults: str, seed: int = 0) -> tuple[int, int]:
    """How often firing and resolved were told, with these faults."""
    file = write(
        a_test(
            values,
            LOOK,
            f"seed: {seed}",
            f"faults: [{', '.join(faults)}]",
            "exp_notifications: [{state: firing, count: 9}, {state: resolved, count: 9}]",
        )
    )
    failures = json.loads(run(file, "--json").stdout)["files"][0]["tests"][0]["failures"]
    fired, resolved = (int(failure["got"][0]["value"]) for failure in failures)
    return fired, resolved


def test_readings_that_come_twice_or_overtake_one_another_notify_no_one_twice(write):
    assert told(write, "35x5 25x7") == (1, 1)
    assert told(write, "35x5 25x7", "{kind: duplicate}") == (1, 1)
    assert told(write, "35x5 25x7", "{kind: duplicate, by: 3m}") == (1, 1)
    assert told(write, "35x5 25x7", "{kind: out_of_order}") == (1, 1)
    assert told(write, "35x5 25x7", "{kind: duplicate, rate: 0.5}, {kind: out_of_order, rate: 0.5}", seed=3) == (1, 1)


def test_readings_that_are_lost_or_come_too_late_change_what_is_told(write):
    assert told(write, "35x5 25x7", "{kind: dropout}") == (0, 0)
    assert told(write, "35x5 25x7", "{kind: dropout, at: 6m}") == (1, 0)
    assert told(write, "35x5 25x7", "{kind: delay, by: 20m, at: 6m}") == (1, 0)
    assert told(write, "35x5 25x7", "{kind: dropout, series: 'temperature{device=\"d2\"}'}") == (1, 1)
    assert told(write, "35 25 35x5 25x5", "{kind: dropout, at: 1m, for: 30s}") == (1, 1)


def test_a_device_whose_clock_is_wrong_is_judged_by_its_own_clock(write):
    assert told(write, "35x5 25x7", "{kind: clock_skew, offset: -1h}") == (1, 1)


def test_readings_held_back_come_at_once_when_the_fault_is_over(write):
    file = write(
        a_test(
            "35x12",
            "alert_rule_test:",
            "  - {eval_time: 5m, alertname: Hot}",
            "  - {eval_time: 7m, alertname: Hot, exp_state: firing}",
            "faults: [{kind: delayed_burst, for: 6m}]",
        )
    )

    assert run(file).exit_code == 0, run(file).stdout


def test_what_chance_decides_is_decided_by_the_seed(write):
    def found(seed: int) -> set[str]:
        text = a_test("1x50", f"seed: {seed}", "faults: [{kind: dropout, rate: 0.5}]")
        text += "\npromql_expr_test: [{expr: 'count_over_time(temperature[1h])', eval_time: 50m}]"
        report = json.loads(run(write(text), "--json").stdout)
        return report["files"][0]["tests"][0]["failures"][0]["got"][0]["value"]

    assert [found(seed) for seed in range(4)] == [found(seed) for seed in range(4)]
    assert len({found(seed) for seed in range(4)}) > 1


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        ("{kind: drop}", "unknown kind 'drop': did you mean 'dropout'?"),
        ("{kind: delay}", "delay needs by: how much later the readings come"),
        ("{kind: dropout, by: 1m}", "dropout has no by"),
        ("{kind: clock_skew}", "clock_skew needs an offset, such as -1h"),
        ("{kind: delay, by: 1m, offset: 1m}", "delay has no offset"),
        ("{kind: delayed_burst}", "delayed_burst needs a length (for), after which all readings come at once"),
        ("{kind: dropout, rate: 2}", "must be at most 1"),
        ("{kind: dropout, series: 'x{'}", "t.test.yml:5:40: "),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(write, fault, problem):
    done = run(write(a_test("1x5", f"faults: [{fault}]")))

    assert done.exit_code == 2
    assert problem in done.stdout


# ---- differences by design

VANISHED = a_test("35x4", "alert_rule_test: [{eval_time: 20m, alertname: Hot}]")


def test_a_failure_that_prometheus_would_not_have_says_so_and_compat_removes_it(write):
    done = run(write(VANISHED))

    assert done.exit_code == 1
    why = "an alert whose data has vanished stays as it is (no_data: keep)"
    assert (
        f"note: differs by design: {why}; `compat: prometheus` on the group gives Prometheus' behaviour" in done.stdout
    )
    assert run("--compat", "prometheus", write(VANISHED)).exit_code == 0


def test_the_key_compat_of_the_group_does_the_same(write, tmp_path):
    (tmp_path / "rules.yml").write_text(RULES.replace("  - name: g\n", "  - name: g\n    compat: prometheus\n"))

    assert run(write(VANISHED)).exit_code == 0


def test_a_failure_that_prometheus_would_have_too_has_no_such_note(write):
    done = run(write(a_test("35x9", "alert_rule_test: [{eval_time: 5m, alertname: Hot}]")))

    assert done.exit_code == 1
    assert "by design" not in done.stdout


# ---- files


def test_all_problems_of_a_file_are_shown_at_their_places(write):
    file = write("intervall: 1m\ninput_series: [{series: 'up{', values: 1 x}]\nalert_rule_test: [{eval_time: 1}]")

    done = run(file)

    assert done.exit_code == 2
    assert [line.strip().removeprefix(f"{file}:").split(":")[:2] for line in done.stdout.splitlines()[1:-1]] == [
        ["3", "5"], ["4", "33"], ["4", "46"], ["5", "23"], ["5", "35"],
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["'3'", '"0x3"', "''", '"03"'])
def test_a_number_in_quotes_is_none(write, value):
    done = run(write(f"promql_expr_test: [{{expr: vector(3), exp_samples: [{{value: {value}}}]}}]"))

    assert done.exit_code == 2
    assert "t.test.yml:3:64: a number stands without quotes: value: " in done.stdout


def test_a_name_that_no_rule_has_leaves_the_verdict_and_is_warned_of_once_for_people_and_machines(write):
    cases = "alert_rule_test: [{alertname: Hut}, {alertname: Hot}, {alertname: hot}, {alertname: Hut, exp_alerts: []}]"
    told = "exp_notifications: [{alertname: Cold, state: firing, count: 0}, {state: resolved, count: 0}]"
    file = write(f"- name: one\n  {cases}\n- name: two\n  {told}")
    words = "no rule makes alerts of the name"

    done, for_machines = run(file), json.loads(run(file, "--json").stdout)

    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        f"warning: {file}:4:35: {words} 'Hut': did you mean Hot?",
        f"warning: {file}:4:71: {words} 'hot': did you mean Hot?",
        f"warning: {file}:6:37: {words} 'Cold'",
    ]
    assert for_machines["ok"]
    assert for_machines["files"][0]["warnings"][0] == {
        "file": str(file), "line": 4, "column": 35, "message": f"{words} 'Hut': did you mean Hot?",
    }  # fmt: skip
    assert run(file, "--run", "two").stderr.count("warning") == 1


def test_a_record_is_no_name_of_alerts(write):
    assert "'hot'" in run(write("alert_rule_test: [{alertname: hot}]")).stderr


def test_texts_see_what_the_test_says_is_external(write, tmp_path):
    external = "{{ $externalLabels.region }} {{ $externalURL }}."
    (tmp_path / "rules.yml").write_text(RULES.replace("{{ $labels.device }} has {{ $value }}", external))

    def summary(*more: str) -> str:
        file = write(a_test("35x9", *more, "alert_rule_test: [{eval_time: 3m, alertname: Hot}]"))
        report = json.loads(run(file, "--json").stdout)
        return report["files"][0]["tests"][0]["failures"][0]["got"][0]["annotations"]["summary"]

    assert summary() == " ."
    assert summary("external_labels: {region: eu}", "external_url: https://p/") == "eu https://p/."


def test_a_broken_rule_file_is_shown_at_its_place(write, tmp_path):
    (tmp_path / "rules.yml").write_text(RULES.replace("for: 2m", "fro: 2m"))

    done = run(write(a_test("1x5")))

    assert done.exit_code == 2
    assert f"{tmp_path}/rules.yml:6:9: unknown key 'fro'" in done.stdout


def test_a_rule_file_that_is_missing_is_a_warning(write):
    done = run(write(a_test("1x5"), head="rule_files: [nowhere/*.yml]\n"))

    assert done.exit_code == 0
    assert "t.test.yml:1:14: no file matches 'nowhere/*.yml'" in done.stderr


def test_a_file_that_is_not_there_breaks_the_run_but_not_the_others(write, tmp_path):
    done = run(tmp_path / "none.yml", write(a_test("1x5")))

    assert done.exit_code == 2
    assert "cannot be read: No such file or directory" in done.stdout
    assert "t.test.yml: SUCCESS" in done.stdout


def test_a_directory_stands_for_the_test_files_in_it_and_a_pattern_for_what_it_matches(write, tmp_path):
    write(a_test("1x5"), "deep/er/a.yaml", head="")
    write(a_test("1x5"), "b.yml", head="")
    (tmp_path / "other.yml").write_text("key: value\n")

    names = [
        [Path(f["file"]).name for f in json.loads(run(named, "--json").stdout)["files"]]
        for named in (tmp_path, f"{tmp_path}/**/*a.yaml")
    ]

    assert names == [["b.yml", "a.yaml"], ["a.yaml"]]
    assert "no YAML file in" in str(run(write(a_test("1x5"), "empty/x.txt").parent).exception)
    assert "no file matches" in str(run(f"{tmp_path}/*.json").exception)


def test_tests_can_be_chosen_by_their_names(write):
    file = write("- name: door\n- name: window\n  promql_expr_test: [{expr: vector(1)}]\n")

    assert run(file).exit_code == 1
    assert run(file, "--run", "^do").stdout.startswith(f"{file}: SUCCESS (1 test, 0 cases)")
    assert run(file, "--run", "(").exit_code == 2
    assert run(file, "--run", "zzz").exit_code == 2


def test_machines_get_everything_as_one_object(write):
    file = write(
        "name: one\npromql_expr_test: [{expr: vector(1), eval_time: 1m, exp_samples: [{labels: up, value: 2}]}]"
    )

    done = run(file, "--json")

    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "ok": False, "cases": 1, "failed": 1,
        "files": [{
            "file": str(file), "ok": False, "problems": [], "warnings": [],
            "tests": [{
                "name": "one", "line": 3, "ok": False, "cases": 1,
                "failures": [{
                    "case": "vector(1) at 1m", "line": 4, "column": 24, "problem": None, "notes": [],
                    "expected": [{"labels": {"__name__": "up"}, "annotations": {}, "value": "2"}],
                    "got": [{"labels": {}, "annotations": {}, "value": "1"}],
                }],
            }],
        }],
    }  # fmt: skip


def test_what_devices_send_cannot_steer_the_terminal(write):
    done = run(write(a_test("35x5", 'name: "\\e[2J"', "promql_expr_test: [{expr: 'vector(1)'}]")))

    assert "\x1b" not in done.stdout
