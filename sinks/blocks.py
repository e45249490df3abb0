"""Columns of readings as bytes, exact to the bit: compressed blocks for keeping, raw log entries for writing fast.

Not here: which rows go into which block (sinks.columns), where the bytes are kept (sinks.store_file).

A block holds tidy rows, little endian: a header, the ids and first rows of its series, exceptions, times, values.
- Times are differences modulo 2**64, divided by their greatest common divisor (a series that reports every 10 s costs
  next to nothing). Modulo, because the difference of two int64 may not fit one; the sum comes out right all the same.
- Values that are decimals (21.37) are differences of whole numbers (2137); the few that are not (NaN, -0.0, 1/3 …)
  are exceptions, kept as they are. When there are many, all values are kept as they are.
- Both are cut to the least width, bytes of equal weight put together, then deflated.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sinks.columns import EMPTY, Columns

_HEAD = struct.Struct("<IIIIIqqBBb")
"""CRC-32 of all that follows it; rows; series; exceptions; bytes of times; first time; divisor; width of times and of
values; decimals of values (-1: as they are)."""
_MAX_DECIMALS = 5
_ROWS_PER_EXCEPTION = 32
_EXACT = float(1 << 53)
_WIDTHS = (1, 2, 4, 8)


class Damaged(ValueError):
    """The bytes are not what was written."""


def encode(rows: Columns) -> bytes:
    """Tidy rows (n > 0) as a block."""
    starts = np.flatnonzero(np.diff(rows.series)) + 1
    starts = np.concatenate(([0], starts)).astype("<i4")
    steps = np.diff(rows.time.view(np.uint64), prepend=rows.time[:1].view(np.uint64)).view(np.int64)
    divisor = max(1, int(np.gcd.reduce(steps)))  # the gcd of -2**63 alone overflows to itself
    time_width, times = _pack(steps // divisor)
    decimals = _as_decimals(rows.value)
    odd = decimals.odd
    if decimals.places < 0:
        value_width, values = 8, _deflate(rows.value.astype("<f8").view(np.uint8).reshape(-1, 8))
    else:
        value_width, values = _pack(np.diff(decimals.whole, prepend=0))
    body = (
        rows.series[starts].astype("<i4").tobytes(),
        starts.tobytes(),
        odd.astype("<i4").tobytes(),
        rows.value[odd].astype("<f8").tobytes(),
        times,
        values,
    )
    counts = (rows.rows, len(starts), len(odd), len(times))
    head = _HEAD.pack(0, *counts, int(rows.time[0]), divisor, time_width, value_width, decimals.places)
    data = b"".join((head[4:], *body))
    return zlib.crc32(data).to_bytes(4, "little") + data


def decode(data: bytes, wanted: NDArray[np.int32] | None = None) -> Columns:
    """The rows of a block; only those of the series in `wanted` (sorted, without repeats) when it is given.

    Raises Damaged.
    """
    if len(data) < _HEAD.size:
        raise Damaged("a block is shorter than its header")
    crc, n, k, n_odd, n_times, first, divisor, time_width, value_width, places = _HEAD.unpack_from(data)
    if zlib.crc32(memoryview(data)[4:]) != crc:
        raise Damaged("the checksum of a block does not match")
    at = _HEAD.size
    ids = np.frombuffer(data, "<i4", k, at)
    counts = np.diff(np.frombuffer(data, "<i4", k, at + 4 * k), append=np.int32(n))
    hit = None
    if wanted is not None:
        hit = np.isin(ids, wanted, assume_unique=True)
        if not hit.any():
            return EMPTY
    at += 8 * k
    odd = np.frombuffer(data, "<i4", n_odd, at)
    exceptions = np.frombuffer(data, "<f8", n_odd, at + 4 * n_odd)
    at += 12 * n_odd
    time = np.cumsum(_unpack(data[at : at + n_times], time_width, n), dtype=np.int64) * divisor + first
    at += n_times
    if places < 0:
        value = _inflate(data[at:], 8, n).view("<f8").ravel()
    else:
        value = np.cumsum(_unpack(data[at:], value_width, n), dtype=np.int64) / 10.0**places
        value[odd] = exceptions
    rows = Columns(np.repeat(ids, counts), time, value)
    return rows if hit is None or hit.all() else rows.take(np.repeat(hit, counts))


class _Decimals(NamedTuple):
    """Values as whole / 10**places, but for the exceptions at the indices `odd`; places is -1 when most are odd."""

    places: int
    whole: NDArray[np.int64]
    odd: NDArray[np.intp]


def _as_decimals(value: NDArray[np.float64]) -> _Decimals:
    bits = value.view(np.int64)
    with np.errstate(all="ignore"):
        for places in range(_MAX_DECIMALS + 1):
            whole = np.rint(value * 10.0**places)
            whole[~(np.abs(whole) < _EXACT)] = 0.0
            whole += 0.0  # integers have no -0: make it 0 here, so that the comparison finds it
            odd = np.flatnonzero((whole / 10.0**places).view(np.int64) != bits)
            if len(odd) * _ROWS_PER_EXCEPTION <= len(value):
                return _Decimals(places, whole.astype(np.int64), odd)
    nothing = np.empty(0, np.intp)
    return _Decimals(-1, nothing, nothing)


def _pack(numbers: NDArray[np.int64]) -> tuple[int, bytes]:
    low, high = int(numbers.min()), int(numbers.max())
    width = next(w for w in _WIDTHS if -1 << (8 * w - 1) <= low and high < 1 << (8 * w - 1))
    return width, _deflate(numbers.astype(f"<i{width}").view(np.uint8).reshape(-1, width))


def _unpack(data: bytes, width: int, n: int) -> NDArray[np.signedinteger]:
    return _inflate(data, width, n).view(f"<i{width}").ravel()


def _deflate(cells: NDArray[np.uint8]) -> bytes:
    return zlib.compress(cells.T.tobytes(), 1)


def _inflate(data: bytes, width: int, n: int) -> NDArray[np.uint8]:
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
