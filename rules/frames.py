"""Frames: what the operators see of the series, as of the instants of a batch, of a tick, or of a range query."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Columns, Ints
from rules.lifecycle import FOREVER, NEVER
from rules.operators import BEFORE, Samples


def newest_samples() -> Columns:
    """The newest sample of each series."""
    return Columns(
        value=("f8", np.nan),
        time=("i8", NEVER),
        anchor=("i8", NEVER),  # its time less the engine's up-time when it came
        staleness=("i8", 0),
    )


class BatchFrame:
    """The instants of one batch, on top of what was known before it; positions number them in arrival order."""

    def __init__(
        self,
        newest: Columns,
        series: NDArray[np.int32],
        position: Ints,
        time: Ints,
        value: Floats,
        anchor: Ints,
        positions: int,
    ) -> None:
        """series … anchor: (n,) live readings, at most one for each series at each position."""
        self._newest, self._positions = newest, positions
        keys = series.astype(np.int64) * positions + position
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._series, self._time, self._value = series[order], time[order], value[order]
        self._anchor = anchor[order]
        self.time: Ints = np.zeros(0, np.int64)
        self.all_rows: Ints = np.zeros(0, np.int64)
        self.horizon: Ints = np.zeros(0, np.int64)
        """The earliest instant that an operator expects for each row."""
        self.latest: Ints = np.zeros(0, np.int64)
        """The newest sample that each row has seen."""
        self.anchor: Ints = np.zeros(0, np.int64)
        """The newest anchor that each row has seen."""
        self.position: Ints = np.zeros(0, np.int64)

    @property
    def series(self) -> NDArray[np.int32]:
        """(n,) of the sorted readings: by series, then by position."""
        return self._series

    def readings(self, rows: Ints) -> tuple[Ints, Ints, Floats]:
        """Position, time and value of sorted readings."""
        return self._keys[rows] % self._positions, self._time[rows], self._value[rows]

    def rows(self, position: Ints, time: Ints) -> None:
        """Set the rows: each sees the samples up to and with its position, at its time."""
        self.time, self.position = time, position
        self.horizon, self.latest = np.full(len(time), FOREVER), np.full(len(time), NEVER)
        self.anchor = np.full(len(time), NEVER)
        self.all_rows = np.arange(len(time))

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        value, time, anchor = (
            column[series] for column in (self._newest.value, self._newest.time, self._newest.anchor)
        )
        if len(self._keys):
            at = (
                np.searchsorted(
                    self._keys, series.astype(np.int64) * self._positions + self.position[row], side="right"
                )
                - 1
            )
            inside = (at >= 0) & (self._series[at] == series) & (self.position[row] != BEFORE)
            value = np.where(inside, self._value[at], value)
            time = np.where(inside, self._time[at], time)
            anchor = np.where(inside, self._anchor[at], anchor)
        if row is self.all_rows:
            np.maximum(self.latest, time, out=self.latest)
            np.maximum(self.anchor, anchor, out=self.anchor)
        else:
            np.maximum.at(self.latest, row, time)
            np.maximum.at(self.anchor, row, anchor)
        return Samples(value, time, time != NEVER, time + self._newest.staleness[series])

    def expect(self, row: Ints, instant: Ints) -> None:
        if row is self.all_rows:
            np.minimum(self.horizon, instant, out=self.horizon)
        else:
            np.minimum.at(self.horizon, row, instant)

    def commit(self) -> None:
        """Make the last reading of each series the newest sample."""
        if not len(self._series):
            return
        last = np.append(np.flatnonzero(np.diff(self._series)), len(self._series) - 1)
        series = self._series[last]
        self._newest.value[series] = self._value[last]
        self._newest.time[series] = self._time[last]
        self._newest.anchor[series] = self._anchor[last]


class ReadingFrame:
    """The readings of one selector's series in a batch, each seen at its own instant. All its rules share it.

    Rows are grouped by series and ordered by position.
    """

    def __init__(self, frame: BatchFrame, rows: Ints, element: Ints, staleness: Ints) -> None:
        """rows: (n,) of the batch's sorted readings; element: (n,) of the selector; staleness: (n,) ns."""
        self.position, self.time, self.value = frame.readings(rows)
        self.element = element
        new = np.empty(len(rows), bool)
        new[:1] = True
        np.not_equal(element[1:], element[:-1], out=new[1:])
        self.first = np.flatnonzero(new)
        """(k,) row at which each series begins"""
        self.last = np.empty(len(self.first), np.int64)
        self.last[:-1] = self.first[1:] - 1
        self.last[-1:] = len(rows) - 1
        self.instance = element[self.first]
        """(k,) element of each series"""
        self.follows = np.flatnonzero(~new)
        """Rows that follow another of their series."""
        self.all_rows = np.arange(len(rows))
        self.expires = self.time + staleness
        self.horizon = self.expires
        self._samples = Samples(self.value, self.time, np.ones(len(rows), bool), self.expires)

    def begin(self) -> None:
        """Evaluate another expression."""
        self.horizon = np.full(len(self.time), FOREVER)

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        del series
        if row is self.all_rows:
            return self._samples
        value, time, seen, expires = self._samples
        return Samples(value[row], time[row], seen[row], expires[row])

    def expect(self, row: Ints, instant: Ints) -> None:
        if row is self.all_rows:
            np.minimum(self.horizon, instant, out=self.horizon)
        else:
            np.minimum.at(self.horizon, row, instant)


class RangeFrame:
    """A grid of instants over stored samples, for queries."""

    def __init__(self, steps: Ints, samples: dict[int, tuple[Ints, Floats]], staleness: Ints) -> None:
        """steps: (rows,) ns; samples: (time, value) by series, ascending; staleness: ns by series."""
        self.time, self.all_rows = steps, np.arange(len(steps))
        self.position = np.zeros(len(steps), np.int64)
        self._samples, self._staleness = samples, staleness

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        time, value = np.full(len(row), NEVER), np.full(len(row), np.nan)
        order = np.argsort(series, kind="stable")
        for rows in np.split(order, np.flatnonzero(np.diff(series[order])) + 1):
            times, values = self._samples.get(int(series[rows[0]]) if len(rows) else -1, (time[:0], value[:0]))
            at = np.searchsorted(times, self.time[row[rows]], side="right") - 1
            found = rows[at >= 0]
            time[found], value[found] = times[at[at >= 0]], values[at[at >= 0]]
        return Samples(value, time, time != NEVER, time + self._staleness[series])

    def expect(self, row: Ints, instant: Ints) -> None:
        """A grid is evaluated at its own instants only."""
