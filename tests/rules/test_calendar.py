"""Laws of the calendar functions: Python's own calendar is the reference."""

import calendar
import math
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from rules.arithmetic import FUNCTIONS
from rules.calendar import CALENDAR

NAN, INF = math.nan, math.inf

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CYCLE_YEARS, CYCLE_SECONDS = 400, 146_097 * 86_400
"""The Gregorian calendar repeats, weekdays and all."""


def of(seconds: float) -> dict[str, float]:
    """All functions of one instant, through a column."""
    return {name: float(FUNCTIONS[name](np.array([0.0, seconds]))[1]) for name in CALENDAR}


def by_python(seconds: int) -> dict[str, float]:
    cycles, within = divmod(seconds, CYCLE_SECONDS)
    date = EPOCH + timedelta(seconds=within)
    return {
        "minute": date.minute,
        "hour": date.hour,
        "day_of_week": date.isoweekday() % 7,
        "day_of_month": date.day,
        "day_of_year": date.timetuple().tm_yday,
        "days_in_month": calendar.monthrange(date.year, date.month)[1],
        "month": date.month,
        "year": date.year + cycles * CYCLE_YEARS,
    }


years = st.integers(-62_000_000_000, 250_000_000_000)


@given(st.one_of(years, st.integers(-(2**53), 2**53), st.integers(-(10**7), 10**7)))
def test_every_instant_has_the_date_that_python_gives_it(seconds: int):
    assert of(float(seconds)) == by_python(seconds)


@given(years, st.floats(0, 1, exclude_max=True))
def test_parts_of_a_second_are_cut_towards_zero(seconds: int, part: float):
    value = seconds + math.copysign(part, seconds)

    assert of(value) == by_python(math.trunc(value))


def test_just_before_1970_is_1970():
    """Go's conversion to an integer cuts; rounding down would give 1969."""
    assert of(-0.9)["year"] == 1970
    assert of(-1)["year"] == 1969
    assert of(-1)["minute"] == 59


@pytest.mark.parametrize("year", [1600, 1700, 1900, 1972, 2000, 2023, 2024, 2100, 2400])
def test_leap_years(year: int):
    february, last = (datetime(year, *day, tzinfo=UTC).timestamp() for day in ((2, 1), (12, 31)))

    assert of(february)["days_in_month"] == (29 if calendar.isleap(year) else 28)
    assert of(last)["day_of_year"] == (366 if calendar.isleap(year) else 365)


@pytest.mark.parametrize(
    ("function", "seconds", "result"),
    [  # what promtool 2.42 gives
        ("day_of_week", 0, 4), ("day_of_week", 1709164800, 4), ("day_of_month", 1709164800, 29),
        ("day_of_year", -1, 365), ("year", -62135596801, 0), ("month", -62135596801, 12), ("hour", -1, 23),
        ("year", 1e15, 31690708), ("year", 1e17, 3168875820), ("year", -1e17, -3168871881), ("minute", 1e17, 46),
    ],
)  # fmt: skip
def test_dates_as_upstream_gives_them(function: str, seconds: float, result: float):
    assert of(seconds)[function] == result


@pytest.mark.parametrize("seconds", [NAN, INF, -INF, 2.0**63, -(2.0**63), 1e300, -1.7e308])
def test_what_is_no_instant_has_no_date(seconds: float):
    assert all(math.isnan(part) for part in of(seconds).values())


@pytest.mark.parametrize("seconds", [2.0**63 - 1024, -(2.0**63) + 1024])
def test_the_first_and_the_last_instants_have_one(seconds: float):
    assert of(seconds) == by_python(int(seconds))


@pytest.mark.parametrize("name", list(CALENDAR))
def test_no_rows_give_no_rows(name: str):
    assert FUNCTIONS[name](np.zeros(0)).shape == (0,)
