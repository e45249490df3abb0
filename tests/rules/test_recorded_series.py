"""Laws of recorded series over time: elements that end, data that vanishes, clocks, and restarts in the middle."""

from __future__ import annotations

import pytest

from tests.rules.notation import batches, run
from tests.rules.plant import (
    EVERY_10S,
    HOUR,
    XA,
    XB,
    F,
    R,
    Sample,
    engine,
    happened,
    in_order,
    record,
    recorded,
    rule,
    steadily,
    taken,
    ticks,
)
from tests.rules.test_snapshots import stored_and_loaded

SUM = record("total", "sum(x)")

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


@pytest.fixture(scope="module")
def whole_life() -> tuple[list[str], list[Sample], set[str]]:
    """Events and records without a restart, and the rules that fired."""
    whole = engine(*CHAIN, **EVERY_10S)
    events = run(whole, batches(LIFE))
    return list(map(repr, events)), taken(whole), {e.rule for e in events}


@pytest.mark.parametrize("at", range(0, len(LIFE), 13))
def test_a_restart_in_the_middle_shows_neither_in_events_nor_in_what_is_recorded(
    at: int, whole_life: tuple[list[str], list[Sample], set[str]]
):
    first, second = engine(*CHAIN, **EVERY_10S), engine(*CHAIN, **EVERY_10S)

    before = run(first, batches(LIFE[:at]))
    second.restore(stored_and_loaded(first.snapshot()))
    after = run(second, batches(LIFE[at:]))

    events, records, fired = whole_life
    assert list(map(repr, before + after)) == events
    assert taken(first) + taken(second) == records
    assert fired == {"g/A", "g/B", "g/C", "g/D"}


def test_a_restored_engine_is_equal_to_the_one_that_was_left_recorded_series_included():
    first, second = engine(*CHAIN, **EVERY_10S), engine(*CHAIN, **EVERY_10S)
    run(first, batches(LIFE[:90]))
    second.restore(stored_and_loaded(first.snapshot()))

    assert {name: column.tolist() for name, column in second.snapshot().items() if column.dtype != float} == {
        name: column.tolist() for name, column in first.snapshot().items() if column.dtype != float
    }
    assert sorted(map(repr, first.active())) == sorted(map(repr, second.active()))


def test_where_one_of_two_elements_with_the_same_labels_vanished_the_other_is_recorded():
    """a is seen until 78 s, b from 90 s on; the rule's label makes them one series."""
    stream = in_order(steadily(9, 0, 20, XA), steadily(7, 85, 110, XB), ticks(0.5, 110.5))
    found = recorded(stream, record("any", "x", labels={"device": "any"}))

    assert [(at, value) for _, at, value in found if at >= 70] == [(70, 9), (80, "stale"), (90, 7), (100, 7)]


def test_a_rate_of_a_series_that_ended_ends_with_the_last_two_samples():
    """9 at 0 and 10 s, gone from 20 s on: one sample in (0, 30], of which nothing is missing."""
    rules = (record("hot", "x > 5"), rule("rate(hot[30s]) == 0", no_data="keep"))

    assert happened(ENDS, *rules, **EVERY_10S) == [("a", F, 10), ("a", R, 30)]
