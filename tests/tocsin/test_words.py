"""Laws of figures in words."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.words import count, exact, iso, number, printable, span

S = 10**9


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"), (1500, "1.5µs"), (3_200_000, "3.2ms"), (45 * S, "45.0s"), (60 * S, "1m"), (200 * S, "3m20s"),
        (3600 * S, "1h"), (3661 * S, "1h1m"), (52 * 3600 * S, "2d4h"), (86_400 * S, "1d"),
    ],
)  # fmt: skip
def test_a_span_is_said_in_one_or_two_units(ns, text):
    assert span(ns) == text


@given(st.floats())
def test_exact_reads_back_as_the_same_value(value):
    read = float(exact(value))

    assert read == value or (math.isnan(read) and math.isnan(value))


def test_values_and_counts():
    assert [number(x) for x in (21.5, 1e9, math.nan, -math.inf)] == ["21.5", "1e+09", "NaN", "-Inf"]
    assert [count(12345), count(12_345_678, short=True), count(9_999_999, short=True)] == [
        "12,345", "12.3M", "9,999,999",
    ]  # fmt: skip


def test_times_for_machines_are_utc_to_the_millisecond():
    assert iso(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123Z"
    assert iso(-1_000_000) == "1969-12-31T23:59:59.999Z"


@given(st.text())
def test_printable_text_has_no_control_characters(text):
    assert printable(text).isprintable()
