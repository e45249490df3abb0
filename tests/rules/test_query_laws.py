"""Queries over all of PromQL give, at every step, what the reference evaluator finds there."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from rules import ExpressionError, Stored, on_grid
from rules.promql import parse
from tests.rules.expressions import SERIES, any_expressions, expressions, track_of
from tests.rules.notation import T0, S, table_of, written
from tests.rules.promql_reference import World, evaluate
from tests.rules.promql_reference_functions import EvaluationError

STALENESS, OWN_STALENESS = 7 * S, {1: 13 * S, 4: 3 * S}
TABLE = table_of(*SERIES)

Rows = list[list[tuple[int, float]]]
"""(second, value) of each series"""
Found = dict[str, dict[int, float]] | None
"""Element as written → second → value; None: an error"""

value = st.one_of(
    st.integers(-3, 8).map(float), st.integers(-3, 8).map(float), st.sampled_from([math.nan, math.inf, -math.inf, 2.5])
)
samples = st.lists(st.tuples(st.integers(0, 40), value), max_size=12, unique_by=lambda s: s[0]).map(sorted)
rows = st.tuples(*[samples for _ in SERIES]).map(list)
grids = st.tuples(st.integers(-5, 30), st.integers(1, 7), st.integers(0, 6))
"""Start, step, and number of further steps"""


def by_query(expr: str, rows: Rows, start: int, step: int, end: int, *, newest: bool = False) -> Found:
    stored = [(np.array([T0 + t * S for t, _ in r], np.int64), np.array([v for _, v in r], np.float64)) for r in rows]

    def read(ids, t0, t1):
        inside = {i: (stored[i][0] >= t0) & (stored[i][0] < t1) for i in ids}
        return {i: (stored[i][0][mask], stored[i][1][mask]) for i, mask in inside.items()}

    def read_at(ids, instants, reach):
        time, value = (np.full((len(ids), len(instants)), nothing) for nothing in (-(1 << 63), math.nan))
        for i, id_ in enumerate(ids):
            for j, instant in enumerate(instants.tolist()):
                for t, v in zip(*(column.tolist() for column in stored[id_]), strict=True):
                    if instant - reach < t <= instant:
                        time[i, j], value[i, j] = t, v
        return time, value

    given_ = Stored(TABLE, read, STALENESS, OWN_STALENESS, read_at=read_at if newest else None)
    try:
        found = on_grid(parse(expr), given_, T0 + start * S, T0 + end * S, step * S)
    except ExpressionError:
        return None
    return {
        written(labels): {(int(t) - T0) // S: float(v) for t, v in zip(times, values, strict=True)}
        for labels, times, values in found
    }


def by_reference(expr: str, rows: Rows, start: int, step: int, end: int) -> Found:
    tracks = [
        track_of(TABLE[i], [(T0 + t * S, v) for t, v in r], staleness=OWN_STALENESS.get(i, STALENESS))
        for i, r in enumerate(rows)
    ]
    world = World(tracks, start=T0 + start * S, end=T0 + end * S)
    found: dict[str, dict[int, float]] = {}
    try:
        for second in range(start, end + 1, step):
            for e in evaluate(parse(expr), T0 + second * S, world):
                if e.value is not None:
                    found.setdefault(written(dict(e.labels)), {})[second] = e.value
    except EvaluationError:
        return None
    return found


def same(a: Found, b: Found) -> bool:
    """But for rounding."""
    if a is None or b is None:
        return a is b
    return {e: set(steps) for e, steps in a.items()} == {e: set(steps) for e, steps in b.items()} and all(
        close(v, b[e][second]) for e, steps in a.items() for second, v in steps.items()
    )


def close(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def check(expr: str, rows: Rows, grid: tuple[int, int, int]) -> None:
    start, step, more = grid
    end = start + step * more
    expected = by_reference(expr, rows, start, step, end)
    for newest in (False, True):
        found = by_query(expr, rows, start, step, end, newest=newest)
        assert same(found, expected), f"query_range: {found}, reference: {expected}"


@settings(max_examples=300, deadline=None)
@given(any_expressions, rows, grids)
def test_a_query_gives_what_the_reference_finds_at_each_step(expr: str, rows: Rows, grid: tuple[int, int, int]):
    check(expr, rows, grid)


@settings(max_examples=150, deadline=None)
@given(expressions, rows, grids)
def test_a_query_of_a_pointwise_expression_as_well(expr: str, rows: Rows, grid: tuple[int, int, int]):
    check(expr, rows, grid)


@settings(max_examples=300)
@given(st.one_of(expressions, any_expressions))
def test_every_random_expression_is_one(expr: str):
    parse(expr)
