"""Laws of the oracle: it finds every single thing that is lost, invented, altered or out of order, and nothing else."""

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from sinks.store import Store
from telemetry import AlertEvent, AlertState, Message
from tests.tocsin.chaos.evidence import Evidence, make_evidence, rewrite_journal
from tocsin.chaos import alert_oracle
from tocsin.chaos.journaled import read_journal, replay
from tocsin.chaos.oracle import LOSSES
from tocsin.chaos.plant import reading
from tocsin.chaos.witness import Told

pytestmark = pytest.mark.slow  # half a minute, together


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return make_evidence(tmp_path_factory.mktemp("evidence"))


@pytest.fixture
def evidence(whole: Evidence, tmp_path: Path) -> Evidence:
    return whole.copy(tmp_path)


def test_of_what_is_whole_nothing_is_said(whole: Evidence):
    findings = whole.judge()
    assert findings.examples == []
    assert findings.losses == 0
    assert findings.counts["acknowledged"] == findings.counts["journaled"] == len(whole.witness.sent) > 1000
    assert findings.counts["alerts_expected"] > 50
    assert findings.counts["duplicates"] > 10


def drop_message(evidence: Evidence) -> None:
    rewrite_journal(evidence, lambda run: run[:-1] if len(run) > 50 else run)


def alter_message(evidence: Evidence) -> None:
    def change(run: list[Message]) -> list[Message]:
        altered = run[0].payload.replace(b'"pressure":3', b'"pressure":4').replace(b'"pressure":2', b'"pressure":4')
        return [dataclasses.replace(run[0], payload=altered), *run[1:]]

    rewrite_journal(evidence, change)


def add_message(evidence: Evidence) -> None:
    stranger = Message("sensors/ams/pump-0001/telemetry", b'{"ts":1,"temperature":1,"pressure":1}', qos=1, received=1)
    rewrite_journal(evidence, lambda run: [*run, dataclasses.replace(stranger, received=run[-1].received)])


def swap_messages(evidence: Evidence) -> None:
    def change(run: list[Message]) -> list[Message]:
        [a, b, *_] = [n for n, m in enumerate(run) if m.topic == run[0].topic and reading(m.payload)]
        run[a], run[b] = run[b], run[a]
        return run

    rewrite_journal(evidence, change)


def rewrite_store(evidence: Evidence, change: Callable[[int], tuple[slice, float]]) -> None:
    with Store(evidence.data.store, read_only=True) as store:
        rows = store.read_many(list(range(20)))
    evidence.data.store.unlink()
    with Store(evidence.data.store) as store:
        for series, (time, value) in rows.items():
            part, more = change(series)
            ids = (time * 0 + series).astype("int32")
            store.append(ids[part], time[part], value[part] + more)


def drop_row(evidence: Evidence) -> None:
    rewrite_store(evidence, lambda series: (slice(1, None) if series == 3 else slice(None), 0.0))


def alter_row(evidence: Evidence) -> None:
    rewrite_store(evidence, lambda series: (slice(None), 1e-9 if series == 3 else 0.0))


def alert_database(evidence: Evidence, *statements: str) -> None:
    """Each for the number of one event."""
    db = sqlite3.connect(evidence.data.alerts)
    [[seq]] = db.execute("SELECT max(seq) FROM events WHERE rule = 'chaos/Hot'").fetchall()
    for statement in statements:
        assert db.execute(statement, (seq,)).rowcount > 0
    db.commit()
    db.close()


def drop_alert(evidence: Evidence) -> None:
    alert_database(evidence, "DELETE FROM deliveries WHERE seq = ?", "DELETE FROM events WHERE seq = ?")


def add_alert(evidence: Evidence) -> None:
    columns = "rule, annotations, state, value, starts_at, ends_at, detected_at, alertname, fingerprint, journal_offset"
    alert_database(
        evidence,
        f"INSERT INTO events (id, labels, {columns}) "  # noqa: S608  # ours
        f"SELECT 'x', replace(labels, 'pump', 'pomp'), {columns} FROM events WHERE seq = ?",
    )


def alter_alert(evidence: Evidence) -> None:
    alert_database(evidence, "UPDATE events SET value = value + 1 WHERE seq = ?")


def forget_to_tell(evidence: Evidence) -> None:
    evidence.witness.told.pop()


def tell_resolve_first(evidence: Evidence) -> None:
    evidence.witness.told.reverse()


def repeat_unmarked(evidence: Evidence) -> None:
    evidence.witness.posts.append(evidence.witness.posts[0])


def repeat_with_another_key(evidence: Evidence) -> None:
    evidence.witness.posts.append(Told("another key", repeat=True, ids=evidence.witness.posts[0].ids))


def tell_what_never_was(evidence: Evidence) -> None:
    evidence.witness.told.append(Told("key", repeat=False, ids=("nobody",)))


def drop_point(evidence: Evidence) -> None:
    evidence.witness.points.popitem()


def alter_point(evidence: Evidence) -> None:
    points = next(iter(evidence.witness.points.values()))
    points[next(iter(points))] += 1


def add_point(evidence: Evidence) -> None:
    next(iter(evidence.witness.points.values()))[1] = 1.0


def drop_dead_letter(evidence: Evidence) -> None:
    db = sqlite3.connect(evidence.data.dead_letters)
    db.execute("DELETE FROM dead_letters WHERE payload LIKE '{%' AND id = (SELECT min(id) FROM dead_letters)")
    db.execute("DELETE FROM dead_letters WHERE payload NOT LIKE '{%'")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("sabotage", "counts"),
    [
        (drop_message, {"lost"}),
        (alter_message, {"corrupted"}),
        (add_message, {"invented"}),
        (swap_messages, {"reordered"}),
        (drop_row, {"lost"}),
        (alter_row, {"corrupted"}),
        (drop_alert, {"alerts_lost"}),
        (add_alert, {"alerts_invented"}),
        (alter_alert, {"corrupted"}),
        (forget_to_tell, {"alerts_lost"}),
        (tell_resolve_first, {"alerts_reordered"}),
        (repeat_unmarked, {"notifications_unmarked"}),
        (repeat_with_another_key, {"notifications_unmarked"}),
        (tell_what_never_was, {"alerts_invented"}),
        (drop_point, {"lost"}),
        (alter_point, {"corrupted"}),
        (add_point, {"invented"}),
        (drop_dead_letter, {"lost"}),
    ],
)
def test_every_sabotage_is_found(evidence: Evidence, sabotage: Callable[[Evidence], None], counts: set[str]):
    sabotage(evidence)
    findings = evidence.judge()
    assert counts <= {name for name in LOSSES if findings.counts[name]}
    assert findings.losses > 0
    assert any(example.startswith(tuple(counts)) for example in findings.examples)


def test_a_message_that_only_the_broker_has_acknowledged_counts_unless_the_broker_was_killed(evidence: Evidence):
    key = next(key for key in evidence.witness.sent if reading(key[1]))
    rewrite_journal(evidence, lambda run: [m for m in run if (m.topic, m.payload) != key])
    del evidence.witness.acknowledged[key]
    assert any("never acknowledged" in example for example in evidence.judge().examples)
    evidence.witness.note_broker_killed()
    evidence.witness.note_subscribed()
    findings = evidence.judge()
    assert findings.counts["lost_by_broker"] == 1
    assert not [example for example in findings.examples if example.startswith("lost: acknowledged by")]


def test_without_any_event_of_the_engine_all_are_missed_that_are_certain(whole: Evidence):
    journaled = read_journal(whole.data.journal)
    verdict = alert_oracle.check(journaled, [])
    expected = replay(whole.directory / "tocsin.yaml", 1 << 60)
    assert len(expected) * 0.85 < len(verdict.missing) <= len(expected)
    assert {text.split()[0] for text in verdict.missing} == {"Hot", "HotForLong", "HotLately", "SiteHot"}


def altered(event: AlertEvent) -> AlertEvent:
    """The same alert, a little later."""
    if event.rule.endswith("SiteHot"):
        return dataclasses.replace(event, id="", state=opposite(event), ends_at=event.starts_at + 1)
    if event.state is AlertState.FIRING:
        return dataclasses.replace(event, id="", starts_at=event.starts_at + 1)
    return dataclasses.replace(event, id="", ends_at=event.ends_at + 10**10)


def opposite(event: AlertEvent) -> AlertState:
    return AlertState.RESOLVED if event.state is AlertState.FIRING else AlertState.FIRING


def test_the_second_oracle_finds_every_event_that_is_gone_or_altered_or_there_twice(whole: Evidence):
    journaled = read_journal(whole.data.journal)
    events = replay(whole.directory / "tocsin.yaml", 1 << 60)
    assert alert_oracle.check(journaled, events) == ([], [])
    certain = len(alert_oracle.check(journaled, []).missing)
    assert certain > 100
    unnoticed = 0
    for event in events[::3]:
        others = [f for f in events if f is not event]
        if alert_oracle.check(journaled, others).missing:
            assert alert_oracle.check(journaled, [*others, altered(event)]) != ([], []), event
        else:
            unnoticed += 1
        if not event.rule.endswith("SiteHot"):
            assert alert_oracle.check(journaled, [*events, event]).unexpected, event
    assert unnoticed <= len(events) - certain
