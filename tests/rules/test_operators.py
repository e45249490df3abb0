"""Laws of operators on vectors: which elements find each other, and which labels what they give has."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules import ExpressionError, query_range
from telemetry import SeriesTable
from tests.rules.expressions import SERIES, any_expressions, expressions, found_by_reference, nameless
from tests.rules.notation import T0, S, instant, table_of
from tests.rules.promql_reference_functions import EvaluationError

PLANT = {
    'x{device="a"}': 7, 'x{device="b"}': 2, 'x{device="s", site="p"}': 5,
    'y{device="a"}': 3, 'y{device="c"}': 9, 'y{device="s", site="q"}': 5,
    'z{device="a", state="off"}': 0, 'z{device="a", state="on"}': 1,
}  # fmt: skip


def found(expr: str, plant: dict[str, float] | None = None) -> dict[str, float]:
    return instant(expr, PLANT if plant is None else plant)


# ---- names


@pytest.mark.parametrize(
    "expr",
    ["x", "+x", "x > 3", "3 < x", "x == x", "x and x", "x unless z", "x > ignoring(state) y or x", '{__name__="x"}'],
)
def test_the_metric_name_is_kept_by_selection_and_filters(expr: str):
    assert all(name.startswith("x{") for name in found(expr))
    assert found(expr)


@pytest.mark.parametrize(
    "expr",
    ["x + 1", "-x", "x - x", "x / y", "abs(x)", "clamp_min(x, 3)", "x > bool 3", "x >= bool x", "age(x)", "age(x) < 3",
     "x > on(device) y", "x + on(device) y"],
)  # fmt: skip
def test_the_metric_name_is_dropped_by_what_gives_another_quantity(expr: str):
    assert all(name.startswith("{") for name in found(expr))
    assert found(expr)


# ---- matching


@pytest.mark.parametrize(
    ("expr", "elements"),
    [
        ("x + y", {'{device="a"}': 10}),
        ("x + on(device) y", {'{device="a"}': 10, '{device="s"}': 10}),
        ("x + ignoring(site) y", {'{device="a"}': 10, '{device="s"}': 10}),
        ("x > y", {'x{device="a"}': 7}),
        ("y < x", {'y{device="a"}': 3}),
        ("x >= on(device) y", {'{device="a"}': 7, '{device="s"}': 5}),
        ("x == bool on(device) y", {'{device="a"}': 0, '{device="s"}': 1}),
        ("x - on(device, site) y", {'{device="a"}': 4}),
        ('x * on(device) z{state="on"}', {'{device="a"}': 7}),
        ('x * ignoring(state) z{state="on"}', {'{device="a"}': 7}),
        ("x + z", {}),
        ("x + nothing", {}),
    ],
)
def test_one_to_one(expr: str, elements: dict[str, float]):
    assert found(expr) == elements


@pytest.mark.parametrize(
    ("expr", "side"),
    [
        ("x + on(device) z", "right"),
        ("z + on(device) x", "left"),
        ("z == on(device) z", "(left|right)"),
        ("x > ignoring(state) z", "right"),
        ("x and x + on(device) z", "right"),
        ("-(x > bool on(device) z)", "right"),
    ],
)
def test_two_elements_at_once_on_one_side_are_an_error(expr: str, side: str):
    with pytest.raises(ExpressionError, match=rf'two elements of the match group \{{device="a"\}} on the {side} side'):
        found(expr)


def test_two_elements_at_once_are_an_error_on_the_right_even_if_nothing_on_the_left_meets_them():
    """On the left they are none, then: so it is in Prometheus, which numbers the right side first."""
    with pytest.raises(ExpressionError, match="on the right side"):
        found('x{device="b"} + on(device) z')
    assert found('z + on(device) x{device="b"}') == {}
    assert found("nothing + on(device) z") == {}


def test_two_elements_of_which_one_is_there_match():
    assert found("x + on(device) (z == 1)") == {'{device="a"}': 8}
    assert found("(z < 1) + on(device) x") == {'{device="a"}': 7}


@pytest.mark.parametrize(
    ("expr", "elements"),
    [
        ("x and y", {'x{device="a"}': 7}),
        ("x and on(device) y", {'x{device="a"}': 7, 'x{device="s", site="p"}': 5}),
        ("x and on(device) z", {'x{device="a"}': 7}),
        ("z and on(device) x", {'z{device="a", state="off"}': 0, 'z{device="a", state="on"}': 1}),
        ("x and on(device) (z == 5)", {}),
        ("x unless y", {'x{device="b"}': 2, 'x{device="s", site="p"}': 5}),
        ("x unless on(device) y", {'x{device="b"}': 2}),
        ("x unless ignoring(site) y", {'x{device="b"}': 2}),
        ("x unless on(device) (y > 4)", {'x{device="a"}': 7, 'x{device="b"}': 2}),
        ("x > 3 or y", {'x{device="a"}': 7, 'x{device="s", site="p"}': 5, 'y{device="c"}': 9,
                        'y{device="s", site="q"}': 5}),
        ("x > 3 or on(device) y", {'x{device="a"}': 7, 'x{device="s", site="p"}': 5, 'y{device="c"}': 9}),
        ("x > 9 or on(device) z", {'z{device="a", state="off"}': 0, 'z{device="a", state="on"}': 1}),
        ("z or on(device) x", {'z{device="a", state="off"}': 0, 'z{device="a", state="on"}': 1, 'x{device="b"}': 2,
                               'x{device="s", site="p"}': 5}),
        ("x and y or x < 3 unless z", {'x{device="a"}': 7, 'x{device="b"}': 2}),
        ("nothing or x < 3", {'x{device="b"}': 2}),
    ],
)  # fmt: skip
def test_sets(expr: str, elements: dict[str, float]):
    assert found(expr) == elements


def test_a_filter_keeps_the_value_and_bool_gives_the_truth():
    assert found("x > 4") == {'x{device="a"}': 7, 'x{device="s", site="p"}': 5}
    assert found("4 < x") == found("x > 4")
    assert found("x > bool 4") == {'{device="a"}': 1, '{device="b"}': 0, '{device="s", site="p"}': 1}


def test_nan_passes_no_filter_but_is_an_element():
    plant = {'x{device="a"}': float("nan"), 'y{device="a"}': 1.0}

    assert found("x > 0 or x <= 0 or x == x", plant) == {}
    assert list(found("x != x", plant)) == ['x{device="a"}']
    assert found("y and x", plant) == {'y{device="a"}': 1}
    assert found("y unless x", plant) == {}


values = st.one_of(st.integers(-3, 8).map(float), st.sampled_from([float("nan"), float("inf"), 2.5]))


Outcome = list[tuple[dict[str, str], str]] | str


@settings(max_examples=150)
@given(st.one_of(expressions, any_expressions), st.dictionaries(st.sampled_from(SERIES), values, max_size=9))
def test_any_expression_gives_what_the_reference_finds_or_is_an_error_in_both(expr: str, plant: dict[str, float]):
    table = table_of(*SERIES)
    newest = {SERIES.index(name): (T0, value) for name, value in plant.items()}

    assert by_query(expr, table, newest) == by_reference(expr, table, newest)


def by_query(expr: str, table: SeriesTable, newest: dict[int, tuple[int, float]]) -> Outcome:
    stored = {i: (np.array([time]), np.array([value])) for i, (time, value) in newest.items()}
    try:
        there = query_range(
            expr, table, lambda ids, *_: {i: stored[i] for i in ids if i in stored}, T0, T0, S, staleness=60 * S
        )
    except ExpressionError:
        return "an error"
    return nameless((labels, float(v[0])) for labels, _, v in there)


def by_reference(expr: str, table: SeriesTable, newest: dict[int, tuple[int, float]]) -> Outcome:
    try:
        return found_by_reference(expr, table, newest, T0, 60 * S)
    except EvaluationError:
        return "an error"


@pytest.mark.parametrize(
    ("expr", "elements"),
    [
        ("x > ignoring(__name__) y", {'{device="a"}': 7}),
        ('x{device="a"} + on(__name__, device) x', {'{device="a"}': 14}),
    ],
)
def test_the_metric_name_named_in_matching(expr: str, elements: dict[str, float]):
    assert found(expr) == elements
