"""The LATE and DUPLICATE flags of rows that lagging subscriptions may still ask for. Only rows that have one."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import DUPLICATE, LATE, ReadingBatch

_ROW_BITS = 22
_ROWS = 1 << _ROW_BITS
"""More than a message can have: rows times words, by the bounds of LimitsConfig."""


class _Entry(NamedTuple):
    next: int
    keys: NDArray[np.int64]
    """(k,) ascending: offset << _ROW_BITS | row within the message."""
    flags: NDArray[np.uint8]
    """(k,)"""


class FlagLog:
    """Flags by journal offset and row within the message. Bounded: the oldest are forgotten, and their number given.

    A forgotten flag does no harm to idempotent consumers: they write the row again.
    """

    def __init__(self, max_rows: int = 4_000_000) -> None:
        self._entries: deque[_Entry] = deque()
        self._rows = 0
        self._max_rows = max_rows

    def __len__(self) -> int:
        return self._rows

    def add(self, batch: ReadingBatch, next_: int) -> int:
        """Keeps the flags of a batch that ends before the offset `next_`; returns how many others were forgotten."""
        rows = np.flatnonzero(batch.flags & (LATE | DUPLICATE))
        if not len(rows):
            return 0
        keys = _keys(batch.offset)[rows]
        self._entries.append(_Entry(next_, keys, batch.flags[rows] & np.uint8(LATE | DUPLICATE)))
        self._rows += len(rows)
        forgotten = 0
        while self._rows > self._max_rows and len(self._entries) > 1:
            forgotten += self._drop()
        return forgotten

    def trim(self, offset: int) -> None:
        """Forgets what lies before `offset`, as far as that is cheap."""
        while self._entries and self._entries[0].next <= offset:
            self._drop()

    def flags_of(self, batch: ReadingBatch) -> NDArray[np.uint8]:
        """(n,) the flags of the batch, which holds whole messages, with those that are kept here added."""
        flags = batch.flags.copy()
        if not len(batch):
            return flags
        keys = _keys(batch.offset)
        for entry in list(self._entries):
            if entry.next <= batch.offset[0]:
                continue
            if entry.keys[0] > keys[-1]:
                break
            at = np.minimum(np.searchsorted(keys, entry.keys), len(keys) - 1)
            here = keys[at] == entry.keys
            flags[at[here]] |= entry.flags[here]
        return flags

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything, as two columns."""
        return {
            "keys": np.concatenate([np.empty(0, np.int64), *(entry.keys for entry in self._entries)]),
            "flags": np.concatenate([np.empty(0, np.uint8), *(entry.flags for entry in self._entries)]),
        }

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Takes over what `state` gave."""
        self._entries.clear()
        keys, flags = state["keys"].astype(np.int64), state["flags"].astype(np.uint8)
        self._rows = len(keys)
        for start in range(0, len(keys), _ROWS):
            part = slice(start, start + _ROWS)
            self._entries.append(_Entry(int(keys[part][-1] >> _ROW_BITS) + 1, keys[part], flags[part]))

    def _drop(self) -> int:
        dropped = len(self._entries.popleft().keys)
        self._rows -= dropped
        return dropped


def _keys(offset: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) a key for each row, ascending, from the offsets of whole messages."""
    rows = np.arange(len(offset))
    starts = np.concatenate(([True], offset[1:] != offset[:-1]))
    return (offset << _ROW_BITS) | (rows - np.maximum.accumulate(np.where(starts, rows, 0)))
