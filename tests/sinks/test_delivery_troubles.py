"""Laws of delivery when the far side fails: each event arrives or is dead with a reason; only its own alert waits."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.config import WebhookConfig
from sinks.delivery import Delivery, DeliveryState
from sinks.outbox import Outbox
from sinks.sink import Receiver
from sinks.webhook import WebhookReceiver
from telemetry import AlertEvent, AlertState, Counters, ManualClock, Rejected, RetryLater
from tests.sinks.far_side import NO_ANSWER, Answer, FarSide, Request, far_side

T0 = 1_700_000_000_000_000_000
S = 10**9
HOUR_S = 3600
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # only as the parent of directories made safely
MEMORY = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None


def event(device: str, at_s: int = 0, *, resolved: bool = False, alertname: str = "Hot") -> AlertEvent:
    """Detected `at_s` seconds after T0."""
    return AlertEvent(
        rule=f"g/{alertname}",
        labels=(("alertname", alertname), ("device", device)),
        state=AlertState.RESOLVED if resolved else AlertState.FIRING,
        value=81.5,
        starts_at=T0,
        ends_at=T0 + at_s * S if resolved else 0,
        detected_at=T0 + at_s * S,
    )


class Killed(BaseException):
    """kill -9 at this point."""


@dataclass
class FakeReceiver:
    """Hears, or fails as the next word of the script says; some alerts it never takes."""

    name: str = "ops"
    script: list[str] = field(default_factory=list)
    down: bool = False
    poison: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    heard: list[tuple[str, ...]] = field(default_factory=list)
    """Ids of the events of each message that arrived, whether or not we learnt of it."""
    again: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    """Ids of each message that was sent, and whether it was marked as a repetition."""

    def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
        ids = tuple(e.id for e in events)
        self.again.append((ids, repeat))
        devices = {dict(e.labels)["device"] for e in events}
        fault = self.script.pop(0) if self.script else ""
        if fault == "killed before":
            raise Killed
        if self.down or fault == "down":
            raise RetryLater("ops does not answer")
        if devices & self.poison:
            raise RetryLater("ops answered 500: cannot parse it")
        if devices & self.refused:
            raise Rejected("ops answered 400: no such team")
        self.heard.append(ids)
        if fault == "answer lost":
            raise RetryLater("ops broke the connection off")
        if fault == "killed after":
            raise Killed
        if fault == "busy":
            raise RetryLater("ops answered 429", 120.0)
        return True

    def close(self) -> None:
        pass


class Rig:
    """A delivery on a clock of its own; a new life is what follows a kill."""

    def __init__(self, directory: Path, receiver: Receiver, **more: int) -> None:
        self.receiver, self.more, self.lives = receiver, more, 0
        self.clock, self.counters = ManualClock(T0), Counters()
        self.path = directory / "alerts.db"
        self._open()

    def _open(self) -> None:
        self.box = Outbox(self.path, ["ops"], clock=self.clock, counters=self.counters)
        self.delivery = Delivery(self.receiver, self.box, self.counters, clock=self.clock, **self.more)

    def kill(self) -> None:
        """The files as the dead process left them, without what closing would tidy up."""
        self.lives += 1
        copy = self.path.parent / f"life-{self.lives}"
        copy.mkdir()
        for file in self.path.parent.glob("alerts.db*"):
            shutil.copy(file, copy)
        self.box.close()
        self.path = copy / "alerts.db"
        self._open()

    def publish(self, *events: AlertEvent) -> None:
        self.box.publish(events, offset=1)

    def step(self) -> float:
        try:
            return self.delivery._advance()
        except Killed:
            self.kill()
            return 0.0

    def run(self, seconds: float) -> None:
        """For so long, or until nothing waits."""
        end = self.clock.now() + round(seconds * S)
        while self.clock.now() < end and self.box.pending("ops"):
            wait_s = self.step()
            due_in_s = ((self.box.next_at("ops") or 0) - self.clock.now()) / S
            left_s = (end - self.clock.now()) / S
            self.clock.advance(min(max(wait_s, due_in_s), left_s) if wait_s else 0)

    def until_all_is_told_or_given_up(self) -> None:
        """Others come and go meanwhile, which shows that the receiver works."""
        for hour in range(40):
            if not self.box.pending("ops"):
                break
            self.publish(event(f"good{hour}", int((self.clock.now() - T0) // S)))
            self.run(70)
            self.clock.advance(HOUR_S)


@pytest.fixture
def rig():
    """In memory, since days of a clock of our own are thousands of commits, and fsync is not what is tested."""
    made = []
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:

        def make(receiver: Receiver, **more: int) -> Rig:
            made.append(Rig(Path(folder), receiver, **more))
            return made[-1]

        yield make
        for it in made:
            it.box.close()


words = st.sampled_from(["", "", "down", "answer lost", "killed before", "killed after", "busy"])
devices = st.sampled_from(["d0", "d1", "d2", "bad", "refused"])
acts = st.one_of(
    st.tuples(st.just("publish"), st.lists(st.tuples(devices, st.sampled_from(["Hot", "Wet"])), max_size=5)),
    st.tuples(st.sampled_from(["step", "step", "step", "kill", "minute", "hour"])),
)


@settings(max_examples=60)
@given(st.lists(acts, max_size=30), st.lists(words, max_size=30))
def test_over_any_outages_and_kills_each_event_arrives_in_order_or_is_dead_with_a_reason(script, faults):
    receiver = FakeReceiver(script=faults, poison=frozenset({"bad"}), refused=frozenset({"refused"}))
    published: list[AlertEvent] = []
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        rig = Rig(Path(folder), receiver, give_up_after=HOUR_S * S)
        for act, *rest in script:
            if act == "publish":
                for device, name in rest[0]:
                    now_s = (rig.clock.now() - T0) // S
                    nth = sum(e.labels == event(device, alertname=name).labels for e in published)
                    published.append(event(device, now_s + nth, resolved=nth % 2 == 1, alertname=name))
                    rig.publish(published[-1])
            elif act == "kill":
                rig.kill()
            elif act == "step":
                rig.step()
            else:
                rig.clock.advance(60 if act == "minute" else HOUR_S)
        receiver.script.clear()
        rig.until_all_is_told_or_given_up()
        dead = {d.event.id: d.reason for d in rig.box.dead()}
        assert rig.box.pending("ops") == 0
        rig.box.close()

    heard = [i for ids in receiver.heard for i in ids]
    for e in published:
        device = dict(e.labels)["device"]
        assert (e.id in heard) == (device not in ("bad", "refused"))
        assert (e.id in dead) == (e.id not in heard)
    assert {r.split(": ")[-1] for r in dead.values()} <= {"cannot parse it", "no such team"}
    assert_order_is_kept(published, heard)
    assert_repeats_are_marked(receiver)


def assert_order_is_kept(published: list[AlertEvent], heard: list[str]) -> None:
    for labels in {e.labels for e in published}:
        order = [e.id for e in published if e.labels == labels]
        places = [order.index(i) for i in heard if i in order]
        assert places == sorted(places), "an event of the same alert was overtaken"


def assert_repeats_are_marked(receiver: FakeReceiver) -> None:
    tried: set[str] = set()
    for ids, repeat in receiver.again:
        assert repeat == bool(tried & set(ids))
        tried |= set(ids)


def test_an_event_that_gets_500_for_ever_delays_no_other_alert(rig):
    receiver = FakeReceiver(poison=frozenset({"bad"}))
    it = rig(receiver)
    it.publish(event("bad"), event("bad", 1, resolved=True))
    it.run(600)
    waits = []
    for i in range(100):
        it.publish(event(f"d{i}", alertname=f"A{i}"))
        began = it.clock.now()
        while len(receiver.heard) <= i:
            it.clock.advance(it.step())
        waits.append((it.clock.now() - began) / S)
        it.clock.advance(7)
    assert max(waits) <= 10
    assert sum(waits) / len(waits) < 1
    assert (it.delivery.status.state, it.box.pending("ops")) == (DeliveryState.RETRYING, 2)
    assert "cannot parse it" in it.delivery.status.last_error, "its trouble stays visible"


@pytest.mark.parametrize("bad", [{"d0"}, {"d1"}, {"d2"}, {"d0", "d1"}, {"d0", "d2"}, {"d1", "d2"}])
def test_what_was_to_be_told_in_one_message_with_it_gets_through(rig, bad):
    receiver = FakeReceiver(poison=frozenset(bad))
    it = rig(receiver)
    it.publish(event("d0"), event("d1"), event("d2"), event("d1", 1, resolved=True), event("d0", 1, resolved=True))
    it.run(120)
    good = {"d0": 2, "d1": 2, "d2": 1}
    assert sum(map(len, receiver.heard)) == sum(n for device, n in good.items() if device not in bad)


def test_many_events_that_get_500_for_ever_starve_no_other(rig):
    receiver = FakeReceiver(poison=frozenset({"bad"}))
    it = rig(receiver)
    it.publish(*[event("bad", alertname=f"A{i}") for i in range(20)])
    it.run(900)
    it.publish(event("d1", alertname="B"))
    began = it.clock.now()
    while not receiver.heard:
        it.clock.advance(it.step())
    assert (it.clock.now() - began) / S <= 10


def test_by_default_a_day_passes_before_anything_is_given_up():
    assert WebhookConfig(url="http://x/").give_up_after == 24 * HOUR_S * S


def test_an_event_that_fails_for_long_while_others_arrive_is_dead_with_the_reason_and_counted(rig, caplog):
    receiver = FakeReceiver(poison=frozenset({"bad"}))
    it = rig(receiver, give_up_after=HOUR_S * S)
    it.publish(event("bad"), event("d"))
    for minute in range(0, 58, 2):
        it.publish(event(f"d{minute}"))
        it.run(120)
    assert it.box.dead() == []
    for minute in range(58, 66, 2):
        it.publish(event(f"d{minute}"))
        it.run(120)
    (dead,) = it.box.dead()
    assert dead.event == event("bad")
    assert "given up after" in dead.reason
    assert dead.reason.endswith("ops answered 500: cannot parse it")
    assert it.counters.get("ops.dead", "gave_up") == 1
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        f"ops: alert g/Hot is lost to it: {dead.reason}"
    ]


def test_a_receiver_that_is_down_for_longer_than_that_loses_nothing(rig):
    receiver = FakeReceiver(down=True)
    it = rig(receiver, give_up_after=HOUR_S * S)
    it.publish(event("d1"), event("d2"))
    it.run(3 * HOUR_S)
    assert it.box.pending("ops") == 2
    receiver.down = False
    it.run(61)
    assert {i for ids in receiver.heard for i in ids} == {event("d1").id, event("d2").id}
    assert (it.box.pending("ops"), it.box.dead()) == (0, [])


def test_an_outage_after_a_failure_of_its_own_gives_no_event_up(rig):
    receiver = FakeReceiver(poison=frozenset({"bad"}))
    it = rig(receiver, give_up_after=HOUR_S * S)
    it.publish(event("bad"))
    it.run(5)
    it.publish(event("d1"))
    it.run(60)
    receiver.down = True
    it.run(3 * HOUR_S)
    assert len(receiver.heard) == 1
    assert (it.box.pending("ops"), it.box.dead()) == (1, [])


def test_of_messages_without_contact_nobody_learns_that_a_receiver_works(rig):
    """A receiver that is not told of resolves "takes" them while it is down; nothing may be given up for it."""

    class FiringOnly(FakeReceiver):
        def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
            if all(e.state is AlertState.RESOLVED for e in events):
                return False
            return super().send(events, repeat=repeat)

    it = rig(FiringOnly(down=True), give_up_after=HOUR_S * S)
    it.publish(event("d1"))
    for minute in range(0, 180, 10):
        it.publish(event("d2", minute, resolved=True, alertname=f"A{minute}"))
        it.run(600)
    assert it.box.dead() == []
    assert it.delivery.status.state is DeliveryState.RETRYING


def test_a_receiver_that_is_down_is_asked_seldom_however_much_waits(rig):
    receiver = FakeReceiver(down=True)
    it = rig(receiver)
    it.publish(*[event(f"d{i}", alertname=f"A{i}") for i in range(500)])
    it.run(HOUR_S)
    assert HOUR_S / 10 <= len(receiver.again) <= HOUR_S / 5 + 10


def test_retry_after_holds_for_all_that_waits_and_over_a_restart(rig):
    receiver = FakeReceiver(script=["busy"])
    it = rig(receiver)
    it.publish(event("d1"))
    it.step()
    it.kill()
    it.publish(event("d2", alertname="Wet"))
    it.clock.advance(119)
    it.step()
    assert len(receiver.again) == 1
    it.clock.advance(1)
    it.run(60)
    assert [len(ids) for ids, _ in receiver.again] == [1, 1, 1]


def test_after_an_outage_what_is_over_comes_in_one_message_and_pages_nobody(tmp_path):
    """Three hundred alerts came and went while the receiver was down; one still fires."""
    with far_side() as server:
        server.answer = lambda request: Answer(503)
        it = Rig(tmp_path, webhook(server))
        it.publish(*[event(f"d{i}") for i in range(300)])
        it.publish(*[event(f"d{i}", 60, resolved=True) for i in range(299)])
        it.run(900)
        told = len(server.requests)
        server.answer = lambda request: Answer(200)
        it.run(120)
        posts = [request.json() for request in server.requests[told:]]
        it.box.close()
    assert len(posts) <= 15
    alerts = [a for post in posts for a in post["alerts"]]
    assert len({a["x_id"] for a in alerts}) == 599, "nothing is left out"
    states = {"d0": ["firing", "resolved"], "d299": ["firing"]}
    for device, expected in states.items():
        assert [a["status"] for a in alerts if a["labels"]["device"] == device] == expected
    first_tries = {a["x_id"] for request in server.requests[:told] for a in request.json()["alerts"]}
    for post in posts:
        fresh = not {a["x_id"] for a in post["alerts"]} & first_tries
        still = any(a["labels"]["device"] == "d299" for a in post["alerts"])
        assert not fresh or still or post["status"] == "resolved"


def webhook(server: FarSide) -> WebhookReceiver:
    fields = {"name": "ops", "url": f"{server.url}/", "allow_private": ["127.0.0.0/8"], "timeout": "2s"}
    return WebhookReceiver(WebhookConfig.model_validate(fields), clock=ManualClock(T0))


@pytest.mark.parametrize("lost", ["killed", "answer lost"])
def test_what_may_have_arrived_is_posted_again_with_the_same_key_and_marked(tmp_path, lost):
    with far_side() as server:
        it = Rig(tmp_path, webhook(server))

        def die(request: Request) -> Answer:
            it.receiver.killed = True  # type: ignore[attr-defined]  # by the test below
            return Answer(200)

        class Dies:
            name = "ops"
            killed = False
            hook = webhook(server)

            def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
                self.hook.send(events, repeat=repeat)
                if self.killed:
                    self.killed = False
                    raise Killed
                return True

            def close(self) -> None:
                pass

        it.receiver = Dies()
        it.kill()
        server.answer = die if lost == "killed" else lambda request: NO_ANSWER
        it.publish(event("d1"), event("d2"))
        it.step()
        server.answer = lambda request: Answer(200)
        it.publish(event("d3"))
        it.run(60)
        it.box.close()
    again = [r for r in server.requests if "d1" in {a["labels"]["device"] for a in r.json()["alerts"]}]
    assert [r.headers.get("X-Tocsin-Repeat") for r in again] == [None, "true"]
    assert len({r.headers["Idempotency-Key"] for r in again}) == 1
    assert again[0].body == again[1].body
    (other,) = (r for r in server.requests if r not in again)
    assert "X-Tocsin-Repeat" not in other.headers
    assert other.headers["Idempotency-Key"] != again[0].headers["Idempotency-Key"]
