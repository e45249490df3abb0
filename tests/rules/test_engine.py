"""Laws of the engine beside those of test_engine_laws.py: whose clock counts, what drives rules, what snapshots keep."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules import Engine
from telemetry import DUPLICATE, HISTORICAL, LATE, RETAINED, AlertEvent, ReadingBatch, Tick
from tests.rules.notation import T0, S, Said, batches, rules_of, run, table_of

HOUR = 3600
SERIES = ['x{device="a"}', 'y{device="a"}', 'x{device="b"}', 'y{device="b"}']
XA, YA, XB, YB = range(4)
Stream = list[Said | Tick]


def engine(*rules: dict[str, Any], staleness: int = 60 * S, series: Iterable[str] = SERIES) -> Engine:
    return Engine(rules_of(*rules), table_of(*series), staleness=lambda _: staleness)


def rule(expr: str, **more: Any) -> dict[str, Any]:
    return {"alert": "A", "expr": expr, **more}


def seconds(at: float) -> int:
    return T0 + round(at * S)


def said(received: float, *rows: tuple[int, float], at: float | None = None) -> Said:
    """One message at `received` seconds: readings (series, value), all of the instant `at` or of that of the message."""
    time = seconds(received if at is None else at)
    return Said(tuple((series, time, value) for series, value in rows), seconds(received))


def ticks(start: float, end: float) -> Stream:
    """A tick every second, start <= t < end."""
    return [Tick(seconds(start + i)) for i in range(int(end - start))]


def told(events: Iterable[AlertEvent]) -> list[tuple[str, str, float]]:
    """Device, what happened, and when in seconds."""
    return [(dict(e.labels)["device"], str(e.state), ((e.ends_at or e.starts_at) - T0) / S) for e in events]


def happened(stream: Stream, *rules: dict[str, Any], **more: Any) -> list[tuple[str, str, float]]:
    return told(run(engine(*rules, **more), batches(stream)))


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


messages = st.lists(
    st.tuples(st.sampled_from([100, 700, 1000, 2500, 4900]), st.integers(0, 3), st.integers(0, 1)),
    min_size=2,
    max_size=15,
)
"""(ms since the last, series, value)"""
RULES = [
    rule("x > 0", **{"for": "3s"}),
    rule("x > 0 and on(device) y > 0", keep_firing_for="2s"),
    rule("age(y) > 4"),
    rule("x > 0", no_data="resolve"),
]


def stream_of(drawn: list[tuple[int, int, int]], *, ahead: dict[int, int] | None = None) -> Stream:
    """The messages, and a tick half a millisecond after each; `ahead`: seconds by which the clock of a series is off."""
    stream, now = Stream(), 0.0
    for gap, series, value in drawn:
        now += gap / 1000
        stream.append(said(now, (series, value), at=now + (ahead or {}).get(series, 0)))
        stream.append(Tick(seconds(now + 0.0005)))
    return stream + ticks(now + 1, now + 12)


def shifted(item: Said | Tick, by: int) -> Said | Tick:
    """As it would be if it came when our clock showed another time."""
    if isinstance(item, Tick):
        return dataclasses.replace(item, time=item.time + by)
    return dataclasses.replace(item, received=item.received + by)


def undetected(events: list[AlertEvent]) -> list[str]:
    return [repr(dataclasses.replace(e, detected_at=0)) for e in events]


@settings(max_examples=40)
@given(messages, st.integers(1, 20), st.sampled_from([-HOUR, -10]))
def test_setting_our_clock_back_changes_nothing_but_when_things_were_detected(drawn, at, back):
    """As if the time between the two messages had not passed."""
    stream = stream_of(drawn)
    gap = moment(stream[at]) - moment(stream[at - 1]) if at < len(stream) else 0
    still = stream[:at] + [shifted(item, -gap) for item in stream[at:]]

    set_back = stream[:at] + [shifted(item, back * S) for item in stream[at:]]

    one, other = (run(engine(*RULES, staleness=8 * S), batches(s)) for s in (still, set_back))
    assert undetected(one) == undetected(other)


def moment(item: Said | Tick) -> int:
    return item.time if isinstance(item, Tick) else item.received


@settings(max_examples=40)
@given(messages, st.integers(1, 20), st.sampled_from([6, HOUR]))
def test_setting_our_clock_forward_is_a_gap_of_five_seconds(drawn, at, forward):
    stream = stream_of(drawn)
    gap = moment(stream[at]) - moment(stream[at - 1]) if at < len(stream) else 0
    five = stream[:at] + [shifted(item, 5 * S - gap) for item in stream[at:]]

    ahead = stream[:at] + [shifted(item, forward * S) for item in stream[at:]]

    one, other = (run(engine(*RULES, staleness=8 * S), batches(s)) for s in (five, ahead))
    assert undetected(one) == undetected(other)


# ---- the device's clock: it may be off by any time


@settings(max_examples=40)
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


# ---- what drives rules


def test_the_readings_of_one_message_are_applied_together():
    above = rule("x > on(device) y")
    apart: Stream = [said(0, (XA, 1), (YA, 2)), said(1, (XA, 11)), said(1, (YA, 12))]

    assert happened([said(0, (XA, 1), (YA, 2)), said(1, (XA, 11), (YA, 12))], above) == []
    assert happened(apart, above) == [("a", "firing", 1), ("a", "resolved", 1)]


def test_the_times_of_one_message_are_instants_of_their_own():
    message = Said(((XA, seconds(0), 5), (YA, seconds(0), 6), (XA, seconds(1), 7), (YA, seconds(2), 8)), seconds(2))

    assert happened([message], rule("x > on(device) y")) == [("a", "firing", 1), ("a", "resolved", 2)]


FLAGS = st.sampled_from([LATE, RETAINED, HISTORICAL, DUPLICATE, LATE | HISTORICAL, 15])


@settings(max_examples=40)
@given(messages, st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(-99, 99), FLAGS), max_size=12))
def test_flagged_rows_never_change_alerts(drawn, flagged):
    """Wherever they stand in a message, and whatever they say."""
    plain = batches(stream_of(drawn))
    mixed = [add_flagged(item, flagged) for item in plain]

    one, other = (run(engine(*RULES, staleness=8 * S), items) for items in (plain, mixed))

    assert list(map(repr, one)) == list(map(repr, other))


def add_flagged(item: ReadingBatch | Tick, flagged: list[tuple[int, int, int, int]]) -> ReadingBatch | Tick:
    """The batch with flagged rows among those of its messages."""
    if isinstance(item, Tick):
        return item
    rows = list(
        zip(
            *(getattr(item, c).tolist() for c in ("series", "time", "value", "received", "flags", "offset")),
            strict=True,
        )
    )
    for where, series, seconds_off, flags in flagged:
        row = rows[where % len(rows)]
        new = (series, row[1] + seconds_off * S, 1 - row[2], row[3], flags, row[5])
        rows.insert(where % len(rows) + where % 2, new)
    series, time, value, received, flag, offset = (list(column) for column in zip(*rows, strict=True))
    return ReadingBatch.of(series, time, value, received=received, flags=flag, offset=offset)


def test_a_batch_of_nothing_and_series_of_no_rule_do_nothing():
    subject = engine(rule("x > 0"))

    assert subject.apply(ReadingBatch.empty()) == []
    assert subject.tick(Tick(T0)) == []
    assert run(subject, batches([said(0, (YA, 1), (YB, 1)), *ticks(1, 5)])) == []
    assert list(subject.active()) == []


def test_a_thousand_devices_in_one_batch_are_a_thousand_batches():
    names = [f'{metric}{{device="d{i}"}}' for i in range(1000) for metric in "xy"]
    stream: Stream = [
        said(turn + i / 1001, (2 * i, (i * 7 + turn * 3) % 11), (2 * i + 1, (i * 5 + turn) % 7))
        for turn in range(2)
        for i in range(1000)
    ]
    some = [rule("x > 5", **{"for": "1s"}), rule("x > on(device) y"), rule("x > 8", labels={"device": "all"})]

    one = run(engine(*some, series=names), batches(stream, {1000}))
    other = run(engine(*some, series=names), batches(stream, {*range(0, 1000, 20), *range(1000, 2000)}))

    assert list(map(repr, one)) == list(map(repr, other))
    assert len(one) > 1000


def test_each_series_goes_stale_in_its_own_time():
    subject = Engine(
        rules_of(rule("x > 0", no_data="resolve")), table_of(*SERIES), staleness=lambda i: {XA: 5, XB: 20}[i] * S
    )

    events = run(subject, batches([said(0, (XA, 1), (XB, 1)), *ticks(1, 30)]))

    assert [e for e in told(events) if e[1] == "resolved"] == [("a", "resolved", 5), ("b", "resolved", 20)]


def test_events_come_in_the_order_in_which_they_became_known_then_by_rule_and_labels():
    some = [rule("y > 0", alert="Y"), rule("x > 0", alert="X")]
    events = run(engine(*some), batches([said(1, (XB, 1)), said(2, (XB, 1), (XA, 1), (YB, 1), (YA, 1))]))

    assert [(dict(e.labels)["alertname"], dict(e.labels)["device"]) for e in events] == [
        ("X", "b"), ("Y", "a"), ("Y", "b"), ("X", "a"),
    ]  # fmt: skip


# ---- alerts


def test_active_alerts_are_shown_with_all_that_is_known():
    hot = rule(
        "x > 20",
        **{"for": "3s"},
        labels={"severity": "page"},
        annotations={"now": "{{ $labels.device }}: {{ $value }}"},
    )
    subject = engine(hot)
    run(subject, batches([said(0, (XA, 21), (XB, 1)), said(4, (XA, 22)), said(4.5, (XB, 30)), said(5, (XA, 23))]))

    firing, pending = sorted(subject.active(), key=lambda alert: alert.labels)

    assert (firing.rule, firing.state, firing.active_at, firing.value) == ("g/A", "firing", seconds(3), 23)
    assert firing.labels == (("alertname", "A"), ("device", "a"), ("severity", "page"))
    assert firing.annotations == (("now", "a: 23"),)
    assert (pending.state, pending.active_at, pending.annotations) == ("pending", seconds(4.5), (("now", "b: 30"),))


def test_two_elements_with_one_final_label_set_count_as_none_while_both_are_there():
    merged = rule("x > 0", labels={"device": "any"})

    assert happened([said(0, (XA, 1)), said(1, (XB, 1)), said(2, (XA, 0)), said(3, (XB, 0))], merged) == [
        ("any", "firing", 0), ("any", "resolved", 1), ("any", "firing", 2), ("any", "resolved", 3),
    ]  # fmt: skip


def test_an_empty_label_is_none():
    (event,) = run(engine(rule("x > 0", labels={"site": "{{ $labels.site }}", "no": ""})), batches([said(0, (XA, 1))]))

    assert event.labels == (("alertname", "A"), ("device", "a"))


# ---- snapshots


def stored_and_loaded(arrays: dict[str, Any]) -> dict[str, Any]:
    """Through a file, in which nothing is pickled."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    file.seek(0)
    return dict(np.load(file, allow_pickle=False))


@settings(max_examples=40)
@given(messages)
def test_a_restored_engine_is_equal_to_the_one_that_was_left(drawn):
    """Also in the order in which series became known, which is not that of the table."""
    first = engine(*RULES, staleness=8 * S)
    run(first, batches(stream_of(drawn)))
    arrays = first.snapshot()

    second = engine(*RULES, staleness=8 * S)
    second.restore(stored_and_loaded(arrays))
    again = second.snapshot()

    assert arrays.keys() == again.keys()
    for name, column in arrays.items():
        assert column.dtype == again[name].dtype, name
        np.testing.assert_array_equal(column, again[name], err_msg=name)
    assert list(map(repr, first.active())) == list(map(repr, second.active()))


def test_a_snapshot_keeps_the_order_in_which_series_became_known():
    subject = engine(rule("x > 0"))
    run(subject, batches([said(0, (XB, 1)), said(1, (YB, 1)), said(1, (YA, 1), (XA, 1), (XB, 0))]))

    assert subject.snapshot()["order"].tolist() == [XB, YB, YA, XA]


def test_a_snapshot_does_not_change_with_the_engine():
    subject = engine(rule("x > 0"))
    run(subject, batches([said(0, (XA, 1))]))
    arrays = subject.snapshot()
    before = {name: column.copy() for name, column in arrays.items()}

    run(subject, batches([said(1, (XA, 0), (XB, 1))]))

    for name, column in before.items():
        np.testing.assert_array_equal(arrays[name], column, err_msg=name)


def test_an_engine_restored_from_nothing_is_new():
    subject = engine(*RULES)
    subject.restore(stored_and_loaded(engine(*RULES).snapshot()))

    assert told(run(subject, batches([said(0, (XA, 1)), *ticks(1, 6)])))[0] == ("a", "firing", 0)


def test_after_a_restart_the_time_until_the_next_message_is_a_gap_like_any_other():
    silent, first = rule("age(x) > 60"), [said(0, (XA, 1)), *ticks(1, 50)]
    subject = engine(silent)
    left = engine(silent)
    run(left, batches(first))
    subject.restore(left.snapshot())

    assert run(subject, batches(ticks(HOUR, HOUR + 5))) == []
    assert told(run(subject, batches(ticks(HOUR + 5, HOUR + 10)))) == [("a", "firing", 60.000000001)]


# ---- known shortcomings


@pytest.mark.parametrize(
    "behind",
    [
        0,
        pytest.param(
            HOUR,
            marks=pytest.mark.xfail(
                strict=True, reason="a reading older than the instance's newest one sets its clock back to that one"
            ),
        ),
    ],
)
def test_a_sensor_whose_clock_is_behind_does_not_stop_the_time_of_its_device(behind: int):
    """x falls silent; y of the same device goes on, with times of its own."""
    stream: Stream = [said(0, (XA, 1), at=behind), *(said(i, (YA, 1)) for i in range(1, 120))]

    assert happened(stream, rule("age(x) > 60 and on(device) y > 0"), staleness=2 * HOUR * S) == [
        ("a", "firing", behind + 60.000000001)
    ]
