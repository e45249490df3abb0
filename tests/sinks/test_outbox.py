"""Laws of the outbox: nothing is lost, nothing overtakes, whatever crashes."""

from __future__ import annotations

import math
import sqlite3
import tempfile
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.alert_history import AlertHistory
from sinks.outbox import Health, Outbox
from sinks.outbox_queue import _COMPANY, _FRESH, _HEAD, MAX_EVENTS_PER_SEND, STALE_NS
from telemetry import AlertEvent, AlertState, Counters, ManualClock, RetryLater, TocsinError

T0 = 1_700_000_000_000_000_000
S = 10**9
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # only as the parent of directories made safely
MEMORY = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
"""Property tests open hundreds of files, and fsync is not what they test."""


def event(device: str = "d1", at: int = 0, *, resolved: bool = False, alertname: str = "Hot", **more) -> AlertEvent:
    """An alert that fires or is resolved `at` seconds after T0."""
    fields = {
        "rule": f"g/{alertname}",
        "labels": (("alertname", alertname), ("device", device)),
        "state": AlertState.RESOLVED if resolved else AlertState.FIRING,
        "value": 81.5,
        "starts_at": T0 + (0 if resolved else at * S),
        "ends_at": T0 + at * S if resolved else 0,
        "detected_at": T0 + at * S + 5,
        "annotations": (("summary", "it is hot"),),
        **more,
    }
    return AlertEvent(**fields)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(T0)


@pytest.fixture
def open_outbox(tmp_path, clock):
    opened = []

    def make(receivers=("ops",), **more) -> Outbox:
        opened.append(Outbox(tmp_path / "alerts.db", receivers, **{"clock": clock, **more}))
        return opened[-1]

    yield make
    for outbox in opened:
        outbox.close()


def drain(outbox: Outbox, receiver: str = "ops") -> list[AlertEvent]:
    told = []
    while (send := outbox.take(receiver)) is not None:
        told += send.events
        outbox.delivered(send)
    return told


ALERTS = [("Hot", "d1"), ("Hot", "d2"), ("Hot", "d3"), ("Wet", "d1"), ("Wet", "d2")]
actions = st.one_of(
    st.tuples(st.just("publish"), st.lists(st.sampled_from(ALERTS), max_size=6)),
    st.tuples(st.sampled_from(["delivered", "postpone", "rejected", "crash", "wait", "outage", "crash while sending"])),
)


class Model:
    """What must be true of an outbox with one receiver, kept in plain lists."""

    def __init__(self, path: Path) -> None:
        self.path, self.clock = path, ManualClock(T0)
        self.outbox = Outbox(path, ["ops"], clock=self.clock)
        self.published: list[AlertEvent] = []
        self.done: dict[str, str] = {}
        self.company: dict[str, tuple[str, ...]] = {}
        self.tried: set[str] = set()

    def publish(self, alerts: list[tuple[str, str]]) -> None:
        new: list[AlertEvent] = []
        for name, device in alerts:
            before = sum(e.labels == event(device, alertname=name).labels for e in self.published + new)
            new.append(event(device, before, resolved=before % 2 == 1, alertname=name))
        assert self.outbox.publish(new + self.published[-2:], offset=1) == new
        self.published += new

    def crash(self) -> None:
        self.outbox.close()
        self.outbox = Outbox(self.path, ["ops"], clock=self.clock)

    def take(self):
        send = self.outbox.take("ops")
        if send is None:
            return None
        ids = tuple(e.id for e in send.events)
        assert 0 < len(ids) <= MAX_EVENTS_PER_SEND
        assert len({dict(e.labels)["alertname"] for e in send.events}) == 1
        for i, e in enumerate(send.events):
            before = [o for o in send.events[:i] if o.fingerprint == e.fingerprint]
            assert all(self.clock.now() - o.detected_at >= STALE_NS for o in before), "it could have gone alone"
            assert e.id not in self.done, "it was told already"
            assert self.company.get(e.id, ids) == ids, "a repetition has other events"
            earlier = [o for o in self.published[: self.published.index(e)] if o.fingerprint == e.fingerprint]
            assert all(o.id in self.done or o in before for o in earlier), "it overtakes"
        assert (send.attempts > 1) == any(i in self.tried for i in ids)
        self.company.update((i, ids) for i in ids)
        self.tried.update(ids)
        return send

    def settle(self, send, how: str) -> None:
        ids = [e.id for e in send.events]
        if how == "delivered":
            self.outbox.delivered(send)
            self.done.update((i, "sent") for i in ids)
        elif how == "postpone":
            self.outbox.postpone(send, until=self.clock.now() + 30 * S, error="down")
        elif how == "rejected" and len(ids) > 1:
            self.outbox.split(send, error="no")
            self.company.update((i, (i,)) for i in ids)
        elif how == "rejected":
            self.outbox.bury(send, error="no")
            self.done[ids[0]] = "dead"

    def check(self) -> None:
        latest = {e.fingerprint: e for e in self.published}
        firing = {e.id for e in latest.values() if e.state is AlertState.FIRING}
        assert {e.id for e in self.outbox.firing()} == firing
        assert self.outbox.pending("ops") == len(self.published) - len(self.done)


@settings(max_examples=80)
@given(st.lists(actions, max_size=40))
def test_every_event_is_delivered_in_the_order_of_its_alert_over_any_crashes(script):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        model = Model(Path(folder) / "alerts.db")
        for action, *rest in script:
            if action == "publish":
                model.publish(rest[0])
            elif action in ("wait", "outage"):
                model.clock.advance(31 if action == "wait" else 400)
            elif action != "crash" and (send := model.take()) is not None:
                model.settle(send, action)
            if action.startswith("crash"):
                model.crash()
            model.check()
        model.clock.advance(31)
        while (send := model.take()) is not None:
            model.settle(send, "delivered")

        assert set(model.done) == {e.id for e in model.published}
        assert model.outbox.recent(limit=10_000) == sorted(model.published, key=lambda e: e.detected_at)
        dead = {i for i, how in model.done.items() if how == "dead"}
        assert {d.event.id for d in model.outbox.dead()} == dead
        model.outbox.close()


text = st.text(max_size=10)
pairs = st.dictionaries(text, text, max_size=3).map(lambda d: tuple(sorted(d.items())))


@given(
    st.builds(
        AlertEvent,
        rule=text,
        labels=pairs,
        state=st.sampled_from(AlertState),
        value=st.floats(allow_nan=False),
        starts_at=st.integers(-(2**62), 2**62),
        ends_at=st.integers(-(2**62), 2**62),
        detected_at=st.integers(0, 2**62),
        annotations=pairs,
    )
)
def test_an_event_comes_back_as_it_was(it):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        outbox = Outbox(Path(folder) / "alerts.db")
        outbox.publish([it], offset=0)
        assert outbox.recent() == [it]
        outbox.close()


def test_nan_comes_back_as_nan(open_outbox):
    outbox = open_outbox()
    outbox.publish([event(value=math.nan)], offset=0)
    assert math.isnan(outbox.recent()[0].value)


def test_the_offset_of_the_latest_event_is_kept(open_outbox):
    outbox = open_outbox()
    assert outbox.published_to() == 0
    outbox.publish([event(), event("d2")], offset=17)
    outbox.publish([event()], offset=99)  # nothing new
    assert open_outbox().published_to() == 17


def test_publishing_again_after_a_replay_adds_nothing(open_outbox):
    outbox = open_outbox()
    events = [event("d1"), event("d2"), event("d1", 9, resolved=True)]
    assert outbox.publish(events[:2], offset=5) == events[:2]
    assert outbox.publish(events, offset=9) == events[2:]
    assert outbox.publish([events[0], events[0]], offset=9) == []
    assert drain(outbox) == events


def test_what_was_being_sent_when_we_crashed_is_sent_again_as_a_repetition(open_outbox):
    outbox = open_outbox()
    outbox.publish([event("d1"), event("d2")], offset=1)
    first = outbox.take("ops")
    outbox.close()
    outbox = open_outbox()
    outbox.publish([event("d3")], offset=2)
    again = outbox.take("ops")

    assert first.attempts == 1
    assert again == replace(first, attempts=2)


def test_a_resolve_waits_for_the_message_after_its_firing(open_outbox):
    outbox = open_outbox()
    outbox.publish([event("d1"), event("d2"), event("d1", 9, resolved=True), event("d1", 20)], offset=1)
    sends = []
    while (send := outbox.take("ops")) is not None:
        sends.append([(dict(e.labels)["device"], e.state.value) for e in send.events])
        outbox.delivered(send)
    assert sends == [[("d1", "firing"), ("d2", "firing")], [("d1", "resolved")], [("d1", "firing")]]


def test_after_an_outage_the_whole_past_of_an_alert_is_one_message(open_outbox, clock):
    outbox = open_outbox()
    outbox.publish([event("d1"), event("d2"), event("d1", 9, resolved=True)], offset=1)
    clock.advance(300)
    outbox.publish([event("d1", 300), event("d1", 310, resolved=True)], offset=2)
    clock.advance(10)
    sends = []
    while (send := outbox.take("ops")) is not None:
        sends.append([(dict(e.labels)["device"], e.state.value) for e in send.events])
        outbox.delivered(send)
    news = [("d1", "firing"), ("d2", "firing"), ("d1", "resolved"), ("d1", "firing")]
    assert sends == [news, [("d1", "resolved")]], "what is new comes alone, as always"


def test_an_event_that_is_not_taken_holds_up_its_own_alert_and_no_other(open_outbox, clock):
    outbox = open_outbox()
    outbox.publish([event("d1")], offset=1)
    outbox.postpone(outbox.take("ops"), until=T0 + 60 * S, error="500")
    outbox.publish([event("d1", 9, resolved=True), event("d2"), event("d3", alertname="Wet")], offset=2)
    assert drain(outbox) == [event("d2"), event("d3", alertname="Wet")]
    assert outbox.next_at("ops") == T0 + 60 * S, "or we would ask again and again"
    clock.advance(60)
    assert drain(outbox) == [event("d1"), event("d1", 9, resolved=True)]


def test_the_first_alert_of_a_message_is_set_apart_with_its_whole_past(open_outbox, clock):
    outbox = open_outbox()
    outbox.publish([event("d1"), event("d2"), event("d1", 9, resolved=True), event("d2", 9, resolved=True)], offset=1)
    clock.advance(400)
    all_of_them = outbox.take("ops")
    assert len(all_of_them.events) == 4
    outbox.postpone(all_of_them, until=0, error="500", apart=True)
    first = outbox.take("ops")
    outbox.postpone(first, until=clock.now() + S, error="500")
    second = outbox.take("ops")
    assert first.events == (event("d1"), event("d1", 9, resolved=True))
    assert second.events == (event("d2"), event("d2", 9, resolved=True))


def test_of_events_that_fail_none_is_tried_again_before_the_others_had_their_turn(open_outbox, clock):
    outbox = open_outbox()
    outbox.publish([event(alertname=name) for name in "abc"], offset=1)
    turns = []
    for _ in range(9):
        send = outbox.take("ops")
        turns.append(dict(send.events[0].labels)["alertname"])
        outbox.postpone(send, until=clock.now() + S, error="500")
        clock.advance(1)
    assert turns == list("abcabcabc")


def test_a_pause_is_for_all_events_of_a_receiver_and_survives_a_restart(open_outbox, clock):
    outbox = open_outbox(["ops", "log"])
    outbox.publish([event("d1")], offset=1)
    outbox.postpone(outbox.take("ops"), until=T0 + S, error="429", health=Health(3, T0 + 600 * S, 7))
    outbox.close()
    outbox = open_outbox(["ops", "log"])
    outbox.publish([event("d2")], offset=2)
    clock.advance(599)
    assert outbox.health("ops") == Health(3, T0 + 600 * S, 7)
    assert (outbox.take("ops"), outbox.next_at("ops")) == (None, T0 + 600 * S)
    assert outbox.take("log") is not None
    clock.advance(1)
    assert drain(outbox) == [event("d2"), event("d1")]
    assert outbox.health("ops") == Health(0, 0, clock.now())


@pytest.mark.parametrize("restarted", [False, True])
def test_nothing_waits_for_a_time_that_only_a_wrong_clock_has_shown(open_outbox, clock, restarted: bool):
    """An hour ahead, and right again: retries are due within the hour, and alerts shall not wait for it."""
    outbox = open_outbox()
    outbox.publish([event("d1")], offset=1)
    outbox.postpone(outbox.take("ops"), until=clock.now() + S, error="503", health=Health(1, 0, 0))
    clock.advance(3600)
    outbox.postpone(outbox.take("ops"), until=clock.now() + S, error="503", health=Health(2, clock.now() + S, 0))
    clock.advance(-3600)
    if restarted:
        outbox.close()
        outbox = open_outbox()
    assert drain(outbox) == [event("d1")]
    assert outbox.health("ops") == Health(0, 0, clock.now())


def test_a_hundred_thousand_waiting_events_do_not_make_each_step_slow(tmp_path):
    """By the plan of the queries and not by the clock: no step looks at all that waits."""
    outbox = Outbox(tmp_path / "alerts.db", ["ops"])
    for query, values in ((_HEAD, ("ops",)), (_COMPANY, ("ops", 0, "x")), (_FRESH, ("ops", 1))):
        plan = [row[3] for row in outbox._db.execute("EXPLAIN QUERY PLAN " + query, values)]
        assert not [step for step in plan if step.startswith("SCAN") or "TEMP B-TREE" in step], plan
        assert "deliveries_due (receiver=?" in plan[0], plan
        assert query is _COMPANY or [step for step in plan if "in_order (receiver=? AND alert=?" in step], plan
    outbox.close()


def test_a_file_of_the_first_version_goes_on(tmp_path, open_outbox):
    outbox = open_outbox()
    outbox.publish([event("d1"), event("d1", 9, resolved=True), event("d2")], offset=1)
    outbox.close()
    db = sqlite3.connect(tmp_path / "alerts.db", isolation_level=None)
    for index in ("deliveries_due", "deliveries_in_order"):
        db.execute(f"DROP INDEX {index}")
    for column in ("tried_at", "alert"):
        db.execute(f"ALTER TABLE deliveries DROP COLUMN {column}")
    for column in ("failures", "paused_until", "worked_at"):
        db.execute(f"ALTER TABLE receivers DROP COLUMN {column}")
    db.close()
    outbox = open_outbox()
    send = outbox.take("ops")
    assert send.events == (event("d1"), event("d2"))
    outbox.delivered(send)
    assert drain(outbox) == [event("d1", 9, resolved=True)]


def test_a_storm_is_cut_into_messages_of_a_hundred(open_outbox):
    outbox = open_outbox()
    outbox.publish([event(f"d{i}") for i in range(1250)], offset=1)
    sizes = []
    while (send := outbox.take("ops")) is not None:
        sizes.append(len(send.events))
        outbox.delivered(send)
    assert sizes == [100] * 12 + [50]


def test_receivers_have_nothing_to_do_with_each_other(open_outbox):
    outbox = open_outbox(["ops", "log"])
    outbox.publish([event()], offset=1)
    outbox.postpone(outbox.take("ops"), until=T0 + 60 * S, error="down")
    assert drain(outbox, "log") == [event()]
    assert outbox.take("ops") is None
    assert outbox.next_at("ops") == T0 + 60 * S
    assert outbox.backlog("ops").last_error == "down"
    assert (outbox.backlog("log").sent, outbox.next_at("log")) == (1, None)


def test_a_wait_survives_a_restart_but_not_a_clock_that_was_set_back(open_outbox, clock):
    outbox = open_outbox()
    outbox.publish([event()], offset=1)
    outbox.postpone(outbox.take("ops"), until=T0 + 60 * S, error="down")
    outbox.close()
    outbox = open_outbox()
    assert outbox.take("ops") is None
    clock.advance(60)
    assert outbox.take("ops").attempts == 2
    clock.advance(-365 * 86_400)
    assert outbox.take("ops").attempts == 3


def test_a_new_receiver_is_first_told_what_fires_now(open_outbox):
    outbox = open_outbox()
    outbox.publish([event("d1"), event("d2"), event("d1", 9, resolved=True)], offset=1)
    outbox.close()
    outbox = open_outbox(["ops", "chat"])
    outbox.publish([event("d3")], offset=2)
    assert drain(outbox, "chat") == [event("d2"), event("d3")]
    assert len(drain(outbox, "ops")) == 4


def test_what_waits_for_a_receiver_that_is_gone_is_dead_until_it_returns(open_outbox):
    outbox = open_outbox()
    outbox.publish([event()], offset=1)
    outbox.close()
    counters = Counters()
    outbox = open_outbox([], counters=counters)
    assert counters.get("ops.dead", "gone") == 1
    assert [(d.receiver, d.event, d.reason) for d in outbox.dead()] == [
        ("ops", event(), "this receiver is no longer in the configuration")
    ]
    outbox.close()
    assert drain(open_outbox()) == [event()]


def test_the_dead_are_revived_unless_they_are_history(open_outbox):
    outbox = open_outbox()
    outbox.publish([event("d1")], offset=1)
    outbox.bury(outbox.take("ops"), error="400")
    outbox.publish([event("d3")], offset=1)
    outbox.bury(outbox.take("ops"), error="400")
    outbox.publish([event("d3", 8, resolved=True)], offset=1)
    outbox.postpone(outbox.take("ops"), until=T0 + 9 * S, error="500")  # it may have been heard
    outbox.publish([event("d2")], offset=2)
    outbox.bury(outbox.take("ops"), error="400")
    outbox.publish([event("d2", 9, resolved=True)], offset=3)
    drain(outbox)
    bell = threading.Event()
    outbox.ring(bell)

    assert drain(outbox) == []
    assert outbox.revive("ops") == 1
    assert bell.is_set()
    assert drain(outbox) == [event("d1")]


def test_beyond_the_limit_the_oldest_become_dead(open_outbox):
    counters = Counters()
    outbox = open_outbox(max_pending=3, counters=counters)
    outbox.publish([event(f"d{i}") for i in range(5)], offset=1)
    assert counters.get("ops.dead", "too_many") == 2
    assert [d.event for d in outbox.dead()] == [event("d0"), event("d1")]
    assert outbox.dead()[0].reason == "more than 3 events were waiting"
    assert drain(outbox) == [event("d2"), event("d3"), event("d4")]


def test_history_is_forgotten_after_its_days_unless_it_still_matters(open_outbox, clock):
    outbox = open_outbox()
    over = [event("over"), event("over", 1, resolved=True)]
    fires = event("fires")
    outbox.publish([*over, fires], offset=1)
    drain(outbox)
    waits = [event("waits"), event("waits", 1, resolved=True)]
    outbox.publish(waits, offset=2)
    clock.advance(29 * 86_400)
    outbox.close()
    outbox = open_outbox()
    assert len(outbox.recent()) == 5
    clock.advance(2 * 86_400)
    outbox.close()
    outbox = open_outbox()

    assert sorted(outbox.recent(), key=str) == sorted([fires, *waits], key=str)
    assert outbox.firing() == [fires]
    assert drain(outbox) == waits


def test_others_may_look_while_it_writes(open_outbox, tmp_path):
    outbox = open_outbox()
    outbox.publish([event("d1")], offset=1)
    history = AlertHistory(tmp_path / "alerts.db")
    assert history.firing() == [event("d1")]
    outbox.publish([event("d2", 3)], offset=2)
    assert history.recent(since=T0 + 3 * S) == [event("d2", 3)]
    assert history.recent(limit=1) == [event("d2", 3)]
    assert history.receivers() == ["ops"]
    assert history.backlog("ops").pending == 2
    history.close()


def test_a_locked_file_is_tried_again_and_nothing_is_half_done(open_outbox, tmp_path):
    outbox = open_outbox()
    outbox._db.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(tmp_path / "alerts.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(RetryLater, match="outbox"):
        outbox.publish([event()], offset=1)
    other.execute("ROLLBACK")
    other.close()
    assert outbox.publish([event()], offset=1) == [event()]


def test_what_cannot_be_opened_is_said_in_one_line(tmp_path):
    (tmp_path / "alerts.db").write_bytes(b"no database" * 200)
    with pytest.raises(TocsinError, match="move the file away"):
        Outbox(tmp_path / "alerts.db")
    with pytest.raises(TocsinError, match="cannot open"):
        Outbox(tmp_path / "no such directory" / "alerts.db")
    with pytest.raises(TocsinError, match="has tocsin run with this data directory"):
        AlertHistory(tmp_path / "none.db")
