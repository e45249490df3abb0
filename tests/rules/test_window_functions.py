"""Window functions: equal to the reference sample by sample, whatever the samples; upstream's edge cases."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.history import History
from rules.prefix import BLOCK, CHANNELS
from rules.window_functions import WINDOW_FUNCTIONS
from tests.rules import windows as reference
from tests.rules.streams import append, cut, data, inside, look, samples, whole
from tests.rules.streams import windows as some_windows

EXACT = {
    "count_over_time",
    "present_over_time",
    "last_over_time",
    "first_over_time",
    "min_over_time",
    "max_over_time",
    "ts_of_min_over_time",
    "ts_of_max_over_time",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "quantile_over_time",
    "mad_over_time",
    "double_exponential_smoothing",
    "changes",
    "resets",
    "delta",
    "irate",
    "idelta",
}


def parameters(name: str, r: Random) -> list[float]:
    match name:
        case "quantile_over_time":
            return [r.choice([0.0, 0.5, 0.9, 1.0, -1.0, 2.0, math.nan, r.random()])]
        case "double_exponential_smoothing":
            return [r.uniform(0.01, 0.99), r.uniform(0.01, 0.99)]
        case "predict_linear":
            return [r.uniform(-1e4, 1e4)]
    return []


def slack(name: str, want: float, sample: list[tuple[int, float]], now: int, given: list[float]) -> float:
    """How far off a result may be."""
    if name in EXACT:
        return 0.0
    size = max(abs(v) for _, v in sample)
    if name in {"rate", "increase"}:
        return 1e-12 * max(abs(want), size * 1e-3)
    if name == "deriv":  # seen from what the ends of the window give
        return 1e-9 * abs(want) + 1e-12 * size / max((sample[-1][0] - sample[0][0]) / 1e9, 1e-9)
    if name == "predict_linear":
        span, far = sample[-1][0] - sample[0][0], max(abs(now - sample[0][0]), abs(now - sample[-1][0]))
        return 1e-12 * (abs(want) + size * (1 + (far + abs(given[0]) * 1e9) / span))
    return 1e-12 * abs(want)


def check(stream, history, r, count=20):
    found = some_windows(r, stream, count)
    window = look(history, found)
    for name, function in WINDOW_FUNCTIONS.items():
        given = [parameters(name, r) for _ in found]
        columns = [np.array(column) for column in zip(*given, strict=True)]
        value, present = function.evaluate(window, *columns)
        for i, (series, start, end, now) in enumerate(found):
            sample = inside(stream, series, start, end)
            want = reference.result(name, sample, start, end, now, *given[i])
            assert present[i] == (want is not None), (name, sample)
            if want is None:
                continue
            got = float(value[i])
            same = got == want or (math.isnan(got) and math.isnan(want))
            assert same or abs(got - want) <= slack(name, want, sample, now, given[i]), (name, got, want, sample)


def test_every_function_has_a_reference():
    assert set(WINDOW_FUNCTIONS) == set(reference.REFERENCE)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_every_function_is_what_its_samples_give_one_by_one(seed):
    r = Random(seed)
    stream = data(r)
    history = History(CHANNELS)
    for batch in cut(r, stream):
        append(history, batch)
    check(stream, history, r)


@pytest.mark.parametrize("seed", range(3))
def test_windows_over_many_restarts_of_the_running_sums(seed):
    r = Random(seed)
    stream = {0: samples(r, 4 * BLOCK + 17), 1: samples(r, BLOCK), 2: samples(r, 2 * BLOCK)}
    history = History(CHANNELS)
    for batch in cut(r, stream):
        append(history, batch)
    check(stream, history, r, 8)


@pytest.mark.parametrize("name", sorted(WINDOW_FUNCTIONS))
def test_a_function_asks_for_the_channels_that_it_needs(name):
    r = Random(7)
    stream = data(r)
    own, all_of_them = History(WINDOW_FUNCTIONS[name].channels), History(CHANNELS)
    for history in (own, all_of_them):
        append(history, whole(stream))
    found = some_windows(r, stream)
    given = [np.full(len(found), 0.5)] * len(parameters(name, r))
    results = [WINDOW_FUNCTIONS[name].evaluate(look(history, found), *given) for history in (own, all_of_them)]
    assert results[0][0].tobytes() == results[1][0].tobytes()
    assert results[0][1].tobytes() == results[1][1].tobytes()


def of(name: str, values: list[float], *given: float, step: int = 10**10) -> float:
    """The result over all values, `step` ns apart; the window begins at the first one's time - 1 ns."""
    history = History(CHANNELS)
    append(history, [(3, i * step, v) for i, v in enumerate(values)])
    window = look(history, [(3, -1, (len(values) - 1) * step, (len(values) - 1) * step)])
    value, present = WINDOW_FUNCTIONS[name].evaluate(window, *(np.array([p]) for p in given))
    assert present[0]
    return float(value[0])


@pytest.mark.parametrize("value", [20.1, 0.1, -7.3, 1e-300, 1e300, 0.0])
@pytest.mark.parametrize("length", [1, 2, 3, 7, 30, 2000])
def test_what_does_not_change_has_that_average_and_no_spread(value, length):
    assert of("avg_over_time", [value] * length) == value
    assert of("stddev_over_time", [value] * length) == 0
    if length > 1:
        assert of("deriv", [value] * length) == 0
        assert of("predict_linear", [value] * length, 3600.0) == value


def test_sums_keep_what_floats_would_lose():
    assert of("sum_over_time", [1.0, 1e100, 1.0, -1e100]) == 2
    assert of("sum_over_time", [1e15, 0.1, -1e15]) == 0.1
    assert of("avg_over_time", [1.7e308, 1.7e308]) == 1.7e308


def test_a_huge_value_spoils_no_window_after_it():
    history = History(CHANNELS)
    for glitch in (1e15, 1e18, 3.4e38, 1e300):
        series = int(math.log10(glitch))
        values = [glitch] * 3 + [0.1, 0.2, 0.3, 0.5]
        append(history, [(series, i * 10**9, v) for i, v in enumerate(values)])
        window = look(history, [(series, 2 * 10**9, 6 * 10**9, 6 * 10**9)])
        assert WINDOW_FUNCTIONS["sum_over_time"].evaluate(window)[0][0] == math.fsum([0.1, 0.2, 0.3, 0.5])
        exact = reference.variance(list(enumerate([0.1, 0.2, 0.3, 0.5])))
        assert WINDOW_FUNCTIONS["stdvar_over_time"].evaluate(window)[0][0] == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "total"),
    [
        ([1, math.nan], math.nan),
        ([math.inf, 1], math.inf),
        ([1, -math.inf, 5], -math.inf),
        ([math.inf, -math.inf], math.nan),
        ([1e308, 1e308], math.inf),
    ],
)
def test_sums_of_what_is_no_finite_number(values, total):
    assert of("sum_over_time", values) == pytest.approx(total, nan_ok=True)
    assert math.isnan(of("stddev_over_time", values)) or total == math.inf


def test_nan_yields_to_numbers_in_the_lowest_and_highest():
    assert of("min_over_time", [math.nan, 3, math.nan, 2, math.nan]) == 2
    assert of("max_over_time", [math.nan, 3, math.nan, 2, math.nan]) == 3
    assert math.isnan(of("max_over_time", [math.nan, math.nan]))
    assert of("ts_of_max_over_time", [math.nan, 3, 3, 2]) == 20
    assert of("ts_of_min_over_time", [math.nan, math.nan]) == 10


def test_changes_between_nans_are_none():
    assert of("changes", [math.nan, math.nan, 1, 1, math.nan, 2]) == 3
    assert of("resets", [5, 3, math.nan, 2, 1]) == 2


def test_smoothing_factors_outside_zero_and_one_are_refused_at_their_rows_only():
    function = WINDOW_FUNCTIONS["double_exponential_smoothing"]
    history = History(function.channels)
    append(history, [(0, i, float(i)) for i in range(9)])
    window = look(history, [(0, -1, 8, 8)] * 4)
    given = np.array([0.5, 0.0, 1.0, 0.5]), np.array([0.5, 0.5, 0.5, 1.5])
    assert function.check is not None
    wrong, message = function.check(*given)
    assert wrong.tolist() == [False, True, True, True]
    assert "between 0 and 1" in message
    value, present = function.evaluate(window, *given)
    assert present.tolist() == [True, False, False, False]
    assert value[0] == pytest.approx(8)


def test_rates_are_extrapolated_as_upstream_does():
    """Samples 10 s apart, window of 50 s: to the ends, half a step further, or to where the counter was zero."""
    history = History(CHANNELS)
    append(history, [(0, t * 10**9, float(v)) for t, v in [(5, 100), (15, 110), (25, 120), (35, 130), (45, 140)]])
    append(history, [(1, t * 10**9, float(v)) for t, v in [(5, 2), (15, 12), (25, 22)]])
    window = look(history, [(s, 0, 50 * 10**9, 50 * 10**9) for s in (0, 1)])
    assert WINDOW_FUNCTIONS["increase"].evaluate(window)[0].tolist() == [50.0, 20 * (20 + 2 + 5) / 20]
    assert WINDOW_FUNCTIONS["rate"].evaluate(window)[0].tolist() == [1.0, pytest.approx(27 / 50)]
    assert WINDOW_FUNCTIONS["delta"].evaluate(window)[0].tolist() == [50.0, 30.0]
