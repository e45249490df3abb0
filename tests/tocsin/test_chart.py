"""Laws of the chart: it fits, draws what there is, and leaves gaps open."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.chart import Curve, _drawable, _gaps, _nice_levels, _time_ticks, draw

T0 = 1_700_000_000 * 10**9
HOUR = 3600 * 10**9


def curve(name: str, values: np.ndarray, span: int = HOUR) -> Curve:
    return Curve(name, T0 + np.linspace(0, span - 1, len(values)).astype(np.int64), values)


@settings(max_examples=25)
@given(
    values=st.lists(st.lists(st.floats(width=32), max_size=40), min_size=1, max_size=10),
    width=st.sampled_from([80, 132]),
    colour=st.booleans(),
)
def test_a_chart_of_anything_fits(values, width, colour):
    curves = [curve(f"series{i}" * 20, np.array(v, np.float64)) for i, v in enumerate(values)]

    text = draw(curves, start=T0, end=T0 + HOUR, width=width, height=24, colour=colour)

    lines = text.splitlines()
    assert len(lines) <= 26
    assert colour or max(map(len, lines)) <= width


def test_thinning_keeps_every_peak():
    values = np.zeros(100_000)
    values[[5, 50_000, 99_999]] = 7, -3, 9

    x, y = _drawable(curve("a", values), T0, columns=160)

    assert len(x) <= 320
    assert {7.0, -3.0, 9.0} <= set(y.tolist())
    assert (np.diff(x) > 0).all()


def test_no_line_is_drawn_over_a_gap():
    assert _gaps(np.array([0.0, 1, 2, 3, 60, 61])) == [4]
    assert _gaps(np.array([0.0, 1, 2, 3])) == []


@pytest.mark.parametrize("seconds", [1, 10, 60, 90, 3600, 7 * 3600, 86_400, 30 * 86_400, 400 * 86_400])
def test_times_are_round_and_not_too_many(seconds):
    ticks = list(_time_ticks(T0, seconds, at_most=5))

    assert 1 <= len(ticks) <= 6
    assert all(0 <= at <= seconds for at, _ in ticks)


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9))
def test_levels_lie_within_and_are_a_handful(low, height):
    levels = _nice_levels(low, low + height)

    assert len(levels) <= 7
    assert all(low - 1e-6 * height - 1e-6 <= level <= low + height * 1.000001 + 1e-6 for level in levels)
