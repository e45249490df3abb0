"""Laws of expressions that only a grid can evaluate: absent, values that are counted, scalars, subqueries; and what
vanished data means to aggregations. The grid itself is in test_grid_rules.py.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.rules.notation import T0, S, batches, run
from tests.rules.plant import (
    EVERY_10S,
    XA,
    XB,
    YA,
    YB,
    F,
    R,
    Stream,
    engine,
    happened,
    in_order,
    rule,
    said,
    seconds,
    steadily,
    ticks,
)

# ---- silence: absent(), count_values


def test_absent_tells_of_what_was_never_there():
    subject = engine(rule('absent(x{device="q", site=~"s.*"})', labels={"severity": "page"}), **EVERY_10S)

    (event,) = run(subject, batches(ticks(0, 40)))

    assert (event.starts_at, event.value) == (seconds(0), 1)
    assert dict(event.labels) == {"alertname": "A", "device": "q", "severity": "page"}


@pytest.mark.parametrize(
    ("expr", "begins"),
    [
        ('absent(x{device="a"})', 80),
        ('absent_over_time(x{device="a"}[30s])', 50),
        ('absent(x{device="a"} offset 15s)', 100),
    ],
)  # fmt: skip
def test_absent_tells_of_a_device_that_fell_silent_until_it_is_back(expr: str, begins: float):
    """Its last reading is of 18 s; data is seen for 60 s."""
    back = 103 if "offset" not in expr else 103 + 15
    stream = in_order(steadily(1, 0, 20, XA), steadily(1, 103, 140, XA), ticks(0.5, 140.5))
    found = [(state, at) for _, state, at in happened(stream, rule(expr), **EVERY_10S) if at > 20]

    assert found == [(F, begins), (R, -(-back // 10) * 10)]


def test_absent_of_a_condition_is_not_told_by_vanished_data_but_by_the_condition():
    stream = in_order(steadily(9, 0, 20, XA), steadily(1, 20, 40, XA), ticks(0.5, 40.5))

    assert happened(stream, rule("absent(x > 5)"), **EVERY_10S) == [("", F, 20)]


VALUES = [
    'count_values("v", x) > 0',
    'count_values by (device) ("v", x) > 0',
    'count_values("v", x) + on() group_left sum(y) > 0',
    'count_values("v", x) > 0 or on(v) y > 0',
    'y > 0 or on(v) count_values("v", x) > 0',
    'label_replace(count_values("v", x), "v", "$1$1", "v", "(.*)") > 0 or max by (device) (y)',
]


@pytest.mark.parametrize("expr", VALUES)
@pytest.mark.parametrize("at", range(0, 90, 7))
def test_values_that_were_counted_are_the_same_after_a_restart(expr: str, at: int):
    """Values, and series beside them, appear one after the other."""
    stream = in_order(
        [said(1, (XA, 1)), said(11, (YA, 5)), said(22, (XA, 2))],
        [said(33, (XB, 1)), said(44, (YB, 6)), said(55, (XA, 7))],
        ticks(0.5, 80.5),
    )  # fmt: skip
    counting = rule(expr, annotations={"n": "{{ $labels.v }} {{ $labels.device }}: {{ $value }}"})
    whole, first, second = (engine(counting, **EVERY_10S) for _ in range(3))
    expected = run(whole, batches(stream))

    before = run(first, batches(stream[:at]))
    second.restore(first.snapshot())
    after = run(second, batches(stream[at:]))

    assert list(map(repr, before + after)) == list(map(repr, expected))
    assert sorted(map(repr, second.active())) == sorted(map(repr, whole.active()))
    assert len(expected) > 3


# ---- scalars


def test_a_scalar_is_an_alert_without_labels_of_its_own():
    for expr in (
        "vector(1)",
        "time() > bool 5",
        "scalar(sum(x)) == bool 0",
        "pi()",
        "1 + time()",
        "pi() > bool 3",
        "3",
        "1 + 1",
    ):
        (event,) = run(engine(rule(expr), **EVERY_10S), batches(ticks(3, 60)))
        assert (event.labels, event.starts_at) == ((("alertname", "A"),), seconds(0))


def test_time_is_that_of_the_grid():
    (event,) = run(engine(rule("vector(time())"), **EVERY_10S), batches(ticks(3, 20)))

    assert event.value == T0 / S


def test_a_comparison_with_the_time_of_day_begins_and_ends_on_the_grid():
    """T0 is 20 s after a minute, which is an odd one."""
    odd = rule("vector(1) unless minute() % 2 == 0")

    assert happened(ticks(0, 100), odd, **EVERY_10S) == [("", F, 0), ("", R, 40)]


# ---- subqueries


def test_a_subquery_sees_aggregations_as_they_were():
    """The sum is 9 at 10 s only, which a subquery of 20 s at multiples of 5 s sees until before 30 s."""
    stream = in_order([said(0, (XA, 1), (XB, 1)), said(8, (XA, 8)), said(13, (XA, 1))], ticks(0.5, 45.5))
    for expr in ("max_over_time(sum(x)[20s:5s]) > 8", "max_over_time(sum(x)[20s:]) > 8"):
        assert happened(stream, rule(expr), **EVERY_10S) == [("", F, 10), ("", R, 30)]


def test_a_subquery_without_a_step_takes_the_interval_of_the_group():
    """Twelve seconds that no multiple of 10 s falls into are not seen."""
    stream = in_order([said(0, (XA, 1)), said(11, (XA, 8)), said(18, (XA, 1))], ticks(0.5, 45.5))

    assert happened(stream, rule("max_over_time(sum(x)[20s:]) > 5"), **EVERY_10S) == []
    assert happened(stream, rule("max_over_time(sum(x)[20s:5s]) > 5"), **EVERY_10S) == [("", F, 20), ("", R, 40)]
    assert happened(stream, rule("max_over_time(sum(x)[20s:])", alert="B"), interval="5s")[0][1:] == (F, 0)


# ---- data that vanishes, on the grid


@pytest.mark.parametrize(
    ("no_data", "events"),
    [
        ("keep", [("", F, 0)]),
        ("resolve", [("", F, 0), ("", R, 80), ("", F, 200)]),
        ("fire", [("", F, 0)]),
    ],
)
def test_where_all_of_a_groups_data_vanished_no_data_says_what_becomes_of_its_alert(no_data: str, events: Any):
    """Last reading at 18 s, seen until 78 s; the next one at 199 s."""
    stream = in_order(steadily(9, 0, 20, XA), steadily(9, 199, 220, XA), ticks(0.5, 220.5))

    assert happened(stream, rule("sum(x) > 5", no_data=no_data), **EVERY_10S) == events


def test_the_time_without_data_does_not_count_for_for_on_the_grid():
    """Known at 0 … 70 s, unknown at 80 … 190 s, and known again: 100 s are over at 230 s."""
    stream = in_order(steadily(9, 0, 20, XA), steadily(9, 199, 260, XA), ticks(0.5, 260.5))

    assert happened(stream, rule("sum(x) > 5", **{"for": "100s"}), **EVERY_10S) == [("", F, 220)]


def test_where_some_of_a_groups_data_vanished_the_rest_decides():
    stream = in_order(steadily(4, 0, 20, XA), steadily(4, 0, 200, XB), ticks(0.5, 200.5))

    assert happened(stream, rule("sum(x) > 5"), **EVERY_10S) == [("", F, 0), ("", R, 80)]


@pytest.mark.parametrize(
    ("no_data", "events"), [("keep", [("a", F, 30), ("a", R, 60)]), ("resolve", [("a", F, 30), ("a", R, 50)])]
)
def test_a_subquery_with_too_few_points_for_its_function_has_lost_its_data(no_data: str, events: Any):
    """It is above 5 at 20 and 30 s; at 50 s one point of it is left, of which no difference can be told."""
    stream: Stream = [said(19, (XA, 6)), said(29, (XA, 9)), said(39, (XA, 1)), *ticks(20.5, 70.5)]
    rising = rule("delta((x > 5)[30s:10s]) > 0", no_data=no_data)

    assert happened(in_order(stream), rising, **EVERY_10S) == events


@pytest.mark.parametrize(("no_data", "events"), [("keep", [("a", F, 20)]), ("resolve", [("a", F, 20), ("a", R, 100)])])
def test_a_subquery_whose_points_have_all_vanished_has_lost_its_data(no_data: str, events: Any):
    """x counts for 60 s, up to 79 s: at 100 s no point of the window has it."""
    hot = rule("max_over_time(x[30s:10s]) > 5", no_data=no_data)

    assert happened([said(19, (XA, 6)), *ticks(20.5, 150.5)], hot, **EVERY_10S) == events


def test_a_subquery_with_an_offset_looks_back_by_both_beyond_what_is_fresh():
    """The sum is 9 at 10 s only; the subquery is of (t - 40 s, t - 20 s]."""
    stream = in_order(steadily(1, 0, 8, XA), [said(8, (XA, 9))], steadily(1, 12, 70, XA), ticks(0.5, 70.5))
    expr = "max_over_time(sum(x)[20s:5s] offset 20s) > 8"

    assert happened(stream, rule(expr), staleness=5 * S, **EVERY_10S) == [("", F, 30), ("", R, 50)]
