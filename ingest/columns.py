"""Readings being collected, and their turning into a ReadingBatch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingest.block import RETAIN, SAMPLES, Records
from ingest.shapes import Found
from telemetry import HISTORICAL, RECORDED, RETAINED, ReadingBatch


class Segment(NamedTuple):
    """Readings of one message at one time."""

    time: int
    """ns since the epoch (UTC)."""
    historical: bool
    rows: list[tuple[int, float]]
    """(series id, value)."""


class _Part(NamedTuple):
    """n rows, those of each message together, in the order of messages."""

    message: NDArray[np.int64]
    """(n,) which, counted from the first of the Records."""
    series: NDArray[np.int32]
    time: NDArray[np.int64]
    value: NDArray[np.float64]
    flags: NDArray[np.uint8]


class Columns:
    """Rows of the messages of one Records, in order.

    Times are kept for each segment (the rows of a message at one time) and not for each row: filling a list costs more
    than everything else that is done with a plain number.
    """

    __slots__ = ("historical", "message", "rows", "series", "time", "value")

    def __init__(self) -> None:
        self.series: list[int] = []
        self.value: list[float] = []
        self.time: list[int] = []
        """Of each segment."""
        self.rows: list[int] = []
        """Of each segment: how many."""
        self.message: list[int] = []
        """Of each segment: which message, counted from the first of the Records."""
        self.historical: list[int] = []
        """Indices of segments."""

    def add(self, message: int, segments: list[Segment]) -> None:
        """The rows of a message: its segments in order of time, in each the rows in that of series (stable)."""
        for segment in sorted(segments, key=lambda s: s.time):
            if segment.historical:
                self.historical.append(len(self.time))
            self.time.append(segment.time)
            self.rows.append(len(segment.rows))
            self.message.append(message)
            for id_, number in sorted(segment.rows, key=_by_series):
                self.series.append(id_)
                self.value.append(number)

    def batch(self, records: Records, shaped: Sequence[Found] = ()) -> ReadingBatch:
        """All rows, and those of the messages that were decoded at once; RETAINED, HISTORICAL and RECORDED are set."""
        parts = [_of_shape(found) for found in shaped]
        if self.message or not parts:
            parts.append(self._part())
        part = parts[0] if len(parts) == 1 else _Part(*map(np.concatenate, zip(*parts, strict=True)))
        of, flags = part.message, part.flags
        if (records.flags & (RETAIN | SAMPLES)).any():
            marks = records.flags[of]
            flags[(marks & RETAIN) != 0] |= RETAINED
            flags[(marks & SAMPLES) != 0] = RECORDED
        batch = ReadingBatch(
            series=part.series,
            time=part.time,
            value=part.value,
            received=records.received[of],
            flags=flags,
            offset=of + records.first,
        )
        return batch if len(parts) == 1 else batch.select(np.argsort(of, kind="stable"))

    def _part(self) -> _Part:
        rows = np.array(self.rows, np.int64)
        flags = np.zeros(len(rows), np.uint8)
        flags[self.historical] = HISTORICAL
        return _Part(
            np.repeat(np.array(self.message, np.int64), rows),
            np.array(self.series, np.int32),
            np.repeat(np.array(self.time, np.int64), rows),
            np.array(self.value, np.float64),
            np.repeat(flags, rows),
        )


def _of_shape(found: Found) -> _Part:
    width = found.series.shape[1]
    return _Part(
        np.repeat(found.message, width),
        found.series.ravel(),
        np.repeat(found.time, width),
        found.value.ravel(),
        np.zeros(found.series.size, np.uint8),
    )


def _by_series(row: tuple[int, float]) -> int:
    return row[0]
