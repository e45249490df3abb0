"""Laws of recorded series: each sample is in the journal once, over any number of crashes; alerts do not notice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest

from telemetry import AlertEvent, ManualClock
from tests.tocsin.evaluation_rig import Rig, evaluated_at_once
from tocsin import evaluation

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
