"""Laws of `age()`: how long a series has been silent, at the instant itself, whatever it is combined with."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings

from telemetry import AlertEvent
from tests.rules.notation import S, batches, run
from tests.rules.plant import XA, YA, Stream, engine, happened, messages, rule, said, stream_of, ticks

NS = 1e-9


@pytest.mark.parametrize(
    ("expr", "at"),
    [
        ("age(x) > 6", 6 + NS), ("age(x) >= 6", 6), ("6 < age(x)", 6 + NS), ("age(x) > 0.5", 0.5 + NS),
        ("age(x) - 2 > 4", 6 + NS), ("age(x) * 2 >= 12", 6), ("-age(x) <= -6", 6), ("age(x) >= on(device) y", 7),
        ("(age(x) > bool 6) == 1", 6 + NS), ("age(x) > 6 and on(device) y > 0", 6 + NS),
        ("y > 0 unless on(device) age(x) <= 6", 6 + NS), ("(y > 9) or on(device) (age(x) >= 6)", 6),
    ],
)  # fmt: skip
def test_silence_is_noticed_at_its_instant(expr: str, at: float):
    """By ticks, or by a reading of another series, which come when they come."""
    silent = rule(expr)
    start: Stream = [said(0, (XA, 1), (YA, 7))]
    by_a_reading: Stream = [*start, said(4.9, (YA, 7)), said(9.7, (YA, 7))]

    assert happened([*start, *ticks(0.3, 10.3)], silent) == [("a", "firing", round(at, 9))]
    if "y" in expr:
        assert happened(by_a_reading, silent) == [("a", "firing", round(at, 9))]


@pytest.mark.parametrize("expr", ["age(x) > 6", "age(x) - 0 > 6"])
def test_a_reading_ends_silence_at_its_own_instant(expr: str):
    stream = [said(0, (XA, 1)), *ticks(1, 10), said(10, (XA, 1)), said(13, (XA, 1)), said(21.5, (XA, 1))]

    assert happened(stream, rule(expr)) == [
        ("a", "firing", 6 + NS), ("a", "resolved", 10), ("a", "firing", 19 + NS), ("a", "resolved", 21.5),
    ]  # fmt: skip


@pytest.mark.parametrize("expr", ["age(x) >= 6", "age(x) - 0 >= 6"])
def test_at_the_instant_itself_the_reading_decides(expr: str):
    assert happened([said(0, (XA, 1)), *ticks(2, 7), said(6, (XA, 1)), said(12, (XA, 1))], rule(expr)) == []


@pytest.mark.parametrize("expr", ["age(x) < 3", "age(x) - 0 < 3", "age(x) <= 3 - 1e-9"])
def test_a_condition_may_end_by_time_alone(expr: str):
    stream = [said(0, (XA, 1)), *ticks(1, 6), said(6, (XA, 1)), said(8, (XA, 1)), said(12, (XA, 1))]

    assert happened(stream, rule(expr)) == [
        ("a", "firing", 0), ("a", "resolved", 3), ("a", "firing", 6), ("a", "resolved", 11), ("a", "firing", 12),
    ]  # fmt: skip


@pytest.mark.parametrize("expr", ["age(x) > 60", "age(x) - 0 > 60"])
def test_age_knows_no_staleness(expr: str):
    assert happened([said(0, (XA, 1)), *ticks(1, 65)], rule(expr), staleness=5 * S) == [("a", "firing", 60 + NS)]


PAIRS = {
    "above": ("age(x) > 4", "age(x) - 0 > 4"),
    "at or above": ("age(x) >= 4", "age(x) - 0 >= 4"),
    "below": ("age(x) < 3", "age(x) - 0 < 3"),
    "and": ("age(y) > 4 and on(device) x > 0", "age(y) - 0 > 4 and on(device) x > 0"),
    "unless": ("x > 0 unless on(device) age(y) > 3", "x > 0 unless on(device) age(y) - 0 > 3"),
    "or": ("x > 0 or on(device) age(y) > 3", "x > 0 or on(device) age(y) - 0 > 3"),
}


def without_values(events: list[AlertEvent]) -> list[AlertEvent]:
    return [dataclasses.replace(e, value=0) for e in events]


@pytest.mark.parametrize("pair", PAIRS)
@settings(max_examples=6)
@given(messages)
@pytest.mark.slow
def test_an_instant_found_by_bisection_is_the_one_known_beforehand(pair, drawn):
    """`age(x) - 0` is `age(x)`, but only of the latter are the instants known at which a comparison changes."""
    stream = batches(stream_of(drawn))
    timers = {"for": "2s", "keep_firing_for": "1s"}

    one, other = (run(engine(rule(expr), rule(expr, **timers), staleness=8 * S), stream) for expr in PAIRS[pair])

    assert without_values(one) == without_values(other)
