"""Laws of downsampling, against a loop."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sinks.downsampling import downsample

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1

numbers = st.integers(-1000, 1000).map(float) | st.just(math.nan)


@given(
    st.dictionaries(st.integers(-50, 50) | st.integers(INT64_MIN, INT64_MAX), numbers, max_size=60),
    st.sampled_from([(-50, 50), (0, 7), (INT64_MIN, INT64_MAX + 1), (INT64_MIN, 0), (3, 4), (4, 3)]),
    st.integers(1, 40),
)
@example({INT64_MIN: 1.0, INT64_MAX: 2.0}, (INT64_MIN, INT64_MAX + 1), 1)
def test_each_bucket_is_what_a_loop_finds_in_it(readings: dict[int, float], span: tuple[int, int], buckets: int):
    t0, t1 = span
    inside = sorted((t, v) for t, v in readings.items() if t0 <= t < t1)
    time = np.array([t for t, _ in inside], np.int64)

    got = downsample(time, np.array([v for _, v in inside], np.float64), t0, t1, buckets)

    width = max(1, -(-(t1 - t0) // buckets))
    expected: dict[int, list[float]] = {}
    for t, v in inside:
        expected.setdefault(t0 + (t - t0) // width * width, []).append(v)
    assert got.start.tolist() == list(expected)
    assert len(expected) <= buckets
    assert got.n.tolist() == [len(v) for v in expected.values()]
    np.testing.assert_array_equal(got.last, [v[-1] for v in expected.values()])
    real = [[x for x in v if not math.isnan(x)] for v in expected.values()]
    np.testing.assert_array_equal(got.min, [min(v, default=math.nan) for v in real])
    np.testing.assert_array_equal(got.max, [max(v, default=math.nan) for v in real])
    np.testing.assert_allclose(got.mean, [sum(v) / len(v) if v else math.nan for v in real], rtol=1e-12)


def test_infinities_and_huge_values_are_no_warnings():
    value = np.array([math.inf, -math.inf, 1.7e308, 1.7e308])

    got = downsample(np.arange(4), value, 0, 4, 1)

    assert (got.min[0], got.max[0], got.n[0]) == (-math.inf, math.inf, 4)


def test_no_bucket_is_refused():
    with pytest.raises(ValueError, match="at least 1"):
        downsample(np.empty(0, np.int64), np.empty(0), 0, 10, 0)
