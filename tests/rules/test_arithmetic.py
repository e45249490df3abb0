"""Laws of PromQL's arithmetic at its edges: what upstream's Go gives is what numpy must give here."""

import math

import numpy as np
import pytest

from rules.arithmetic import FUNCTIONS, OPERATORS
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
        (NAN, "^", 0, 1), (1, "^", NAN, 1), (0, "^", -1, INF), (-0.0, "^", -1, -INF), (-1, "^", INF, 1),
        (0.5, "^", INF, 0), (10, "^", 400, INF),
    ],
)  # fmt: skip
def test_operators_give_what_ieee_754_and_go_give(a: float, op: str, b: float, result: float):
    assert same(float(OPERATORS[op](np.float64(a), np.float64(b))), result)


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
        ("clamp", NAN, (1, 3), NAN), ("clamp", 2, (3, 3), 3), ("clamp", 2, (NAN, 3), NAN),
        ("clamp_min", 1, (3,), 3), ("clamp_min", 5, (3,), 5), ("clamp_min", -INF, (3,), 3),
        ("clamp_min", NAN, (3,), NAN),
        ("clamp_max", 5, (3,), 3), ("clamp_max", 1, (3,), 1), ("clamp_max", NAN, (3,), NAN),
        ("sqrt", 9, (), 3), ("sqrt", -1, (), NAN), ("sqrt", -0.0, (), -0.0), ("exp", 0, (), 1), ("exp", 1000, (), INF),
        ("exp", -INF, (), 0), ("ln", 1, (), 0), ("ln", 0, (), -INF), ("ln", -1, (), NAN), ("ln", INF, (), INF),
        ("log2", 8, (), 3), ("log2", 0, (), -INF), ("log10", 1000, (), 3), ("log10", -1, (), NAN),
        ("sgn", 7, (), 1), ("sgn", -INF, (), -1), ("sgn", 0, (), 0), ("sgn", -0.0, (), -0.0), ("sgn", NAN, (), NAN),
    ],
)  # fmt: skip
def test_functions_give_what_upstream_gives(function: str, value: float, parameters: tuple[float, ...], result: float):
    assert same(float(FUNCTIONS[function](np.array([value], float), *parameters)[0]), result)


@pytest.mark.parametrize(("function", "limit"), [("clamp_min", INF), ("clamp_max", -INF)])
def test_an_infinite_limit_clamps_even_nan(function: str, limit: float):
    assert FUNCTIONS[function](np.array([NAN]), limit)[0] == limit


def test_nothing_warns():
    """Warnings are errors in these tests, so an overflow that numpy complains about would end here."""
    strange = np.array([0, -0.0, NAN, INF, -INF, 1e308, -1e308, 5e-324])

    for operator in OPERATORS.values():
        operator(strange[:, None], strange[None, :])
    for name, function in FUNCTIONS.items():
        function(strange, *{"clamp": (-1.0, 1.0), "clamp_min": (0.0,), "clamp_max": (0.0,)}.get(name, ()))


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
