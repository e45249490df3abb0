"""ReadingBatch: decoded readings as columns, in arrival order."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LIVE = 0
"""No flag set: the reading drives the rules."""
LATE = 1
"""Older than the newest reading of its series: stored, not evaluated."""
RETAINED = 2
"""Came from a retained message: the value may be of any age; stored, not evaluated."""
HISTORICAL = 4
"""The device itself says that this is a backlog: stored, not evaluated."""
DUPLICATE = 8
"""The same series, time and value were seen before: neither stored again nor evaluated."""
RECORDED = 16
"""A sample that a recording rule has made: stored, not evaluated, for the rules have it already."""


@dataclass(frozen=True, slots=True)
class ReadingBatch:
    """n readings (n = 0 is legal) as read-only columns, in arrival order.

    The readings of one message stand together, ordered by event time. Rows with the same `offset` and `time` are one
    *instant*: rules apply them together and are evaluated once. A batch never holds part of a message.
    """

    series: NDArray[np.int32]
    """(n,) ids of a SeriesTable."""
    time: NDArray[np.int64]
    """(n,) event time, ns since the epoch (UTC)."""
    value: NDArray[np.float64]
    """(n,)"""
    received: NDArray[np.int64]
    """(n,) our clock when the message came, ns since the epoch (UTC)."""
    flags: NDArray[np.uint8]
    """(n,) LATE | RETAINED | HISTORICAL | DUPLICATE | RECORDED; 0 is live."""
    offset: NDArray[np.int64]
    """(n,) journal offset of the message that carried the reading; never decreases within a batch."""

    def __post_init__(self) -> None:
        n = len(self.series)
        for name, dtype in _COLUMNS.items():
            column = getattr(self, name)
            if column.dtype != dtype or column.shape != (n,):
                raise ValueError(f"ReadingBatch.{name} must be {dtype} ({n},), not {column.dtype} {column.shape}")
            column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.series)

    @classmethod
    def empty(cls) -> ReadingBatch:
        return cls(**{name: np.empty(0, dtype) for name, dtype in _COLUMNS.items()})

    @classmethod
    def of(
        cls,
        series: list[int],
        time: list[int],
        value: list[float],
        *,
        received: list[int] | None = None,
        flags: list[int] | None = None,
        offset: list[int] | None = None,
    ) -> ReadingBatch:
        """A batch from plain lists; by default every row is live, received at its own time and a message of its own."""
        n = len(series)
        return cls(
            series=np.array(series, np.int32),
            time=np.array(time, np.int64),
            value=np.array(value, np.float64),
            received=np.array(time if received is None else received, np.int64),
            flags=np.array([LIVE] * n if flags is None else flags, np.uint8),
            offset=np.array(list(range(n)) if offset is None else offset, np.int64),
        )

    def select(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> ReadingBatch:
        """The given rows (mask, indices or slice), as a batch of their own."""
        return ReadingBatch(**{name: getattr(self, name)[rows] for name in _COLUMNS})

    @classmethod
    def concatenate(cls, batches: list[ReadingBatch]) -> ReadingBatch:
        if len(batches) == 1:
            return batches[0]
        if not batches:
            return cls.empty()
        return cls(**{name: np.concatenate([getattr(b, name) for b in batches]) for name in _COLUMNS})


_COLUMNS: dict[str, np.dtype[np.generic]] = {
    "series": np.dtype(np.int32),
    "time": np.dtype(np.int64),
    "value": np.dtype(np.float64),
    "received": np.dtype(np.int64),
    "flags": np.dtype(np.uint8),
    "offset": np.dtype(np.int64),
}
