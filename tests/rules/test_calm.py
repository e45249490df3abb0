"""Laws of calm: where nothing is evaluated, nothing would have been found."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules.arithmetic import OPERATORS
from rules.bank import Bank
from rules.calm import band_of
from rules.leaves import Members
from rules.reading_rule import ReadingRule
from rules.syntax import COMPARISON
from telemetry import Tick
from tests.rules.notation import T0, S, Said, batches, live, rules_of, run, table_of
from tests.rules.reference import Reference
from tests.rules.test_engine_laws import STALENESS, TABLE, comparable, engine_of

BANDED = [
    "x > 8", "x >= 9", "8 < x", "x < 2", "x <= 1", "x == 9", "avg_over_time(x[10s]) > 6.5",
    "avg_over_time(x[4s]) < 2.5", "max_over_time(x[7s]) >= 9", "min_over_time(x[12s]) < 1.5",
    "last_over_time(x[9s]) == 9", "first_over_time(x[5s]) > 8", "max_over_time(x[6s] offset 4s) > 8",
    "8.5 <= max_over_time(x[3s])",
]  # fmt: skip
NOT_BANDED = [
    "x + 1 > 8", "x > bool 8", "timestamp(x) > 8", "x offset 5s > 8", "age(x) > 8", "sum_over_time(x[10s]) > 8",
    "stddev_over_time(x[10s]) > 8", "avg_over_time(x[10s]) != 8", "rate(x[10s]) > 8", "avg_over_time(x[10s]) > Inf",
    "quantile_over_time(2, x[10s]) > 8", "x > scalar(y)",
]  # fmt: skip
NUMBERS = [-math.inf, -1e300, -1.0, -0.0, 0.0, 5e-324, 1.0, 7.0, 1e300, math.inf, math.nan]


def bands_of(expr: str, **more: str):
    (rule,) = rules_of({"alert": "A", "expr": expr, **more})
    return band_of(rule, ReadingRule(rule, lambda selector: Members(selector, [].__getitem__)).compiled.top)


@pytest.mark.parametrize("expr", BANDED)
def test_comparisons_of_readings_and_of_means_of_windows_have_a_band(expr):
    assert bands_of(expr) is not None
    assert bands_of(expr, no_data="fire") is None


@pytest.mark.parametrize("expr", NOT_BANDED)
def test_nothing_else_has_one(expr):
    assert bands_of(expr) is None


@pytest.mark.parametrize("compare", sorted(COMPARISON))
@pytest.mark.parametrize("limit", NUMBERS)
def test_no_comparison_holds_inside_the_band(compare, limit):
    text = {math.inf: "Inf", -math.inf: "-Inf"}.get(limit, "NaN" if math.isnan(limit) else repr(limit))
    band = bands_of(f"x {compare} {text}")
    near = np.array(
        [n for each in NUMBERS for n in (each, np.nextafter(each, -math.inf), np.nextafter(each, math.inf))]
    )
    holds = OPERATORS[compare](near, limit)
    if math.isfinite(limit):
        assert not (holds & ~band.excludes(near)).any()
        assert not (band.excludes(near) & ~holds & np.isfinite(near)).any()
    else:
        assert band is None


@st.composite
def mostly_calm(draw):
    """Rules, and readings of three series every second or so, now and then far up or down; some gaps; ticks."""
    alerts = st.fixed_dictionaries(
        {
            "alert": st.just("A"),
            "expr": st.sampled_from(BANDED),
            "for": st.sampled_from(["0s", "2s"]),
            "keep_firing_for": st.sampled_from(["0s", "3s"]),
            "no_data": st.sampled_from(["keep", "resolve"]),
        }
    )
    parsed = rules_of(*draw(st.lists(alerts, min_size=1, max_size=4)))
    values = st.sampled_from([3.0, 4.0, 5.0, 5.5] * 3 + [9.0, 1.0, 20.0, math.nan, math.inf, -math.inf])
    now, items = T0, []
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([S // 2, S, S, S, 2 * S, 5 * S, 25 * S]))
        if draw(st.integers(0, 5)) == 0:
            items.append(Tick(now))
        rows = [
            (s, now - draw(st.sampled_from([0, 0, S // 3])), draw(values)) for s in (0, 4, 7) if draw(st.booleans())
        ]
        items.append(Said(tuple(rows), now))
    return parsed, live(items)


@settings(max_examples=80)
@given(mostly_calm(), st.sets(st.integers(0, 60)), st.integers(0, 60))
def test_an_engine_that_leaves_calm_series_alone_equals_the_reference(drawn, cuts, at):
    parsed, stream = drawn
    reference = Reference(parsed, table_of(*TABLE), STALENESS)
    for item in stream:
        if isinstance(item, Tick):
            reference.tick(item.time)
        elif item.rows:
            reference.message(item.rows, item.received)

    events = run(engine_of(parsed), batches(stream, cuts))

    assert comparable(events) == comparable(reference.out)
    first, second = engine_of(parsed), engine_of(parsed)
    before = run(first, batches(stream[:at]))
    second.restore(first.snapshot())
    assert list(map(repr, before + run(second, batches(stream[at:])))) == list(map(repr, events))


def test_what_is_calm_is_not_evaluated_until_a_sample_is_outside_and_again_when_no_window_can_hold_it(monkeypatch):
    looked: list[int] = []
    strands = Bank._strands
    monkeypatch.setattr(Bank, "_strands", lambda bank, touched: looked.append(len(touched)) or strands(bank, touched))
    subject = engine_of(rules_of({"alert": "A", "expr": "avg_over_time(x[3s]) > 8"}))
    values = [5.0, 5.0, 9.0, 5.0, 5.0, 5.0, 5.0]
    seen = []
    for i, value in enumerate(values):
        looked.clear()
        run(subject, batches([Said(((0, T0 + i * S, value),), T0 + i * S)]))
        seen.append(bool(looked))

    calm_again = False  # just after the fifth reading the one outside was still in the window
    assert seen == [False, False, True, True, True, True, calm_again]
