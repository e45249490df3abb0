"""Laws of recording rules: elements become samples of series of their own, which the rules after them read at once."""

from __future__ import annotations

import math

from rules import Engine
from telemetry import Tick
from tests.rules.notation import T0, S, batches, rules_of, run, table_of
from tests.rules.plant import (
    EVERY_10S,
    SERIES,
    XA,
    XB,
    YA,
    F,
    R,
    Stream,
    engine,
    happened,
    in_order,
    record,
    recorded,
    rule,
    said,
    steadily,
    taken,
    ticks,
    told,
)

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

    assert taken(subject) == [("total{}", 10, 1)]
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


def test_a_selector_that_names_no_metric_finds_recorded_series_too():
    total = record("total", "sum(x)", labels={"of": "x"})

    assert happened([said(0, (XA, 9)), Tick(T0)], total, rule('{of="x"} > 5'), **EVERY_10S) == [("", F, 0)]
