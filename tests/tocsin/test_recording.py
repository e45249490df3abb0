"""Laws of recorded series: each sample is in the journal once, over any number of crashes; alerts do not notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

import rules as rules_module
from rules import load_rules
from telemetry import AlertEvent, ManualClock
from tests.tocsin.evaluation_rig import Rig, evaluated_at_once, loaded, until
from tocsin import evaluation
from tocsin.evaluation import rules_fingerprint
from tocsin.snapshot_file import snapshot_offsets

RULES: list[dict[str, Any]] = [
    {"record": "all:temperature:sum", "expr": "sum(temperature)"},
    {"record": "device:temperature:max", "expr": "max by (device) (temperature) > 20", "labels": {"of": "rig"}},
    {"alert": "HotTogether", "expr": "all:temperature:sum > 50", "for": "2s"},
    {"alert": "Hot", "expr": "temperature > 50"},
    {"alert": "Silent", "expr": "age(temperature) > 3"},
]
STEPS = ["10 d1", "60 d1", "30 d2", *4 * ["tick"], *3 * ["evaluate"], "save", "save cursor", "fill", "kill"]


class Driven:
    """A rig that is driven by hand, and starts again after each kill."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._clock = directory, ManualClock()
        self.rig = self._start()

    def _start(self) -> Rig:
        rig = Rig(self._directory, RULES, clock=self._clock, start=False)
        rig.cursor.full = False
        rig.evaluation._end_past()
        rig.evaluation._record()
        return rig

    def do(self, step: str) -> None:
        rig = self.rig
        match step:
            case "tick":
                rig.tick()
            case "evaluate":
                rig.evaluation._advance()
            case "save":
                rig.evaluation._save()
            case "save cursor":
                rig.evaluation._save_cursor()
            case "fill":
                rig.journal.full, rig.evaluation._record_again_at = not rig.journal.full, 0.0
            case "kill":
                rig.close()
                self.rig = self._start()
            case _:
                value, device = step.split()
                rig.receive(float(value), device)

    def finish(self) -> None:
        self.rig.journal.full, self.rig.evaluation._record_again_at = False, 0.0
        while self.rig.feed.offset < self.rig.journal.end:
            self.rig.evaluation._advance()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(16))
def test_no_kill_loses_a_sample_or_writes_one_twice_and_no_alert_depends_on_it(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_MAX_RECORDS", random.randint(1, 5))
        patch.setattr(evaluation, "_IDLE_SECONDS", 0.0)
        patch.setattr(evaluation, "_RETRY_SECONDS", 3_600.0)  # saves and tries again when a step says so
        driven = Driven(tmp_path)
        for step in random.choices(STEPS, k=80):
            driven.do(step)
        driven.finish()
    rig = driven.rig
    expected_events, expected = evaluated_at_once(rig.journal, rig.groups)
    assert len(expected) > 10
    assert Counter(rig.recorded) == Counter(expected)
    assert by_id(rig.events) == by_id(expected_events)
    assert evaluated_at_once(rig.journal, rig.groups, without_recorded=True) == (expected_events, expected)
    rig.close()


def by_id(events: Sequence[AlertEvent]) -> list[AlertEvent]:
    return sorted(events, key=lambda event: event.id)


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_RETRY_SECONDS", 0.02)


SUM: list[dict[str, Any]] = [{"record": "all:temperature:sum", "expr": "sum(temperature)"}]


def test_a_rule_s_samples_come_out_of_the_journal_and_the_end_of_a_series_leaves_none(tmp_path: Path) -> None:
    rules = [{"record": "device:temperature:warm", "expr": "temperature > 20", "labels": {"of": "rig"}}]
    rig = Rig(tmp_path, rules)
    for value in (30, 10, 25):
        rig.receive(value)
        rig.tick()
    warm = 'device:temperature:warm{device="d1", of="rig"}'
    until(lambda: rig.recorded == [f"2 {warm} 30", f"6 {warm} 25"])
    until(lambda: rig.feed.offset == rig.journal.end)
    found = rules_module.select(warm, rig.table)
    assert [str(rig.table[i]) for i in found.tolist()] == [warm]
    assert rig.counters.get("rules.recorded") == rig.counters.get("ingest.readings") - 3 == 2
    assert rig.counters.get("ingest.messages") == 3
    rig.stop()


def test_a_rule_records_nan_and_infinity_as_they_are(tmp_path: Path) -> None:
    rules = [{"record": f"x:{name}", "expr": f"temperature / {by}"} for name, by in (("inf", "0"), ("nan", "0 * 0"))]
    rig = Rig(tmp_path, rules)
    rig.receive(5)
    rig.receive(0, "d2")
    rig.tick()
    expected = ['x:inf{device="d1"} inf', 'x:inf{device="d2"} nan', 'x:nan{device="d1"} nan', 'x:nan{device="d2"} nan']
    until(lambda: sorted(line.split(" ", 1)[1] for line in rig.recorded) == expected)
    rig.stop()


def test_what_the_windows_of_rules_cannot_keep_is_counted_once(tmp_path: Path) -> None:
    rules = [{"alert": "Warm", "expr": "avg_over_time(temperature[1h]) > 50"}]
    rig = Rig(tmp_path, rules, start=False)
    rig.cursor.full = False
    rig.evaluation._engine._memory.ranges.rings.limit = 8
    for value in range(11):
        rig.receive(value)
        rig.tick()
    while rig.feed.offset < rig.journal.end:
        rig.evaluation._advance()
    assert rig.counters.get("rules.dropped", "window_full") == 3
    rig.evaluation._save()
    rig.close()

    rig = Rig(tmp_path, rules, clock=rig.clock, start=False)
    rig.tick()
    rig.evaluation._advance()
    assert rig.feed.offset == rig.journal.end
    assert rig.counters.get("rules.dropped") == 0
    rig.close()


def test_a_new_rule_records_nothing_of_the_past(tmp_path: Path) -> None:
    rig = Rig(tmp_path, [])
    rig.cursor.full = False
    rig.receive(5)
    rig.tick()
    until(lambda: rig.feed.offset == 2)
    rig.stop()

    rig = Rig(tmp_path, SUM, clock=rig.clock)
    rig.tick()
    until(lambda: rig.recorded == ["3 all:temperature:sum{} 5"])
    rig.stop()


def test_while_the_journal_takes_no_samples_alerts_go_on_and_the_samples_come_afterwards(
    tmp_path: Path, hurry: None, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, [*SUM, {"alert": "Hot", "expr": "temperature > 50"}])
    rig.cursor.full, rig.journal.full = False, True
    rig.receive(40)
    rig.tick()
    rig.receive(60)
    rig.tick()
    until(lambda: rig.published == ["firing 60"])
    until(lambda: "recorded series wait: no space left" in rig.evaluation.last_error)
    rig.stop()
    assert rig.cursor.offset <= 1  # what is not recorded is not behind it
    assert not snapshot_offsets(rig.data.snapshots)
    assert caplog.text.count("recorded series wait") == 1
    assert "they come at the next start" in caplog.text

    rig = Rig(tmp_path, [*SUM, {"alert": "Hot", "expr": "temperature > 50"}], clock=rig.clock)
    rig.cursor.full = False
    until(lambda: rig.recorded == ["2 all:temperature:sum{} 40", "4 all:temperature:sum{} 60"])
    until(lambda: rig.cursor.offset == rig.journal.end and not rig.evaluation.last_error)
    assert rig.published == ["firing 60"]
    rig.stop()


def test_a_rule_in_error_is_shown_and_is_told_of_once(
    tmp_path: Path, hurry: None, caplog: pytest.LogCaptureFixture
) -> None:
    rules = [{"record": "one", "expr": "temperature", "labels": {"device": "all"}}, *SUM]
    rig = Rig(tmp_path, rules)
    rig.receive(1)
    rig.tick()
    until(lambda: rig.feed.offset == rig.journal.end > 2)
    assert rig.evaluation.errors == {}
    for device in ("d2", "d3"):
        rig.receive(2, device)
        rig.tick()
    until(lambda: list(rig.evaluation.errors) == ["g/one"])
    assert "same labels" in rig.evaluation.errors["g/one"]
    assert caplog.text.count("rule g/one cannot be evaluated: two elements have the same labels") == 1
    until(lambda: "7 all:temperature:sum" not in rig.recorded and len(rig.recorded) == 4)
    rig.stop()


@pytest.mark.parametrize(
    "change",
    [
        {"record": "b"},
        {"expr": "max(temperature)"},
        {"labels": {"of": "rig"}},
        {"record": None, "alert": "a"},
    ],
)
def test_the_fingerprint_of_rules_covers_all_of_a_recording_rule(change: dict[str, Any]) -> None:
    rule = {"record": "a", "expr": "sum(temperature)"}
    changed = {key: value for key, value in {**rule, **change}.items() if value is not None}
    assert rules_fingerprint(loaded([rule]), []) == rules_fingerprint(loaded([dict(rule)]), [])
    assert rules_fingerprint(loaded([rule]), []) != rules_fingerprint(loaded([changed]), [])


@pytest.mark.parametrize(
    "option", [{"interval": "2s"}, {"limit": "5"}, {"query_offset": "1s"}, {"compat": "prometheus"}]
)
@pytest.mark.parametrize("kind", ["alert", "record"])
def test_the_fingerprint_of_rules_covers_the_options_of_their_group(kind: str, option: dict[str, str]) -> None:
    group = {"name": "g", "interval": "1s", "rules": [{kind: "a", "expr": "sum(temperature)"}]}
    prints = {
        rules_fingerprint(load_rules({"groups": [given]}, file="rules")[0], [])
        for given in (group, {**group, **option})
    }
    assert len(prints) == 2
