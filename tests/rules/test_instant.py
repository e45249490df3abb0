"""Laws of queries at one instant: the four kinds of results, and their order."""

from __future__ import annotations

import math

import numpy as np
import pytest

from rules import STALE, ExpressionError, Stored, on_grid, parse, query_instant
from tests.rules.notation import T0, S, written
from tests.rules.test_query import Samples
from tests.rules.test_query import Stored as InMemory

X, Y = 'x{device="a"}', 'x{device="b"}'
SAMPLES: Samples = {X: [(0, 1), (10, 2), (20, STALE), (30, 3), (40.5, 4)], Y: [(35, math.nan)]}


def stored(samples: Samples = SAMPLES, **more) -> Stored:
    memory = InMemory(samples)
    return Stored(memory.table, memory.read, **more)


def answered(expr: str, at: float = 40, samples: Samples = SAMPLES) -> tuple[str, dict[str, dict[float, float]]]:
    """Kind, and element as written → value by second."""
    found = query_instant(expr, stored(samples), T0 + round(at * S))
    return found.kind, {
        written(labels): {(int(t) - T0) / S: float(v) for t, v in zip(times, values, strict=True)}
        for labels, times, values in found.elements
    }


def test_a_vector_a_scalar_and_a_string():
    assert answered('x{device="a"}') == ("vector", {X: {40: 3}})
    assert answered("x + 1", 45)[0] == "vector"
    assert answered("2 * 3") == ("scalar", {"{}": {40: 6}})
    assert answered("time()")[0] == answered("scalar(x)")[0] == "scalar"
    assert answered("vector(1)") == ("vector", {"{}": {40: 1}})
    assert query_instant("'a\"b'", stored(), T0).kind == "string"
    assert query_instant("'a\"b'", stored(), T0).text == 'a"b'


def test_a_range_gives_the_samples_of_its_window_left_open_without_markers():
    assert answered('x{device="a"}[30s]') == ("matrix", {X: {30: 3}})
    assert answered('x{device="a"}[31s]', 40.5) == ("matrix", {X: {10: 2, 30: 3, 40.5: 4}})
    assert answered('x{device="a"}[1h] offset 25s') == ("matrix", {X: {0: 1, 10: 2}})
    assert answered(f'(x{{device="a"}}[20s] @ {T0 // S + 12})') == ("matrix", {X: {0: 1, 10: 2}})
    assert answered('x{device="a"}[1h] @ end()') == answered('x{device="a"}[1h]')
    assert answered("nothing[1h]") == ("matrix", {})
    assert answered('x{device="a"}[5s]', 25) == ("matrix", {})


def test_a_subquery_gives_its_evaluations_at_multiples_of_the_step():
    samples: Samples = {X: [(0, 1), (10, 2), (30, 3)]}
    assert answered("(x + 1)[40s:20s]", 45, samples)[1] == {'{device="a"}': {20: 3, 40: 4}}
    assert answered("x[40s:20s]", 40, samples)[1] == {X: {20: 2, 40: 3}}
    assert answered("x[40s:20s] offset 20s", 45, samples)[1] == {X: {0: 1, 20: 2}}
    assert answered("(x @ end())[40s:20s]", 45, {X: [(0, 1), (42, 5)]})[1] == {X: {20: 5, 40: 5}}
    assert answered("x[5s:20s]", 35, samples) == ("matrix", {})


VALUES: Samples = {f'x{{device="d{i}"}}': [(0, value)] for i, value in ((2, 3), (10, math.nan), (1, -1), (9, 7))}


@pytest.mark.parametrize(
    ("expr", "devices"),
    [
        ("x", ["d1", "d10", "d2", "d9"]),
        ("sort(x)", ["d1", "d2", "d9", "d10"]),
        ("sort_desc(x)", ["d9", "d2", "d1", "d10"]),
        ("topk(2, x)", ["d9", "d2"]),
        ("bottomk(2, x)", ["d1", "d2"]),
        ('sort_by_label(x, "device")', ["d1", "d2", "d9", "d10"]),
        ('sort_by_label_desc(x, "device")', ["d10", "d9", "d2", "d1"]),
    ],
)
def test_elements_come_in_the_order_that_is_asked_for(expr: str, devices: list[str]):
    found = query_instant(expr, stored(VALUES), T0)
    assert [labels["device"] for labels, _, _ in found.elements] == devices


@pytest.mark.parametrize(
    "expr", ["max_over_time(x[100y:1ms])", "x[100y:1ms]", "max_over_time(min_over_time(x[1d:1s])[1d:1s])"]
)
def test_a_subquery_that_is_too_large_is_refused_before_anything_is_made_for_it(expr: str):
    with pytest.raises(ExpressionError, match="too"):
        query_instant(expr, stored(), T0)
    with pytest.raises(ExpressionError, match="a subquery of 30006999 points is too large"):
        on_grid(parse("sum_over_time(x[50m:1s])"), stored(), T0, T0 + 9_998 * S, S)


def test_a_query_may_be_stopped_between_its_parts():
    def stop() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        query_instant("x", stored(pause=stop), T0)


def test_steps_times_elements_are_limited():
    expression = parse("x")
    assert on_grid(expression, stored(most_cells=20), T0, T0 + 9 * S, S)
    with pytest.raises(ExpressionError, match="2 elements × 11 steps are too many"):
        on_grid(expression, stored(most_cells=20), T0, T0 + 10 * S, S)


def test_instants_far_away_are_no_harm():
    for at in (-6 * 10**18, 6 * 10**18):
        for expr in ("x", "x offset 100y", "rate(x[100y])", "x @ 0", "age(x)", "x[100y]", "x offset -100y"):
            found = query_instant(expr, stored(), at)
            assert all(np.isfinite(times).all() for _, times, _ in found.elements)
