"""Laws of tidying, merging and cutting columns, against dicts and lists."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sinks.columns import EMPTY, NO_STRIPS, Columns, cut, merge, splice, strips_of, tidy

Row = tuple[int, int, float]
rows_of_few_series = st.lists(
    st.tuples(st.integers(-3, 3), st.integers(-20, 20), st.integers(0, 1000).map(float)), max_size=80
)


def columns(rows: list[Row]) -> Columns:
    series, time, value = zip(*rows, strict=True) if rows else ((), (), ())
    return Columns(np.array(series, np.int32), np.array(time, np.int64), np.array(value, np.float64))


def as_rows(c: Columns) -> list[Row]:
    return list(zip(c.series.tolist(), c.time.tolist(), c.value.tolist(), strict=True))


def last_wins(parts: list[list[Row]]) -> list[Row]:
    return sorted((s, t, v) for (s, t), v in {(s, t): v for part in parts for s, t, v in part}.items())


@given(st.lists(rows_of_few_series, max_size=5))
def test_tidy_sorts_and_keeps_the_last_written_of_equal_keys(parts: list[list[Row]]):
    assert as_rows(tidy([columns(part) for part in parts])) == last_wins(parts)


@given(st.lists(st.integers(-(1 << 31), (1 << 31) - 1), min_size=1, max_size=30))
def test_tidy_knows_every_series_id_of_int32(ids: list[int]):
    rows = [(s, 0, float(i)) for i, s in enumerate(ids)]

    assert as_rows(tidy([columns(rows)])) == last_wins([rows])


@given(st.lists(rows_of_few_series, max_size=5), st.integers(1, 7), st.randoms(use_true_random=False))
def test_merging_streams_equals_tidying_everything_at_once(parts: list[list[Row]], size: int, random):
    def stream(part: list[Row]):
        rows = columns(last_wins([part]))
        at = 0
        while at < rows.rows:
            end = at + random.randint(1, size)
            yield rows.take(slice(at, end))
            at = end

    pieces = list(merge([stream(part) for part in parts]))

    assert [row for piece in pieces for row in as_rows(piece)] == last_wins(parts)


@given(rows_of_few_series, st.integers(1, 12), st.lists(st.integers(0, 80), max_size=6))
def test_cutting_changes_no_row_and_keeps_short_series_whole(rows: list[Row], block_rows: int, at: list[int]):
    whole = columns(last_wins([rows]))
    edges = [0, *sorted(min(a, whole.rows) for a in at), whole.rows]

    blocks = list(cut((whole.take(slice(a, b)) for a, b in itertools.pairwise(edges)), block_rows))

    assert [row for block in blocks for row in as_rows(block)] == as_rows(whole)
    assert all(0 < block.rows <= block_rows for block in blocks)
    for series in set(whole.series.tolist()):
        if np.count_nonzero(whole.series == series) <= block_rows // 2:
            assert sum(series in block.series for block in blocks) == 1


@given(rows_of_few_series, st.lists(st.integers(-4, 4), unique=True))
def test_of_and_within_select_rows(rows: list[Row], wanted: list[int]):
    all_rows = columns(rows)

    assert as_rows(all_rows.of(np.array(sorted(wanted), np.int32))) == [r for r in rows if r[0] in wanted]
    assert as_rows(all_rows.within(-5, 5)) == [r for r in rows if -5 <= r[1] <= 5]


stretches = st.lists(st.tuples(st.integers(-2, 2), st.integers(-90, 90), st.integers(1, 70)), max_size=5)
"""Series, first time, number of readings"""


@given(st.lists(stretches, max_size=5))
def test_spliced_parts_are_those_tidied_together(given_parts: list[list[tuple[int, int, int]]]):
    parts = [
        last_wins([[(s, t, float(1000 * i + t)) for s, first, n in part for t in range(first, first + n)]])
        for i, part in enumerate(given_parts)
    ]

    got = splice([strips_of(columns(part)) for part in parts])

    assert as_rows(got.columns()) == last_wins(parts)
    assert got.edges[-1] == len(got.time)


@given(rows_of_few_series, st.lists(st.integers(-4, 4), unique=True))
def test_strips_select_what_columns_do(rows: list[Row], wanted: list[int]):
    all_rows, ids = columns(last_wins([rows])), np.array(sorted(wanted), np.int32)

    assert as_rows(strips_of(all_rows).columns()) == as_rows(all_rows)
    assert as_rows(strips_of(all_rows).of(ids).columns()) == as_rows(all_rows.of(ids))
    assert as_rows(strips_of(all_rows).within(-5, 5).columns()) == as_rows(all_rows.within(-5, 5))


def test_nothing_tidies_merges_and_cuts_to_nothing():
    assert tidy([]).rows == 0
    assert tidy([EMPTY, EMPTY]).rows == 0
    assert splice([]) is splice([NO_STRIPS, strips_of(EMPTY)]) is NO_STRIPS
    assert list(merge([])) == []
    assert list(cut([EMPTY], 4)) == []
