"""Laws of the aggregations with one element for each group: what upstream gives, for all groups at once."""

from __future__ import annotations

import itertools
import math
import statistics

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules import grouping
from rules.aggregation import AGGREGATORS, Aggregate
from rules.syntax import Aggregation, Number
from tests.rules.vectors import (
    GONE,
    INF,
    NAN,
    Fixed,
    Listener,
    Planted,
    Rows,
    everything,
    plant,
    same,
    same_elements,
    vanished,
)
from tests.rules.vectors import there as elements

HTTP = {
    f'requests{{group="{group}", instance="{instance}", job="{job}"}}': value
    for (job, group, instance), value in zip(
        itertools.product(["api", "app"], ["production", "canary"], "01"), range(100, 900, 100), strict=True
    )
}


def aggregate(op: str, vector, by=(), *, without=False, parameter: Fixed | None = None) -> tuple[Aggregate, Rows]:
    child = Planted()
    node = Aggregation(op, Number(0), None, tuple(by), without)
    operator = Aggregate(child, node, parameter)
    return operator, Rows(plant(child, vector))


def of(op: str, *values: float, phi: float = NAN) -> float:
    """The aggregate of one group."""
    vector = {f'x{{device="{i}"}}': value for i, value in enumerate(values)}
    return elements(*aggregate(op, vector, parameter=Fixed(phi)))["{}"]


# ---- groups


@pytest.mark.parametrize(
    ("by", "without", "expected"),
    [
        (["group"], False, {'{group="production"}': 1400, '{group="canary"}': 2200}),
        ([], False, {"{}": 3600}),
        (["job", "nonexistent"], False, {'{job="api"}': 1000, '{job="app"}': 2600}),
        (["instance", "job"], True, {'{group="production"}': 1400, '{group="canary"}': 2200}),
        (["__name__"], False, {"requests{}": 3600}),
        ([], True, {name.removeprefix("requests"): value for name, value in HTTP.items()}),
    ],
)
def test_groups_are_known_by_their_labels(by, without: bool, expected):
    assert elements(*aggregate("sum", HTTP, by, without=without)) == expected


def test_a_label_that_is_missing_makes_a_group_of_its_own():
    vector = {'x{job="a", site="s"}': 1, 'x{job="a"}': 2, "x{}": 4, 'x{job="b", site="s"}': 8}

    assert elements(*aggregate("sum", vector, ["site"])) == {'{site="s"}': 9, "{}": 6}
    assert elements(*aggregate("sum", vector, ["site"], without=True)) == {'{job="a"}': 3, "{}": 4, '{job="b"}': 8}


def test_the_name_counts_for_a_group_only_when_it_is_asked_for():
    vector = {'x{site="s"}': 1, 'y{site="s"}': 2}

    assert elements(*aggregate("sum", vector, ["site"])) == {'{site="s"}': 3}
    operator, frame = aggregate("sum", vector, ["__name__", "site"])
    assert elements(operator, frame) == {'x{site="s"}': 1, 'y{site="s"}': 2}
    assert not operator.injective
    assert aggregate("sum", vector, ["__name__"], without=True)[0].injective


def test_new_elements_join_their_group_and_new_groups_are_announced():
    child = Planted()
    operator = Aggregate(child, Aggregation("count", Number(0), None, ("site",)))
    above = Listener(operator)

    child.plant('x{device="a", site="p"}', 1.0, born=3)
    child.plant('x{device="b", site="q"}', 1.0, born=3)
    assert elements(operator, Rows(1)) == {'{site="p"}': 1, '{site="q"}': 1}
    child.plant('x{device="c", site="p"}', 1.0, born=7)
    child.plant('x{device="d"}', 1.0, born=8)

    assert elements(operator, Rows(1)) == {'{site="p"}': 2, '{site="q"}': 1, "{}": 1}
    assert above.heard == [(0, 3), (1, 3), (2, 8)]
    which, own = operator.dependents(0, np.array([3, 2, 1, 0, 0]))
    assert which is None
    assert own.tolist() == [2, 0, 1, 0, 0]


# ---- presence


@pytest.mark.parametrize("op", AGGREGATORS)
def test_a_group_is_there_where_any_element_is_and_unknown_where_one_only_vanished(op: str):
    vector = {
        'x{device="a", site="p"}': [1, None, GONE, None, GONE],
        'x{device="b", site="p"}': [None, None, None, 2, 3],
        'x{device="c", site="q"}': [None, GONE, 1, None, None],
    }
    operator, frame = aggregate(op, vector, ["site"], parameter=Fixed(0.5))
    result = everything(operator, frame)

    assert result.present.tolist() == [[True, False, False, True, True], [False, False, True, False, False]]
    assert result.unknown.tolist() == [[False, False, True, False, False], [False, True, False, False, False]]
    assert vanished(operator, frame, 1) == {'{site="q"}'}


@pytest.mark.parametrize("op", AGGREGATORS)
def test_nothing_gives_nothing(op: str):
    operator, frame = aggregate(op, {}, parameter=Fixed(0.5))

    assert len(operator) == 0
    assert elements(operator, frame) == {}


def test_what_is_not_there_or_vanished_is_not_counted():
    vector = {"x{}": 1, 'x{a="b"}': None, 'x{a="c"}': GONE, 'x{a="d"}': NAN}

    assert elements(*aggregate("count", vector)) == {"{}": 2}
    assert elements(*aggregate("group", vector)) == {"{}": 1}
    assert elements(*aggregate("min", vector)) == {"{}": 1}


# ---- values


@pytest.mark.parametrize(
    ("op", "values", "result"),
    [
        ("sum", [1, 1e100, 1, -1e100], 2), ("sum", [0.1] * 10, 1.0), ("sum", [INF, 1], INF), ("sum", [INF, -INF], NAN),
        ("sum", [NAN, 1], NAN), ("sum", [1.7e308, 1.7e308, -1.7e308], INF), ("sum", [-0.0], 0),
        ("avg", [1, 1e100, 1, -1e100], 0.5), ("avg", [0.1] * 3, 0.1), ("avg", [INF, 1], INF), ("avg", [-INF, 1], -INF),
        ("avg", [INF, -INF], NAN), ("avg", [NAN, 1], NAN), ("avg", [1.5e308] * 7, 1.5e308),
        ("avg", [1.7976931348623157e308] * 3, 1.7976931348623157e308), ("avg", [1.7e308, 1.7e308, INF], INF),
        ("avg", [1.7e308, 1.7e308, -INF], -INF), ("avg", [1.7e308, 1.7e308, NAN], NAN),
        ("avg", [-1e308, -1.5e308, -0.5e308], -1e308), ("avg", [1.5e308, 1.5e308, -1e308, -2e307], 0.45e308),
        ("min", [3, NAN, 1, 2], 1), ("max", [3, NAN, 1, 2], 3), ("min", [NAN, NAN], NAN), ("max", [NAN, -INF], -INF),
        ("min", [INF, NAN], INF), ("max", [NAN], NAN),
        ("group", [NAN], 1), ("count", [NAN, INF], 2),
        ("stdvar", [4], 0), ("stdvar", [1, 2, 3, 4], 1.25), ("stddev", [100, 300], 100), ("stddev", [13.3] * 3, 0),
        ("stdvar", [1e15 + 1, 1e15 + 2, 1e15 + 3], 2 / 3), ("stddev", [INF], NAN), ("stdvar", [1, -INF], NAN),
        ("stdvar", [NAN], NAN), ("stddev", [1, NAN, 2], NAN),
    ],
)  # fmt: skip
def test_values_at_the_edges(op: str, values: list[float], result: float):
    found = of(op, *values)

    assert same(found, result) or found == pytest.approx(result, rel=1e-15), found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 16, 17, 40, 1000])
def test_equal_values_have_no_variance_however_many(size: int):
    assert of("stdvar", *[0.1] * size) == 0
    assert of("avg", *[0.1] * size) == 0.1


@pytest.mark.parametrize(
    ("phi", "values", "result"),
    [
        (0.8, [0, 1], 0.8), (0.8, [0, 1, 2], 1.6), (0.8, [0, 1, 4], 2.8), (0.5, [9, 1, 4], 4), (0, [3, 1, 2], 1),
        (1, [3, 1, 2], 3), (-0.1, [1], -INF), (1.1, [1], INF), (NAN, [1], NAN), (INF, [1], INF), (-INF, [1], -INF),
        (0.5, [7], 7), (0, [NAN, 1, 2], NAN), (1, [NAN, 1, 2], 2), (0.5, [2, NAN, 1], 1), (0.25, [2, NAN, 1], NAN),
        (0.75, [2, NAN, 1], 1.5), (0.5, [-INF, INF], NAN), (0.5, [-INF, NAN, -INF, NAN], NAN),
        (0.9, [1, NAN, NAN, NAN], NAN), (1, [NAN, NAN, 1], 1),
    ],
)  # fmt: skip
def test_quantile_lies_between_ranks_and_takes_nan_for_the_smallest(phi: float, values: list[float], result: float):
    found = of("quantile", *values, phi=phi)

    assert same(found, result) or found == pytest.approx(result, rel=1e-15), found


def test_the_parameter_of_quantile_may_be_another_at_each_row():
    vector = {'x{a="1"}': [1, 1, 1, 1], 'x{a="2"}': [3, 3, 3, None], 'x{b="1"}': [None, None, 7, None]}
    result = everything(*aggregate("quantile", vector, parameter=Fixed(0, 0.5, 1, 2)))

    assert result.value.tolist() == [[1, 2, 7, INF]]


def test_nothing_is_asked_twice_at_once_beyond_the_bound(monkeypatch):
    vector = {f'x{{device="{i}", site="{i % 7}"}}': list(range(i, i + 30)) for i in range(50)}
    expected = everything(*aggregate("sum", vector, ["site"]))
    monkeypatch.setattr(grouping, "MAX_CELLS", 64)
    child = Planted()
    operator = Aggregate(child, Aggregation("sum", Number(0), None, ("site",)))
    frame = Rows(plant(child, vector))

    assert everything(operator, frame).value.tolist() == expected.value.tolist()
    assert child.asked <= 64


# ---- the reference: one group after the other, as upstream's text reads


def kahan(values: list[float]) -> tuple[float, float]:
    total, lacks = values[0], 0.0
    for value in values[1:]:
        new = total + value
        if math.isinf(new):
            lacks = 0.0
        elif abs(total) >= abs(value):
            lacks += (total - new) + value
        else:
            lacks += (value - new) + total
        total = new
    return total, lacks


def by_hand(op: str, values: list[float], phi: float) -> float:
    match op:
        case "sum":
            return sum(kahan(values))
        case "avg":
            total, lacks = kahan(values)
            return total / len(values) + lacks / len(values)
        case "min" | "max":
            numbers = [v for v in values if not math.isnan(v)]
            return {"min": min, "max": max}[op](numbers) if numbers else NAN
        case "count":
            return len(values)
        case "group":
            return 1
        case "stdvar" | "stddev":
            if not all(map(math.isfinite, values)):
                return NAN
            return {"stdvar": statistics.pvariance, "stddev": statistics.pstdev}[op](values)
        case "quantile":
            if math.isnan(phi) or not 0 <= phi <= 1:
                return phi * INF
            ordered = sorted(values, key=lambda v: (not math.isnan(v), v))
            rank = phi * (len(values) - 1)
            lower = math.floor(rank)
            upper, weight = min(lower + 1, len(values) - 1), rank - lower
            return ordered[lower] * (1 - weight) + ordered[upper] * weight
    raise AssertionError(op)


numbers = st.one_of(
    st.sampled_from([0.0, 1.0, 2.0, -3.0, 0.1, 1e16, -1e16, 1e100, -1e100, NAN, INF, -INF]), st.floats(-1e6, 1e6)
)
cells = st.one_of(numbers, numbers, st.none(), st.just(GONE))


@settings(max_examples=100)
@given(
    st.sampled_from(sorted(AGGREGATORS)),
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(cells, min_size=3, max_size=3)), max_size=40),
    st.sampled_from([0, 0.1, 0.5, 1 / 3, 0.99, 1, -1, 2, NAN]),
)
def test_any_vector_gives_what_one_group_after_the_other_gives(op: str, table, phi: float):
    vector = {f'x{{device="{i}", site="{site}"}}': values for i, (site, values) in enumerate(table)}
    operator, frame = aggregate(op, vector, ["site"], parameter=Fixed(phi))

    for row in range(3 if table else 0):
        groups: dict[str, list[float]] = {}
        for site, values in table:
            if isinstance(values[row], float | int):
                groups.setdefault(f'{{site="{site}"}}', []).append(values[row])
        expected = {name: by_hand(op, values, phi) for name, values in groups.items()}
        found = elements(operator, frame, row)
        if op in ("stdvar", "stddev"):
            assert found == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)
        else:
            assert same_elements(found, expected), (found, expected)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_an_average_lies_between_the_smallest_and_the_largest(values: list[float]):
    mean, slack = of("avg", *values), 1e-15

    assert math.isfinite(mean)
    assert min(values) - slack * abs(min(values)) <= mean <= max(values) + slack * abs(max(values))
