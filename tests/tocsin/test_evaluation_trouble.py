"""Laws of evaluation on a disk that cannot be written: nothing dies, nothing is lost, one line tells of it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from ingest.dead_letters import DeadLetters
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.journal import Journal
from ingest.streams import LimitsConfig, StreamConfig
from rules import Engine, load_rules
from sinks.alert_history import AlertHistory
from sinks.outbox import Outbox
from telemetry import AlertEvent, Counters, Cursor, ManualClock, Message, RetryLater, SeriesTable
from tocsin import evaluation
from tocsin.data_dir import DataDir
from tocsin.evaluation import Evaluation

RULES = {"groups": [{"name": "g", "rules": [{"alert": "Hot", "expr": "temperature > 50"}]}]}
S = 10**9


class FullCursor(Cursor):
    """Cannot be saved while `full`."""

    full = True
    attempts = 0

    def save(self, offset: int) -> None:
        self.attempts += 1
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(offset)


class FullOutbox(Outbox):
    """Takes nothing while `full`."""

    full = False
    attempts = 0

    def publish(self, events: Sequence[AlertEvent], *, offset: int) -> list[AlertEvent]:
        self.attempts += 1
        if self.full:
            raise RetryLater("the disk is full: free some")
        return super().publish(events, offset=offset)


class Rig:
    """Evaluation over the files of a directory; a new one is what a restart makes."""

    def __init__(self, directory: Path) -> None:
        self.data = DataDir(directory)
        self.data.create()
        self.clock, counters = ManualClock(), Counters()
        self.journal = Journal(self.data.journal)
        table = SeriesTable(self.data.series)
        self.letters = DeadLetters(self.data.dead_letters)
        decoder = Decoder([StreamConfig(name="s", topic="{device}/{metric}")], LimitsConfig(), table, counters=counters)
        self.outbox = FullOutbox(self.data.alerts)
        self.cursor = FullCursor(self.data.cursor("rules"))
        groups, problems = load_rules(RULES, file="rules")
        assert not problems
        self.evaluation = Evaluation(
            Feed(self.journal, decoder, table, dead_letters=self.letters, counters=counters),
            Engine(groups[0].rules, table),
            self.outbox,
            cursor=self.cursor,
            end=self.journal.end,
            snapshot=self.data.snapshot,
            rules="1",
            clock=self.clock,
            counters=counters,
        )
        self.evaluation.recover()
        self.evaluation.start()

    def receive(self, value: float) -> None:
        self.clock.advance(1)
        self.journal.append([Message("d1/temperature", f"{value}".encode(), received=self.clock.now())])

    def stop(self) -> None:
        self.evaluation.stop()
        self.journal.close()
        self.outbox.close()
        self.letters.close()

    @property
    def published(self) -> list[str]:
        history = AlertHistory(self.data.alerts)
        try:
            return [f"{event.state} {event.value:g}" for event in history.recent()]
        finally:
            history.close()


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "_RETRY_SECONDS", 0.02)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_cursor_that_cannot_be_saved_stops_no_alert_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path)
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


def test_killed_between_an_alert_and_the_saving_of_its_cursor_it_tells_nothing_wrong(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.cursor.full = False
    rig.receive(40)
    until(lambda: rig.cursor.offset == 1)
    rig.receive(60)
    until(lambda: rig.published == ["firing 60"])
    rig.stop()
    rig.data.snapshot.unlink()
    rig.cursor.save(1)

    rig = Rig(tmp_path)
    rig.clock.advance(60)
    rig.receive(70)
    rig.receive(30)
    until(lambda: len(rig.published) > 1)
    rig.stop()
    assert rig.published == ["firing 60", "resolved 70"]


def test_stopped_while_alerts_cannot_be_written_it_tells_them_at_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rig = Rig(tmp_path)
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

    rig = Rig(tmp_path)
    until(lambda: rig.published == ["firing 60", "resolved 60", "firing 70"])
    rig.stop()
