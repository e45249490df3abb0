"""The reference evaluators themselves, where no promtool can tell: left-open windows, vanished data, the grid.

That the values are right is checked against promtool in tests/integration/test_reference_equals_promtool.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from rules.promql import parse
from rules.syntax import Expression
from telemetry import Tick
from tests.rules.notation import T0, S, rules_of, table_of, written
from tests.rules.plant import SERIES, XA, XB, Stream, rule, said, seconds, ticks, told
from tests.rules.promql_reference import Ending, Track, World, evaluate
from tests.rules.promql_reference_functions import EvaluationError
from tests.rules.reference import Reference
from tests.rules.reference_elements import is_pointwise

X = (("__name__", "x"), ("device", "a"))
Y = (("__name__", "y"), ("device", "a"))


def shown(expr: str, *tracks: Track, at: int = 0) -> dict[str, Any]:
    """Element as written → its value, or `vanished`."""
    return {
        written(dict(e.labels)): "vanished" if e.value is None else e.value
        for e in evaluate(parse(expr), at, World(tracks))
    }


def track(labels: Any, *samples: tuple[int, Any], shift: int = 0) -> Track:
    return Track(labels, [(round(t * S), v) for t, v in samples], staleness=10 * S, shift=shift)


# ---- what an instant sees


def test_a_sample_exactly_as_old_as_the_look_back_or_the_range_is_outside():
    x = track(X, (0, 1), (5, 2))

    assert [shown("sum_over_time(x[5s])", x, at=at * S) for at in (4, 5, 9, 10)] == [
        {'{device="a"}': 1}, {'{device="a"}': 2}, {'{device="a"}': 2}, {'{device="a"}': "vanished"},
    ]  # fmt: skip
    assert shown("x", x, at=15 * S - 1) == {'x{device="a"}': 2}
    assert shown("x", x, at=15 * S) == {'x{device="a"}': "vanished"}
    assert shown("count_over_time(vector(1)[4s:2s])", at=100 * S) == {"{}": 2}


def test_a_series_is_seen_by_its_own_clock():
    x = track(X, (100, 1), (103, 2), shift=95 * S)

    assert shown("x", x, at=7 * S) == {'x{device="a"}': 1}
    assert shown("sum_over_time(x[4s])", x, at=8 * S) == {'{device="a"}': 3}
    assert shown("age(x)", x, at=10 * S) == {'{device="a"}': 2}
    assert shown("max_over_time(x[3s:1s])", x, at=8 * S) == {'{device="a"}': 2}


def test_a_recorded_series_ends_at_once():
    ended, lost = track(X, (0, 1), (2, Ending.ABSENT)), track(Y, (0, 1), (2, Ending.VANISHED))

    assert shown("x or y", ended, lost, at=1 * S) == {'x{device="a"}': 1}
    assert shown('{__name__=~"x|y"}', ended, lost, at=2 * S) == {'y{device="a"}': "vanished"}
    assert shown("count_over_time(x[9s]) + count_over_time(y[9s])", ended, lost, at=2 * S) == {'{device="a"}': 2}
    assert shown("sum_over_time(x[1s])", ended, at=3 * S) == {}


# ---- vanished

FRESH, GONE = track(Y, (0, 3)), track(X, (-50, 5))


@pytest.mark.parametrize(
    ("expr", "there"),
    [
        ("x", True), ("y", False), ("nothing", False), ("x > 9", True), ("y > 9", False), ("-x", True),
        ("age(x)", False),
        ("avg_over_time(x[5s])", True), ("rate(y[5s])", True), ("avg_over_time(nothing[5s])", False),
        ("x + on(device) y", True), ("x + on(device) nothing", False), ("y > on(device) x", True),
        ("x * on(device) group_left() y", True), ("y and on(device) x", True), ("x and on(device) y", True),
        ("y unless on(device) x", False), ("x unless on(device) y", False), ("y or on(device) x", False),
        ("x or on(device) y", True), ("sum(x)", True), ("sum({device='a'})", False), ("topk(1, x)", True),
        ("count(x)", True), ("absent(x)", False), ("scalar(x)", False), ("vector(scalar(x))", False),
        ("absent_over_time(x[5s])", False), ("sum_over_time(x[5s:1s])", True), ("quantile(0.5, x > 1)", True),
        ('label_replace(x, "a", "b", "", "")', True), ("timestamp(x)", True), ('count_values("v", x)', False),
    ],
)  # fmt: skip
def test_what_is_missing_because_data_vanished(expr: str, there: bool):
    assert ("vanished" in shown(expr, GONE, FRESH).values()) == there


def test_two_elements_with_the_same_labels_are_an_error_only_while_both_are_there():
    with pytest.raises(EvaluationError, match="same labels"):
        shown('{__name__=~"x|y"} + 0', track(X, (0, 1)), FRESH)
    assert shown('{__name__=~"x|y"} + 0', FRESH) == {'{device="a"}': 3}


# ---- pointwise or not


@pytest.mark.parametrize(
    ("expr", "pointwise"),
    [
        ("x > 3", True), ("rate(x[5m]) > 1", True), ("x offset 5m - x", True), ("x offset -5m", False),
        ("x @ end()", False), ("sum(x)", False), ("avg_over_time(x[5m:1m])", False), ("x + on(site) y", False),
        ("x and ignoring(device) y", False), ("x * on(device) group_left(site) y", True), ("absent(x)", False),
        ("x > scalar(y)", False), ("vector(1)", False), ("hour() > 3", False), ("hour(x) > 3", True),
        ("x > time()", False), ("time() - timestamp(x)", False), ("timestamp(x) > 3", True), ("age(x) > 3", True),
        ('label_replace(x, "device", "b", "", "")', False), ('label_join(x, "to", "", "device")', True),
        ("recorded > 3", False), ("1 + 1", True), ("round(x, 2 * 3) == 6", True),
        ("predict_linear(x[5m], 60) < 0", True),
    ],
)  # fmt: skip
def test_which_expressions_are_evaluated_at_every_reading(expr: str, pointwise: bool):
    assert is_pointwise(parse(expr), {"recorded"}) == pointwise


# ---- rules at every reading

OFF = 10
"""Seconds after T0 of the first instant of the grid"""


def happened(stream: Stream, *rules: Any) -> list[tuple[str, float]]:
    reference = Reference(rules, table_of(*SERIES), 60 * S)
    for item in stream:
        if isinstance(item, Tick):
            reference.tick(item.time)
        else:
            reference.message(item.rows, item.received)
    return [(state, at - OFF) for _, state, at in told(reference.out)]


@pytest.mark.parametrize(
    ("expr", "events"),
    [
        ("count_over_time(x[5s]) > 0", [("firing", 0), ("resolved", 8)]),
        ("count_over_time(x[5s] offset 2s) > 0", [("firing", 2), ("resolved", 10)]),
        ("count_over_time(x[5s]) > 1", [("firing", 3), ("resolved", 5)]),
        ("x offset 4s > 1", [("firing", 7), ("resolved", 67)]),
    ],
)
def test_samples_come_into_view_and_leave_it_at_their_own_instants(expr: str, events: list[tuple[str, float]]):
    stream: Stream = [said(OFF, (XA, 1)), said(OFF + 3, (XA, 2)), *ticks(OFF + 3.5, OFF + 90)]

    assert happened(stream, *rules_of(rule(expr, no_data="resolve"))) == events


# ---- rules on the grid (of 15 s)


@dataclass(frozen=True)
class Recording:
    record: str
    expression: Expression
    labels: tuple[tuple[str, str], ...] = ()
    interval: int = 15 * S


LABELS = {"device": "all"}


def test_the_grid_begins_at_multiples_of_the_interval():
    assert (T0 + OFF * S) % (15 * S) == 0


@pytest.mark.parametrize(
    ("condition", "more", "events"),
    [
        ("TTTTFFT", {"for": "30s"}, [("firing", 2), ("resolved", 4)]),
        ("TTTTFFFFT", {"for": "30s", "keep_firing_for": "30s"}, [("firing", 2), ("resolved", 6)]),
        ("TTTTFTFFT", {"for": "30s", "keep_firing_for": "45s"}, [("firing", 2)]),
        ("TTFTTTT", {"for": "30s"}, [("firing", 5)]),
        ("FTFT", {}, [("firing", 1), ("resolved", 2), ("firing", 3)]),
    ],
)
def test_the_state_machine_is_that_of_prometheus(condition: str, more: dict[str, str], events: list[tuple[str, int]]):
    stream: Stream = []
    for i, letter in enumerate(condition):
        stream += [said(OFF + 15 * i - 1, (XA, letter == "T"))]
        stream += [Tick(seconds(OFF + 15 * i + later)) for later in (0.5, 5, 9.5)]  # longer gaps would be downtime
    some = rules_of(rule("sum(x) > 0", labels=LABELS, **more))

    assert happened(stream, *some) == [(state, 15 * at) for state, at in events]


def test_what_lies_between_two_instants_of_the_grid_is_not_seen_and_missed_instants_are_not_made_up_for():
    (some,) = rules_of(rule("sum(x) > 0", labels=LABELS))
    between: Stream = [said(9, (XA, 0)), Tick(seconds(11)), said(12, (XA, 1)), said(24, (XA, 0)), Tick(seconds(26))]
    missed: Stream = [said(9, (XA, 0)), Tick(seconds(11)), said(12, (XA, 1)), Tick(seconds(58)), *ticks(59, 62)]

    assert happened(between, some) == []
    assert happened(missed, some) == [("firing", 45)]


def test_the_timers_stand_still_while_data_is_unknown():
    (some,) = rules_of(rule("sum(x) > 0", labels=LABELS, **{"for": "60s"}))
    stream: Stream = [said(9, (XA, 1)), *ticks(10, 100), said(100, (XA, 1)), *ticks(101, 150)]

    assert happened(stream, some) == [("firing", 60 + 30)]  # stale at 69: unknown at 70 and 85


def test_a_recorded_sample_is_seen_by_the_rules_after_it_in_the_same_tick():
    recording = Recording("total", parse("sum by (device) (x)"), (("kind", "sum"),))
    (some,) = rules_of(rule('total{kind="sum"} > 1', labels=LABELS))
    stream: Stream = [said(9, (XA, 2), (XB, 0)), *ticks(10, 12), said(12, (XA, 1)), *ticks(13, 60)]

    assert happened(stream, recording, some) == [("firing", 0), ("resolved", 15)]
    assert happened(stream, some, recording) == [("firing", 15), ("resolved", 30)]


def test_a_recorded_element_that_is_gone_ends_its_series_and_one_that_vanished_does_not():
    filtered = Recording("total", parse("sum(x) > 1"))
    plain = Recording("total", parse("sum(x)"))
    (some,) = rules_of(rule("total > 1", labels=LABELS))
    down: Stream = [said(9, (XA, 2)), *ticks(10, 12), said(12, (XA, 1)), *ticks(13, 60)]
    lost: Stream = [said(9, (XA, 2)), *ticks(10, 600)]

    assert happened(down, filtered, some) == [("firing", 0), ("resolved", 15)]
    assert happened(lost, plain, some) == [("firing", 0)]


def test_a_rule_in_error_stays_as_it_is():
    (some,) = rules_of(rule("x + on() x > 0 and on() vector(1)", labels=LABELS))
    stream: Stream = [said(9, (XA, 1)), *ticks(10, 30), said(31, (XB, 1)), *ticks(32, 60)]

    assert happened(stream, some) == [("firing", 0)]
