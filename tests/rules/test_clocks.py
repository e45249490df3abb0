"""Laws of time in the engine: what our clock and those of the devices may do without any harm."""

from __future__ import annotations

import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from telemetry import AlertEvent, Tick
from tests.rules.notation import S, Said, batches, run
from tests.rules.plant import (
    HOUR,
    RULES,
    XA,
    XB,
    YA,
    Stream,
    engine,
    happened,
    messages,
    moment,
    rule,
    said,
    seconds,
    stream_of,
    ticks,
)

# ---- our clock: while tocsin is down, or its clock is set, time stands still


def test_downtime_is_not_silence():
    silent = rule("age(x) > 60")
    stream = [said(0, (XA, 1)), *ticks(1, 11), *ticks(HOUR, HOUR + 40)]

    assert happened(stream, silent) == []
    # 10 s before and 5 s for the gap: 46 s of ticks later it has been silent for 61 s of our up-time.
    assert happened([*stream, *ticks(HOUR + 40, HOUR + 50)], silent) == [("a", "firing", 60.000000001)]


def test_downtime_does_not_count_for_timers():
    hot = rule("x > 0", **{"for": "10m"})
    before: Stream = [said(0, (XA, 1)), said(1, (XA, 1))]
    down = [*before, *ticks(HOUR, HOUR + 20)]

    assert happened(down, hot, staleness=2 * HOUR * S) == []
    assert happened([*down, *ticks(HOUR + 20, HOUR + 620)], hot, staleness=2 * HOUR * S) == [("a", "firing", 600)]


@pytest.mark.parametrize("no_data", ["resolve", "fire"])
def test_downtime_makes_no_series_vanish(no_data: str):
    stream = [said(0, (XA, 1), (XB, 0)), *ticks(HOUR, HOUR + 45), *ticks(2 * HOUR, 2 * HOUR + 4)]

    assert happened(stream, rule("x > 0", no_data=no_data)) == [("a", "firing", 0)]


def test_a_gap_counts_for_five_seconds_at_most():
    age = rule("age(x) >= 10")

    assert happened([said(0, (XA, 1)), Tick(seconds(5)), Tick(seconds(10.1))], age) == []  # 5 + 5: not past the limit
    assert happened([said(0, (XA, 1)), Tick(seconds(5)), Tick(seconds(10)), Tick(seconds(10.1))], age) == [
        ("a", "firing", 10)
    ]


def shifted(item: Said | Tick, by: int) -> Said | Tick:
    """As it would be if it came when our clock showed another time."""
    if isinstance(item, Tick):
        return dataclasses.replace(item, time=item.time + by)
    return dataclasses.replace(item, received=item.received + by)


def undetected(events: list[AlertEvent]) -> list[str]:
    return [repr(dataclasses.replace(e, detected_at=0)) for e in events]


@settings(max_examples=20)
@given(messages, st.integers(1, 20), st.sampled_from([-HOUR, -10]))
def test_setting_our_clock_back_changes_nothing_but_when_things_were_detected(drawn, at, back):
    """As if the time between the two messages had not passed."""
    stream = stream_of(drawn)
    gap = moment(stream[at]) - moment(stream[at - 1]) if at < len(stream) else 0
    still = stream[:at] + [shifted(item, -gap) for item in stream[at:]]

    set_back = stream[:at] + [shifted(item, back * S) for item in stream[at:]]

    one, other = (run(engine(*RULES, staleness=8 * S), batches(s)) for s in (still, set_back))
    assert undetected(one) == undetected(other)


@settings(max_examples=20)
@given(messages, st.integers(1, 20), st.sampled_from([6, HOUR]))
def test_setting_our_clock_forward_is_a_gap_of_five_seconds(drawn, at, forward):
    stream = stream_of(drawn)
    gap = moment(stream[at]) - moment(stream[at - 1]) if at < len(stream) else 0
    five = stream[:at] + [shifted(item, 5 * S - gap) for item in stream[at:]]

    ahead = stream[:at] + [shifted(item, forward * S) for item in stream[at:]]

    one, other = (run(engine(*RULES, staleness=8 * S), batches(s)) for s in (five, ahead))
    assert undetected(one) == undetected(other)


# ---- the device's clock: it may be off by any time


@settings(max_examples=20)
@given(messages, st.sampled_from([-HOUR, -7, 7, HOUR, 1000 * HOUR]))
def test_a_device_whose_clock_is_off_has_the_same_alerts_at_its_own_times(drawn, ahead):
    """And the other devices do not notice."""
    right = run(engine(*RULES, staleness=8 * S), batches(stream_of(drawn)))
    wrong = run(engine(*RULES, staleness=8 * S), batches(stream_of(drawn, ahead={XA: ahead, YA: ahead})))

    for e in right:
        off = ahead * S if dict(e.labels)["device"] == "a" else 0
        at = dataclasses.replace(e, starts_at=e.starts_at + off, ends_at=e.ends_at and e.ends_at + off, id="")
        assert repr(at) in [repr(other) for other in wrong]
    assert len(wrong) == len(right)


@pytest.mark.parametrize("expr", ["x > 0", "x > 0 and on(device) y > 0"])
@pytest.mark.parametrize("cuts", [set(), {1}])
@pytest.mark.parametrize("came", [0, 4], ids=["as it was measured", "as a backlog"])
def test_a_devices_time_goes_on_from_its_newest_reading_however_many_came_in_one_batch(
    expr: str, cuts: set[int], came: int
):
    stream: Stream = [said(came, (XA, 1), (YA, 1), at=0), said(4, (XA, 1)), *ticks(5, 20)]

    (event,) = run(engine(rule(expr, **{"for": "10s"})), batches(stream, cuts))

    assert (event.starts_at, event.detected_at) == (seconds(10), seconds(11))


@pytest.mark.parametrize("expr", ["x > 0", "x > 0 and on(device) y > 0"])
def test_an_alert_never_ends_before_it_began(expr: str):
    """A reading of an instant before the deadline comes when a tick has already shown that the deadline passed."""
    stream = [said(0, (XA, 1), (YA, 1)), *ticks(1, 10), said(10, (XA, 0), at=3)]

    assert happened(stream, rule(expr, **{"for": "5s"})) == [("a", "firing", 5), ("a", "resolved", 5)]


TEN_MINUTES = {"for": "10m"}


def test_one_old_reading_does_not_satisfy_for():
    lone = said(0, (XA, 1), at=-HOUR)
    hot = rule("x > 0", **TEN_MINUTES)

    assert happened([lone, *ticks(1, 600)], hot, staleness=2 * HOUR * S) == []
    assert happened([lone, *ticks(1, 603)], hot, staleness=2 * HOUR * S) == [("a", "firing", -HOUR + 600)]


def test_one_reading_from_the_future_does_not_satisfy_for():
    early = [said(0, (XA, 1)), said(1, (XA, 0)), said(2, (XA, 1), at=HOUR)]

    assert happened([*early, *ticks(3, 600)], rule("x > 0", **TEN_MINUTES), staleness=2 * HOUR * S) == []


def test_a_backlog_is_judged_by_its_own_times():
    """An hour of readings that comes in one second: five minutes of heat are not ten, and twenty are."""

    def backlog(hot_until: int) -> Stream:
        return [said(i / 61, (XA, i <= hot_until), at=(i - 60) * 60) for i in range(61)]

    hot = rule("x > 0", **TEN_MINUTES)
    assert happened(backlog(5), hot, staleness=HOUR * S) == []
    assert happened(backlog(20), hot, staleness=HOUR * S) == [("a", "firing", -3000), ("a", "resolved", -39 * 60)]


def test_a_backlog_of_one_device_does_not_hold_up_another():
    live: Stream = [said(i, (XB, 1)) for i in range(700)]
    backlog: Stream = [said(i + 0.5, (XA, 1), at=i - HOUR) for i in range(0, 700, 7)]
    stream = sorted(live + backlog, key=moment)

    assert [e for e in happened(stream, rule("x > 0", **TEN_MINUTES)) if e[0] == "b"] == [("b", "firing", 600)]


@pytest.mark.parametrize("ahead", [0, HOUR])
def test_a_sensor_whose_clock_is_ahead_does_not_stop_the_time_of_its_device(ahead: int):
    """x falls silent; y of the same device goes on, with times of its own."""
    readings: Stream = [said(0, (XA, 1), at=ahead), *(said(i, (YA, 1)) for i in range(1, 120))]
    stream = sorted(readings + ticks(0.5, 120.5), key=moment)

    assert happened(stream, rule("age(x) > 60 and on(device) y > 0"), staleness=2 * HOUR * S) == [
        ("a", "firing", ahead + 60.000000001)
    ]
