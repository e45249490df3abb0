"""Laws of recording rules: elements become samples of series of their own, which the rules after them read at once."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest

from rules import GONE, STALE, Engine, Recorded
from telemetry import Tick
from tests.rules.notation import T0, S, batches, rules_of, run, table_of, written
from tests.rules.plant import HOUR, SERIES, XA, XB, YA, Stream, engine, happened, record, rule, said, ticks, told
from tests.rules.test_grid_rules import EVERY_10S, F, R, in_order, steadily
from tests.rules.test_snapshots import stored_and_loaded


def taken(subject: Engine) -> list[tuple[str, float, float | str]]:
    """What was recorded since the last call: series, second, and value, `gone` or `stale`."""
    return [(written(dict(r.labels)), (r.time - T0) / S, shown(r)) for r in subject.take_recorded()]


def shown(sample: Recorded) -> float | str:
    markers = {struct.pack("d", GONE): "gone", struct.pack("d", STALE): "stale"}
    return markers.get(struct.pack("d", sample.value), sample.value)


def recorded(stream: Stream, *rules: dict[str, Any], **more: Any) -> list[tuple[str, float, float | str]]:
    subject = engine(*rules, **(EVERY_10S | more))
    run(subject, batches(stream))
    return taken(subject)


SUM = record("total", "sum(x)")


# ---- what is recorded


def test_at_each_instant_of_the_grid_each_element_is_a_sample():
    stream = in_order([said(0, (XA, 1), (XB, 2)), said(7, (XB, 5)), said(9, (XA, 3))], ticks(0, 21))

    assert recorded(stream, record("double", "x * 2")) == [
        ('double{device="a"}', 0, 2), ('double{device="b"}', 0, 4),
        ('double{device="a"}', 10, 6), ('double{device="b"}', 10, 10),
        ('double{device="a"}', 20, 6), ('double{device="b"}', 20, 10),
    ]  # fmt: skip


def test_what_was_taken_is_not_given_again():
    subject = engine(SUM, **EVERY_10S)

    run(subject, batches([said(0, (XA, 1)), *ticks(1, 11)]))
    assert taken(subject) == [("total{}", 0, 1), ("total{}", 10, 1)]
    assert taken(subject) == []
    run(subject, batches(ticks(11, 21)))
    assert taken(subject) == [("total{}", 20, 1)]


def test_samples_are_in_the_order_of_the_rules():
    stream: Stream = [said(0, (XA, 1), (YA, 2)), *ticks(1, 3)]

    assert [name for name, *_ in recorded(stream, record("b", "y"), record("a", "x"), record("c", "a + on() b"))] == [
        'b{device="a"}', 'a{device="a"}', "c{}",
    ]  # fmt: skip


def test_a_scalar_is_recorded_without_labels():
    assert recorded(ticks(0, 11), record("one", "vector(1)"), record("half", "scalar(one) / 2")) == [
        ("one{}", 0, 1), ("half{}", 0, 0.5), ("one{}", 10, 1), ("half{}", 10, 0.5),
    ]  # fmt: skip


def test_nan_is_a_value_like_any_other():
    ((name, at, value),) = recorded([said(0, (XA, math.nan)), *ticks(1, 3)], record("same", "x"))

    assert (name, at) == ('same{device="a"}', 0)
    assert isinstance(value, float)
    assert math.isnan(value)


# ---- labels


def test_the_rules_labels_stand_over_those_of_the_elements_and_an_empty_one_takes_away():
    series = ['x{device="a", site="p", room="1"}']
    labels = {"site": "all", "room": "", "of": "x"}

    assert recorded([said(0, (0, 7)), *ticks(1, 3)], record("y", "x", labels=labels), series=series) == [
        ('y{device="a", of="x", site="all"}', 0, 7)
    ]


def test_elements_of_the_same_labels_are_an_error_and_nothing_is_recorded():
    subject = engine(record("y", "x", labels={"device": "any"}), rule("y > 0"), **EVERY_10S)

    events = run(subject, batches([said(0, (XA, 1)), *ticks(1, 11), said(11, (XB, 0)), *ticks(12, 31)]))

    assert taken(subject) == [('y{device="any"}', 0, 1), ('y{device="any"}', 10, 1)]
    assert "two elements have the same labels" in subject.errors()["g/y"]
    assert told(events) == [("any", F, 0)]


def test_when_the_duplicate_is_gone_recording_goes_on_and_no_error_is_shown():
    subject = engine(record("y", "x > 0", labels={"device": "any"}), **EVERY_10S)

    run(subject, batches([said(0, (XA, 1), (XB, 1)), *ticks(1, 12)]))
    assert (taken(subject), list(subject.errors())) == ([], ["g/y"])
    run(subject, batches([said(12, (XB, 0)), *ticks(13, 22)]))
    assert (taken(subject), subject.errors()) == ([('y{device="any"}', 20, 1)], {})


def test_an_error_of_the_expression_records_nothing_and_what_was_recorded_stays():
    series = ['x{device="a"}', 'z{device="a", state="on"}', 'z{device="a", state="off"}']
    subject = engine(record("y", "x + on(device) z"), rule("y > 0"), series=series, **EVERY_10S)

    events = run(subject, batches([said(0, (0, 1), (1, 1)), *ticks(1, 11), said(11, (2, 1)), *ticks(12, 41)]))

    assert [at for _, at, _ in taken(subject)] == [0, 10]
    assert list(subject.errors()) == ["g/y"]
    assert told(events) == [("a", F, 0)]


def test_a_second_rule_that_makes_the_same_series_is_in_error():
    subject = engine(SUM, record("total", "sum(y)"), rule("max_over_time(total[30s]) > 5"), **EVERY_10S)

    events = run(subject, batches([said(1, (XA, 1), (YA, 9)), *ticks(2, 11)]))

    assert taken(subject) == [("total{}", 0, 1), ("total{}", 10, 1)]
    assert list(subject.errors()) == ["g/total#2"]
    assert events == []


def test_rules_that_make_different_series_of_one_metric_get_along():
    stream: Stream = [said(0, (XA, 1), (YA, 9)), *ticks(1, 3)]

    assert recorded(stream, SUM, record("total", "sum(y)", labels={"of": "y"}), record("most", "max(total)")) == [
        ("total{}", 0, 1), ('total{of="y"}', 0, 9), ("most{}", 0, 9),
    ]  # fmt: skip


def test_beyond_the_limit_of_the_group_nothing_is_recorded():
    series = [f'x{{device="{i}"}}' for i in range(4)]
    subject = engine(record("y", "x > 0"), series=series, limit=2, **EVERY_10S)

    run(subject, batches([said(0, (0, 1), (1, 1)), *ticks(1, 11), said(11, (2, 1)), *ticks(12, 22)]))

    assert [(name, at) for name, at, _ in taken(subject)] == [
        ('y{device="0"}', 0), ('y{device="1"}', 0), ('y{device="0"}', 10), ('y{device="1"}', 10),
    ]  # fmt: skip
    assert subject.errors() == {"g/y": "3 elements are more than the group's limit of 2"}


# ---- the rules after it


def test_a_chain_of_rules_is_one_evaluation():
    """Three rules deep, at the same tick."""
    chain = [SUM, record("mean", "total / on() count(x)"), record("high", "mean > 5"), rule("high")]
    subject = engine(*chain, **EVERY_10S)

    (event,) = run(subject, batches([said(0, (XA, 4), (XB, 8)), Tick(T0)]))

    assert (told([event]), event.value) == ([("", F, 0)], 6)
    assert taken(subject) == [("total{}", 0, 12), ("mean{}", 0, 6), ("high{}", 0, 6)]


def test_a_rule_before_its_record_sees_the_sample_of_the_evaluation_before():
    stream = in_order(steadily(1, 0, 20, XA), steadily(9, 20, 60, XA), ticks(0.5, 60.5))

    assert happened(stream, SUM, rule("total > 5"), **EVERY_10S) == [("", F, 20)]
    assert happened(stream, rule("total > 5"), SUM, **EVERY_10S) == [("", F, 30)]


def test_rules_of_other_groups_read_it_at_their_own_intervals():
    rules = rules_of(SUM, **EVERY_10S) + rules_of(rule("total > 5"), interval="30s")  # T0 is 20 s after a multiple
    stream = in_order(steadily(1, 0, 11, XA), steadily(9, 11, 60, XA), ticks(0.5, 60.5))

    events = run(Engine(rules, table_of(*SERIES), staleness=lambda _: 60 * S), batches(stream))

    assert told(events) == [("", F, 40)]


def test_a_recorded_series_is_found_by_whatever_matches_it():
    for expr in ('{__name__=~"tot.*"} > 5', '{__name__!="x", __name__!="", of="x"} > 5', 'total{device=""} > 5'):
        total = record("total", "sum(x)", labels={"of": "x"})
        assert happened([said(0, (XA, 9)), Tick(T0)], total, rule(expr), **EVERY_10S) == [("", F, 0)]


def test_a_recorded_series_has_windows_offsets_and_an_age():
    stream = in_order(steadily(1, 0, 10, XA), steadily(9, 11, 14, XA), steadily(2, 15, 80, XA), ticks(0.5, 80.5))
    ten = in_order(steadily(1, 0, 10, XA), steadily(9, 10, 20, XA), steadily(2, 20, 80, XA), ticks(0.5, 80.5))

    assert happened(stream, SUM, rule("max_over_time(total[30s]) > 5"), **EVERY_10S) == []
    assert happened(ten, SUM, rule("max_over_time(total[30s]) > 5"), **EVERY_10S) == [("", F, 10), ("", R, 40)]
    assert happened(ten, SUM, rule("total offset 20s > 5"), **EVERY_10S) == [("", F, 30), ("", R, 40)]
    assert happened(ten, SUM, rule("avg_over_time(total[20s]) == 5"), **EVERY_10S) == [("", F, 10), ("", R, 20)]
    assert happened(ten, SUM, rule("max_over_time((total * 2)[20s:10s]) > 5"), **EVERY_10S) == [
        ("", F, 10),
        ("", R, 30),
    ]


def test_thresholds_of_a_site_are_matched_with_its_devices():
    """group_left with a recorded series."""
    series = ['x{device="1", site="p"}', 'x{device="2", site="p"}', 'x{device="3", site="q"}',
              'goal{device="hub", site="p"}', 'goal{device="hub2", site="q"}']  # fmt: skip
    rules = [
        record("site:goal", "max by (site) (goal)", labels={"owner": "ops"}),
        rule("x > on(site) group_left(owner) site:goal"),
    ]
    subject = engine(*rules, series=series, **EVERY_10S)
    stream: Stream = [said(0, (0, 5), (1, 7), (2, 7), (3, 6), (4, 8)), *ticks(1, 11), said(11, (4, 6)), *ticks(12, 21)]

    events = run(subject, batches(stream))

    assert told(events) == [("2", F, 0), ("3", F, 20)]
    assert dict(events[0].labels) == {"alertname": "A", "device": "2", "site": "p", "owner": "ops"}


def test_rules_that_read_no_recorded_series_go_on_per_reading():
    assert happened([said(0, (XA, 0)), said(3, (XA, 9))], SUM, rule("x > 5"), **EVERY_10S) == [("a", F, 3)]


def test_a_recorded_series_is_fresh_for_five_minutes_whatever_the_staleness_of_devices():
    """y is made at 20 s for the last time; then it is in error, so it is neither made nor ended."""
    series = ['x{device="a"}', 'z{device="a", state="on"}', 'z{device="a", state="off"}']
    stream = in_order(steadily(1, 0, 400, 0, 1), [said(at, (2, 1)) for at in range(21, 400, 2)], ticks(0.5, 400.5))
    ((_, _, fired), (_, _, gone)) = happened(
        stream, record("y", "x + on(device) z"), rule("y > 0", no_data="resolve"), series=series, staleness=10 * S,
        **EVERY_10S,
    )  # fmt: skip

    assert (fired, gone) == (0, 20 + 300)


# ---- elements that end


def test_an_element_that_ends_is_gone_and_one_whose_data_vanished_is_stale():
    stream = in_order(steadily(9, 0, 20, XA, XB), steadily(1, 20, 100, XB), ticks(0.5, 100.5))
    found = recorded(stream, record("hot", "x > 5"))

    assert [(at, value) for name, at, value in found if '"b"' in name] == [(0, 9), (10, 9), (20, "gone")]
    assert [(at, value) for name, at, value in found if '"a"' in name and at >= 70] == [(70, 9), (80, "stale")]


def test_an_element_that_was_never_there_is_not_recorded_as_gone():
    stream = in_order(steadily(1, 0, 20, XA), ticks(0.5, 100.5))

    assert recorded(stream, record("hot", "x > 5")) == []


def test_an_element_that_vanished_and_then_ended_is_gone():
    """It is stale from 80 s on, and back at 101 s, below the limit."""
    stream = in_order(steadily(9, 0, 20, XA), steadily(1, 101, 120, XA), ticks(0.5, 120.5))
    found = recorded(stream, record("hot", "x > 5"))

    assert [(at, value) for _, at, value in found if at >= 70] == [(70, 9), (80, "stale"), (110, "gone")]


def test_an_element_comes_back_after_it_ended():
    stream = in_order(steadily(9, 0, 20, XA), steadily(1, 20, 40, XA), steadily(8, 40, 60, XA), ticks(0.5, 60.5))

    assert recorded(stream, record("hot", "x > 5"))[2:5] == [
        ('hot{device="a"}', 20, "gone"), ('hot{device="a"}', 40, 8), ('hot{device="a"}', 50, 8),
    ]  # fmt: skip


ENDS = in_order(steadily(9, 0, 20, XA), steadily(1, 20, 100, XA), ticks(0.5, 100.5))
VANISHES = in_order(steadily(9, 0, 20, XA), ticks(0.5, 100.5))


@pytest.mark.parametrize(
    ("no_data", "ended", "vanished"),
    [
        ("keep", [(F, 0), (R, 20)], [(F, 0)]),
        ("resolve", [(F, 0), (R, 20)], [(F, 0), (R, 80)]),
        ("fire", [(F, 0), (R, 20)], [(F, 0)]),
    ],
)
@pytest.mark.parametrize("expr", ["hot", "hot > 5", "hot + 0", "sum by (device) (hot)", "hot and on(device) hot"])
def test_an_alert_on_a_recorded_series_is_the_alert_on_its_expression(
    no_data: str, ended: list[tuple[str, float]], vanished: list[tuple[str, float]], expr: str
):
    """An element that ends resolves it at once, not after five minutes; vanished data is still vanished data."""
    rules = (record("hot", "x > 5"), rule(expr, no_data=no_data))

    assert [(state, at) for _, state, at in happened(ENDS, *rules, **EVERY_10S)] == ended
    assert [(state, at) for _, state, at in happened(VANISHES, *rules, **EVERY_10S)] == vanished


def test_the_end_of_an_element_is_no_sample_of_a_window():
    """9 at 0 and 10 s, gone from 20 s on: (20, 50] is empty."""
    rules = (record("hot", "x > 5"), rule("count_over_time(hot[30s]) > 0", no_data="resolve"))

    assert happened(ENDS, *rules, **EVERY_10S) == [("a", F, 0), ("a", R, 40)]


def test_a_window_of_a_series_that_ended_ran_empty_as_nothing_is_missing():
    """Under keep as well: the element is gone, its data has not vanished."""
    rules = (record("hot", "x > 5"), rule("count_over_time(hot[30s]) > 0", no_data="keep"))

    assert happened(ENDS, *rules, **EVERY_10S) == [("a", F, 0), ("a", R, 40)]
    assert happened(VANISHES, *rules, **EVERY_10S) == [("a", F, 0)]


def test_absent_of_a_recorded_series_is_told_when_it_ends():
    assert happened(ENDS, record("hot", "x > 5"), rule("absent(hot)"), **EVERY_10S) == [("", F, 20)]


# ---- clocks, offsets, restarts


@pytest.mark.parametrize("ahead", [-HOUR, HOUR])
def test_what_is_recorded_is_of_our_clock(ahead: float):
    stream = in_order(steadily(1, 0, 20, XA, ahead=ahead), ticks(0.5, 20.5))

    assert recorded(stream, record("same", "x")) == [('same{device="a"}', 0, 1), ('same{device="a"}', 10, 1)]


def test_under_a_query_offset_samples_are_of_the_instant_that_was_looked_at():
    """As in Prometheus. So a chain is as of the same instant, and not delayed twice."""
    stream = in_order(steadily(1, 0, 20, XA), steadily(9, 20, 60, XA), ticks(0.5, 60.5))

    assert recorded(stream, SUM, query_offset="10s")[:3] == [("total{}", 0, 1), ("total{}", 10, 1), ("total{}", 20, 9)]
    assert happened(stream, SUM, rule("total > 5"), query_offset="10s", **EVERY_10S) == [("", F, 30)]


CHAIN = [
    SUM,
    record("hot", "x > 5"),
    record("hot", "hot > 7", labels={"very": "yes"}),
    record("number", 'count_values("value", x)'),
    rule("total > 9", **{"for": "15s"}),
    rule("hot", alert="B", keep_firing_for="12s", no_data="resolve"),
    rule("max_over_time(total[30s]) > 12 and on() number", alert="C"),
    rule("number > 1", alert="D"),
]
LIFE = in_order(
    steadily(6, 0, 20, XA, XB), steadily(9, 20, 31, XA), steadily(1, 33, 50, XA), steadily(8, 41, 70, XB),
    ticks(0.5, 160.5),
)  # fmt: skip


@pytest.mark.parametrize("at", range(0, len(LIFE), 7))
def test_a_restart_in_the_middle_shows_neither_in_events_nor_in_what_is_recorded(at: int):
    whole, first, second = (engine(*CHAIN, **EVERY_10S) for _ in range(3))
    expected = run(whole, batches(LIFE))

    before = run(first, batches(LIFE[:at]))
    second.restore(stored_and_loaded(first.snapshot()))
    after = run(second, batches(LIFE[at:]))

    assert list(map(repr, before + after)) == list(map(repr, expected))
    assert taken(first) + taken(second) == taken(whole)
    assert {e.rule for e in expected} == {"g/A", "g/B", "g/C", "g/D"}


def test_a_restored_engine_is_equal_to_the_one_that_was_left_recorded_series_included():
    first, second = engine(*CHAIN, **EVERY_10S), engine(*CHAIN, **EVERY_10S)
    run(first, batches(LIFE[:90]))
    second.restore(stored_and_loaded(first.snapshot()))

    assert {name: column.tolist() for name, column in second.snapshot().items() if column.dtype != float} == {
        name: column.tolist() for name, column in first.snapshot().items() if column.dtype != float
    }
    assert sorted(map(repr, first.active())) == sorted(map(repr, second.active()))
