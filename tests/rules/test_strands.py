"""Laws of strands: their points come in order of time."""

import numpy as np
import pytest

from rules.strands import by_strand_and_time


@pytest.mark.parametrize("span", [3, 10**12, 1 << 61])
def test_points_are_ordered_by_strand_and_time_however_long_the_time(span):
    random = np.random.default_rng(span)
    strand, time = random.integers(0, 20, 300), random.integers(-span // 2, span // 2, 300)

    assert by_strand_and_time(strand, time).tolist() == np.lexsort((time, strand)).tolist()
    assert by_strand_and_time(strand[:0], time[:0]).tolist() == []
