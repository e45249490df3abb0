"""Readings as columns, and the pure operations that the embedded store is made of: tidy, merge, cut.

Not here: how columns become bytes (sinks.blocks), where the bytes are kept (sinks.store_file).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TIME_MIN, TIME_MAX = -(1 << 63), (1 << 63) - 1
"""The times that int64 holds, ns."""


class Columns(NamedTuple):
    """n readings. *Tidy* columns are sorted by (series, time) and hold each (series, time) once."""

    series: NDArray[np.int32]
    """(n,)"""
    time: NDArray[np.int64]
    """(n,) ns since the epoch (UTC)"""
    value: NDArray[np.float64]
    """(n,)"""

    @property
    def rows(self) -> int:
        return len(self.series)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Columns:
        return Columns(self.series[rows], self.time[rows], self.value[rows])

    def within(self, first: int, last: int) -> Columns:
        """The rows with first <= time <= last."""
        if not self.rows or (first <= int(self.time.min()) and int(self.time.max()) <= last):
            return self
        return self.take((self.time >= first) & (self.time <= last))

    def of(self, wanted: NDArray[np.int32]) -> Columns:
        """The rows of the series in `wanted` (sorted, without repeats)."""
        if len(wanted) == 1:
            return self.take(self.series == wanted[0])
        at = np.searchsorted(wanted, self.series)
        at[at == len(wanted)] = 0
        return self.take(wanted[at] == self.series if len(wanted) else slice(0, 0))


EMPTY = Columns(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64))


def concatenate(parts: Sequence[Columns]) -> Columns:
    if len(parts) == 1:
        return parts[0]
    return Columns(*map(np.concatenate, zip(*parts, strict=True))) if parts else EMPTY


def tidy(parts: Sequence[Columns]) -> Columns:
    """The parts, oldest first, as tidy columns: of rows with the same (series, time) the last one wins."""
    rows = concatenate(parts)
    if _is_tidy(rows):
        return rows
    # Most streams keep the order of time within a series, so that sorting by series alone is mostly enough.
    rows = rows.take(_stable_order(rows.series))
    if not _is_tidy(rows):
        rows = rows.take(np.lexsort((rows.time, rows.series)))
        last = np.ones(rows.rows, np.bool_)
        last[:-1] = (rows.series[1:] != rows.series[:-1]) | (rows.time[1:] != rows.time[:-1])
        rows = rows.take(last)
    return rows


def _is_tidy(rows: Columns) -> bool:
    series, time = rows.series, rows.time
    rises = (series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (time[1:] > time[:-1]))
    return bool(rises.all())


def _stable_order(series: NDArray[np.int32]) -> NDArray[np.intp]:
    low = int(series.min())
    if int(series.max()) - low < 1 << 16:
        return np.argsort((series - low).astype(np.uint16), kind="stable")  # numpy sorts 16 bits by radix: 10x faster
    return np.argsort(series, kind="stable")


def merge(streams: Sequence[Iterator[Columns]]) -> Iterator[Columns]:
    """Merge streams, oldest first, into one; each yields tidy columns that continue one another in (series, time).

    What comes out is tidy and continues likewise. Memory: one item of each stream at a time.
    """
    heads = [next(stream, None) for stream in streams]
    while live := [head for head in heads if head is not None]:
        series, time = min((int(head.series[-1]), int(head.time[-1])) for head in live)
        parts = []
        for i, head in enumerate(heads):
            if head is None:
                continue
            k = _rows_up_to(head, series, time)
            if k:
                parts.append(head.take(slice(0, k)))
            heads[i] = next(streams[i], None) if k == head.rows else head.take(slice(k, None))
        yield tidy(parts)


def _rows_up_to(rows: Columns, series: int, time: int) -> int:
    """How many of the tidy rows come before or at (series, time)."""
    start = int(np.searchsorted(rows.series, series, side="left"))
    end = int(np.searchsorted(rows.series, series, side="right"))
    return start + int(np.searchsorted(rows.time[start:end], time, side="right"))


def cut(pieces: Iterable[Columns], block_rows: int) -> Iterator[Columns]:
    """Cut a stream of tidy pieces into blocks of at most `block_rows` rows.

    A block ends with a series where that leaves it at least half full, so that a short series lies in one block.
    """
    held: list[Columns] = []
    for piece in pieces:
        held.append(piece)
        if sum(part.rows for part in held) < 2 * block_rows:
            continue
        rows = concatenate(held)
        start = 0
        while rows.rows - start > block_rows:
            end = _block_end(rows.series, start, block_rows)
            yield rows.take(slice(start, end))
            start = end
        held = [rows.take(slice(start, None))]
    rows, start = concatenate(held), 0
    while start < rows.rows:
        end = _block_end(rows.series, start, block_rows)
        yield rows.take(slice(start, end))
        start = end


def _block_end(series: NDArray[np.int32], start: int, block_rows: int) -> int:
    end = start + block_rows
    if end >= len(series):
        return len(series)
    whole = start + int(np.searchsorted(series[start:end], series[end], side="left"))
    return whole if whole - start >= max(1, block_rows // 2) else end
