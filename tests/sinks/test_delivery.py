"""Laws of delivery: every event reaches its receiver, in order, however often that fails."""

from __future__ import annotations

import io
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.config import LogConfig
from sinks.delivery import Delivery, DeliveryState
from sinks.log import LogReceiver, line_of
from sinks.outbox import Outbox
from telemetry import AlertEvent, AlertState, Counters, ManualClock, Rejected, RetryLater

T0 = 1_700_000_000_000_000_000
S = 10**9
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # only as the parent of directories made safely


def event(device: str = "d1", at: int = 0, *, resolved: bool = False, alertname: str = "Hot") -> AlertEvent:
    return AlertEvent(
        rule=f"g/{alertname}",
        labels=(("alertname", alertname), ("device", device)),
        state=AlertState.RESOLVED if resolved else AlertState.FIRING,
        value=81.5,
        starts_at=T0,
        ends_at=T0 + at * S if resolved else 0,
        detected_at=T0 + at * S,
        annotations=(("summary", "too hot"),),
    )


@dataclass
class FakeReceiver:
    """Fails as the script says, one entry for each send; refuses the poison devices."""

    name: str = "ops"
    script: list[Exception | None] = field(default_factory=list)
    poison: frozenset[str] = frozenset()
    told: list[AlertEvent] = field(default_factory=list)
    sends: list[tuple[tuple[str, ...], bool]] = field(default_factory=list)
    closed: bool = False

    def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
        self.sends.append((tuple(e.id for e in events), repeat))
        fault = self.script.pop(0) if self.script else None
        if fault is not None:
            raise fault
        if any(dict(e.labels)["device"] in self.poison for e in events):
            raise Rejected("the receiver answered 400: bad label")
        self.told += events
        return True

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def outbox(tmp_path):
    box = Outbox(tmp_path / "alerts.db", ["ops", "slow"])
    yield box
    box.close()


def until(condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


def run_to_end(delivery: Delivery, outbox: Outbox, clock: ManualClock) -> None:
    for _ in range(1000):
        wait_s = delivery._advance()
        if not outbox.pending("ops"):
            return
        clock.advance(wait_s)
    pytest.fail("it never ends")


faults = st.lists(
    st.sampled_from([None, RetryLater("503"), RetryLater("429", 90.0), KeyError("a bug")]).map(
        lambda e: e and type(e)(*e.args)
    ),
    max_size=8,
)


@settings(max_examples=50)
@given(faults, st.frozensets(st.sampled_from(["d0", "d1", "d2"]), max_size=2))
def test_every_event_is_told_in_order_or_dead_with_the_reason(script, poison):
    clock, counters = ManualClock(T0), Counters()
    folder = tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)  # fsync is not tested
    box = Outbox(Path(folder.name) / "alerts.db", ["ops"], clock=clock)
    events = [event(f"d{i % 4}", i, resolved=i >= 4, alertname="Hot" if i % 2 else "Wet") for i in range(8)]
    box.publish(events, offset=1)
    receiver = FakeReceiver(script=script, poison=poison)
    run_to_end(Delivery(receiver, box, counters, clock=clock), box, clock)

    assert {e.id for e in receiver.told} == {e.id for e in events if dict(e.labels)["device"] not in poison}
    for device in ("d0", "d1", "d2", "d3"):
        told = [e for e in receiver.told if dict(e.labels)["device"] == device]
        assert told == [e for e in events if e in told], "in order, and each once"
    assert {d.event.id for d in box.dead()} == {e.id for e in events if dict(e.labels)["device"] in poison}
    assert all(d.reason == "the receiver answered 400: bad label" for d in box.dead())
    assert counters.get("ops.sent") == len(receiver.told)
    assert counters.get("ops.dead") == len(box.dead())
    seen: set[str] = set()
    for ids, repeat in receiver.sends:
        assert repeat == bool(seen & set(ids))
        seen.update(ids)
    box.close()
    folder.cleanup()


def test_retry_after_is_honoured_and_the_delay_survives_a_restart(tmp_path):
    clock = ManualClock(T0)
    box = Outbox(tmp_path / "alerts.db", ["ops"], clock=clock)
    box.publish([event()], offset=1)
    receiver = FakeReceiver(script=[RetryLater("busy", 120.0), *[RetryLater("busy")] * 9])
    Delivery(receiver, box, clock=clock)._advance()
    box.close()

    box = Outbox(tmp_path / "alerts.db", ["ops"], clock=clock)
    delivery = Delivery(receiver, box, clock=clock)
    clock.advance(119)
    delivery._advance()
    assert len(receiver.sends) == 1, "asked again before its time"
    clock.advance(1)
    delivery._advance()
    assert len(receiver.sends) == 2
    waits = []
    for _ in range(7):
        waits.append((box.next_at("ops") - clock.now()) / 1e9)
        clock.advance(waits[-1])
        delivery._advance()
    assert all(w / 2 <= wait <= w for wait, w in zip(waits, [2, 4, 8, 16, 32, 60, 60], strict=True)), waits
    box.close()


def test_a_receiver_that_hangs_delays_no_other(outbox):
    release, hangs = threading.Event(), threading.Event()

    class Hangs(FakeReceiver):
        def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
            hangs.set()
            return release.wait(5)

    slow, ops = Delivery(Hangs("slow"), outbox), FakeReceiver()
    quick = Delivery(ops, outbox)
    slow.start()
    quick.start()
    outbox.publish([event()], offset=1)
    assert hangs.wait(5)
    until(lambda: ops.told == [event()])
    assert slow.status.state is DeliveryState.SENDING
    assert not slow.stop(timeout=0.01)
    assert quick.stop()
    release.set()
    assert slow.stop()


def test_a_new_event_wakes_the_thread_and_stop_ends_it_at_once(outbox):
    receiver = FakeReceiver()
    delivery = Delivery(receiver, outbox)
    delivery.start()
    for i in range(20):
        began = time.monotonic()
        outbox.publish([event(f"d{i}")], offset=i)
        until(lambda n=i: len(receiver.told) == n + 1)
        assert time.monotonic() - began < 0.5, "it slept over the bell"
    began = time.monotonic()
    assert delivery.stop()
    assert time.monotonic() - began < 0.5
    assert receiver.closed
    assert delivery.status.state is DeliveryState.STOPPED
    assert delivery.status.sent == 20


def test_stop_is_quick_in_the_middle_of_a_long_wait(outbox):
    delivery = Delivery(FakeReceiver(script=[RetryLater("busy", 3000.0)]), outbox)
    outbox.publish([event()], offset=1)
    delivery.start()
    until(lambda: delivery.status.state is DeliveryState.RETRYING)
    began = time.monotonic()
    assert delivery.stop()
    assert time.monotonic() - began < 0.5
    assert outbox.pending("ops") == 1


def test_a_receiver_that_fails_is_not_well_again_while_it_is_being_asked(tmp_path):
    clock, seen = ManualClock(T0), []

    class Watched(FakeReceiver):
        def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
            seen.append(delivery.status.state)
            return super().send(events, repeat=repeat)

    box = Outbox(tmp_path / "alerts.db", ["ops"], clock=clock)
    delivery = Delivery(Watched(script=[RetryLater("it hangs")] * 3), box, clock=clock)
    box.publish([event()], offset=1)
    run_to_end(delivery, box, clock)
    assert seen == [DeliveryState.SENDING, *[DeliveryState.RETRYING] * 3]
    assert delivery.status.state is DeliveryState.IDLE
    box.close()


def test_an_outage_is_one_log_line_and_the_status_says_why(tmp_path, caplog):
    clock = ManualClock(T0)
    box = Outbox(tmp_path / "alerts.db", ["ops"], clock=clock)
    box.publish([event()], offset=1)
    delivery = Delivery(FakeReceiver(script=[RetryLater("it is down")] * 3), box, clock=clock)
    with caplog.at_level(logging.INFO, "tocsin.sinks"):
        delivery._advance()
        assert (delivery.status.state, delivery.status.last_error) == (DeliveryState.RETRYING, "it is down")
        run_to_end(delivery, box, clock)
    assert [r.getMessage() for r in caplog.records] == [
        "ops: it is down; trying again, no alert is lost",
        "ops: works again",
    ]
    assert (delivery.status.state, delivery.status.last_error) == (DeliveryState.IDLE, "")
    box.close()


def test_what_was_sent_is_not_sent_again_because_the_disk_was_full(tmp_path):
    class Full(Outbox):
        failures = 3

        def delivered(self, send, *, told=True):
            if self.failures:
                self.failures -= 1
                raise RetryLater("cannot write the alerts' outbox: is the disk full?")
            super().delivered(send, told=told)

    clock = ManualClock(T0)
    box = Full(tmp_path / "alerts.db", ["ops"], clock=clock)
    box.publish([event()], offset=1)
    receiver = FakeReceiver()
    run_to_end(Delivery(receiver, box, clock=clock), box, clock)
    assert receiver.told == [event()]
    box.close()


def test_the_log_receiver_writes_one_line_for_each_event_to_stdout():
    stream = io.StringIO()
    LogReceiver(LogConfig(to="stdout"), stream=stream).send([event(), event(at=65, resolved=True)], repeat=False)
    assert stream.getvalue().splitlines() == [
        'FIRING Hot{device="d1"} 81.5 since 2023-11-14T22:13:20Z: too hot',
        'RESOLVED Hot{device="d1"} 81.5 at 2023-11-14T22:14:25Z: too hot',
    ]


def test_the_log_receiver_may_leave_resolves_out(caplog):
    with caplog.at_level(logging.INFO, "tocsin.alerts"):
        LogReceiver(LogConfig(send_resolved=False)).send([event(), event(at=65, resolved=True)], repeat=True)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("WARNING", 'FIRING Hot{device="d1"} 81.5 since 2023-11-14T22:13:20Z: too hot (possibly a repetition)')
    ]


@given(st.text() | st.sampled_from(["a\nFIRING Fake{}", "\x1b[2J", "\u202etxt", "a\u2028b", "\x9b31m", "\r"]))
def test_whatever_a_label_holds_a_line_stays_one_printable_line(value):
    line = line_of(event(value))
    assert line.isprintable()
    assert line.startswith("FIRING Hot{device=")


def test_a_closed_standard_output_is_tried_again():
    stream = io.StringIO()
    stream.close()
    with pytest.raises(RetryLater, match="standard output"):
        LogReceiver(LogConfig(to="stdout"), stream=stream).send([event()], repeat=False)
