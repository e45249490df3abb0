"""Columns of readings as bytes, exact to the bit: compressed blocks for keeping, raw log entries for writing fast.

Not here: which rows go into which block (sinks.columns), how numbers are packed (sinks.packing), where the bytes are
kept (sinks.store_file).

A block holds tidy rows, little endian: a header, the ids and first rows of its series, exceptions, times, values.
- Times are differences modulo 2**64, divided by their greatest common divisor (a series that reports every 10 s costs
  next to nothing). Modulo, because the difference of two int64 may not fit one; the sum comes out right all the same.
- Values that are decimals (21.37) are differences of whole numbers (2137); the few that are not (NaN, -0.0, 1/3 …)
  are exceptions, kept as they are. When there are many, all values are kept as they are.
- Differences from one series to the next are kept apart, so that those within a series fit into few bytes.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from sinks.columns import NO_STRIPS, Columns, Strips
from sinks.decimals import as_decimals
from sinks.packing import Damaged, differences, pack, unpack

_HEAD = struct.Struct("<IIIIIqqBBb")
"""CRC-32 of all that follows it; rows; series; exceptions; bytes of times; first time; divisor; width of times and of
values; decimals of values (-1: as they are). Bytes and widths are 0 but in blocks of the store's format 1."""
_SAMPLE_STEPS = 128


def encode(rows: Columns) -> bytes:
    """Tidy rows (n > 0) as a block."""
    starts = np.append(0, np.flatnonzero(rows.series[1:] != rows.series[:-1]) + 1).astype("<i4")
    steps = differences(rows.time)
    steps[0] = 0
    divisor, steps = _divided(steps)
    decimals = as_decimals(rows.value)
    odd = decimals.odd
    body = (
        rows.series[starts].astype("<i4").tobytes(),
        starts.tobytes(),
        odd.astype("<i4").tobytes(),
        rows.value[odd].astype("<f8").tobytes(),
        *_pack(steps, starts),
        *([pack(rows.value.view(np.int64))] if decimals.places < 0 else _pack(differences(decimals.whole), starts)),
    )
    head = _HEAD.pack(0, rows.rows, len(starts), len(odd), 0, int(rows.time[0]), divisor, 0, 0, decimals.places)
    data = b"".join((head[4:], *body))
    return zlib.crc32(data).to_bytes(4, "little") + data


def decode(data: bytes, wanted: NDArray[np.int32] | None = None) -> Columns:
    """The rows of a block; only those of the series in `wanted` (sorted, without repeats) when it is given.

    Raises Damaged.
    """
    return decode_strips(data, wanted).columns()


def decode_strips(data: bytes, wanted: NDArray[np.int32] | None = None) -> Strips:
    """As `decode`, series by series. Raises Damaged."""
    if len(data) < _HEAD.size:
        raise Damaged("a block is shorter than its header")
    crc, n, k, n_odd, n_times, first, divisor, time_width, value_width, places = _HEAD.unpack_from(data)
    body = memoryview(data)
    if zlib.crc32(body[4:]) != crc:
        raise Damaged("the checksum of a block does not match")
    at = _HEAD.size
    ids = np.frombuffer(data, "<i4", k, at)
    starts = np.frombuffer(data, "<i4", k, at + 4 * k)
    hits = slice(0, k)
    if wanted is not None:
        hits = slice(*np.searchsorted(ids, wanted[[0, -1]] + np.array([0, 1])).tolist()) if len(wanted) else slice(0, 0)
    if hits.start == hits.stop:
        return NO_STRIPS
    edges = np.append(starts, n).astype(np.int64)
    rows = slice(int(edges[hits.start]), int(edges[hits.stop]))
    at += 8 * k
    odd = np.frombuffer(data, "<i4", n_odd, at)
    exceptions = np.frombuffer(data, "<f8", n_odd, at + 4 * n_odd)
    at += 12 * n_odd
    if time_width:
        time, numbers = _unpack_format_1(body[at:], n, n_times, time_width, value_width, places)
    else:
        time, at = _sums(body, at, n, starts)
        numbers = unpack(body, at, n)[0] if places < 0 else _sums(body, at, n, starts)[0]
    time, numbers = time[rows], numbers[rows]
    if divisor != 1:
        time *= divisor
    time += first
    value = numbers.view(np.float64)
    if places >= 0:
        value = numbers / 10.0**places
        inside = slice(*np.searchsorted(odd, (rows.start, rows.stop)))
        value[odd[inside] - rows.start] = exceptions[inside]
    strips = Strips(ids[hits], edges[hits.start : hits.stop + 1] - rows.start, time, value)
    return strips if wanted is None else strips.of(wanted)


def _divided(steps: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]]:
    """Their greatest common divisor, and the steps by it."""
    for some in (steps[:_SAMPLE_STEPS], steps):  # that of a few is mostly that of all
        divisor = max(1, int(np.gcd.reduce(some)))  # the gcd of -2**63 alone overflows to itself
        shares = steps // divisor
        if (shares * divisor == steps).all():
            break
    return divisor, shares


def _pack(steps: NDArray[np.int64], starts: NDArray[np.int32]) -> tuple[bytes, bytes]:
    """Those from series to series, and those within them, which are changed."""
    jumps = steps[starts]
    steps[starts] = 0
    return pack(jumps), pack(steps)


def _sums(data: memoryview, at: int, n: int, starts: NDArray[np.int32]) -> tuple[NDArray[np.int64], int]:
    """What `_pack` made of differences, added up, and where it ends."""
    jumps, at = unpack(data, at, len(starts))
    numbers, at = unpack(data, at, n)
    numbers[starts] = jumps
    return np.add.accumulate(numbers, out=numbers), at


def _unpack_format_1(
    body: memoryview, n: int, n_times: int, time_width: int, value_width: int, places: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Times, less the first and by the divisor, and whole numbers or the bits of values."""
    time = np.cumsum(_cells(body[:n_times], time_width, n).view(f"<i{time_width}").ravel(), dtype=np.int64)
    value = _cells(body[n_times:], value_width, n)
    if places < 0:
        return time, value.view("<i8").ravel()
    return time, np.cumsum(value.view(f"<i{value_width}").ravel(), dtype=np.int64)


def _cells(data: memoryview, width: int, n: int) -> NDArray[np.uint8]:
    """(n, width) bytes."""
    try:
        return np.ascontiguousarray(np.frombuffer(zlib.decompress(data), np.uint8).reshape(width, n).T)
    except (zlib.error, ValueError) as error:
        raise Damaged(f"a block does not unpack: {error}") from error


def encode_entry(rows: Columns) -> bytes:
    """Rows in any order as a log entry: the columns one after the other."""
    return b"".join(
        (rows.time.astype("<i8").tobytes(), rows.value.astype("<f8").tobytes(), rows.series.astype("<i4").tobytes())
    )


def decode_entry(data: bytes) -> Columns:
    """The rows of a log entry, in their order. Raises Damaged."""
    n, rest = divmod(len(data), 20)
    if rest:
        raise Damaged(f"a log entry of {len(data)} bytes holds no whole number of rows")
    return Columns(
        time=np.frombuffer(data, "<i8", n),
        value=np.frombuffer(data, "<f8", n, 8 * n),
        series=np.frombuffer(data, "<i4", n, 16 * n),
    )
