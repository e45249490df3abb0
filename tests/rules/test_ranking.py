"""Laws of topk, bottomk and count_values: which elements of a group are kept, and how often each value is there."""

from __future__ import annotations

import json
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules import grouping, ranking
from rules.operators import BEFORE
from rules.ranking import CountValues, Rank, go_float
from rules.syntax import Aggregation, Number, Text
from tests.rules.vectors import (
    GONE,
    INF,
    NAN,
    Fixed,
    Listener,
    Planted,
    Rows,
    everything,
    pairs,
    plant,
    same_elements,
    vanished,
)
from tests.rules.vectors import there as elements

PLANT = {
    'x{device="a", site="p"}': 100, 'x{device="b", site="p"}': 200, 'x{device="c", site="p"}': NAN,
    'x{device="a", site="q"}': 300, 'x{device="b", site="q"}': 400,
}  # fmt: skip
VERSIONS = {
    'v{instance="0", job="api", site="p"}': 6, 'v{instance="1", job="api", site="p"}': 6,
    'v{instance="0", job="api", site="q"}': 8, 'v{instance="1", job="api", site="q"}': 8,
    'v{instance="0", job="app", site="p"}': 6, 'v{instance="0", job="app", site="q"}': 7,
}  # fmt: skip


def rank(op: str, k: float | Fixed, vector, by=(), *, without=False) -> tuple[Rank, Rows]:
    child = Planted()
    parameter = k if isinstance(k, Fixed) else Fixed(k)
    operator = Rank(child, Aggregation(op, Number(0), None, tuple(by), without), parameter)
    return operator, Rows(plant(child, vector))


def counted(label: str, vector, by=(), *, without=False) -> tuple[CountValues, Rows]:
    child = Planted()
    operator = CountValues(child, Aggregation("count_values", Number(0), Text(label), tuple(by), without))
    return operator, Rows(plant(child, vector))


# ---- topk, bottomk


@pytest.mark.parametrize(
    ("op", "k", "by", "expected"),
    [
        ("topk", 1, [], {'x{device="b", site="q"}'}),
        ("topk", 1, ["site"], {'x{device="b", site="p"}', 'x{device="b", site="q"}'}),
        ("bottomk", 1, ["site"], {'x{device="a", site="p"}', 'x{device="a", site="q"}'}),
        ("bottomk", 3, [], {'x{device="a", site="p"}', 'x{device="b", site="p"}', 'x{device="a", site="q"}'}),
        ("topk", 2.9, ["site"], set(PLANT) - {'x{device="c", site="p"}'}),
        ("topk", 4, [], set(PLANT) - {'x{device="c", site="p"}'}),
        ("topk", 5, [], set(PLANT)), ("bottomk", 9999999999, [], set(PLANT)), ("bottomk", 3, ["site"], set(PLANT)),
        ("topk", 0, [], set()), ("topk", 0.99, [], set()), ("bottomk", -3, [], set()),
    ],
)  # fmt: skip
def test_k_elements_of_each_group_are_kept_as_they_are(op: str, k: float, by: list[str], expected: set[str]):
    operator, frame = rank(op, k, PLANT, by)

    assert same_elements(elements(operator, frame), {name: PLANT[name] for name in expected})
    assert frame.failures == {}


@pytest.mark.parametrize("op", ["topk", "bottomk"])
def test_nan_comes_last_and_of_equals_the_earlier_is_kept(op: str):
    vector = {f'x{{device="{i}"}}': value for i, value in enumerate([NAN, 5, NAN, 5, 5])}

    assert elements(*rank(op, 2, vector)) == {'x{device="1"}': 5, 'x{device="3"}': 5}
    assert list(elements(*rank(op, 4, vector))) == [f'x{{device="{i}"}}' for i in (0, 1, 3, 4)]


@pytest.mark.parametrize("op", ["topk", "bottomk"])
def test_infinite_values_are_in_order(op: str):
    vector = {'x{a="1"}': -INF, 'x{a="2"}': INF, 'x{a="3"}': NAN, 'x{a="4"}': 0}
    first = {"topk": {'x{a="2"}': INF}, "bottomk": {'x{a="1"}': -INF}}[op]

    assert elements(*rank(op, 1, vector)) == first
    assert set(elements(*rank(op, 3, vector))) == {'x{a="1"}', 'x{a="2"}', 'x{a="4"}'}


@pytest.mark.parametrize("k", [NAN, INF, -INF, 1e19])
def test_k_that_is_no_number_of_elements_is_an_error_at_its_rows(k: float):
    operator, frame = rank("topk", Fixed(1, k, 1), {"x{}": [1, 2, 3]})
    result = everything(operator, frame)

    assert list(frame.failures) == [1]
    assert frame.failures[1] == f"topk needs a number of elements, not {go_float(k)}"
    assert result.present.tolist() == [[True, False, True]]


def test_k_may_be_another_at_each_row():
    operator, frame = rank("topk", Fixed(0, 1, 2), {'x{a="1"}': [1, 2, 3], 'x{a="2"}': [3, 2, 1]})

    assert everything(operator, frame).present.tolist() == [[False, True, True], [False, False, True]]


def test_a_vanished_element_is_unknown_and_takes_nobodys_place():
    operator, frame = rank("topk", 2, {'x{a="1"}': 1, 'x{a="2"}': GONE, 'x{a="3"}': 3, 'x{a="4"}': None, 'x{a="5"}': 0})

    assert elements(operator, frame) == {'x{a="1"}': 1, 'x{a="3"}': 3}
    assert vanished(operator, frame) == {'x{a="2"}'}


def test_an_element_concerns_all_of_its_group():
    child = Planted(injective=False)
    operator = Rank(child, Aggregation("topk", Number(0), None, ("site",)), Fixed(1))
    above = Listener(operator)
    plant(child, PLANT)

    assert pairs(operator, 4, 0) == ([0, 0, 1, 1, 1], [3, 4, 0, 1, 2])
    assert above.heard == [(i, BEFORE) for i in range(5)]
    assert not operator.injective


numbers = st.sampled_from([NAN, INF, -INF, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, None, GONE])


@settings(max_examples=60)
@given(
    st.sampled_from(["topk", "bottomk"]),
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(numbers, min_size=2, max_size=2)), min_size=1, max_size=30),
    st.tuples(st.integers(-1, 8), st.integers(-1, 8)),
)
def test_the_kept_are_the_first_of_each_group_in_order(op: str, table, k):
    vector = {f'x{{device="{i}", site="{site}"}}': values for i, (site, values) in enumerate(table)}
    operator, frame = rank(op, Fixed(*k), vector, ["site"])

    for row in range(2):
        expected: dict[str, float] = {}
        for site in "abc":
            group = [
                (math.isnan(v[row]), -v[row] if op == "topk" else v[row], i)
                for i, (s, v) in enumerate(table)
                if s == site and isinstance(v[row], float)
            ]
            group.sort(key=lambda e: (e[0], 0.0 if e[0] else e[1], e[2]))
            kept = [f'x{{device="{i}", site="{site}"}}' for _, _, i in group[: max(k[row], 0)]]
            expected |= {name: vector[name][row] for name in kept}
        assert same_elements(elements(operator, frame, row), expected)


# ---- count_values


@pytest.mark.parametrize(
    ("label", "by", "without", "expected"),
    [
        ("version", [], False, {'{version="6"}': 3, '{version="7"}': 1, '{version="8"}': 2}),
        (
            "version", ["instance"], True,
            {
                '{job="api", site="p", version="6"}': 2, '{job="api", site="q", version="8"}': 2,
                '{job="app", site="p", version="6"}': 1, '{job="app", site="q", version="7"}': 1,
            },
        ),
        ("job", ["instance"], True, {'{job="6", site="p"}': 3, '{job="7", site="q"}': 1, '{job="8", site="q"}': 2}),
        ("job", ["job", "site"], False, {'{job="6", site="p"}': 3, '{job="7", site="q"}': 1, '{job="8", site="q"}': 2}),
        ("job", ["job", "instance"], True, {'{site="p"}': 3, '{site="q"}': 3}),
        ("version", ["__name__"], False, {'v{version="6"}': 3, 'v{version="7"}': 1, 'v{version="8"}': 2}),
    ],
)  # fmt: skip
def test_each_value_is_counted_under_a_label_set_over_those_of_the_group(label, by, without, expected):
    assert elements(*counted(label, VERSIONS, by, without=without)) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"), (-1.5, "-1.5"), (0.1, "0.1"), (1e21, "1" + "0" * 21), (1e-7, "0.0000001"), (100, "100"), (NAN, "NaN"),
        (1.7976931348623157e308, "17976931348623157" + "0" * 292), (5e-324, "0." + "0" * 323 + "5"), (INF, "+Inf"),
        (-INF, "-Inf"), (0.0, "0"), (-0.0, "-0"), (1e16, "1" + "0" * 16), (123456789.125, "123456789.125"),
        (1 / 3, "0.3333333333333333"), (1e23, "1" + "0" * 23),
    ],
)  # fmt: skip
def test_a_value_is_written_as_go_writes_it(value: float, text: str):
    assert elements(*counted("v", {"x{}": value})) == {f'{{v="{text}"}}': 1}


@given(st.floats(allow_nan=False))
def test_the_text_of_a_value_gives_it_back_and_has_no_exponent(value: float):
    text = go_float(value)

    assert float(text) == value
    assert "e" not in text
    assert not text.endswith(".0")


def test_all_nan_are_one_value_and_minus_zero_is_its_own():
    other_nan = float(np.int64(0x7FF8000000000123).view(np.float64))

    found = elements(*counted("v", {'x{a="1"}': NAN, 'x{a="2"}': other_nan, 'x{a="3"}': 0.0, 'x{a="4"}': -0.0}))

    assert found == {'{v="NaN"}': 2, '{v="0"}': 1, '{v="-0"}': 1}


def test_a_vanished_element_might_have_any_value():
    vector = {'x{a="1", site="p"}': [1, 2, GONE, None], 'x{a="2", site="p"}': [2, GONE, 2, None]}
    operator, frame = counted("v", vector, ["site"])
    everything(operator, frame)

    assert [elements(operator, frame, row) for row in range(4)] == [
        {'{site="p", v="1"}': 1, '{site="p", v="2"}': 1}, {'{site="p", v="2"}': 1}, {'{site="p", v="2"}': 1}, {}
    ]  # fmt: skip
    assert [vanished(operator, frame, row) for row in range(4)] == [
        set(), {'{site="p", v="1"}'}, {'{site="p", v="1"}'}, set()
    ]  # fmt: skip


def test_elements_come_when_their_value_does_and_keep_their_number():
    child = Planted()
    operator = CountValues(child, Aggregation("count_values", Number(0), Text("v"), ("site",)))
    above = Listener(operator)
    frame = Rows(3)
    child.plant('x{a="1", site="p"}', 5, 1, 5)
    child.plant('x{a="2", site="q"}', 5, None, 5)

    assert len(operator) == 0
    operator.discover(frame, np.array([0]))
    assert [operator.labels(i) for i in range(len(operator))] == [
        (("site", "p"), ("v", "5")), (("site", "q"), ("v", "5"))
    ]  # fmt: skip
    operator.discover(frame, np.array([2, 1, 2]))

    assert operator.labels(2) == (("site", "p"), ("v", "1"))
    assert above.heard == [(0, BEFORE), (1, BEFORE), (2, BEFORE)]
    assert operator.evaluate(frame, np.array([2, 2, 0]), np.array([1, 0, 1])).present.tolist() == [True, False, False]
    assert pairs(operator, 1, 0) == ([0, 1, 1], [1, 0, 2])


def test_a_snapshot_brings_the_same_numbers_back_before_or_after_the_series():
    vector = {'x{a="1", site="p"}': [5, NAN, 5], 'x{a="2", site="q"}': [INF, -0.0, 0.1], "x{}": [1e300, 1, 1]}
    operator, frame = counted("v", vector, ["site"])
    expected = everything(operator, frame)
    kept = json.loads(json.dumps(operator.dynamic()))

    for late in (False, True):
        child = Planted()
        again = CountValues(child, Aggregation("count_values", Number(0), Text("v"), ("site",)))
        above = Listener(again)
        if late:
            again.restore_dynamic(kept)
            plant(child, vector)
        else:
            plant(child, dict(reversed(vector.items())))
            again.restore_dynamic(kept)
        assert [again.labels(i) for i in range(len(again))] == [operator.labels(i) for i in range(len(operator))]
        assert above.heard == [(i, BEFORE) for i in range(len(again))]
        for a, b in zip(everything(again, frame), expected, strict=True):
            np.testing.assert_array_equal(a, b)
        assert json.loads(json.dumps(again.dynamic())) == kept


def test_too_many_values_are_an_error_where_they_are(monkeypatch):
    monkeypatch.setattr(ranking, "MAX_VALUES", 3)
    operator, frame = counted("v", {'x{a="1"}': [1, 2, 3, 9, 2], 'x{a="2"}': [1, 1, 1, 1, 1]})
    result = everything(operator, frame)

    assert len(operator) == 3
    assert list(frame.failures) == [3]
    assert "more than 3 values" in frame.failures[3]
    assert np.where(result.present, result.value, 0).tolist() == [[2, 1, 1, 1, 1], [0, 1, 0, 0, 1], [0, 0, 1, 0, 0]]


def test_a_text_is_what_count_values_needs():
    with pytest.raises(TypeError):
        CountValues(Planted(), Aggregation("count_values", Number(0), Number(1)))


values = st.sampled_from([NAN, INF, 0.0, 1.0, 2.5, None, GONE])


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.lists(values, min_size=3, max_size=3)), max_size=30),
    st.booleans(),
)
def test_counts_are_those_of_one_value_after_the_other(table, small: bool):
    vector = {f'x{{device="{i}", site="{site}"}}': values for i, (site, values) in enumerate(table)}
    operator, frame = counted("v", vector, ["site"])
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(grouping, "MAX_CELLS", 8)
        for row in range(3 if table else 0):
            expected: dict[str, float] = {}
            for site, row_values in table:
                if isinstance(row_values[row], float):
                    name = f'{{site="{site}", v="{go_float(row_values[row])}"}}'
                    expected[name] = expected.get(name, 0) + 1
            assert elements(operator, frame, row) == expected


def test_groups_are_ranked_in_parts_within_the_bound(monkeypatch):
    vector = {f'x{{device="{i}", site="{i % 7}"}}': [(i * 37) % 11] * 30 for i in range(50)}
    expected = everything(*rank("topk", 2, vector, ["site"]))
    monkeypatch.setattr(grouping, "MAX_CELLS", 64)
    child = Planted()
    operator = Rank(child, Aggregation("topk", Number(0), None, ("site",)), Fixed(2))
    frame = Rows(plant(child, vector))

    assert everything(operator, frame).present.tolist() == expected.present.tolist()
    assert child.asked <= 64
