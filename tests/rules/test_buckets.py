"""Laws of histogram_quantile over classic buckets."""

from __future__ import annotations

import math
from collections.abc import Mapping

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules import grouping
from rules.buckets import HistogramQuantile, upper_bound
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
    same,
    same_elements,
    vanished,
)
from tests.rules.vectors import there as elements

LATENCY = {".1": 5, ".2": 7, "1e0": 10, "+Inf": 10}
MIXED = {"-.2": 1, "-0.1": 2, "0.3": 2, "+Inf": 4}
MANY = {f"{i}": i for i in range(1, 40)} | {"+Inf": 40}


def histogram(buckets: Mapping[str, float], name: str = "x", **labels: str) -> dict[str, float]:
    rest = "".join(f', {n}="{v}"' for n, v in labels.items())
    return {f'{name}{{le="{bound}"{rest}}}': count for bound, count in buckets.items()}


def operator_of(vector, *phi: float) -> tuple[HistogramQuantile, Rows]:
    child = Planted()
    operator = HistogramQuantile(child, Fixed(*phi))
    return operator, Rows(plant(child, vector))


def of(buckets: dict[str, float], phi: float) -> float:
    return elements(*operator_of(histogram(buckets), phi))["{}"]


@pytest.mark.parametrize(
    ("buckets", "phi", "expected"),
    [
        (LATENCY, 0, 0), (LATENCY, 0.25, 0.05), (LATENCY, 0.5, 0.1), (LATENCY, 0.6, 0.15), (LATENCY, 0.7, 0.2),
        (LATENCY, 0.85, 0.6), (LATENCY, 1, 1), (LATENCY, -1, -INF), (LATENCY, 2, INF), (LATENCY, NAN, NAN),
        (MIXED, 0, -0.2), (MIXED, 0.2, -0.2), (MIXED, 0.375, -0.15), (MIXED, 0.5, -0.1), (MIXED, 0.51, 0.3),
        (MIXED, 0.8, 0.3), (MANY, 0.5, 20), (MANY, 0.9875, 39), (MANY, 1, 39),
        ({"+Inf": 5}, 0.5, NAN), ({"1": 3, "2": 5}, 0.5, NAN), ({"1": 0, "+Inf": 0}, 0.5, NAN), ({"+Inf": 5}, -1, -INF),
        ({"1": 0, "2": 4, "+Inf": 4}, 0, NAN), ({"1": 0, "+Inf": 4}, 0.5, 1), ({"0": 4, "+Inf": 4}, 0.1, 0),
        ({"-Inf": 1, "1": 4, "+Inf": 4}, 0.1, -INF), ({"-Inf": 1, "1": 4, "+Inf": 4}, 0.5, NAN),
        ({"1": NAN, "+Inf": 4}, 0.5, 1), ({"1": 2, "+Inf": NAN}, 0.5, 1), ({"1": INF, "+Inf": INF}, 0.5, NAN),
    ],
)  # fmt: skip
def test_the_quantile_is_linear_within_its_bucket(buckets: dict[str, float], phi: float, expected: float):
    found = of(buckets, phi)

    assert same(found, expected) or found == pytest.approx(expected, rel=1e-12), found


def test_decreasing_counts_are_lifted():
    assert of({"1": 10, "2": 4, "4": 20, "+Inf": 20}, 0.75) == of({"1": 10, "2": 10, "4": 20, "+Inf": 20}, 0.75) == 3


@pytest.mark.parametrize("noise", [1 + 1e-13, 1 - 1e-13])
def test_differences_that_only_come_of_rounding_are_ignored(noise: float):
    exact = {"1": 100.0, "2": 100.0, "4": 100.0, "8": 200.0, "+Inf": 200.0}

    assert of(exact | {"2": 100.0 * noise, "4": 100 * noise}, 0.5) == of(exact, 0.5) == 1
    assert of(exact | {"4": 100 * noise}, 0.51) == of(exact, 0.51)


def test_small_steps_are_compared_with_the_count_before_the_first_of_them():
    steps = {str(i): 100 * (1 + i * 8e-13) for i in range(1, 9)} | {"+Inf": 200}

    assert of(steps, 0.5 + 1e-12) == by_hand(list(map(float, steps)), list(steps.values()), 0.5 + 1e-12)


def test_the_same_bound_written_twice_is_one_bucket():
    assert of({"1": 1, "1.0": 4, "2": 10, "+Inf": 10}, 0.5) == of({"1": 5, "2": 10, "+Inf": 10}, 0.5)


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        ("1", 1), ("-1.5", -1.5), (".5", 0.5), ("5.", 5), ("+1e-3", 0.001), ("1E3", 1000), ("+Inf", INF), ("inf", INF),
        ("-Infinity", -INF), ("", None), ("a", None), ("1 ", None), ("1_0", None), ("NaN", None), ("1e999", None),
        (".", None), ("e1", None), ("١", None),
    ],
)  # fmt: skip
def test_bounds_are_read_as_go_reads_numbers(text: str, bound: float | None):
    assert upper_bound(text) == bound


def test_what_has_no_bound_is_no_bucket():
    vector = histogram(LATENCY) | {"x{}": 100, 'x{le="many"}': 100, 'x{site="s"}': 7}
    operator, frame = operator_of(vector, 0.5)

    assert elements(operator, frame) == {"{}": 0.1}
    assert pairs(operator, 6, 4, 0, 5, 2) == ([2, 4], [0, 0])
    assert operator.dependents(0, np.array([0, 1]))[0] is None


def test_groups_are_known_by_the_other_labels():
    vector = histogram(LATENCY, site="p") | histogram(MIXED, site="q", a="1")

    assert elements(*operator_of(vector, 0.5)) == {'{site="p"}': 0.1, '{a="1", site="q"}': -0.1}


def test_histograms_that_only_their_names_tell_apart_are_an_error_where_they_meet():
    here = {name: [count, count, None] for name, count in histogram(LATENCY, "x").items()}
    other = {name: [None, count, count] for name, count in histogram(MIXED, "y").items()}
    operator, frame = operator_of(here | other, 0.5)
    result = everything(operator, frame)

    assert len(operator) == 1
    assert result.present.tolist() == [[True, False, True]]
    assert result.value[0, [0, 2]].tolist() == [0.1, -0.1]
    assert list(frame.failures) == [1]


def test_a_histogram_is_there_where_any_bucket_is_and_unknown_where_one_only_vanished():
    vector = {'x{le="1"}': [1, None, GONE, None, GONE], 'x{le="+Inf"}': [2, None, None, 2, 3]}
    result = everything(*operator_of(vector, 0.1))

    assert result.present.tolist() == [[True, False, False, True, True]]
    assert result.unknown.tolist() == [[False, False, True, False, False]]
    assert np.isnan(result.value[0, 3:]).all()
    assert vanished(*operator_of(vector, 0.1), 2) == {"{}"}


def test_the_parameter_may_be_another_at_each_row():
    vector = {name: [count] * 3 for name, count in histogram(LATENCY).items()}

    assert everything(*operator_of(vector, 0.5, 2, 0.7)).value.tolist() == [[0.1, INF, 0.2]]


def test_new_histograms_are_announced_once():
    child = Planted()
    operator = HistogramQuantile(child, Fixed(0.5))
    above = Listener(operator)
    child.plant('x{le="1"}', 1, born=4)
    child.plant("x{}", 1, born=4)
    child.plant('x{le="+Inf"}', 2, born=5)
    child.plant('x{le="+Inf", site="s"}', 2, born=6)

    assert above.heard == [(0, 4), (1, 6)]
    assert len(operator) == 2
    assert operator.injective


# ---- the reference: one histogram after the other


def by_hand(bounds: list[float], counts: list[float], phi: float) -> float:
    if math.isnan(phi) or not 0 <= phi <= 1:
        return phi * INF
    merged: dict[float, float] = {}
    for bound, count in zip(bounds, counts, strict=True):
        merged[bound] = merged[bound] + count if bound in merged else count
    bounds = sorted(merged)
    counts = [merged[bound] for bound in bounds]
    last = counts[0]
    for i, count in enumerate(counts):
        if count == last or abs(count - last) < 1e-12 * (abs(count) + abs(last)) or count < last:
            counts[i] = last
        else:
            last = count
    if bounds[-1] != INF or len(bounds) < 2 or counts[-1] == 0:
        return NAN
    rank = phi * counts[-1]
    at = next((i for i, count in enumerate(counts[:-1]) if count >= rank), len(bounds) - 1)
    if at == len(bounds) - 1:
        return bounds[-2]
    if at == 0 and bounds[0] <= 0:
        return bounds[0]
    start, less = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    width, inside = bounds[at] - start, counts[at] - less
    return start + width * ((rank - less) / inside) if inside else NAN


bounds = st.sampled_from(["-5", "-1", "0", "0.5", "1", "1.0", "2", "4", "8", "16", "+Inf", "+Inf", "x"])
counts = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 5.0, 5.0 + 1e-12, 5.0 - 1e-12, 7.0, None]), st.floats(0, 100))
tables = st.dictionaries(
    st.tuples(st.sampled_from("ab"), bounds), st.lists(counts, min_size=2, max_size=2), max_size=20
)


@settings(max_examples=100)
@given(tables, st.sampled_from([0, 0.1, 0.5, 2 / 3, 0.99, 1, -1, 3, NAN]), st.booleans())
def test_any_buckets_give_what_one_histogram_after_the_other_gives(table, phi: float, small: bool):
    vector = {f'x{{le="{bound}", site="{site}"}}': values for (site, bound), values in table.items()}
    operator, frame = operator_of(vector, phi)
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(grouping, "MAX_CELLS", 8)
        for row in range(2 if table else 0):
            expected: dict[str, float] = {}
            for site in "ab":
                there = {b: v[row] for (s, b), v in table.items() if s == site and b != "x" and v[row] is not None}
                if there:
                    expected[f'{{site="{site}"}}'] = by_hand(list(map(float, there)), list(there.values()), phi)
            assert same_elements(elements(operator, frame, row), expected)
