"""Whole numbers as few bytes that unpack fast: differences are small, so that most of their upper bytes are alike.

A packed column is its width, then its bytes in planes of equal weight, the greatest first: the lengths of all planes,
then each plane: one byte if all are alike, deflated if that saves much, else as it is. Not here: what the numbers mean.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_LENGTHS = {width: struct.Struct(f"<{width}I") for width in (1, 2, 4, 8)}
"""By width"""
_FEW_VALUES = 16
"""Deflating begins to pay when bytes are as if of so few values: it takes as long as all the rest."""
_SAMPLE = 1024
"""Bytes that are looked at for it; of fewer, deflating does not pay for its preparations."""


class Damaged(ValueError):
    """The bytes are not what was written."""


def pack(numbers: NDArray[np.int64]) -> bytes:
    """(n,) numbers, n > 0."""
    low, high = int(numbers.min()), int(numbers.max())
    width = next(w for w in _LENGTHS if -1 << (8 * w - 1) <= low and high < 1 << (8 * w - 1))
    planes = [_packed_plane((numbers >> 8 * i).astype(np.uint8)) for i in reversed(range(width))]
    return b"".join((bytes((width,)), _LENGTHS[width].pack(*map(len, planes)), *planes))


def differences(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) each less the one before it, the first as it is; modulo 2**64."""
    found = numbers.copy()
    found[1:] -= numbers[:-1]
    return found


def unpack(data: memoryview, at: int, n: int) -> tuple[NDArray[np.int64], int]:
    """The column of n numbers that begins there, a new array, and where it ends. Raises Damaged."""
    try:
        lengths = _LENGTHS[data[at]].unpack_from(data, at + 1)
    except (IndexError, KeyError, struct.error) as error:
        raise Damaged("a column has no lengths") from error
    at += 1 + 4 * len(lengths)
    upper, numbers = 0, None
    for i, length in enumerate(lengths):
        plane = _plane(data[at : at + length], length, n)
        at += length
        if numbers is None and len(plane) < n:
            upper = upper << 8 | int(plane[0] if i else plane.view(np.int8)[0])
        elif numbers is None:
            numbers = (plane if i else plane.view(np.int8)).astype(np.int64)
            if upper:
                numbers |= upper << 8
        else:
            numbers <<= 8
            numbers |= plane
    return np.full(n, upper) if numbers is None else numbers, at


def _plane(data: memoryview, length: int, n: int) -> NDArray[np.uint8]:
    """(n,), or (1,) where all are alike."""
    if not length or len(data) < length:
        raise Damaged("a column ends too early")
    if length in (1, n):
        return np.frombuffer(data, np.uint8)
    try:
        inflated = zlib.decompress(data, bufsize=n)
    except zlib.error as error:
        raise Damaged(f"a column does not unpack: {error}") from error
    if len(inflated) != n:
        raise Damaged("a column has another length")
    return np.frombuffer(inflated, np.uint8)


def _packed_plane(plane: NDArray[np.uint8]) -> bytes:
    whole = plane.tobytes()
    if whole[0] == whole[-1] and whole.count(whole[:1]) == len(whole):
        return whole[:1]
    if len(plane) < _SAMPLE or not _repeats(plane):
        return whole
    deflated = zlib.compress(whole, 1)
    return deflated if 1 < len(deflated) < len(whole) else whole


def _repeats(plane: NDArray[np.uint8]) -> bool:
    """Whether its bytes are alike often enough: by the Rényi entropy (order 2) of some of them."""
    some = plane[:: max(1, len(plane) // _SAMPLE)]
    counts = np.bincount(some)
    return int(counts @ counts) * _FEW_VALUES > len(some) ** 2
