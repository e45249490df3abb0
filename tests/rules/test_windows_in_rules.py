"""Laws of windows in rules that are evaluated per reading: alerts begin and end at the very instant at which a sample
enters or leaves the window. What window functions give is not here (test_window_functions.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from telemetry import Tick
from tests.rules.notation import S, batches, run
from tests.rules.plant import XA, YA, F, R, Stream, engine, happened, in_order, rule, said, seconds, ticks, told

NS = 1e-9


def readings(*samples: tuple[float, float]) -> Stream:
    """Samples (second, value) of x."""
    return [said(at, (XA, value)) for at, value in samples]


# ---- the instant at which a sample enters or leaves

WINDOWS: list[tuple[str, list[tuple[float, float]], list[tuple[str, float]]]] = [
    ("avg_over_time(x[10s]) > 5", [(0, 9), (4, 3)], [(F, 0), (R, 10)]),
    ("avg_over_time(x[10s]) > 5", [(0, 1), (4, 8), (7.5, 7)], [(F, 7.5)]),
    ("avg_over_time(x[10s]) > 5", [(0, 1), (4, 6), (20, 6), (21, 0)], [(F, 10), (R, 21)]),
    ("min_over_time(x[10s]) > 5", [(0, 3), (1, 8), (12, 2)], [(F, 10), (R, 12)]),
    ("max_over_time(x[10s]) < 5", [(0, 9), (1, 2), (3.25, 8), (4, 2)], [(F, 13.25)]),
    ("sum_over_time(x[10s]) > 9", [(0, 4), (3, 4), (6, 4)], [(F, 6), (R, 10)]),
    ("count_over_time(x[10s]) > 2", [(0, 0), (3, 0), (6, 0), (12, 0)], [(F, 6), (R, 10), (F, 12), (R, 13)]),
    ("count_over_time(x[10s]) < 2", [(0, 0), (3, 0)], [(F, 0), (R, 3), (F, 10)]),
    ("rate(x[10s]) > 0.5", [(0, 0), (5, 10), (7, 10), (9, 10)], [(F, 5), (R, 10)]),
    ("increase(x[10s]) > 0", [(0, 5), (2, 5), (4, 7), (8, 7), (9, 7)], [(F, 4), (R, 12)]),
    ("changes(x[10s]) > 0", [(0, 1), (2, 2), (5, 2)], [(F, 2), (R, 10)]),
    ("stddev_over_time(x[10s]) > 0", [(0, 1), (2, 2), (5, 2)], [(F, 2), (R, 10)]),
    ("x - avg_over_time(x[10s]) > 3", [(0, 0), (8, 9)], [(F, 8), (R, 10)]),
    ("x offset 5s > 0", [(0, 1), (3, 0), (4.5, 1), (6, 0)], [(F, 5), (R, 8), (F, 9.5), (R, 11)]),
    ("x - x offset 5s > 3", [(0, 0), (5, 4), (6, 9)], [(F, 5), (R, 11)]),
    ("max_over_time(x[5s] offset 5s) > 5", [(0, 9), (2, 1), (7, 1)], [(F, 5), (R, 10)]),
    ("count_over_time(x[5s] offset 5s) > 1", [(0, 9), (2, 1)], [(F, 7), (R, 10)]),
]  # fmt: skip


def events_before_30(stream: Stream, expr: str) -> list[tuple[str, float]]:
    """What happens before second 30."""
    return [
        (state, at)
        for _, state, at in happened(in_order(stream), rule(expr, no_data="keep"), staleness=600 * S)
        if at < 30
    ]


@pytest.mark.parametrize(("expr", "samples", "events"), WINDOWS)
@pytest.mark.parametrize("shown_by", ["ticks", "a tick", "a reading"])
def test_an_alert_turns_when_a_sample_enters_or_leaves_the_window(
    expr: str, samples: list[tuple[float, float]], events: list[tuple[str, float]], shown_by: str
):
    later: dict[str, Stream] = {
        "ticks": ticks(0.4, 40.4),
        "a tick": [Tick(seconds(at)) for at in (24.9, 28.9, 32.9, 36.9)],
        "a reading": [said(at, (YA, 0)) for at in (24.9, 28.9)] + [said(32, (XA, 1))],
    }
    stream = [*readings(*samples), *later[shown_by]]

    found = events_before_30(stream, expr)

    assert found == events


def test_the_start_of_a_window_is_outside_and_its_end_is_inside():
    """(t - range, t], to the nanosecond."""
    two = rule("count_over_time(x[10s]) > 1", no_data="resolve")

    assert happened([*readings((0, 1), (10, 1)), *ticks(10.5, 12)], two) == []
    assert happened([*readings((0, 1), (10 - NS, 1)), *ticks(10.5, 12)], two) == [
        ("a", F, 10 - NS),
        ("a", R, 10),
    ]


def test_a_sample_that_enters_and_one_that_leaves_at_the_same_instant_are_one_change():
    """At 10 s the window loses 9 and gets 9: no moment without it."""
    hot = rule("max_over_time(x[10s]) > 5")

    assert happened([*readings((0, 9), (5, 1), (10, 9)), *ticks(10.5, 19)], hot) == [("a", F, 0)]


def test_an_alert_can_end_between_two_readings_of_one_batch():
    hot = rule("sum_over_time(x[10s]) > 5", no_data="resolve")
    stream: Stream = list(readings((0, 6), (30, 6), (31, 6)))

    (_, *between) = run(engine(hot), batches(stream))

    assert told(between) == [("a", R, 10), ("a", F, 30)]
    assert [e.detected_at for e in between] == [seconds(30), seconds(30)]


def test_for_counts_from_the_instant_at_which_a_sample_left():
    calm = rule("max_over_time(x[10s]) < 5", **{"for": "7s"})

    assert happened([*readings((0, 9), (2, 1), (9, 1)), *ticks(10, 20)], calm) == [("a", F, 17)]


def test_two_windows_of_one_device_are_seen_at_each_others_instants():
    above = rule("avg_over_time(x[20s]) > on(device) max_over_time(y[10s])")
    stream: Stream = [said(0, (XA, 5)), said(1, (YA, 9)), said(3, (YA, 4)), *ticks(3.5, 19)]

    assert happened(stream, above) == [("a", F, 11)]


def test_a_reading_of_the_other_operand_is_an_instant_of_its_own():
    hot = rule("avg_over_time(x[10s]) > 5 and on(device) y == 1")
    stream: Stream = [said(0, (XA, 9), (YA, 0)), said(4.5, (YA, 1)), said(6, (YA, 0)), *ticks(7, 9)]

    assert happened(stream, hot) == [("a", F, 4.5), ("a", R, 6)]


@pytest.mark.parametrize("ahead", [-3600, 0, 3600])
def test_a_window_goes_by_its_devices_clock(ahead: int):
    stream: Stream = [said(0, (XA, 9), at=ahead), said(4, (XA, 3), at=ahead + 4), *ticks(5, 15)]

    assert happened(stream, rule("avg_over_time(x[10s]) > 5")) == [("a", F, ahead), ("a", R, ahead + 10)]


def test_events_carry_the_value_of_their_instant():
    high = rule("sum_over_time(x[10s]) > 5", annotations={"sum": "{{ $value }}"})
    events = run(engine(high), batches([*readings((0, 4), (3, 4), (7, 1)), *ticks(8, 20)]))

    assert told(events) == [("a", F, 3), ("a", R, 10)]
    assert [(e.value, dict(e.annotations)["sum"]) for e in events] == [(8, "8"), (9, "9")]


# ---- a window that ran empty has lost its data


def silent(value: float) -> Stream:
    """Readings at 0 and 5 s, which leave a window of 10 s at 10 and 15 s; then none until 100 s."""
    later = readings((100, value), (101, value))
    return in_order(readings((0, value), (5, value)), later, ticks(0.5, 120.5))


EMPTY: list[tuple[str, float, list[tuple[str, float]]]] = [
    ("keep", 9, [(F, 0)]),
    ("resolve", 9, [(F, 0), (R, 15), (F, 100), (R, 111)]),
    ("fire", 9, [(F, 0)]),
    ("keep", 1, []),
    ("resolve", 1, []),
    ("fire", 1, [(F, 15), (R, 100), (F, 111)]),
]


@pytest.mark.parametrize(("no_data", "value", "events"), EMPTY)
@pytest.mark.parametrize("function", ["avg", "max", "min", "last", "quantile"])
def test_what_an_empty_window_means(no_data: str, value: float, events: list[tuple[str, float]], function: str):
    argument = "0.5, x[10s]" if function == "quantile" else "x[10s]"
    about = rule(f"{function}_over_time({argument}) > 5", no_data=no_data)

    assert [(state, at) for _, state, at in happened(silent(value), about)] == events


def test_the_time_of_an_empty_window_does_not_count_for_for():
    """15 s of heat before it ran empty, and 5 s after it came back."""
    hot = rule("max_over_time(x[10s]) > 5", **{"for": "20s"})
    stream = in_order(silent(9), readings((108, 9)))

    assert happened(stream, hot) == [("a", F, 105)]


@pytest.mark.parametrize(("no_data", "events"), [("keep", [("a", F, 2)]), ("resolve", [("a", F, 2), ("a", R, 10)])])
def test_a_window_with_too_few_samples_for_its_function_has_lost_its_data_too(no_data: str, events: Any):
    """From 10 s on there is one sample, of which no rate can be told."""
    fast = rule("rate(x[10s]) > 0.5", no_data=no_data)

    assert happened([*readings((0, 0), (2, 30)), *ticks(3, 13)], fast) == events


def test_a_window_that_never_had_a_sample_is_no_vanished_data():
    both = rule("x > 0 unless on(device) max_over_time(y[10s]) > 5", no_data="fire")

    assert happened([said(0, (XA, 1)), *ticks(1, 5)], both) == [("a", F, 0)]
    assert happened([said(0, (XA, 0)), *ticks(1, 5)], both) == []


@pytest.mark.parametrize("together", [True, False])
def test_a_window_has_no_reading_that_came_later_although_it_is_older(*, together: bool):
    """y of 5 s comes after x of 10 s: until then there is one y, and x is above its number."""
    above = rule("x > on(device) count_over_time(y[20s])")
    stream: Stream = [said(2, (YA, 0)), said(10, (XA, 1.5)), said(10.5, (YA, 0), at=5)]
    subject = engine(above)

    events = run(subject, batches(stream) if together else [b for item in stream for b in batches([item])])

    assert told(events) == [("a", F, 10), ("a", R, 10)]


def test_a_window_that_is_looked_at_again_still_has_its_first_sample():
    """y comes with a batch that has a newer x; at 10 s the window begins 1 ns before its first sample."""
    two = rule("y > 0 and on(device) count_over_time(x[10s]) > 1")
    subject = engine(two)

    run(subject, batches(readings((NS, 1), (10, 1))))
    events = run(subject, batches([said(10, (YA, 1)), said(12, (XA, 1))]))

    assert told(events)[:1] == [("a", F, 10)]


def test_a_sleepy_device_is_judged_by_a_window_that_spans_its_reports():
    """It reports every 15 minutes; an instant selector sees it for five of them."""
    reports = [said(900 * i, (XA, 9)) for i in range(5)]
    stream = in_order(reports, [Tick(seconds(4 * i + 0.5)) for i in range(900)])

    def over_half_an_hour(expr: str) -> list[tuple[str, str, float]]:
        return happened(stream, rule(expr, no_data="resolve", **{"for": "30m"}), staleness=300 * S)

    assert over_half_an_hour("x > 5") == []
    assert over_half_an_hour("last_over_time(x[20m]) > 5") == [("a", F, 1800)]


# ---- windows over a restart


@pytest.mark.parametrize("expr", [expr for expr, *_ in WINDOWS])
def test_a_window_survives_a_restart(expr: str):
    samples = next(samples for other, samples, _ in WINDOWS if other == expr)
    stream = in_order(readings(*samples), ticks(0.5, 30.5))
    whole = run(engine(rule(expr)), batches(stream))

    for at in range(0, len(stream), 5):
        first, second = engine(rule(expr)), engine(rule(expr))
        before = run(first, batches(stream[:at]))
        second.restore(first.snapshot())
        after = run(second, batches(stream[at:]))
        assert list(map(repr, before + after)) == list(map(repr, whole))


@pytest.mark.parametrize("looking", ["max_over_time(x[{}])", "x offset {}"])
@pytest.mark.parametrize("first", ["short", "long"])
def test_a_rule_that_looks_back_further_is_not_cut_short_by_another_one(looking: str, first: str):
    stream = in_order(readings(*((at, 9 if at < 2 else 1) for at in range(0, 60, 2))), ticks(0.5, 59.5))
    pair = [rule(f"{looking.format('5s')} > 5", alert="B"), rule(f"{looking.format('30s')} > 5")]
    alone = happened(stream, pair[1], staleness=4 * S)

    both = run(engine(*(pair if first == "short" else pair[::-1]), staleness=4 * S), batches(stream))

    assert told(e for e in both if e.rule == "g/A") == alone
    assert [state for _, state, _ in alone] == [F, R]
