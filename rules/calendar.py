"""The calendar of PromQL: minute, hour, day … of unix seconds, in UTC, on numpy columns.

Source: prometheus promql/functions.go (dateWrapper): seconds are cut towards zero, the calendar is the Gregorian one,
also before it was introduced (ISO 8601), with a year 0. What is no instant (NaN, ±Inf, 2**63 seconds and more) gives
NaN; upstream gives what Go makes of the conversion to int64, which differs between processors.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rules.columns import Ints

Floats = NDArray[np.float64]

_DAY = 86_400


def _of_seconds(part: Callable[[Ints], Ints]) -> Callable[[Floats], Floats]:
    """`part`, which knows whole seconds only, for any column."""

    def function(value: Floats) -> Floats:
        instants = np.abs(value) < 2.0**63
        seconds = np.where(instants, value, 0.0).astype(np.int64)  # towards zero
        return np.where(instants, part(seconds), np.nan)

    return function


def _of_days(part: Callable[[NDArray[np.datetime64]], Ints]) -> Callable[[Floats], Floats]:
    """`part`, which knows days only, for any column."""
    return _of_seconds(lambda seconds: part((seconds // _DAY).astype("M8[D]")))


def _ordinal(date: NDArray[np.datetime64]) -> Ints:
    """Number of its unit since 1970."""
    return date.astype(np.int64)


def _since(date: NDArray[np.datetime64], unit: str) -> Ints:
    """Days since the unit began."""
    return _ordinal(date) - _ordinal(date.astype(f"M8[{unit}]").astype("M8[D]"))


def _days_in_month(date: NDArray[np.datetime64]) -> Ints:
    month = date.astype("M8[M]")
    return _ordinal((month + 1).astype("M8[D]")) - _ordinal(month.astype("M8[D]"))


CALENDAR: dict[str, Callable[[Floats], Floats]] = {
    "minute": _of_seconds(lambda seconds: seconds // 60 % 60),
    "hour": _of_seconds(lambda seconds: seconds // 3600 % 24),
    "day_of_week": _of_seconds(lambda seconds: (seconds // _DAY + 4) % 7),  # Sunday is 0; 1970 began on a Thursday
    "day_of_month": _of_days(lambda date: _since(date, "M") + 1),
    "day_of_year": _of_days(lambda date: _since(date, "Y") + 1),
    "days_in_month": _of_days(_days_in_month),
    "month": _of_days(lambda date: _ordinal(date.astype("M8[M]")) % 12 + 1),
    "year": _of_days(lambda date: _ordinal(date.astype("M8[Y]")) + 1970),
}
"""Functions of one column of unix seconds."""
