"""Laws of own alerts: they fire after their time, are told once over any restarts, and end with the trouble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ingest.mqtt import SessionStatus
from sinks.consumer import ConsumerState, ConsumerStatus
from sinks.outbox import Outbox
from telemetry import AlertEvent, AlertState, Counters, RetryLater
from tests.tocsin.evaluation_rig import Rig, until
from tocsin.own_alerts import KEEP, SECOND, OwnAlerts, is_own, journal_unwritable, rule_error, sink_down, troubles

NOW = 1_700_000_000 * SECOND
DOWN = ConsumerStatus("influx", ConsumerState.RETRYING, 0, 5, last_error="connection refused")
SESSION = SessionStatus("connected", NOW)


class Told:
    """Own alerts over an outbox; a new one on the same path is what a restart makes."""

    def __init__(self, path: Path) -> None:
        self.outbox = Outbox(path / "alerts.db", ["log"])
        self.counters = Counters()
        self.own = OwnAlerts(self.outbox, counters=self.counters)
        self.at = 0

    def look(self, *found, seconds: float = 0) -> None:
        self.at += round(seconds * SECOND)
        self.own.look(found, now=NOW + self.at, at=self.at)

    @property
    def events(self) -> list[str]:
        return [f"{e.state} {dict(e.labels)['alertname']}" for e in self.outbox.recent()]


@pytest.fixture
def told(tmp_path: Path):
    told = Told(tmp_path)
    yield told
    told.outbox.close()


def test_it_fires_when_the_trouble_has_held_for_its_time_and_is_resolved_when_it_is_over(told: Told) -> None:
    told.look(sink_down(DOWN))
    told.look(sink_down(replace(DOWN, lag=99)), seconds=59)
    assert told.events == []
    told.look(sink_down(DOWN), seconds=1)
    told.look(sink_down(DOWN), seconds=1)
    assert told.events == ["firing TocsinSinkDown"]
    (alert,) = told.own.firing
    assert dict(alert.labels)["sink"] == "influx"
    assert (alert.starts_at, alert.ends_at) == (NOW + 60 * SECOND, 0)
    told.look(seconds=1)
    told.look(seconds=KEEP / SECOND - 2)
    assert told.events == ["firing TocsinSinkDown"]
    told.look(seconds=1)
    told.look(seconds=1)
    assert told.events == ["firing TocsinSinkDown", "resolved TocsinSinkDown"]
    assert told.own.firing == ()
    assert told.counters.get("alerts.published") == 2


def test_a_trouble_that_ends_before_its_time_is_not_told_and_begins_anew(told: Told) -> None:
    told.look(sink_down(DOWN))
    told.look(seconds=30)
    told.look(sink_down(DOWN), seconds=1)
    told.look(sink_down(DOWN), seconds=59)
    assert told.events == []


def test_a_clock_that_is_set_raises_nothing_and_ends_nothing(told: Told) -> None:
    told.own.look([journal_unwritable("full")], now=NOW, at=0)
    told.own.look([journal_unwritable("full")], now=NOW + 3_600 * SECOND, at=1 * SECOND)
    assert told.events == []
    told.own.look([journal_unwritable("full")], now=NOW, at=5 * SECOND)
    assert told.events == ["firing TocsinJournalUnwritable"]
    told.own.look([], now=NOW + 7_200 * SECOND, at=6 * SECOND)
    assert len(told.own.firing) == 1
    told.own.look([], now=NOW - 7_200 * SECOND, at=6 * SECOND + KEEP)
    (resolved,) = [event for event in told.outbox.recent() if event.state == "resolved"]
    assert resolved.ends_at >= resolved.starts_at


def test_after_a_restart_it_goes_on_firing_or_is_resolved_and_is_not_told_again(tmp_path: Path) -> None:
    first = Told(tmp_path)
    both = journal_unwritable("full"), rule_error("g/a", "many matches")
    first.look(*both)
    first.look(*both, seconds=60)
    assert len(first.events) == 2
    first.outbox.close()
    again = Told(tmp_path)
    again.look(rule_error("g/a", "many matches"))
    again.look(rule_error("g/a", "many matches"), seconds=60)
    assert again.events == [
        "firing TocsinJournalUnwritable",
        "firing TocsinRuleError",
        "resolved TocsinJournalUnwritable",
    ]
    again.outbox.close()


def test_what_cannot_be_written_is_told_as_soon_as_it_can(told: Told) -> None:
    publish = told.outbox.publish

    def full(*events, **more):
        raise RetryLater("the disk is full")

    told.outbox.publish = full  # type: ignore[method-assign]  # a full disk
    told.look(journal_unwritable("full"))
    told.look(journal_unwritable("full"), seconds=5)
    assert (told.own.last_error, told.own.firing) == ("the disk is full", ())
    told.outbox.publish = publish  # type: ignore[method-assign]  # room again
    told.look(journal_unwritable("full"), seconds=1)
    assert (told.own.last_error, told.events) == ("", ["firing TocsinJournalUnwritable"])


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({}, []),
        ({"session": replace(SESSION, state="connecting")}, ["TocsinSessionDown"]),
        ({"session": replace(SESSION, state="refused", last_error="bad password")}, ["TocsinSessionDown"]),
        ({"session": replace(SESSION, state="stopped")}, []),
        (
            {"session": replace(SESSION, state="disconnected"), "journal_error": "no space left"},
            ["TocsinJournalUnwritable"],
        ),
        ({"sinks": [DOWN, replace(DOWN, name="store", state=ConsumerState.RUNNING)]}, ["TocsinSinkDown"]),
        ({"rule_errors": {"g/a": "x", "g/b": "y"}}, ["TocsinRuleError", "TocsinRuleError"]),
    ],
)
def test_each_trouble_has_its_name_and_says_what_to_do(changes, names) -> None:
    calm = {"journal_error": "", "address": "mqtt://b:1883", "session": SESSION, "sinks": [], "rule_errors": {}}
    found = list(troubles(**{**calm, **changes}))
    assert [trouble.name for trouble in found] == names
    assert len({trouble.all_labels for trouble in found}) == len(found)
    assert all(trouble.hold > 0 and trouble.summary and len(trouble.description) > 60 for trouble in found)


OWN = AlertEvent("tocsin:own/TocsinSinkDown", (("alertname", "TocsinSinkDown"),), AlertState.FIRING, 1.0, 5, 0, 5)


def test_rules_that_have_changed_do_not_resolve_own_alerts(tmp_path: Path) -> None:
    rig = Rig(tmp_path, [{"alert": "Hot", "expr": "temperature > 50"}])
    rig.cursor.full = False
    rig.receive(60)
    until(lambda: rig.published == ["firing 60"])
    before = rig.outbox.published_to()
    rig.outbox.publish([OWN], offset=0)
    assert rig.outbox.published_to() == before > 0, "an own alert says nothing about the journal"
    rig.stop()
    rig = Rig(tmp_path, [{"alert": "Other", "expr": "temperature > 90"}])
    until(lambda: "resolved 60" in rig.published)
    rig.stop()
    assert rig.published == ["firing 60", "firing 1", "resolved 60"]
    assert is_own(OWN)
