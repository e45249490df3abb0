"""Laws of queries over what is stored: selecting series, and evaluating on a grid of instants.

Not here: what random expressions give at each step (test_query_laws.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rules import STALENESS, ExpressionError, is_selector, load_rules, looked_at, query_range, select
from rules.history import MAX_SAMPLES
from rules.promql import Selector, parse
from tests.rules.expressions import SERIES
from tests.rules.notation import T0, S, table_of, written

Samples = dict[str, list[tuple[float, float]]]
"""(seconds, value) of each series, as written"""


class Stored:
    """A store in memory that gives exactly what it is asked for."""

    def __init__(self, samples: Samples) -> None:
        self.samples = list(samples.values())
        self.table = table_of(*samples)
        self.asked: list[int] = []

    def read(self, ids, t0, t1):
        self.asked += ids
        found = {}
        for i in ids:
            rows = [(T0 + round(at * S), value) for at, value in self.samples[i]]
            rows = [row for row in rows if t0 <= row[0] < t1]
            found[i] = (np.array([r[0] for r in rows], np.int64), np.array([r[1] for r in rows], np.float64))
        return found


def queried(
    expr: str, samples: Samples, start: float = 0, end: float | None = None, step: float = 1, **more: int
) -> dict[str, dict[float, float]]:
    """Element as written → value by second; from `start` to `end`, which is `start` if not given."""
    stored = Stored(samples)
    first, last = (T0 + round(at * S) for at in (start, start if end is None else end))
    result = query_range(expr, stored.table, stored.read, first, last, round(step * S), **more)
    return {
        written(labels): {(int(t) - T0) / S: float(v) for t, v in zip(times, values, strict=True)}
        for labels, times, values in result
    }


X = 'x{device="a"}'

# ---- selecting


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("x", [0, 4, 7]), ('x{device="b"}', [4]), ('{device="a"}', [0, 1, 2, 3]),
        ('{__name__=~"x|y", device="c"}', [7, 8]),
        ('z{state!="on"}', [3]), ('{site=~".+"}', [7, 8]), ("nothing", []),
        ('x{site=""}', [0, 4]),
    ],
)  # fmt: skip
def test_select_gives_the_ids_that_match_in_ascending_order(text: str, ids: list[int]):
    assert select(text, table_of(*SERIES)).tolist() == ids
    tree = parse(text)
    assert isinstance(tree, Selector)
    assert [i for i, series in enumerate(table_of(*SERIES)) if tree.matches(series)] == ids


def test_only_a_plain_selector_selects():
    assert is_selector('x{device=~"a|b"}')
    assert is_selector("(x)")
    for text in ("x > 3", "x + 0", "abs(x)", "3", "-x", "age(x)"):
        assert not is_selector(text)
        with pytest.raises(ExpressionError, match="is not a selector"):
            select(text, table_of(*SERIES))


def test_the_series_that_an_expression_looks_at_are_those_of_all_its_selectors():
    table = table_of('x{device="a"}', 'x{device="b"}', 'y{device="a"}', 'z{device="a"}')
    for text, ids in (
        ("x > 3", [0, 1]),
        ('max_over_time(x{device="b"}[5m]) > on(device) y', [1, 2]),
        ("age(z) > 10 or x", [0, 1, 3]),
        ("vector(1)", []),
    ):
        assert looked_at(text, table).tolist() == ids


# ---- the grid


def test_each_step_sees_the_newest_sample_so_far():
    samples: Samples = {X: [(0, 1), (2, 2), (2.5, 3), (7, 4)]}

    assert queried("x", samples, 0, 8, 2) == {X: {0: 1, 2: 2, 4: 3, 6: 3, 8: 4}}
    assert queried("x", samples, -2, 3, 1.5) == {X: {1: 1, 2.5: 3}}


@pytest.mark.parametrize(
    ("end", "step", "steps"), [(10, 5, [0, 5, 10]), (9.999, 5, [0, 5]), (0, 5, [0]), (3, 5, [0]), (1, 0.5, [0, 0.5, 1])]
)
def test_steps_go_from_the_start_to_the_end_inclusive(end: float, step: float, steps: list[float]):
    assert list(queried("x", {X: [(0, 1)]}, 0, end, step)[X]) == steps


def test_a_sample_exactly_as_old_as_the_staleness_is_outside_the_window():
    ns = 1 / S
    samples: Samples = {X: [(0, 1)]}

    assert queried("x", samples, 300 - ns) == {X: {300 - ns: 1}}
    assert queried("x", samples, 300) == {}
    assert queried("x", samples, 60 - ns, staleness=60 * S) == {X: {60 - ns: 1}}
    assert queried("x", samples, 60, staleness=60 * S) == {}
    assert STALENESS == 300 * S


def test_the_last_step_sees_a_sample_of_its_own_instant_and_none_after_it():
    samples: Samples = {X: [(5, 1), (5.000000001, 2)]}

    assert queried("x", samples, 4, 5) == {X: {5: 1}}


def test_a_gap_in_the_samples_is_a_gap_in_the_result():
    assert queried("x > 2", {X: [(0, 3), (1, 1), (4, 5), (20, 7)]}, 0, 22, 2, staleness=5 * S) == {
        X: {0: 3, 4: 5, 6: 5, 8: 5, 20: 7, 22: 7}
    }


def test_age_looks_back_beyond_the_staleness():
    samples: Samples = {X: [(0, 1), (100, 1)], 'x{device="b"}': [(2000, 1)]}

    assert queried("age(x)", samples, 50, 1050, 500) == {'{device="a"}': {50: 50, 550: 450, 1050: 950}}
    assert queried("age(x) > 500", samples, 50, 1050, 500) == {'{device="a"}': {1050: 950}}
    assert queried("age(x) > 500 and x", samples, 50, 1050, 500) == {}


def test_a_number_is_one_element_that_is_always_there():
    assert queried("1 + 2", {X: [(0, 1)]}, 0, 2) == {"{}": {0: 3, 1: 3, 2: 3}}


def test_only_the_series_of_the_expression_are_read():
    stored = Stored({name: [(0, 1)] for name in SERIES})

    query_range('x{device="b"} > on(device) y{device=~"b|c"}', stored.table, stored.read, T0, T0, S)

    assert sorted(stored.asked) == [4, 5, 8]


def test_nothing_stored_gives_nothing():
    assert queried("x", {}) == {}
    assert queried("x + on(device) y", {X: []}, 0, 5) == {}


# ---- limits


@pytest.mark.parametrize(("end", "step"), [(0, 0), (0, -1), (-1, 1)])
def test_a_grid_that_is_none_is_refused(end: int, step: int):
    with pytest.raises(ExpressionError, match="start <= end and a step above 0"):
        queried("x", {X: [(0, 1)]}, 0, end, step)


def test_too_many_elements_times_steps_are_refused_before_anything_is_read():
    stored = Stored({f'x{{device="{i}"}}': [(0, 1)] for i in range(1001)})

    with pytest.raises(ExpressionError, match="1001 elements × 50001 steps are too many"):
        query_range("x", stored.table, stored.read, T0, T0 + 50_000 * S, S)

    assert stored.asked == []


@pytest.mark.parametrize(
    ("expr", "why", "offset"),
    [
        ("histogram_count(x)", "histogram_count", 0),
        ("x > 3 or limitk(1, x)", "limitk", 9),
        ("x[5m]", "a range is no condition", 1),
        ("x > > 3", "> cannot follow >", 4),
    ],
)
def test_what_rules_refuse_queries_refuse(expr: str, why: str, offset: int):
    with pytest.raises(ExpressionError, match=why) as refusal:
        queried(expr, {X: [(0, 1)]})

    assert refusal.value.offset == offset
    assert [(p.message, p.offset) for p in load_rules(in_file(expr))[1]] == [(str(refusal.value), offset)]


def in_file(expr: str) -> dict[str, Any]:
    return {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": expr}]}]}


@pytest.mark.parametrize(
    ("expr", "why"),
    [
        ("x + on(device) z", "two elements of the match group"),
        ("z + on(device) x", "two elements of the match group"),
        ("x + on(device) group_left(state) z", "two elements of the match group"),
        ('label_replace(z, "state", "any", "state", ".*")', "the same labels"),
        ('count_values("v", x) + on() z', "two elements of the match group"),
    ],
)
def test_what_cannot_be_evaluated_somewhere_is_an_error_of_the_whole_query(expr: str, why: str):
    """At the step 1 only, z has two elements."""
    samples: Samples = {X: [(0, 1)], 'z{device="a", state="on"}': [(0, 1)], 'z{device="a", state="off"}': [(1, 1)]}

    with pytest.raises(ExpressionError, match=why):
        queried(expr, samples, 0, 5)
    assert queried(expr, samples, 0)


@pytest.mark.parametrize("expr", ["1", "x"])
def test_too_many_steps_are_refused(expr: str):
    with pytest.raises(ExpressionError, match="too many"):
        query_range(expr, table_of(X), Stored({X: []}).read, T0, T0 + 10**18, 1)


def test_elements_of_the_same_labels_at_different_times_are_one():
    samples: Samples = {X: [(0, 7), (1, 4), (2, 1)]}
    stored = Stored(samples)

    result = query_range("x > 5 or x < 3", stored.table, stored.read, T0, T0 + 2 * S, S)

    assert [(written(labels), values.tolist()) for labels, _, values in result] == [(X, [7, 1])]


def test_two_elements_of_the_same_labels_at_once_are_refused():
    with pytest.raises(ExpressionError, match="same label"):
        queried('{__name__=~"x|y"} + 1', {X: [(0, 1)], 'y{device="a"}': [(0, 2)]})


def test_a_series_may_be_fresh_for_a_time_of_its_own():
    stored = Stored({X: [(0, 1)], 'x{device="b"}': [(0, 2)]})

    result = query_range(
        "x + 0", stored.table, stored.read, T0, T0 + 9 * S, S, staleness=4 * S, own_staleness={1: 7 * S}
    )

    assert [(labels["device"], len(times)) for labels, times, _ in result] == [("a", 4), ("b", 7)]


# ---- what is read


@pytest.mark.parametrize(
    ("expr", "at"),
    [
        ("x", -299), ("x offset 1h", -3899), ("x offset -30s", 30), ("x @ 1699996000", -4299), ("x @ 1700004000", 4000),
        ("x @ 1699996000 offset 1h", -7899), ("x @ 1700004000 offset -30s", 4030), ("max_over_time(x[1h])", -3599),
        ("max_over_time(x[1h] offset 1h)", -7199), ("max_over_time(x[1h] offset -30s)", 30),
        ("max_over_time(x[1h] @ 1699996000)", -7599), ("max_over_time((x + 0)[1h:1m])", -3700),
        ("max_over_time((x + 0)[1h:1m] offset 1h)", -7300), ("max_over_time((x + 0)[1h:1m] @ 1699996000)", -7700),
        ("max_over_time(max_over_time(x[10m])[1h:1m])", -4100), ("max_over_time(x[1h]) + x offset 2h", -7300),
        ("max_over_time((x @ 1700004000)[1h:1m])", 4000), ("max_over_time((x @ 1699996000)[1h:1m])", -4299),
        ("max_over_time((x @ 1700004000 offset -30s)[1h:1m])", 4030),
        ("max_over_time((x + 0)[1h:1m] @ 1700004000)", 3960),
    ],
)  # fmt: skip
def test_a_query_reads_as_far_back_and_ahead_as_it_looks(expr: str, at: float):
    """One step at 0 s; the store gives only what is asked for."""
    samples: Samples = {X: [(at, 7)] if "+ x" not in expr else [(at, 3), (-10, 4)]}

    assert [list(values.values()) for values in queried(expr, samples).values()] == [[7]]


def test_the_newest_sample_is_read_however_old_it_is_where_its_age_is_asked_for():
    assert queried("age(x)", {X: [(-9000, 7)]}) == {'{device="a"}': {0: 9000}}


def test_what_is_fresh_for_longer_is_read_from_further_back():
    stored = Stored({X: [(0, 1)], 'x{device="b"}': [(0, 2)]})
    at = T0 + 6 * S

    result = query_range("x", stored.table, stored.read, at, at, S, staleness=4 * S, own_staleness={1: 7 * S})

    assert [labels["device"] for labels, *_ in result] == ["b"]


# ---- many cells


@pytest.mark.parametrize("expr", ["x", "max by (device) (x)"])
def test_a_query_of_more_than_is_evaluated_at_once_leaves_nothing_out(expr: str):
    stored = Stored({f'x{{device="{i}"}}': [(0, i)] for i in range(30)})
    n = 40_000

    result = query_range(expr, stored.table, stored.read, T0, T0 + (n - 1) * S, S, staleness=n * S)

    assert [(labels["device"], len(times), set(values)) for labels, times, values in result] == [
        (str(i), n, {i}) for i in range(30)
    ]


def test_a_subquery_of_more_points_than_are_kept_of_a_series_leaves_none_out():
    n, last = MAX_SAMPLES + 10_000, T0 // S

    found = queried(f"sum_over_time(vector(time())[{n}s:1s])", {}, 0)

    assert found == {"{}": {0: pytest.approx(n * (2 * last - n + 1) / 2, rel=1e-12)}}


def test_of_elements_of_the_same_labels_each_gives_its_own_values():
    assert queried("x * 1 > 5 or x * 10 < 30", {X: [(0, 7), (1, 4), (2, 1)]}, 0, 2) == {'{device="a"}': {0: 7, 2: 10}}


def test_inside_a_subquery_a_prediction_is_from_the_inner_instant():
    """x is the second it is measured at; the inner instants are 95 and 100 s."""
    samples: Samples = {X: [(at, at) for at in range(0, 101, 5)]}

    found = queried("sum_over_time(predict_linear(x[20s], 0)[10s:5s])", samples, 100)

    assert found == {'{device="a"}': {100: pytest.approx(195)}}
