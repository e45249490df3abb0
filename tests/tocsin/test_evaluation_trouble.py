"""Laws of evaluation on a disk that cannot be written: nothing dies, nothing is lost, one line tells of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tocsin.evaluation_rig import Rig, until
from tocsin import evaluation

RULES = [{"alert": "Hot", "expr": "temperature > 50"}]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_RETRY_SECONDS", 0.02)


def test_a_cursor_that_cannot_be_saved_stops_no_alert_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, RULES)
    rig.receive(60)
    until(lambda: rig.cursor.attempts >= 2)
    assert "rules: cannot save the cursor (No space left on device)" in rig.evaluation.last_error
    assert caplog.text.count("cannot save the cursor") == 1
    rig.receive(40)
    until(lambda: rig.published == ["firing 60", "resolved 60"])
    rig.cursor.full = False
    until(lambda: rig.cursor.offset == rig.journal.end and not rig.evaluation.last_error)
    rig.stop()
    assert rig.evaluation.failure is None


def test_while_alerts_cannot_be_written_it_says_that_it_waits_and_since_when(tmp_path: Path) -> None:
    rig = Rig(tmp_path, RULES)
    rig.cursor.full = False
    rig.outbox.full, since = True, rig.clock.now() + 10**9
    rig.receive(60)
    until(lambda: rig.outbox.attempts >= 2)
    rig.clock.advance(5)
    assert rig.evaluation.standstill == ("the disk is full: free some", since)
    rig.outbox.full = False
    until(lambda: rig.published == ["firing 60"])
    until(lambda: rig.evaluation.standstill is None)
    rig.stop()


def test_killed_between_an_alert_and_the_saving_of_its_cursor_it_tells_nothing_wrong(tmp_path: Path) -> None:
    rig = Rig(tmp_path, RULES)
    rig.cursor.full = False
    rig.receive(40)
    until(lambda: rig.cursor.offset == 1)
    rig.receive(60)
    until(lambda: rig.published == ["firing 60"])
    rig.stop()
    shutil.rmtree(rig.data.snapshots)
    rig.cursor.save(1)

    rig = Rig(tmp_path, RULES)
    rig.clock.advance(60)
    rig.receive(70)
    rig.receive(30)
    until(lambda: len(rig.published) > 1)
    rig.stop()
    assert rig.published == ["firing 60", "resolved 70"]


def test_stopped_while_alerts_cannot_be_written_it_tells_them_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path, RULES)
    rig.cursor.full = False
    rig.receive(60)
    until(lambda: rig.published == ["firing 60"])
    rig.outbox.full, before = True, rig.outbox.attempts
    rig.receive(40)
    rig.receive(70)
    until(lambda: rig.outbox.attempts > before)
    rig.stop()
    assert rig.evaluation.failure is None
    assert "they come at the next start" in caplog.text

    rig = Rig(tmp_path, RULES)
    until(lambda: rig.published == ["firing 60", "resolved 60", "firing 70"])
    rig.stop()
