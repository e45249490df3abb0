"""Encoding is exact to the bit for everything that int32, int64 and float64 can hold, and notices damage."""

import math
import struct
import warnings

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sinks.blocks import Damaged, decode, decode_entry, encode, encode_entry
from sinks.columns import Columns

INT64_MIN, INT64_MAX = -(1 << 63), (1 << 63) - 1


def float_of(bits: int) -> float:
    return struct.unpack("<d", struct.pack("<Q", bits))[0]


any_float = st.floats(width=64) | st.integers(0, (1 << 64) - 1).map(float_of)  # NaN payloads, too
decimal = st.builds(lambda n, places: n / 10**places, st.integers(-(10**6), 10**6), st.integers(0, 5))
mostly_decimal = st.one_of(*[decimal] * 20, st.sampled_from([float("nan"), -0.0, float("inf"), 1 / 3, 1e300]))
any_time = st.integers(INT64_MIN, INT64_MAX)
grid_time = st.integers(-1000, 1000).map(lambda n: 1_700_000_000_000_000_000 + n * 10_000_000_000)


@st.composite
def tidy_rows(draw, value=any_float, time=any_time) -> Columns:
    key = st.tuples(st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(0, 3), time)
    keys = sorted(draw(st.sets(key, min_size=1, max_size=80)))
    values = draw(st.lists(value, min_size=len(keys), max_size=len(keys)))
    return rows_of([s for s, _ in keys], [t for _, t in keys], values)


def rows_of(series, time, value) -> Columns:
    return Columns(np.array(series, np.int32), np.array(time, np.int64), np.array(value, np.float64))


def assert_same_bits(got: Columns, expected: Columns):
    assert [c.dtype for c in got] == [np.int32, np.int64, np.float64]
    assert got.series.tolist() == expected.series.tolist()
    assert got.time.tolist() == expected.time.tolist()
    assert got.value.view(np.uint64).tolist() == expected.value.view(np.uint64).tolist()


@given(tidy_rows() | tidy_rows(mostly_decimal, grid_time))
@example(rows_of([0, 0, 0], [INT64_MIN, 0, INT64_MAX], [0.0, -0.0, 5e-324]))
@example(rows_of([0, 1], [INT64_MAX, INT64_MIN], [float("inf"), float("-inf")]))
@example(rows_of([0, 0], [INT64_MIN, 0], [1.7976931348623157e308, -1.7976931348623157e308]))
@example(rows_of([0, 0], [INT64_MIN, INT64_MAX - 1], [2.0**53 - 1, -(2.0**53) + 1]))
@example(rows_of([0, 0], [0, 1], [2.0**53, 2.0**53 + 2]))
def test_a_block_gives_back_every_bit(rows: Columns):
    assert_same_bits(decode(encode(rows)), rows)


@given(tidy_rows(mostly_decimal, grid_time), st.data())
def test_decoding_some_series_equals_selecting_them(rows: Columns, data):
    wanted = np.array(sorted(data.draw(st.sets(st.sampled_from([*set(rows.series.tolist()), 7, -9])))), np.int32)

    assert_same_bits(decode(encode(rows), wanted), rows.of(wanted))


@given(st.lists(st.tuples(st.integers(-(1 << 31), (1 << 31) - 1), any_time, any_float), max_size=20))
def test_a_log_entry_gives_back_every_bit_in_its_order(rows):
    columns = rows_of(*zip(*rows, strict=True)) if rows else rows_of([], [], [])

    assert_same_bits(decode_entry(encode_entry(columns)), columns)


@pytest.mark.parametrize("odd", [float("nan"), -0.0, float("inf"), 1 / 3, 1e300, -5e-324])
def test_few_values_that_are_no_decimals_do_not_make_a_block_large(odd: float):
    rng = np.random.default_rng(0)
    value = np.round(rng.normal(20, 5, 4096), 2)
    with_odd = value.copy()
    with_odd[[17, 400, 4095]] = odd
    rows = rows_of(np.zeros(4096), np.arange(4096) * 10**10, value)

    data = encode(rows._replace(value=with_odd))

    assert len(data) < len(encode(rows)) * 1.05
    assert_same_bits(decode(data), rows._replace(value=with_odd))


def test_regular_decimal_readings_take_less_than_two_bytes():
    rng = np.random.default_rng(0)
    walk = np.round(20 + np.cumsum(rng.normal(0, 0.05, 8192)), 2)
    rows = rows_of(np.repeat(range(8), 1024), np.tile(np.arange(1024) * 10**10, 8), walk)

    assert len(encode(rows)) < 2 * 8192


@given(tidy_rows(mostly_decimal, grid_time), st.data())
@pytest.mark.slow
def test_a_changed_byte_is_noticed(rows: Columns, data):
    block = bytearray(encode(rows))
    at = data.draw(st.integers(0, len(block) - 1))
    block[at] ^= data.draw(st.integers(1, 255))

    with pytest.raises(Damaged):
        decode(bytes(block))


@given(tidy_rows(mostly_decimal, grid_time), st.data())
@pytest.mark.slow
def test_a_missing_end_is_noticed(rows: Columns, data):
    block = encode(rows)

    with pytest.raises(Damaged):
        decode(block[: data.draw(st.integers(0, len(block) - 1))])


def test_a_torn_log_entry_is_noticed():
    with pytest.raises(Damaged):
        decode_entry(encode_entry(rows_of([1], [2], [3.0]))[:-1])


# Series 1 and 4, written by the first release: decimals, and values that are none.
FORMAT_1_DECIMALS = (
    "2462a77c08000000020000000000000010000000000000000000000000ca9a3b00000000010402010000000400000000000000050000007801"
    "63e0e2e2e2bec3c50500039a011a78014b7b6e1478ee756d16c77f86ffff39198024906684d20c0cff0112311077"
)
FORMAT_1_OTHERS = (
    "bb6284f808000000020000000000000010000000000000000000000000ca9a3b000000000108ff010000000400000000000000050000007801"
    "63e0e2e2e2bec3c50500039a011a78010b956098c3c8c0302b5497a19481816166a80b9004d1210c1d60fa37830d9856647802a2af72329833"
    "b07cd869efd050c7e0506f0f00bdb80f86"
)


@pytest.mark.parametrize(
    ("block", "values"),
    [
        (FORMAT_1_DECIMALS, [21.5, 21.25, 21.75, 20.0, 19.5, 700.25, 701.5, 700.0]),
        (FORMAT_1_OTHERS, [1 / 3, math.pi, -0.0, 1e300, 5e-324, 2.5, math.inf, 0.1]),
    ],
)
def test_blocks_of_the_first_format_are_still_read(block: str, values: list[float]):
    times = [second * 10**9 for second in (0, 10, 20, 30, 41, 5, 15, 25)]
    rows = rows_of([1] * 5 + [4] * 3, times, values)

    assert_same_bits(decode(bytes.fromhex(block)), rows)
    assert_same_bits(decode(bytes.fromhex(block), np.array([4], np.int32)), rows.of(np.array([4], np.int32)))


def test_no_warning_escapes_from_extreme_values():
    extremes = [float("nan"), float("inf"), float("-inf"), 1.7976931348623157e308, 5e-324, -0.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(encode(rows_of([0] * 6, range(6), extremes)))
