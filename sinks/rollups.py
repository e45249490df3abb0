"""Summaries of readings by series and span of time, so that a year is drawn without unpacking it.

A span is open at the left, (start, start + width], as PromQL's ranges are; spans lie on multiples of their width since
the epoch. Pure: columns and bytes. Not here: when summaries are made (sinks.compaction) and used (sinks.envelope).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sinks.columns import TIME_MIN, Strips, stable_order
from sinks.decimals import pack_values, unpack_values
from sinks.packing import Damaged, differences, pack, unpack

WIDTHS = (300 * 10**9, 3600 * 10**9)
"""Of the spans that are kept, ns; each divides the next."""

Int64s = NDArray[np.int64]
Floats = NDArray[np.float64]


class Summaries(NamedTuple):
    """k summaries of readings of one series within one span each; there may be several of the same."""

    series: NDArray[np.int32]
    """(k,)"""
    span: Int64s
    """(k,) the span is ((span - 1) * width, span * width]"""
    first: Int64s
    """(k,) ns, time of the first reading"""
    last: Int64s
    """(k,) ns"""
    n: Int64s
    """(k,) readings, NaN included"""
    numbers: Int64s
    """(k,) readings that are not NaN"""
    min: Floats
    """(k,) NaN where every reading is; so is max"""
    max: Floats
    sum: Floats
    """(k,) of the numbers"""
    value: Floats
    """(k,) of the last reading, be it NaN"""

    def take(self, rows: NDArray[np.bool_] | NDArray[np.intp] | slice) -> Summaries:
        return Summaries._make(column[rows] for column in self)


def kept_for(width: int) -> int:
    """The greatest width that is kept and divides this one; 0 if there is none."""
    return next((kept for kept in reversed(WIDTHS) if width % kept == 0), 0)


def spans_of(time: Int64s, width: int) -> Int64s:
    """(n,) the span of each time."""
    span = np.maximum(time, TIME_MIN + 1)  # in place from here on: fresh memory costs more than the sums
    span -= 1
    span //= width
    span += 1
    return span


def summarise(strips: Strips, width: int) -> Summaries:
    """Sorted by series and time."""
    span = spans_of(strips.time, width)
    begins = np.empty(len(span), np.bool_)
    begins[1:] = span[1:] != span[:-1]
    begins[strips.edges[:-1]] = True
    at = np.flatnonzero(begins)
    n = np.diff(at, append=len(span))
    series = strips.ids[np.searchsorted(strips.edges, at, side="right") - 1]
    if not len(at):
        return Summaries(series, span, strips.time, strips.time, n, n, *4 * (strips.value,))
    value, last = strips.value, at + n - 1
    nan = np.isnan(value)
    if nan.any():
        numbers, real = n - np.add.reduceat(nan.astype(np.int64), at), np.where(nan, 0.0, value)
    else:
        numbers, real = n, value
    with np.errstate(over="ignore", invalid="ignore"):
        lowest, highest = np.fmin.reduceat(value, at), np.fmax.reduceat(value, at)
        total = np.add.reduceat(real, at)
    return Summaries(
        series, span[at], strips.time[at], strips.time[last], n, numbers, lowest, highest, total, value[last]
    )


def concatenate(parts: Sequence[Summaries]) -> Summaries:
    """At least one part."""
    return parts[0] if len(parts) == 1 else Summaries(*map(np.concatenate, zip(*parts, strict=True)))


def in_order(rows: Summaries) -> Summaries:
    """Sorted by series and time of the first reading."""
    if not len(rows.series) or _rises(rows):
        return rows
    rows = rows.take(stable_order(rows.series))  # parts come in the order of time mostly
    return rows if _rises(rows) else rows.take(np.lexsort((rows.first, rows.series)))


def _rises(rows: Summaries) -> bool:
    series, first = rows.series, rows.first
    return bool(((series[1:] > series[:-1]) | ((series[1:] == series[:-1]) & (first[1:] >= first[:-1]))).all())


def widened(rows: Summaries, times: int) -> Summaries:
    """Summaries, sorted by series and time, of spans that are `times` as wide, one for each series and span."""
    if not len(rows.series):
        return rows
    span = -(-rows.span // times)
    begins = np.append(True, (span[1:] != span[:-1]) | (rows.series[1:] != rows.series[:-1]))
    at = np.flatnonzero(begins)
    last = np.append(at[1:], len(span)) - 1
    with np.errstate(over="ignore", invalid="ignore"):
        return Summaries(
            rows.series[at],
            span[at],
            rows.first[at],
            rows.last[last],
            np.add.reduceat(rows.n, at),
            np.add.reduceat(rows.numbers, at),
            np.fmin.reduceat(rows.min, at),
            np.fmax.reduceat(rows.max, at),
            np.add.reduceat(rows.sum, at),
            rows.value[last],
        )


def encode(rows: Summaries, width: int) -> bytes:
    """k > 0 summaries, sorted by series and time, as bytes."""
    whole = (
        differences(rows.series.astype(np.int64)),
        differences(rows.span),
        rows.span * width - rows.first,  # modulo 2**64, as the end of a span may not fit int64
        rows.span * width - rows.last,
        rows.n,
        rows.n - rows.numbers,
    )
    data = b"".join(
        [
            *(pack(column) for column in whole),
            *(pack_values(column) for column in (rows.min, rows.max, rows.sum, rows.value)),
        ]
    )
    return zlib.crc32(data).to_bytes(4, "little") + len(rows.series).to_bytes(4, "little") + data


def decode(data: bytes, width: int) -> Summaries:
    """Raises Damaged."""
    body = memoryview(data)[8:]
    if zlib.crc32(body) != int.from_bytes(data[:4], "little"):
        raise Damaged("the checksum of summaries does not match")
    k, at = int.from_bytes(data[4:8], "little"), 0
    whole, floats = [], []
    for _ in range(6):
        numbers, at = unpack(body, at, k)
        whole.append(numbers)
    for _ in range(4):
        values, at = unpack_values(body, at, k)
        floats.append(values)
    series, span, first, last, n, nan = whole
    span = np.cumsum(span)
    return Summaries(
        np.cumsum(series).astype(np.int32), span, span * width - first, span * width - last, n, n - nan, *floats
    )
