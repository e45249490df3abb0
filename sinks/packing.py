"""Whole numbers as few bytes that unpack fast: differences are small, so that most of their upper bytes are alike.

A packed column is its width, then its bytes in planes of equal weight, the least first; each plane with its length:
one byte if all are alike, deflated if that saves much, else as it is. Not here: what the numbers mean (sinks.blocks).
"""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

_LENGTH = struct.Struct("<I")
_WIDTHS = (1, 2, 4, 8)
_FEW_VALUES = 16
"""Deflating begins to pay when bytes are as if of so few values: it takes as long as all the rest."""
_SAMPLE = 1024
"""Bytes that are looked at for it; of fewer, deflating does not pay for its preparations."""


class Damaged(ValueError):
    """The bytes are not what was written."""


def pack(numbers: NDArray[np.int64]) -> bytes:
    """(n,) numbers, n > 0, as bytes; `Unpacker` gives them back."""
    low, high = int(numbers.min()), int(numbers.max())
    width = next(w for w in _WIDTHS if -1 << (8 * w - 1) <= low and high < 1 << (8 * w - 1))
    cells = numbers.astype(f"<i{width}").view(np.uint8).reshape(-1, width)
    parts = [bytes((width,))]
    for plane in np.ascontiguousarray(cells.T):
        data = _plane(plane)
        parts += (_LENGTH.pack(len(data)), data)
    return b"".join(parts)


class Unpacker:
    """Reads packed columns one after the other."""

    def __init__(self, data: memoryview) -> None:
        self._data, self._at = data, 0

    def numbers(self, n: int) -> NDArray[np.int64]:
        """The next column, which has n numbers; a new array. Raises Damaged."""
        planes = self._planes(n)
        numbers = planes[-1].view(np.int8).astype(np.int64)
        for plane in planes[-2::-1]:
            numbers <<= 8
            numbers |= plane
        return np.repeat(numbers, n) if len(numbers) < n else numbers

    def _planes(self, n: int) -> list[NDArray[np.uint8]]:
        """Each (n,), or (1,) where all are alike; the last one is (n,) unless all planes are (1,)."""
        width = self._take(1)[0]
        planes = [self._plane(n) for _ in range(width)]
        if not planes:
            raise Damaged("a column has no width")
        if len(planes[-1]) < n and any(len(plane) == n for plane in planes):
            planes[-1] = np.repeat(planes[-1], n)
        return planes

    def _plane(self, n: int) -> NDArray[np.uint8]:
        size = _LENGTH.unpack(self._take(_LENGTH.size))[0]
        data: bytes | memoryview = self._take(size)
        if size not in (1, n):
            try:
                data = zlib.decompress(data, bufsize=n)
            except zlib.error as error:
                raise Damaged(f"a block does not unpack: {error}") from error
            if len(data) != n:
                raise Damaged("a block does not unpack: it has another length")
        return np.frombuffer(data, np.uint8)

    def _take(self, size: int) -> memoryview:
        found = self._data[self._at : self._at + size]
        if len(found) < size:
            raise Damaged("a block ends too early")
        self._at += size
        return found


def _plane(plane: NDArray[np.uint8]) -> bytes:
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
