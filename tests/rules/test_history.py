"""Histories: cuts, restarts and forgetting are invisible bit for bit; memory is bounded."""

from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.history import MAX_SAMPLES, History
from rules.prefix import CHANNELS
from rules.window_functions import WINDOW_FUNCTIONS
from tests.rules.streams import append, cut, data, look, samples, whole
from tests.rules.streams import windows as some_windows

GIVEN = {"quantile_over_time": [0.9], "double_exponential_smoothing": [0.3, 0.6], "predict_linear": [60.0]}
LONG = (1, 40, 1100, 2500)
"""Lengths of series, some of them beyond a restart of the running sums"""


def results(history: History, found) -> dict[str, bytes]:
    """Every function over the windows, as bits."""
    window = look(history, found)
    bits = {}
    for name, function in WINDOW_FUNCTIONS.items():
        value, present = function.evaluate(window, *(np.full(len(found), p) for p in GIVEN.get(name, [])))
        bits[name] = value.tobytes() + present.tobytes()
    return bits


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32))
def test_how_samples_were_cut_into_calls_is_invisible_bit_for_bit(seed):
    r = Random(seed)
    stream = data(r, LONG)
    one, many = History(CHANNELS), History(CHANNELS)
    append(one, whole(stream))
    for batch in cut(r, stream):
        append(many, batch)
    found = some_windows(r, stream)
    assert results(one, found) == results(many, found)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32))
def test_a_restart_is_invisible_bit_for_bit(seed):
    r = Random(seed)
    stream = data(r, LONG)
    kept, restarted = History(CHANNELS), History(CHANNELS)
    for batch in cut(r, stream):
        append(kept, batch)
        append(restarted, batch)
        if r.random() < 0.3:
            series = np.unique([row[0] for row in batch]).astype(np.int64)
            before = restarted.time(series, restarted.next[series] - 1) - 3 * 10**11
            restarted.forget(series, before)
            kept.forget(series, before)
            after = History(CHANNELS)
            after.restore(restarted.state())
            restarted = after
    series = np.array(sorted(stream))
    times = kept.time(series, kept.first[series])
    found = [w for w in some_windows(r, stream, 60) if w[1] >= times[np.searchsorted(series, w[0])]]
    if found:
        assert results(kept, found) == results(restarted, found)
    assert kept.first.tolist() == restarted.first.tolist()
    assert kept.next.tolist() == restarted.next.tolist()


def test_a_snapshot_of_a_snapshot_is_the_same():
    history = History(CHANNELS)
    append(history, whole(data(Random(3), LONG)))
    history.forget(np.arange(20), np.full(20, 10**12))
    again = History(CHANNELS)
    again.restore(history.state())
    first, second = history.state(), again.state()
    assert first.keys() == second.keys()
    assert all(first[name].tobytes() == second[name].tobytes() for name in first)


@pytest.mark.parametrize("oldest", [1.0, math.nan, math.inf, 1e300])
def test_channels_that_a_snapshot_lacks_begin_with_its_samples(oldest):
    r = Random(5)
    stream = data(r, (300,))
    for sample in stream.values():
        sample[0] = (sample[0][0], oldest)
    plain, full = History(), History(CHANNELS)
    append(plain, whole(stream))
    full.restore(plain.state())
    again = History(CHANNELS)
    append(again, whole(stream))
    found = some_windows(r, stream) + [(s, t[0][0] - 1, t[5][0], t[5][0]) for s, t in stream.items()]
    assert results(full, found) == results(again, found)


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 2**32))
def test_forgetting_changes_no_window_that_is_still_allowed(seed):
    r = Random(seed)
    stream = data(r, LONG)
    kept, forgetful = History(CHANNELS), History(CHANNELS)
    for batch in cut(r, stream):
        append(kept, batch)
        append(forgetful, batch)
        series = np.unique([row[0] for row in batch]).astype(np.int64)
        forgetful.forget(series, forgetful.time(series, forgetful.next[series] - 1) - 5 * 10**11)
    found = [w for w in some_windows(r, stream, 60) if w[1] >= stream[w[0]][-1][0] - 5 * 10**11]
    if found:
        assert results(kept, found) == results(forgetful, found)


def test_forgetting_makes_room_in_the_ring():
    history = History()
    for i in range(1000):
        append(history, [(0, i, 1.0)])
        history.forget(np.array([0]), np.array([i - 6]))
    assert history.rings.series.mask[0] + 1 == 8
    assert history.next[0] - history.first[0] == 6


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32))
def test_after_finds_the_first_sample_later_than_an_instant(seed):
    r = Random(seed)
    stream = data(r, (1, 5, 40, 700))
    history = History()
    append(history, whole(stream))
    for series, sample in stream.items():
        times = [t for t, _ in sample]
        instants = [t + d for t in r.choices(times, k=30) for d in (-1, 0, 1)] + [-(10**18), 2**62]
        end = r.randint(0, len(times))
        got = history.after(np.full(len(instants), series), np.array(instants), np.full(len(instants), end))
        assert got.tolist() == [sum(t <= instant for t in times[:end]) for instant in instants]


def test_after_bears_instants_far_away_from_samples_close_together():
    history = History()
    append(history, [(0, i, 0.0) for i in range(1000)] + [(1, 5, 0.0)])
    series, instant = np.array([0, 0, 1, 1]), np.array([-(2**62), 2**62, -(2**62), 2**62])
    assert history.after(series, instant, history.next[series]).tolist() == [0, 1000, 0, 1]


def test_appending_tells_the_ordinals_and_samples_are_found_by_them():
    history = History()
    assert append(history, [(2, 10, 1.5), (2, 11, 2.5), (7, 5, 9.0)]).tolist() == [0, 1, 0]
    assert append(history, [(2, 12, 3.5)]).tolist() == [2]
    series, ordinal = np.array([2, 2, 7]), np.array([0, 2, 0])
    assert history.time(series, ordinal).tolist() == [10, 12, 5]
    assert history.value(series, ordinal).tolist() == [1.5, 3.5, 9.0]


def test_series_without_samples_have_empty_windows():
    history = History(CHANNELS)
    found = [(40, 0, 10, 10)]
    history.rings.know(np.array([40]))
    window = look(history, found)
    for name, function in WINDOW_FUNCTIONS.items():
        _, present = function.evaluate(window, *(np.full(1, p) for p in GIVEN.get(name, [])))
        assert not present[0], name


def test_a_series_keeps_only_its_newest_samples_and_counts_the_others():
    history = History(CHANNELS)
    more = 70_000
    rows = MAX_SAMPLES + more
    for begin in range(0, rows, rows // 3 + 1):
        time = np.arange(begin, min(begin + rows // 3 + 1, rows))
        history.append(np.zeros(len(time), np.int64), time, np.ones(len(time)))
    assert history.dropped == more
    assert history.first[0] == more
    found = [(0, more - 1, rows, rows), (0, rows - 5, rows, rows)]
    value, _ = WINDOW_FUNCTIONS["sum_over_time"].evaluate(look(history, found))
    assert value.tolist() == [MAX_SAMPLES, 4]
    assert len(history.rings.time) < 16 * MAX_SAMPLES


def test_outgrown_rings_serve_other_series():
    history = History()
    for i in range(64):  # 100 series grow from 8 to 64 samples, then 100 others
        append(history, [(series, i, 0.0) for series in range(100)])
    used = history.rings._used
    append(history, [(series, 0, 0.0) for series in range(100, 200)])
    assert history.rings._used == used


@pytest.mark.parametrize("length", [1, 8, 9, 70_000])
def test_a_call_of_any_length(length):
    r = Random(length)
    stream = {4: [(i, float(i % 7)) for i in range(length)], 5: samples(r, 3)}
    history = History(CHANNELS)
    append(history, whole(stream))
    assert history.next[[4, 5]].tolist() == [length, 3]
    value, _ = WINDOW_FUNCTIONS["sum_over_time"].evaluate(look(history, [(4, -1, length, length)]))
    assert value[0] == sum(i % 7 for i in range(length))


def test_unknown_channels_are_refused():
    with pytest.raises(ValueError, match="nonsense"):
        History({"nonsense"})
