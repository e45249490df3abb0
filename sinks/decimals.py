"""Values as whole numbers: most sensors report decimals (21.37), whose differences are small. Exact to the bit."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sinks.packing import Damaged, differences, pack, unpack

_MAX_DECIMALS = 5
_ROWS_PER_EXCEPTION = 32
_SAMPLE_ROWS = 128
_EXACT = float(1 << 53)
_HEAD = struct.Struct("<bI")
"""Decimals, exceptions"""


class Decimals(NamedTuple):
    """Values as whole / 10**places, but for the exceptions at the indices `odd`; places is -1 when most are odd."""

    places: int
    whole: NDArray[np.int64]
    odd: NDArray[np.intp]


def as_decimals(value: NDArray[np.float64]) -> Decimals:
    """(n,) values, n > 0."""
    some = value[:: -(-len(value) // _SAMPLE_ROWS)]
    with np.errstate(all="ignore"):
        for places in range(_MAX_DECIMALS + 1):
            if 4 * len(_whole(some, places)[1]) > len(some):
                continue  # a look at a few is faster than at all
            whole, odd = _whole(value, places)
            if len(odd) * _ROWS_PER_EXCEPTION <= len(value):
                return Decimals(places, whole.astype(np.int64), odd)
    nothing = np.empty(0, np.intp)
    return Decimals(-1, nothing, nothing)


def _whole(value: NDArray[np.float64], places: int) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """The values as whole numbers of the last decimal, and where these do not give the values back to the bit."""
    scale = 10.0**places
    whole = np.rint(value * scale)
    whole[~(np.abs(whole) < _EXACT)] = 0.0
    whole += 0.0  # integers have no -0: make it 0 here, so that the comparison finds it
    return whole, np.flatnonzero((whole / scale).view(np.int64) != value.view(np.int64))


def pack_values(value: NDArray[np.float64]) -> bytes:
    """(n,) values, n > 0, as bytes."""
    places, whole, odd = as_decimals(value)
    exceptions = odd.astype("<i4").tobytes() + value[odd].astype("<f8").tobytes()
    numbers = value.view(np.int64) if places < 0 else differences(whole)
    return b"".join((_HEAD.pack(places, len(odd)), exceptions, pack(numbers)))


def unpack_values(data: memoryview, at: int, n: int) -> tuple[NDArray[np.float64], int]:
    """The n values that begin there, and where they end. Raises Damaged."""
    try:
        places, n_odd = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        odd = np.frombuffer(data, "<i4", n_odd, at)
        exceptions = np.frombuffer(data, "<f8", n_odd, at + 4 * n_odd)
    except (struct.error, ValueError) as error:
        raise Damaged("values end too early") from error
    numbers, at = unpack(data, at + 12 * n_odd, n)
    if places < 0:
        return numbers.view(np.float64), at
    value = np.add.accumulate(numbers, out=numbers) / 10.0**places
    value[odd] = exceptions
    return value, at
