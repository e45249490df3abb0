"""Frames of the stream: what the operators see of the series, as of the instants of a batch."""

from __future__ import annotations

from collections.abc import Hashable
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints, all_of, where
from rules.history import History, Window
from rules.lifecycle import FOREVER, NEVER
from rules.operators import Bools, Frame, Samples
from rules.samples import Memory, sample_before, seen, window_of


class Readings(NamedTuple):
    """n readings of a selector's elements, grouped by element and in order."""

    element: Ints
    position: Ints
    time: Ints
    """ns"""
    value: Floats
    before: Ints
    """ns; time of the newest reading before the batch"""

    def select(self, rows: Ints) -> Readings:
        columns: list[Any] = [column.take(rows) for column in self]
        return Readings(*columns)


class BatchFrame:
    """The instants of one batch, on top of what was known before it; positions number them in arrival order."""

    def __init__(
        self,
        memory: Memory,
        series: NDArray[np.int32],
        position: Ints,
        time: Ints,
        value: Floats,
        anchor: Ints,
        positions: int,
    ) -> None:
        """series … anchor: (n,) live readings in order of positions, at most one for each series at each position."""
        self.memory, self._newest, self._positions = memory, memory.newest, positions
        order = _by_series(series)
        if order is not None:
            series, position, time = series[order], position[order], time[order]
            value, anchor = value[order], anchor[order]
        self.series, self._at, self._time, self._value, self._anchor = series, position, time, value, anchor
        """(n,) by series, then by position"""
        self.time: Ints = np.zeros(0, np.int64)
        self.all_rows: Ints = np.zeros(0, np.int64)
        self.horizon: Ints = np.zeros(0, np.int64)
        """The earliest instant that an operator expects for each row."""
        self.latest: Ints = np.zeros(0, np.int64)
        """The newest sample that each row has seen."""
        self.anchor: Ints = np.zeros(0, np.int64)
        """The newest anchor that each row has seen."""
        self.position: Ints = np.zeros(0, np.int64)
        self.failed = np.zeros(0, bool)
        """(rows,) where the expression is in error"""
        self.failure = ""
        """Why it is, somewhere."""
        memory.remember(series, time, value)

    @cached_property
    def _keys(self) -> Ints:
        return self.series.astype(np.int64) * self._positions + self._at

    def readings(self, rows: Ints, element: Ints) -> Readings:
        """Sorted readings of a selector's elements."""
        before = self._newest.time.take(self.series.take(rows))
        return Readings(element, self._at.take(rows), self._time.take(rows), self._value.take(rows), before)

    def rows(self, position: Ints, time: Ints) -> None:
        """Set the rows: each sees the samples up to and with its position, at its time."""
        self.time, self.position = time, position
        self.horizon, self.latest = np.full(len(time), FOREVER), np.full(len(time), NEVER)
        self.anchor = np.full(len(time), NEVER)
        self.failed, self.failure = np.zeros(len(time), bool), ""
        self.all_rows = np.arange(len(time))

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        value, time, anchor = (
            column[series] for column in (self._newest.value, self._newest.time, self._newest.anchor)
        )
        if len(self.series):  # a position BEFORE all is the last one of another series
            at = (
                np.searchsorted(
                    self._keys, series.astype(np.int64) * self._positions + self.position[row], side="right"
                )
                - 1
            )
            inside = (at >= 0) & (self.series[at] == series)
            value = np.where(inside, self._value[at], value)
            time = np.where(inside, self._time[at], time)
            anchor = np.where(inside, self._anchor[at], anchor)
        if row is self.all_rows:
            np.maximum(self.latest, time, out=self.latest)
            np.maximum(self.anchor, anchor, out=self.anchor)
        else:
            np.maximum.at(self.latest, row, time)
            np.maximum.at(self.anchor, row, anchor)
        return seen(value, time, self._newest.staleness[series], self.time[row])

    def past(self, series: NDArray[np.int32], row: Ints, ago: Ints) -> Samples:
        return _past(self, self.memory, self.sample(series, row), series, row, ago)

    def window(self, series: NDArray[np.int32], row: Ints, ago: Ints, duration: int) -> Window:
        return _window(self, self.memory.ranges, self.sample(series, row), series, row, ago, duration)

    def ended(self, series: NDArray[np.int32]) -> Bools:
        return np.zeros(len(series), bool)  # what reads recorded series is evaluated on the grid

    def expect(self, row: Ints, instant: Ints) -> None:
        if row is self.all_rows:
            np.minimum(self.horizon, instant, out=self.horizon)
        else:
            np.minimum.at(self.horizon, row, instant)

    def fail(self, row: Ints, message: str) -> None:
        if len(row):
            self.failed[row], self.failure = True, message

    def commit(self) -> None:
        """Make the last reading of each series the newest sample."""
        series, newest = self.series, self._newest
        if not len(series):
            return
        final = np.empty(len(series), bool)
        final[-1] = True
        np.not_equal(series[1:], series[:-1], out=final[:-1])
        if all_of(final):
            newest.value[series], newest.time[series], newest.anchor[series] = self._value, self._time, self._anchor
            return
        last = where(final)
        series = series[last]
        newest.value[series] = self._value[last]
        newest.time[series] = self._time[last]
        newest.anchor[series] = self._anchor[last]


class PointFrame:
    """Instants of one selector's elements, each with the sample that it sees. All rules of the selector share it."""

    def __init__(self, memory: Memory, series: NDArray[np.int32], value: Floats, sampled: Ints, now: Ints) -> None:
        """(n,) by row: the series, its newest sample's value and time, and the instant."""
        self._memory, self.time, self.position = memory, now, sampled
        self._samples = seen(value, sampled, memory.newest.staleness[series], now)
        self.all_rows = np.arange(len(now))
        self.horizon = np.empty(len(now), np.int64)
        self.horizon.fill(FOREVER)
        """(n,) the earliest instant that an operator expects for each row"""
        self.failed, self.failure = np.zeros(len(now), bool), ""
        self.results: dict[Hashable, Any] = {}
        """Of expressions that rules have in common"""

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        del series
        if row is self.all_rows:
            return self._samples
        value, time, there, expires, now = self._samples
        return Samples(value[row], time[row], there[row], expires[row], now[row])

    def past(self, series: NDArray[np.int32], row: Ints, ago: Ints) -> Samples:
        return _past(self, self._memory, self.sample(series, row), series, row, ago)

    def window(self, series: NDArray[np.int32], row: Ints, ago: Ints, duration: int) -> Window:
        return _window(self, self._memory.ranges, self.sample(series, row), series, row, ago, duration)

    def ended(self, series: NDArray[np.int32]) -> Bools:
        return np.zeros(len(series), bool)  # what reads recorded series is evaluated on the grid

    def expect(self, row: Ints, instant: Ints) -> None:
        """No row is there twice."""
        if len(row) == len(self.horizon):
            np.minimum(self.horizon, instant, out=self.horizon)
        else:
            self.horizon[row] = np.minimum(self.horizon[row], instant)

    def fail(self, row: Ints, message: str) -> None:
        if len(row):
            self.failed[row], self.failure = True, message

    def take_failure(self) -> tuple[str, NDArray[np.bool_]]:
        """What failed since the last call, and where."""
        failure, failed = self.failure, self.failed
        if failure:
            self.failed, self.failure = np.zeros(len(self.time), bool), ""
        return failure, failed


def _by_series(series: NDArray[np.int32]) -> Ints | None:
    """The order that sorts by series and leaves equals as they are; None: it is there already."""
    if all_of(series[1:] > series[:-1]):
        return None
    if series.max() < 1 << 16:
        return series.astype(np.uint16).argsort(kind="stable")  # by radix
    return series.argsort(kind="stable")


def _past(frame: Frame, memory: Memory, newest: Samples, series: NDArray[np.int32], row: Ints, ago: Ints) -> Samples:
    ids = series.astype(np.int64)
    staleness = memory.newest.staleness[series]
    found, following = sample_before(memory.instants, ids, newest.now - ago, newest.time, staleness)
    _expect_arrival(frame, memory.instants, ids, row, following, newest.time, ago)
    return found


def _window(
    frame: Frame, history: History, newest: Samples, series: NDArray[np.int32], row: Ints, ago: Ints, duration: int
) -> Window:
    ids = series.astype(np.int64)
    window = window_of(history, ids, newest.time, newest.now, ago, duration)
    _expect_arrival(frame, history, ids, row, window.hi, newest.time, ago)
    leaves = where(window.lo < window.hi)
    frame.expect(row[leaves], history.time(ids[leaves], window.lo[leaves]) + ago[leaves] + duration)
    return window


def _expect_arrival(
    frame: Frame, history: History, series: Ints, row: Ints, following: Ints, newest: Ints, ago: Ints
) -> None:
    """With `offset`, a sample that is here already is seen later."""
    waiting = where((ago > 0) & (following < history.next[series]))
    if not len(waiting):
        return
    instant = history.time(series[waiting], following[waiting])
    known = instant <= newest[waiting]
    waiting = waiting[known]
    frame.expect(row[waiting], instant[known] + ago[waiting])
