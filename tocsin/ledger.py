"""Ledger: how many rows the head of the feed has handed out, and how many of them each sink has read.

Here: counting by place in the journal, so that what is still unread is measured and never what is left over of a sum.
Not here: what became of the rows (`accounts`).
"""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from telemetry import DUPLICATE, LATE, RECORDED, ReadingBatch

Tally = Counter[str]
_CELL_BITS = 14
"""Rows are counted for every 16,384 offsets, whoever reads them: a few bytes for each, however far a sink lags."""


def tally_of(batch: ReadingBatch) -> Tally:
    """Rows by kind: live, recorded, late, other (retained, historical), duplicate."""
    flags = batch.flags
    duplicate = (flags & DUPLICATE) != 0
    late = ((flags & LATE) != 0) & ~duplicate
    live, recorded = flags == 0, flags == RECORDED
    other = ~(duplicate | late | live | recorded)
    kinds = {"live": live, "recorded": recorded, "late": late, "other": other, "duplicate": duplicate}
    return Counter({kind: int(rows.sum()) for kind, rows in kinds.items()})


class Ledger:
    """For any thread. Rows are counted when they are handed out and when they are read, each at its journal offset.

    What a sink has still to read is the sum of the places that it has not passed. So a row that was handed out and
    never read is missing from the sum as soon as the sink has passed its place, or has read all there is.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tally: Tally = Counter()
        self._received = 0
        self._sinks: dict[str, _Sink] = {}

    def begin(self, sink: str, offset: int) -> None:
        """The sink starts at this journal offset."""
        self._sinks[sink] = _Sink(offset)

    def hand_out(self, batch: ReadingBatch) -> None:
        """The head has handed out these rows."""
        tally, received = tally_of(batch), int(((batch.flags & RECORDED) == 0).sum())
        with self._lock:
            self._tally += tally
            self._received += received
            for sink in self._sinks.values():
                sink.hand_out(batch.offset[batch.offset >= sink.begin])

    def read(self, sink: str, batch: ReadingBatch, next_: int, *, head_began: int) -> None:
        """The sink has read the rows of all records before `next_`; those before `head_began` nobody handed out."""
        with self._lock:
            entry = self._sinks[sink]
            entry.hand_out(batch.offset[batch.offset < head_began])
            entry.read(batch.offset, next_)

    def tally(self) -> Tally:
        """All that was handed out, by kind."""
        with self._lock:
            return Counter(self._tally)

    @property
    def received(self) -> int:
        """Rows handed out that no recording rule has made: those that the rules are given."""
        return self._received

    def unread(self, sink: str, *, head: int) -> int:
        """Rows that the sink has still to read, when the head has come to the offset `head`."""
        with self._lock:
            entry = self._sinks[sink]
            return 0 if entry.offset >= head else entry.ahead()

    def given(self, sink: str) -> int:
        """Rows that are the sink's business: handed out since it began, and read again from before."""
        with self._lock:
            return self._sinks[sink].given

    @property
    def sinks(self) -> tuple[str, ...]:
        return tuple(self._sinks)


class _Sink:
    """One sink's rows, by cell of the journal."""

    def __init__(self, begin: int) -> None:
        self.begin = self.offset = begin
        self.given = 0
        self._cells: Counter[int] = Counter()
        self._read_here = 0
        """Rows read of the cell that `offset` is in."""

    def hand_out(self, offsets: NDArray[np.int64]) -> None:
        self.given += len(offsets)
        for cell, rows in _by_cell(offsets).items():
            self._cells[cell] += rows

    def read(self, offsets: NDArray[np.int64], next_: int) -> None:
        here = next_ >> _CELL_BITS
        if here != self.offset >> _CELL_BITS:
            self._read_here = 0
            for cell in [cell for cell in self._cells if cell < here]:
                del self._cells[cell]
        self._read_here += _by_cell(offsets)[here]
        self.offset = next_

    def ahead(self) -> int:
        here = self.offset >> _CELL_BITS
        return sum(rows for cell, rows in self._cells.items() if cell >= here) - self._read_here


def _by_cell(offsets: NDArray[np.int64]) -> Counter[int]:
    """Offsets never decrease."""
    if not len(offsets):
        return Counter()
    first, last = int(offsets[0]) >> _CELL_BITS, int(offsets[-1]) >> _CELL_BITS
    if first == last:  # by far the most common
        return Counter({first: len(offsets)})
    cells, rows = np.unique(offsets >> _CELL_BITS, return_counts=True)
    return Counter(dict(zip(cells.tolist(), rows.tolist(), strict=True)))
