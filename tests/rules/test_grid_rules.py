"""Laws of rules that are evaluated at ticks: on the grid of their group, by each series' own clock, as Prometheus does.

Not here: recording rules (test_recording_rules.py), and what expressions give.
"""

from __future__ import annotations

from typing import Any

import pytest

from telemetry import Tick
from tests.rules.notation import T0, S, Said, batches, run
from tests.rules.plant import (
    EVERY_10S,
    HOUR,
    XA,
    XB,
    F,
    R,
    engine,
    happened,
    in_order,
    rule,
    said,
    seconds,
    shown,
    steadily,
    ticks,
    told,
)
from tests.rules.test_lifecycle import VECTORS

# ---- the grid


@pytest.mark.parametrize("interval", [1, 5])
@pytest.mark.parametrize("late", [0, 0.25], ids=["ticks on the grid", "ticks after it"])
@pytest.mark.parametrize(("hold", "keep", "conditions", "states"), VECTORS)
def test_the_states_are_those_of_prometheus(
    hold: str, keep: str, conditions: str, states: str, interval: int, late: float
):
    """Durations and evaluations are `interval` times as far apart; ticks between evaluations change nothing."""
    times = {"for": f"{int(hold[0]) * interval}s", "keep_firing_for": f"{int(keep[0]) * interval}s"}
    subject, seen = engine(rule("sum(x) == 1", **times), interval=f"{interval}s"), ""
    for i, condition in enumerate(conditions):
        at = i * interval
        events = run(subject, batches([said(at, (XA, condition == "T")), Tick(seconds(at + late))]))
        assert all(e.starts_at == seconds(at) for e in events if e.state == F)
        active = shown(subject)
        letter = {"pending": "p", "firing": "F"}[active[0][1]] if active else "."
        seen += "r" if letter == "." and ("", R, at) in told(events) else letter
        assert run(subject, batches(ticks(at + late + 0.1, at + interval - 1))) == []

    assert seen == states


def test_a_rule_is_evaluated_at_the_first_tick_of_each_interval_and_stamped_with_the_grid():
    stream = in_order(steadily(1, 0, 20, XA), steadily(0, 20, 40, XA), [Tick(seconds(t)) for t in (3, 9, 13, 19, 27)])

    (fired, resolved) = run(engine(rule("sum(x) > 0"), **EVERY_10S), batches(stream))

    assert (fired.starts_at, fired.detected_at) == (seconds(0), seconds(3))
    assert (resolved.ends_at, resolved.detected_at) == (seconds(20), seconds(27))


def test_intervals_that_no_tick_came_in_are_left_out():
    """One evaluation at 40 s: what was so at 20 s and is over is not told."""
    stream = [said(0, (XA, 0)), Tick(seconds(0)), said(4, (XA, 1)), said(8, (XA, 0)), said(12, (XA, 0))]

    assert happened([*stream, Tick(seconds(12.5))], rule("sum(x) > 0"), **EVERY_10S) == []


def test_nothing_happens_between_the_ticks():
    subject = engine(rule("sum(x) > 0"), **EVERY_10S)

    assert run(subject, batches([Tick(seconds(0)), *steadily(1, 1, 100, XA)])) == []
    assert told(run(subject, batches([Tick(seconds(100))]))) == [("", F, 100)]


@pytest.mark.parametrize("interval", [1, 3, 7, 10, 60])
def test_the_grid_is_of_multiples_of_the_interval_since_1970(interval: int):
    stream = in_order(steadily(0, 0, 9, XA), steadily(1, 9, 100, XA), ticks(0, 100))

    assert happened(stream, rule("sum(x) > 0"), interval=f"{interval}s") == [
        ("", F, next(second for second in range(9, 100) if (T0 // S + second) % interval == 0))
    ]


def test_after_a_for_that_is_no_multiple_of_the_interval_the_next_evaluation_fires():
    stream = in_order(steadily(1, 0, 60, XA), ticks(0, 60))

    assert happened(stream, rule("sum(x) > 0", **{"for": "12s"}), **EVERY_10S) == [("", F, 20)]


def test_an_evaluation_does_not_see_what_arrived_after_its_instant():
    """The tick of the evaluation at 10 s comes at 12 s; the reading of 11 s is for the evaluation at 20 s."""
    stream = [said(9, (XA, 1)), said(11, (XA, 2)), Tick(seconds(12)), Tick(seconds(20))]

    assert happened(stream, rule("sum(x) > 1"), **EVERY_10S) == [("", F, 20)]
    assert happened(stream, rule("sum(x) == 1"), **EVERY_10S) == [("", F, 10), ("", R, 20)]


# ---- aggregations over devices whose clocks differ


@pytest.mark.parametrize("a", [-HOUR, -3, 0, 3, HOUR])
@pytest.mark.parametrize("b", [-HOUR, 0, HOUR])
def test_devices_whose_clocks_are_off_are_aggregated_as_they_are_now(a: float, b: float):
    """Each series as of its own clock, however far apart those are: both see 1 from 0 s on and 2 from 20 s on."""
    stream = in_order(
        steadily(1, 0, 20, XA, ahead=a), steadily(2, 20, 60, XA, ahead=a),
        steadily(1, 0, 30, XB, ahead=b), steadily(2, 31, 60, XB, ahead=b),
        ticks(1.5, 60.5),
    )  # fmt: skip

    assert happened(stream, rule("sum(x) > 2"), **EVERY_10S) == [("", F, 20)]
    assert happened(stream, rule("min(x) > 1"), **EVERY_10S) == [("", F, 40)]
    assert happened(stream, rule("count(x) < 2"), **EVERY_10S) == []


@pytest.mark.parametrize("ahead", [-HOUR, 0, HOUR])
def test_a_device_goes_stale_by_its_own_clock(ahead: float):
    """Its last reading is of 18 s, so that it is seen until 78 s."""
    stream = in_order(steadily(1, 0, 20, XA, ahead=ahead), steadily(1, 0, 200, XB), ticks(0.5, 100.5))

    assert happened(stream, rule("count(x) < 2"), **EVERY_10S) == [("", F, 80)]


@pytest.mark.parametrize("ahead", [-HOUR, 0, HOUR])
def test_windows_on_the_grid_go_by_the_devices_clock(ahead: float):
    """The reading of 3 s is in (t - 15 s, t] at 10 s, and not at 20 s."""
    stream = in_order([said(3, (XA, 9), at=3 + ahead)], steadily(1, 4, 40, XA, ahead=ahead), ticks(3.5, 40.5))

    assert happened(stream, rule("max(max_over_time(x[15s])) > 5"), **EVERY_10S) == [("", F, 10), ("", R, 20)]


def test_an_element_for_each_group_is_an_alert_of_its_own():
    series = ['x{device="1", site="p"}', 'x{device="2", site="p"}', 'x{device="3", site="q"}']
    subject = engine(rule("avg by (site) (x) > 4"), series=series, **EVERY_10S)

    events = run(subject, batches([said(0, (0, 3), (1, 6), (2, 4)), *ticks(1, 11), said(11, (2, 5)), *ticks(12, 21)]))

    assert [(dict(e.labels)["site"], (e.starts_at - T0) / S, e.value) for e in events] == [("p", 0, 4.5), ("q", 20, 5)]


def test_who_is_on_top_changes():
    hottest = rule("topk(1, x) > 5")
    stream = [said(0, (XA, 7), (XB, 6)), *ticks(1, 11), said(11, (XB, 9)), *ticks(12, 21), said(21, (XB, 5)),
              *ticks(22, 31), said(31, (XA, 1), (XB, 1)), *ticks(32, 41)]  # fmt: skip

    assert happened(stream, hottest, **EVERY_10S) == [
        ("a", F, 0), ("a", R, 20), ("b", F, 20), ("a", F, 30), ("b", R, 30), ("a", R, 40),
    ]  # fmt: skip


# ---- errors keep the state

BOTH = ['x{device="a"}', 'z{device="a", state="on"}', 'z{device="a", state="off"}']
X, ON, OFF = range(3)
LOADED = "sum by (device) (x) + on(device) z > 5"
ERROR = 'two elements of the match group {device="a"} on the right side'


def states_over(*messages: Said, staleness: int = 60 * S, **more: Any) -> list[tuple[list[tuple[str, str]], str]]:
    """Active alerts and error 1 s after each message; ticks all along."""
    subject = engine(rule(LOADED, **more), series=BOTH, staleness=staleness, **EVERY_10S)
    seen, now = [], 0.0
    for message in messages:
        at = (message.received - T0) / S
        run(subject, batches([*ticks(now + 1, at), message, Tick(seconds(at + 1))]))
        now = at + 1
        seen.append((shown(subject), subject.errors().get("g/A", "")[: len(ERROR)]))
    return seen


def test_where_a_rule_is_in_error_its_alerts_stay_as_they_are_and_the_error_is_shown():
    """From 10 s on z is there twice, until one of both is stale."""
    firing: tuple[list[tuple[str, str]], str] = ([("a", F)], "")
    seen = states_over(
        said(0, (X, 1), (ON, 5)), said(10, (X, 1), (OFF, 1)), said(20, (X, 1), (OFF, 1)), said(30, (X, 1), (OFF, 1)),
        staleness=25 * S,
    )  # fmt: skip

    assert seen == [firing, ([("a", F)], ERROR), ([("a", F)], ERROR), ([], "")]


def test_where_a_rule_is_in_error_no_alert_begins_or_goes_on_to_fire():
    seen = states_over(said(0, (X, 1), (ON, 5)), said(10, (OFF, 5)), said(20, (OFF, 5)), **{"for": "10s"})

    assert seen == [([("a", "pending")], ""), ([("a", "pending")], ERROR), ([("a", "pending")], ERROR)]
    assert states_over(said(0, (X, 9), (ON, 5), (OFF, 5)), said(10, (X, 9))) == [([], ERROR)] * 2


def test_the_time_in_error_counts_for_for_as_in_prometheus():
    """Pending since 0 s; in error at 10 and 20 s; the other z is stale at 30 s."""
    seen = states_over(
        said(0, (X, 1), (ON, 5)), said(1, (X, 1), (OFF, 9)), said(10, (X, 1), (OFF, 9)), said(30, (X, 1), (OFF, 9)),
        staleness=25 * S, **{"for": "30s"},
    )  # fmt: skip

    assert [state for state, _ in seen] == [[("a", "pending")]] * 3 + [[("a", F)]]


def test_an_error_of_one_rule_does_not_touch_the_others():
    some = [rule(LOADED), rule("sum(x) > 0", alert="B"), rule("x > on(device) x - 1", alert="C")]
    subject = engine(*some, series=BOTH, **EVERY_10S)

    events = run(subject, batches([said(0, (X, 1), (ON, 5), (OFF, 5)), *ticks(1, 3)]))

    assert sorted(e.rule for e in events) == ["g/B", "g/C"]
    assert list(subject.errors()) == ["g/A"]


def test_an_error_of_a_rule_of_readings_does_not_touch_the_others():
    some = [rule("x + on(device) z > 5"), rule("x > on(device) x - 1", alert="B"), rule("x > 0", alert="C")]
    subject = engine(*some, series=BOTH)

    events = run(subject, batches([said(0, (X, 1), (ON, 5), (OFF, 5)), *ticks(1, 3)]))

    assert sorted(e.rule for e in events) == ["g/B", "g/C"]
    assert list(subject.errors()) == ["g/A"]


def test_an_error_of_a_rule_of_readings_keeps_the_state_of_that_device_only():
    series = [*BOTH, 'x{device="b"}', 'z{device="b", state="on"}']
    subject = engine(rule("x + on(device) z > 5"), series=series)

    first = run(subject, batches([said(0, (X, 1), (ON, 5)), said(1, (3, 1), (4, 5))]))
    assert told(first) == [("a", F, 0), ("b", F, 1)]
    assert run(subject, batches([said(2, (X, 0), (OFF, 5))])) == []
    assert list(subject.errors()) == ["g/A"]
    assert told(run(subject, batches([said(3, (3, 0))]))) == [("b", R, 3)]


# ---- downtime, and our clock


def test_downtime_does_not_count_for_timers_on_the_grid():
    hot = rule("sum(x) > 0", **{"for": "10m"})
    stream = [said(0, (XA, 1)), *ticks(1, 12), *ticks(HOUR, HOUR + 60)]

    assert happened(stream, hot, staleness=2 * HOUR * S, **EVERY_10S) == []


@pytest.mark.parametrize("expr", ["absent(x)", "sum(x) > 0 unless on() x"])
def test_downtime_makes_no_series_vanish_on_the_grid(expr: str):
    stream = [said(0, (XA, 1)), *ticks(1, 12), *ticks(HOUR, HOUR + 40)]

    assert happened(stream, rule(expr), **EVERY_10S) == []


def test_a_clock_that_is_set_back_does_not_stop_the_rules():
    stream = [said(0, (XA, 0)), *ticks(1, 12), said(-HOUR, (XA, 1), at=13), *ticks(1 - HOUR, 31 - HOUR)]

    assert [state for _, state, _ in happened(stream, rule("sum(x) > 0"), **EVERY_10S)] == [F]


def test_data_that_vanishes_after_an_error_stops_timers_since_the_error_only():
    """True at 0 s, in error at 10 s, unknown at 20 s, true again: the 10 s before 20 s do not count."""
    again = in_order(steadily(1, 21, 60, X), steadily(5, 21, 60, ON))
    stream = in_order([said(0, (X, 1), (ON, 5)), said(6, (OFF, 5))], again, ticks(0.5, 60.5))

    assert happened(stream, rule(LOADED, **{"for": "30s"}), series=BOTH, staleness=14 * S, **EVERY_10S) == [
        ("a", F, 40)
    ]
