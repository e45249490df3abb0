"""What is different about the readings of dead letters that were replayed. Here: their flags, and when they arrived.

Not here: everything else, for they go through as all others do.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ingest.block import REPLAYED, Records
from telemetry import DUPLICATE, LATE, ReadingBatch


def never_duplicate(records: Records, batch: ReadingBatch) -> ReadingBatch:
    """The batch of the records, with LATE instead of DUPLICATE where they are replayed: stored (again), not evaluated.

    With a mended configuration, the journal may have been decoded anew, and then such a message was met there at its
    first place; but sinks that had passed that place have never seen its readings.
    """
    rows = _replayed(records)[batch.offset - records.first]
    same = rows & (batch.flags & DUPLICATE != 0)
    if not same.any():
        return batch
    flags = batch.flags.copy()
    flags[same] = flags[same] & ~np.uint8(DUPLICATE) | LATE
    return replace(batch, flags=flags)


class Arrivals:
    """Our clock, as the rules shall see it: it runs with the records, and those that are replayed do not set it back.

    So what is replayed arrives when it is replayed, and time neither stands still nor jumps by it.
    """

    def __init__(self) -> None:
        self.last = -1
        """`received` of the newest record that is not replayed; -1: there was none."""

    def pass_by(self, records: Records, batch: ReadingBatch) -> ReadingBatch:
        """The batch (all rows, or some) of the next records, with their arrival as `received`."""
        replayed = _replayed(records)
        arrivals = records.received
        if replayed.any():
            own = np.maximum.accumulate(np.where(replayed, -1, np.arange(len(records))))
            before = arrivals[0] if self.last < 0 else self.last
            arrivals = np.where(own < 0, before, arrivals[own])
            batch = replace(batch, received=arrivals[batch.offset - records.first])
        if len(arrivals) and (self.last >= 0 or not replayed.all()):
            self.last = int(arrivals[-1])
        return batch


def _replayed(records: Records) -> NDArray[np.bool_]:
    replayed: NDArray[np.bool_] = (records.flags & REPLAYED) != 0
    return replayed
