"""Laws of PromQL's arithmetic at its edges: what upstream's Go gives is what numpy must give here."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from rules.arithmetic import EMPTY, FUNCTIONS, OPERATORS
from rules.calendar import CALENDAR
from tests.rules.notation import instant

NAN, INF = math.nan, math.inf


def same(a: float, b: float) -> bool:
    """Equal, NaN being equal to itself and -0 another number than 0."""
    return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))


@pytest.mark.parametrize(
    ("a", "op", "b", "result"),
    [
        (1, "/", 0, INF), (-1, "/", 0, -INF), (1, "/", -0.0, -INF), (0, "/", 0, NAN), (INF, "/", INF, NAN),
        (1e308, "*", 10, INF), (0, "*", INF, NAN), (INF, "-", INF, NAN), (INF, "+", 1, INF), (-0.0, "+", 0, 0),
        (5, "%", 3, 2), (-5, "%", 3, -2), (5, "%", -3, 2), (-5, "%", -3, -2), (5.5, "%", 2, 1.5), (-4, "%", 2, -0.0),
        (5, "%", 0, NAN), (INF, "%", 3, NAN), (5, "%", INF, 5), (-5, "%", INF, -5), (NAN, "%", 3, NAN),
        (2, "^", 10, 1024), (2, "^", -1, 0.5), (-2, "^", 2, 4), (-2, "^", 3, -8), (-8, "^", 1 / 3, NAN), (0, "^", 0, 1),
        (NAN, "^", 0, 1), (NAN, "^", -0.0, 1), (1, "^", NAN, 1), (NAN, "^", 1, NAN), (-1, "^", INF, 1),
        (-1, "^", -INF, 1), (1, "^", INF, 1), (2, "^", NAN, NAN), (0, "^", -1, INF), (-0.0, "^", -1, -INF),
        (-0.0, "^", -2, INF), (-0.0, "^", -0.5, INF), (-0.0, "^", -INF, INF), (-0.0, "^", 3, -0.0), (-0.0, "^", 2, 0),
        (-0.0, "^", INF, 0), (0.5, "^", INF, 0), (-0.5, "^", -INF, INF), (-2, "^", INF, INF), (-INF, "^", 3, -INF),
        (-INF, "^", -3, -0.0), (-INF, "^", 0.5, INF), (INF, "^", -1, 0), (10, "^", 400, INF), (-10, "^", 401, -INF),
        (0, "atan2", 0, 0), (0, "atan2", -0.0, math.pi), (-0.0, "atan2", -0.0, -math.pi), (-0.0, "atan2", 0, -0.0),
        (1, "atan2", 0, math.pi / 2), (-1, "atan2", -1, -3 * math.pi / 4), (INF, "atan2", INF, math.pi / 4),
        (INF, "atan2", -INF, 3 * math.pi / 4), (1, "atan2", INF, 0), (1, "atan2", -INF, math.pi),
        (NAN, "atan2", 1, NAN), (1, "atan2", NAN, NAN),
    ],
)  # fmt: skip
def test_operators_give_what_ieee_754_and_go_give(a: float, op: str, b: float, result: float):
    """In columns, too: numpy has other code for those, with vector instructions."""
    assert same(float(OPERATORS[op](np.float64(a), np.float64(b))), result)
    assert all(same(x, result) for x in OPERATORS[op](np.full(19, float(a)), np.full(19, float(b))).tolist())
    assert all(same(x, result) for x in OPERATORS[op](np.full(19, float(a)), float(b)).tolist())


@pytest.mark.parametrize("other", [NAN, 0.0, INF])
def test_nan_equals_nothing_and_is_in_no_order(other: float):
    holds = {op for op in ("==", "!=", ">", "<", ">=", "<=") if OPERATORS[op](np.float64(NAN), np.float64(other))}

    assert holds == {"!="}


@pytest.mark.parametrize(
    ("a", "b", "holds"),
    [
        (1, 2, {"<", "<=", "!="}),
        (2, 1, {">", ">=", "!="}),
        (-0.0, 0, {"==", ">=", "<="}),
        (INF, INF, {"==", ">=", "<="}),
        (-INF, INF, {"<", "<=", "!="}),
    ],
)
def test_comparisons(a: float, b: float, holds: set[str]):
    assert {op for op in ("==", "!=", ">", "<", ">=", "<=") if OPERATORS[op](np.float64(a), np.float64(b))} == holds


@pytest.mark.parametrize(
    ("function", "value", "parameters", "result"),
    [
        ("abs", -3, (), 3), ("abs", -INF, (), INF), ("abs", -0.0, (), 0), ("abs", NAN, (), NAN),
        ("ceil", 1.2, (), 2), ("ceil", -1.2, (), -1), ("ceil", -0.5, (), -0.0), ("ceil", INF, (), INF),
        ("floor", 1.8, (), 1), ("floor", -1.2, (), -2), ("floor", NAN, (), NAN),
        ("round", 2.5, (), 3), ("round", -2.5, (), -2), ("round", 0.5, (), 1), ("round", 3.5, (), 4),
        ("round", 2.4999, (), 2), ("round", NAN, (), NAN), ("round", INF, (), INF),
        ("round", 7, (5,), 5), ("round", 7.5, (5,), 10), ("round", 0.25, (0.1,), 0.3), ("round", 1.15, (0.5,), 1),
        ("round", 7, (-5,), 5), ("round", 3, (0,), NAN),
        ("clamp", 5, (1, 3), 3), ("clamp", 0, (1, 3), 1), ("clamp", 2, (1, 3), 2), ("clamp", INF, (1, 3), 3),
        ("clamp", NAN, (1, 3), NAN), ("clamp", 2, (3, 3), 3), ("clamp", 2, (NAN, 3), NAN), ("clamp", 2, (1, NAN), NAN),
        ("clamp", NAN, (INF, INF), INF), ("clamp", NAN, (-INF, -INF), -INF), ("clamp", 2, (INF, NAN), INF),
        ("clamp", -0.0, (0, 3), 0), ("clamp", 0, (-3, -0.0), -0.0),
        ("clamp_min", 1, (3,), 3), ("clamp_min", 5, (3,), 5), ("clamp_min", -INF, (3,), 3),
        ("clamp_min", NAN, (3,), NAN), ("clamp_min", INF, (NAN,), INF), ("clamp_min", -0.0, (0,), 0),
        ("clamp_min", 0, (-0.0,), 0), ("clamp_min", NAN, (INF,), INF), ("clamp_min", 1, (NAN,), NAN),
        ("clamp_max", 5, (3,), 3), ("clamp_max", 1, (3,), 1), ("clamp_max", NAN, (3,), NAN),
        ("clamp_max", 0, (-0.0,), -0.0), ("clamp_max", -INF, (NAN,), -INF), ("clamp_max", NAN, (-INF,), -INF),
        ("sqrt", 9, (), 3), ("sqrt", -1, (), NAN), ("sqrt", -0.0, (), -0.0), ("exp", 0, (), 1), ("exp", 1000, (), INF),
        ("exp", -INF, (), 0), ("ln", 1, (), 0), ("ln", 0, (), -INF), ("ln", -1, (), NAN), ("ln", INF, (), INF),
        ("log2", 8, (), 3), ("log2", 0, (), -INF), ("log10", 1000, (), 3), ("log10", -1, (), NAN),
        ("sin", INF, (), NAN), ("cos", -INF, (), NAN), ("tan", INF, (), NAN), ("sin", -0.0, (), -0.0),
        ("cos", 0, (), 1), ("asin", 1, (), math.pi / 2), ("asin", 1.5, (), NAN), ("acos", 1, (), 0),
        ("acos", -1.5, (), NAN), ("atan", INF, (), math.pi / 2), ("atan", -0.0, (), -0.0), ("sinh", -INF, (), -INF),
        ("cosh", -INF, (), INF), ("sinh", 1000, (), INF), ("tanh", INF, (), 1), ("tanh", -INF, (), -1),
        ("asinh", -INF, (), -INF), ("acosh", 1, (), 0), ("acosh", 0.5, (), NAN), ("acosh", INF, (), INF),
        ("atanh", 1, (), INF), ("atanh", -1, (), -INF), ("atanh", 2, (), NAN), ("atanh", -0.0, (), -0.0),
        ("deg", math.pi, (), 180), ("deg", 1e308, (), INF), ("rad", 180, (), math.pi), ("rad", 1e308, (), INF),
        ("rad", -0.0, (), -0.0), ("sgn", 7, (), 1), ("sgn", -INF, (), -1), ("sgn", 0, (), 0), ("sgn", -0.0, (), -0.0),
        ("sgn", NAN, (), NAN),
    ],
)  # fmt: skip
def test_functions_give_what_upstream_gives(function: str, value: float, parameters: tuple[float, ...], result: float):
    assert same(float(FUNCTIONS[function](np.array([value], float), *parameters)[0]), result)


LIMITS = {"clamp": 2, "clamp_min": 1, "clamp_max": 1, "round": 1}

edges = st.sampled_from([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 0.5, 2.5, 1e308, 5e-324])
numbers = st.one_of(edges, st.floats())


@given(st.sampled_from(sorted(LIMITS)), st.lists(st.tuples(numbers, numbers, numbers), max_size=20))
def test_a_column_of_parameters_gives_row_by_row_what_numbers_give(name: str, rows: list[tuple[float, ...]]):
    """A parameter may be a scalar expression: another number at each row."""
    count = LIMITS[name]
    columns = [np.array([row[i] for row in rows], float) for i in range(1 + count)]

    found = FUNCTIONS[name](*columns).tolist()

    assert len(found) == len(rows)
    for row, result in zip(rows, found, strict=True):
        assert same(float(FUNCTIONS[name](np.array([row[0]]), *row[1 : 1 + count])[0]), result)


def gos_max(a: float, b: float) -> float:
    if INF in (a, b):
        return INF
    if math.isnan(a) or math.isnan(b):
        return NAN
    return a if (a, math.copysign(1, a)) > (b, math.copysign(1, b)) else b


@given(numbers, numbers, numbers)
def test_clamping_is_by_gos_max_and_min(value: float, low: float, high: float):
    lowered = -gos_max(-high, -value)

    assert same(float(FUNCTIONS["clamp_min"](np.array([value]), low)[0]), gos_max(low, value))
    assert same(float(FUNCTIONS["clamp_max"](np.array([value]), high)[0]), lowered)
    assert same(float(FUNCTIONS["clamp"](np.array([value]), low, high)[0]), gos_max(low, lowered))


def test_clamp_gives_nothing_at_the_rows_where_its_limits_are_crossed():
    assert EMPTY.keys() == {"clamp"}
    assert EMPTY["clamp"](np.array([1, 3, 2, NAN, 0]), np.array([2, 2, 2, 1, NAN])).tolist() == [
        False, True, False, False, False,
    ]  # fmt: skip


MATHEMATICAL = {
    "sin": math.sin, "cos": math.cos, "tan": math.tan, "asin": math.asin, "acos": math.acos, "atan": math.atan,
    "sinh": math.sinh, "cosh": math.cosh, "tanh": math.tanh, "asinh": math.asinh, "acosh": math.acosh,
    "atanh": math.atanh, "sqrt": math.sqrt, "exp": math.exp, "ln": math.log, "log2": math.log2, "log10": math.log10,
    "deg": math.degrees, "rad": math.radians,
}  # fmt: skip


@given(st.sampled_from(sorted(MATHEMATICAL)), st.lists(st.floats(-30, 30), min_size=1, max_size=17))
def test_mathematical_functions_agree_with_the_c_library(name: str, values: list[float]):
    def by_library(value: float) -> float:
        try:
            return MATHEMATICAL[name](value)
        except ValueError:  # outside the domain: the edges are in the table above
            return NAN

    for value, found in zip(values, FUNCTIONS[name](np.array(values)).tolist(), strict=True):
        expected = by_library(value)
        if math.isfinite(expected):
            assert found == pytest.approx(expected, rel=1e-14, abs=1e-14)
        else:
            assert not math.isfinite(found)


@given(numbers, numbers)
def test_powers_agree_with_the_c_library(a: float, b: float):
    try:
        expected = math.pow(a, b)
    except (ValueError, OverflowError):  # where Python raises: the edges are in the table above
        return

    assert float(OPERATORS["^"](np.array([a]), b)[0]) == pytest.approx(expected, rel=1e-14, abs=0, nan_ok=True)


def test_nothing_warns():
    """Warnings are errors in these tests, so an overflow that numpy complains about would end here."""
    strange = np.array([0, -0.0, NAN, INF, -INF, 1e308, -1e308, 5e-324])

    for operator in OPERATORS.values():
        operator(strange[:, None], strange[None, :])
    for name, function in FUNCTIONS.items():
        for limit in strange.tolist():
            function(strange, *[limit] * LIMITS.get(name, 0))


def test_every_function_is_there():
    assert FUNCTIONS.keys() == {
        *MATHEMATICAL, *CALENDAR, "abs", "ceil", "floor", "round", "clamp", "clamp_min", "clamp_max", "sgn",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("expr", "result"),
    [
        ("x - 10", -3), ("10 - x", 3), ("x / 2", 3.5), ("14 / x", 2), ("x % 4", 3), ("9 % x", 2), ("x ^ 2", 49),
        ("2 ^ x", 128), ("-x", -7), ("-x ^ 2", -49), ("2 ^ 3 ^ 2 + x", 519), ("x - 1 - 1", 5), ("x - (1 - 1)", 7),
        ("x + 2 * 3", 13), ("(x + 2) * 3", 27), ("x * 1e3", 7000), ("x + 0x10", 23), ("x * -1", -7), ("+x", 7),
        ("round(x, 5)", 5), ("clamp(x, 1, 3)", 3), ("clamp_min(x, 9)", 9), ("clamp_max(x, 3)", 3), ("abs(-x)", 7),
        ("sgn(x - 8)", -1), ("x > bool 7", 0), ("x >= bool 7", 1), ("7 <= bool x", 1), ("8 <= bool x", 0),
        ("x != bool NaN", 1), ("x < bool Inf", 1), ("x > bool -Inf", 1), ("x + (2 > bool 1)", 8), ("x > 5 * 1", 7),
    ],
)  # fmt: skip
def test_constants_stand_on_the_side_where_they_are_written(expr: str, result: float):
    assert list(instant(expr, {'x{device="d"}': 7}).values()) == [result]


@pytest.mark.parametrize("expr", ["clamp(x, 3, 1)", "clamp(x, 3, 1) > bool 0", "clamp(x, 3, 1) + 1"])
def test_clamp_with_its_limits_crossed_gives_nothing(expr: str):
    assert instant(expr, {'x{device="d"}': 2}) == {}
