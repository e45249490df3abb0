"""Readings as columns, and the pure operations that the embedded store is made of: tidy, merge, cut.

Not here: how columns become bytes (sinks.blocks), where the bytes are kept (sinks.store_file).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

TIME_MIN, TIME_MAX = -(1 << 63), (1 << 63) - 1
"""The times that int64 holds, ns."""
_ROWS_PER_SLICE = 16
"""Slices that are shorter are put together slower than they are sorted."""


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


class Strips(NamedTuple):
    """Tidy rows, series by series."""

    ids: NDArray[np.int32]
    """(k,) rising"""
    edges: NDArray[np.int64]
    """(k + 1,) the rows of the i-th series are edges[i] to edges[i + 1], at least one"""
    time: NDArray[np.int64]
    """(n,) ns since the epoch (UTC); rising within a series"""
    value: NDArray[np.float64]
    """(n,)"""

    def columns(self) -> Columns:
        return Columns(np.repeat(self.ids, np.diff(self.edges)), self.time, self.value)

    def of(self, wanted: NDArray[np.int32]) -> Strips:
        """The series in `wanted` (sorted, without repeats)."""
        if not len(wanted):
            return NO_STRIPS
        hit = wanted[np.minimum(np.searchsorted(wanted, self.ids), len(wanted) - 1)] == self.ids
        if hit.all():
            return self
        counts = np.diff(self.edges)
        rows = np.repeat(hit, counts)
        return Strips(self.ids[hit], np.append(0, np.cumsum(counts[hit])), self.time[rows], self.value[rows])

    def within(self, first: int, last: int) -> Strips:
        """The rows with first <= time <= last."""
        if not len(self.ids) or (first <= int(self.firsts().min()) and int(self.lasts().max()) <= last):
            return self
        rows = (self.time >= first) & (self.time <= last)
        before = np.append(0, np.cumsum(rows))
        counts = np.diff(before[self.edges])
        hit = counts > 0
        return Strips(self.ids[hit], np.append(0, np.cumsum(counts[hit])), self.time[rows], self.value[rows])

    def firsts(self) -> NDArray[np.int64]:
        """(k,) ns"""
        return self.time[self.edges[:-1]]

    def lasts(self) -> NDArray[np.int64]:
        """(k,) ns"""
        return self.time[self.edges[1:] - 1]


def strips_of(rows: Columns) -> Strips:
    """Tidy columns, series by series."""
    starts = np.flatnonzero(np.diff(rows.series, prepend=rows.series[:1] - 1)) if rows.rows else np.empty(0, np.int64)
    return Strips(rows.series[starts], np.append(starts, rows.rows), rows.time, rows.value)


EMPTY = Columns(np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.float64))
NO_STRIPS = Strips(EMPTY.series, np.zeros(1, np.int64), EMPTY.time, EMPTY.value)


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
    rows = rows.take(stable_order(rows.series))
    if not _is_tidy(rows):
        rows = rows.take(np.lexsort((rows.time, rows.series)))
        last = np.ones(rows.rows, np.bool_)
        last[:-1] = (rows.series[1:] != rows.series[:-1]) | (rows.time[1:] != rows.time[:-1])
        rows = rows.take(last)
    return rows


def splice(parts: Sequence[Strips]) -> Strips:
    """The parts, oldest first, as one: of rows with the same (series, time) the last one wins."""
    parts = [part for part in parts if len(part.ids)]
    if len(parts) <= 1:
        return parts[0] if parts else NO_STRIPS
    ids, firsts = np.concatenate([part.ids for part in parts]), np.concatenate([part.firsts() for part in parts])
    order = np.lexsort((firsts, ids))
    ids = ids[order]
    goes_on = ids[1:] == ids[:-1]
    shared = goes_on & (firsts[order][1:] <= np.concatenate([part.lasts() for part in parts])[order][:-1])
    if shared.any():
        mixed, all_ids = np.unique(ids[1:][shared]), np.unique(ids)
        plain = np.setdiff1d(all_ids, mixed, assume_unique=True)
        sorted_ = strips_of(tidy([part.of(mixed).columns() for part in parts]))
        return splice([*(part.of(plain) for part in parts), sorted_]) if len(plain) else sorted_
    if len(order) * _ROWS_PER_SLICE > sum(len(part.time) for part in parts):
        return strips_of(tidy([part.columns() for part in parts]))
    slices = [(part, a, b) for part in parts for a, b in itertools.pairwise(part.edges.tolist())]
    slices = [slices[i] for i in order.tolist()]
    edges = np.append(0, np.cumsum([b - a for _, a, b in slices]))
    begins = np.flatnonzero(np.append(True, ~goes_on))
    return Strips(
        ids[begins],
        np.append(edges[begins], edges[-1]),
        np.concatenate([part.time[a:b] for part, a, b in slices]),
        np.concatenate([part.value[a:b] for part, a, b in slices]),
    )


def _is_tidy(rows: Columns) -> bool:
    series, time = rows.series, rows.time
    rises = (series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (time[1:] > time[:-1]))
    return bool(rises.all())


def stable_order(series: NDArray[np.int32]) -> NDArray[np.intp]:
    """Indices that sort n > 0 series ids and leave equal ones in their order."""
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
