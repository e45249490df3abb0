"""Laws of windows that are evaluated straight from their samples, and of sums that begin where they are first wanted:
neither shows, bit for bit.
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules import window_few
from rules.history import History
from rules.prefix import COUNTS, HIGHEST, LOWEST, SUM
from rules.window_functions import WINDOW_FUNCTIONS
from rules.window_sums import ends, select
from tests.rules.streams import append, cut, data, look, windows

EITHER_WAY = ("avg_over_time", "sum_over_time", "min_over_time", "max_over_time")
ANYWHERE = {COUNTS, SUM, LOWEST, HIGHEST}
"""Channels whose sums may begin anywhere"""


def bits(value) -> bytes:
    return np.where(np.isnan(value), np.nan, value).tobytes()


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32), st.sampled_from(EITHER_WAY))
def test_few_windows_give_what_running_sums_and_trees_give(seed, name):
    r = Random(seed)
    stream = data(r)
    function, history = WINDOW_FUNCTIONS[name], History(ANYWHERE)
    for batch in cut(r, stream):
        append(history, batch)
    window = look(history, windows(r, stream, 5))
    window = select(window, np.flatnonzero(window.hi > window.lo))

    straight = function.few(window)
    history.sum_up(window.series)

    with np.errstate(all="ignore"):
        assert straight is None or bits(straight) == bits(function.compute(ends(window)))


def test_many_samples_and_strange_ones_are_left_to_running_sums():
    history = History(ANYWHERE)
    append(history, [(0, i, 1.0) for i in range(window_few.CELLS + 1)] + [(1, i, float("inf")) for i in range(3)])
    window = look(history, [(0, -1, window_few.CELLS, 0)])
    assert window_few.average(window) is None
    assert window_few.highest(window) is None
    assert window_few.total(look(history, [(0, 0, window_few.CELLS, 0)])) == [window_few.CELLS]
    assert window_few.average(look(history, [(1, -1, 2, 0)])) is None


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 2**32))
def test_when_samples_are_summed_up_and_which_others_made_room_for_them_is_invisible(seed):
    r = Random(seed)
    stream = data(r)
    kept = 10 ** r.choice([9, 10, 11, 12])
    full = History(ANYWHERE)
    newest = np.full(20, -(2**62))
    lean = History(ANYWHERE, needed_since=lambda series: newest[series] - kept)
    for batch in cut(r, stream):
        append(full, batch)
        full.sum_up(np.arange(20))
        append(lean, batch)
        for series, time, _ in batch:
            newest[series] = time
        if r.random() < 0.2:
            lean.sum_up(np.array(r.sample(range(20), 5)))
    found = [w for w in windows(r, stream, 30) if w[1] >= newest[w[0]] - kept]
    if not found:
        return
    for name, function in WINDOW_FUNCTIONS.items():
        if not function.channels <= ANYWHERE or function.check or name in ("quantile_over_time", "mad_over_time"):
            continue
        one, other = (function.evaluate(look(history, found)) for history in (full, lean))
        assert bits(one[0]) == bits(other[0]), name
        assert one[1].tolist() == other[1].tolist()


@pytest.mark.parametrize("channels", [ANYWHERE, {*ANYWHERE, "square"}])
def test_samples_that_are_not_needed_make_room_for_others(channels):
    history = History(channels, needed_since=lambda series: np.full(len(series), i - 7))
    for i in range(1000):
        append(history, [(0, i, float(i % 5)), (1, i, 1.0)])
    assert history.rings.series.mask[:2].tolist() == [7, 7]
    assert history.dropped == 0
    value, _ = WINDOW_FUNCTIONS["sum_over_time"].evaluate(look(history, [(0, 994, 999, 0), (1, 992, 999, 0)]))
    assert value.tolist() == [10, 7]
