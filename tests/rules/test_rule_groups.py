"""Laws of what a group says of its rules: limit, query_offset, compat. All put its rules on the grid."""

from __future__ import annotations

from typing import Any

import pytest

from rules import Engine
from telemetry import Tick
from tests.rules.notation import S, batches, rules_of, run, table_of
from tests.rules.plant import (
    EVERY_10S,
    HOUR,
    SERIES,
    XA,
    XB,
    F,
    R,
    Stream,
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

# ---- limit: a guard that keeps what it has

DEVICES = [f'x{{device="{name}"}}' for name in "abcde"]
A, B, C, D, E = range(5)
TWO: dict[str, Any] = {"limit": 2, "series": DEVICES, **EVERY_10S}


def test_beyond_the_limit_no_alert_begins_and_those_that_are_there_go_on():
    subject = engine(rule("x > 0"), **TWO)

    assert told(run(subject, batches([said(0, (A, 1), (B, 1)), *ticks(1, 11)]))) == [("a", F, 0), ("b", F, 0)]
    assert subject.errors() == {}
    assert run(subject, batches([said(11, (C, 1), (D, 1)), *ticks(12, 31)])) == []
    assert shown(subject) == [("a", F), ("b", F)]
    assert subject.errors() == {"g/A": "more than 2 alerts: 2 could not begin (limit of the group)"}


def test_when_an_alert_ends_another_one_takes_its_place_in_the_same_evaluation():
    subject = engine(rule("x > 0"), **TWO)
    run(subject, batches([said(0, (A, 1), (B, 1), (C, 1), (D, 1)), *ticks(1, 11)]))

    assert told(run(subject, batches([said(11, (B, 0)), *ticks(12, 21)]))) == [("b", R, 20), ("c", F, 20)]
    assert shown(subject) == [("a", F), ("c", F)]


def test_below_the_limit_again_no_error_is_shown():
    subject = engine(rule("x > 0"), **TWO)
    run(subject, batches([said(0, (A, 1), (B, 1), (C, 1)), *ticks(1, 11)]))
    assert list(subject.errors()) == ["g/A"]

    run(subject, batches([said(11, (C, 0)), *ticks(12, 31)]))

    assert subject.errors() == {}


def test_pending_alerts_count_and_those_beyond_the_limit_do_not_become_pending():
    subject = engine(rule("x > 0", **{"for": "20s"}), **TWO)

    events = run(subject, batches([said(0, (A, 1), (B, 1), (C, 1)), *ticks(1, 5)]))
    assert (events, shown(subject)) == ([], [("a", "pending"), ("b", "pending")])
    assert told(run(subject, batches(ticks(5, 31)))) == [("a", F, 20), ("b", F, 20)]


def test_whom_the_limit_kept_out_counts_its_for_from_when_it_is_let_in():
    subject = engine(rule("x > 0", **{"for": "20s"}), staleness=HOUR * S, **TWO)
    stream: Stream = [said(0, (A, 1), (B, 1), (C, 1)), *ticks(1, 31), said(31, (A, 0)), *ticks(32, 42)]

    run(subject, batches(stream))
    assert shown(subject) == [("b", F), ("c", "pending")]
    assert ("c", F, 60) in told(run(subject, batches(ticks(42, 71))))


@pytest.mark.parametrize("more", [{"no_data": "keep"}, {"keep_firing_for": "5m", "no_data": "resolve"}])
def test_alerts_that_are_kept_count_for_the_limit(more: dict[str, Any]):
    """a and b have vanished at 10 s, and fire on."""
    subject = engine(rule("x > 0", **more), staleness=5 * S, **TWO)
    run(subject, batches([said(0, (A, 1), (B, 1)), *ticks(1, 19)]))
    assert shown(subject) == [("a", F), ("b", F)]

    assert run(subject, batches([said(19, (C, 1)), *ticks(19.5, 22)])) == []
    assert shown(subject) == [("a", F), ("b", F)]
    assert list(subject.errors()) == ["g/A"]


def test_a_limit_holds_over_a_restart():
    first, second = (engine(rule("x > 0"), **TWO) for _ in range(2))
    run(first, batches([said(0, (B, 1), (C, 1), (A, 1)), *ticks(1, 11)]))
    second.restore(first.snapshot())

    assert run(second, batches([said(11, (D, 1), (E, 1)), *ticks(12, 21)])) == []
    assert shown(second) == shown(first) == [("b", F), ("c", F)]


def test_a_limit_is_that_of_each_rule_not_of_all_together():
    assert len(happened([said(0, (A, 1), (B, 1)), *ticks(1, 3)], rule("x > 0"), rule("x >= 1"), **TWO)) == 4


# ---- query_offset: the expression is evaluated as of a while ago


def test_with_a_query_offset_alerts_begin_and_end_so_much_later_at_instants_of_the_grid():
    stream = in_order(steadily(0, 0, 20, XA), steadily(1, 20, 40, XA), steadily(0, 40, 80, XA), ticks(0.5, 80.5))

    assert happened(stream, rule("x > 0"), query_offset="7s", **EVERY_10S) == [("a", F, 30), ("a", R, 50)]
    assert happened(stream, rule("sum(x) > 0"), query_offset="20s", **EVERY_10S) == [("", F, 40), ("", R, 60)]


@pytest.mark.parametrize("ahead", [-HOUR, 0, HOUR])
def test_a_query_offset_looks_back_by_each_devices_own_clock(ahead: float):
    parts = (steadily(0, 0, 20, XA, ahead=ahead), steadily(1, 20, 60, XA, ahead=ahead))

    assert happened(in_order(*parts, ticks(0.5, 60.5)), rule("x > 0"), query_offset="10s", **EVERY_10S) == [
        ("a", F, 30)
    ]


@pytest.mark.parametrize(
    ("expr", "begins"),
    [
        ("x offset 10s > 0", 40),
        ("max_over_time(x[5s]) > 0", 30),
        ("min_over_time(x[10s]) > 0", 40),
        ("max_over_time(sum(x)[10s:5s]) > 0", 30),
        ("time() - timestamp(x) > 1000 or x > 0", 30),
    ],
)
def test_a_query_offset_adds_to_what_the_expression_looks_back_itself(expr: str, begins: float):
    stream = in_order(steadily(0, 0, 20, XA), steadily(1, 20, 80, XA), ticks(0.5, 80.5))

    assert [at for *_, at in happened(stream, rule(expr), query_offset="10s", **EVERY_10S)] == [begins]


def test_time_is_that_of_the_offset():
    (event,) = run(engine(rule("vector(time())"), query_offset="1m", **EVERY_10S), batches(ticks(3, 20)))

    assert (event.value, event.starts_at) == (seconds(-60) / S, seconds(0))


def test_with_a_query_offset_data_vanishes_so_much_later():
    """Last reading at 18 s, seen until 78 s."""
    stream = in_order(steadily(1, 0, 20, XA), ticks(0.5, 140.5))
    gone = rule("x > 0", no_data="resolve")

    assert happened(stream, gone, limit=9, **EVERY_10S)[1:] == [("a", R, 80)]
    assert happened(stream, gone, query_offset="30s", **EVERY_10S)[1:] == [("a", R, 110)]


# ---- compat: prometheus

COMPAT: dict[str, Any] = {"compat": "prometheus", **EVERY_10S}


def test_under_compat_a_threshold_is_evaluated_on_the_grid():
    """What is over when an evaluation comes is not seen."""
    stream = in_order([said(at, (XA, value)) for at, value in ((0, 0), (3, 1), (7, 0), (13, 1))], ticks(0.5, 40.5))

    assert happened(stream, rule("x > 0"), **EVERY_10S) == [("a", F, 3), ("a", R, 7), ("a", F, 13)]
    assert happened(stream, rule("x > 0"), **COMPAT) == [("a", F, 20)]


def test_under_compat_vanished_data_is_false():
    stream = in_order(steadily(1, 0, 20, XA), ticks(0.5, 140.5))

    assert happened(stream, rule("x > 0"), **EVERY_10S) == [("a", F, 0)]
    assert happened(stream, rule("x > 0"), **COMPAT) == [("a", F, 0), ("a", R, 80)]
    assert happened(stream, rule("x > 0", keep_firing_for="20s"), **COMPAT) == [("a", F, 0), ("a", R, 100)]


def test_under_compat_pending_alerts_whose_data_vanished_are_dropped():
    stream = in_order(steadily(1, 0, 20, XA), steadily(1, 100, 140, XA), ticks(0.5, 140.5))

    assert happened(stream, rule("x > 0", **{"for": "30s"}), staleness=15 * S, **COMPAT) == [
        ("a", F, 30), ("a", R, 40), ("a", F, 130)
    ]  # fmt: skip


def test_under_compat_our_clock_counts():
    """a is an hour behind: nothing of it is seen. b is right."""
    stream = in_order(steadily(1, 0, 60, XA, ahead=-HOUR), steadily(1, 0, 60, XB), ticks(0.5, 60.5))

    assert happened(stream, rule("x > 0"), **EVERY_10S) == [("a", F, -HOUR), ("b", F, 0)]
    assert happened(stream, rule("x > 0"), **COMPAT) == [("b", F, 0)]
    assert happened(stream, rule("count(x) < 2"), **COMPAT) == [("", F, 0)]


@pytest.mark.parametrize(
    "expr", ["x > 0", "last_over_time(x[1m]) > 0", "sum(x) > 0", "x + 0 > 0", "timestamp(x) > 1.6e9"]
)
def test_under_compat_what_is_of_a_later_instant_is_not_seen(expr: str):
    """a's clock is an hour ahead; and a reading may be newer than the instant for which the tick evaluates."""
    ahead = in_order(steadily(1, 0, 60, XA, ahead=HOUR), ticks(0.5, 60.5))
    if "timestamp" not in expr:
        newer: Stream = [said(1, (XA, 0)), Tick(seconds(1)), said(10.3, (XA, 1)), Tick(seconds(10.5))]
        assert happened(newer, rule(expr), **COMPAT) == []

    assert happened(ahead, rule(expr), **COMPAT) == []


def test_under_compat_downtime_is_silence_as_in_prometheus():
    stream: Stream = [said(0, (XA, 1)), *ticks(1, 12), *ticks(HOUR, HOUR + 12)]

    assert happened(stream, rule("x > 0"), **EVERY_10S) == [("a", F, 0)]
    assert happened(stream, rule("x > 0"), **COMPAT) == [("a", F, 0), ("a", R, HOUR)]


def test_compat_is_a_matter_of_one_group():
    """The same rule with it and without it, in one engine."""
    both = rules_of(rule("x > 0"), **COMPAT) + rules_of(rule("x > 0", alert="B"), **EVERY_10S)
    subject = Engine(both, table_of(*SERIES), staleness=lambda _: 60 * S)

    events = run(subject, batches(in_order(steadily(1, 0, 20, XA), ticks(0.5, 140.5))))

    assert [(e.rule, str(e.state)) for e in events] == [("g/B", F), ("g/A", F), ("g/A", R)]


def test_an_alert_that_begins_to_be_kept_leaves_no_room_for_another_one():
    """a is false from 30 s on, and goes on for 20 s more."""
    stream = in_order(steadily(1, 0, 21, XA), steadily(0, 21, 60, XA), steadily(1, 21, 60, XB), ticks(0.5, 60.5))

    assert happened(stream, rule("x > 0", keep_firing_for="20s"), limit=1, **EVERY_10S) == [
        ("a", F, 0), ("a", R, 50), ("b", F, 50),
    ]  # fmt: skip
