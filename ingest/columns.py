"""Readings being collected, and their turning into a ReadingBatch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ingest.block import RETAIN, SAMPLES, Records
from telemetry import HISTORICAL, RECORDED, RETAINED, ReadingBatch


class Segment(NamedTuple):
    """Readings of one message at one time."""

    time: int
    """ns since the epoch (UTC)."""
    historical: bool
    rows: list[tuple[int, float]]
    """(series id, value)."""


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
        """The rows of a message; its segments are put in order of time (stable)."""
        for segment in sorted(segments, key=lambda s: s.time):
            if segment.historical:
                self.historical.append(len(self.time))
            self.time.append(segment.time)
            self.rows.append(len(segment.rows))
            self.message.append(message)
            for id_, number in segment.rows:
                self.series.append(id_)
                self.value.append(number)

    def batch(self, records: Records) -> ReadingBatch:
        """All rows; of the flags, RETAINED, HISTORICAL and RECORDED are set."""
        rows = np.array(self.rows, np.int64)
        message = np.array(self.message, np.int64)
        marks = records.flags[message]
        flags = np.where(marks & RETAIN, RETAINED, 0).astype(np.uint8)
        flags[(marks & SAMPLES) != 0] = RECORDED
        flags[self.historical] |= HISTORICAL
        return ReadingBatch(
            series=np.array(self.series, np.int32),
            time=np.repeat(np.array(self.time, np.int64), rows),
            value=np.array(self.value, np.float64),
            received=np.repeat(records.received[message], rows),
            flags=np.repeat(flags, rows),
            offset=np.repeat(message + records.first, rows),
        )
