"""Readings reduced to equal spans of time, for drawing. Pure functions over columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sinks.rollups import WIDTHS, Summaries


@dataclass(frozen=True, slots=True)
class Buckets:
    """What n spans of equal width hold; spans without readings are left out. NaN is no number: it only counts."""

    start: NDArray[np.int64]
    """(n,) ns since the epoch (UTC); rising"""
    n: NDArray[np.int64]
    """(n,) readings, NaN included"""
    min: NDArray[np.float64]
    """(n,) NaN where every reading is; so are max and mean"""
    mean: NDArray[np.float64]
    """(n,) of the readings, not weighted by time"""
    max: NDArray[np.float64]
    """(n,)"""
    last: NDArray[np.float64]
    """(n,) value of the last reading, be it NaN"""
    width: int
    """ns"""


def downsample(time: NDArray[np.int64], value: NDArray[np.float64], t0: int, t1: int, buckets: int) -> Buckets:
    """Readings (sorted, t0 <= time < t1) in at most `buckets` spans that begin at t0. ValueError without a bucket."""
    if buckets < 1:
        raise ValueError(f"downsampling to {buckets} buckets: ask for at least 1")
    width = max(1, -(-(t1 - t0) // buckets))
    if not len(time):
        nothing, none = np.empty(0, np.int64), np.empty(0)
        return Buckets(start=nothing, n=nothing, min=none, mean=none, max=none, last=none, width=width)
    # Modulo 2**64, since t1 - t0 may not fit int64; a step that does not fit either makes one bucket of everything.
    start, step = np.uint64(t0 % (1 << 64)), np.uint64(width % (1 << 64))
    since = time.view(np.uint64) - start
    bucket = since // step if step else np.zeros_like(since)
    first = np.append(0, np.flatnonzero(np.diff(bucket)) + 1)
    n = np.diff(first, append=len(time))
    numbers = ~np.isnan(value)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        return Buckets(
            start=(bucket[first] * step + start).view(np.int64),
            n=n,
            min=np.fmin.reduceat(value, first),
            mean=np.add.reduceat(np.where(numbers, value, 0.0), first)
            / np.add.reduceat(numbers.astype(np.int64), first),
            max=np.fmax.reduceat(value, first),
            last=value[first + n - 1],
            width=width,
        )


def width_of(t0: int, t1: int, buckets: int) -> int:
    """ns, of the spans of `Store.envelope`. ValueError without a bucket."""
    if buckets < 1:
        raise ValueError(f"downsampling to {buckets} buckets: ask for at least 1")
    width = max(1, -(-(t1 - t0) // buckets))
    kept = next((kept for kept in reversed(WIDTHS) if width >= 2 * kept), 1)
    return -(-width // kept) * kept


def buckets_of(found: Summaries, wanted: NDArray[np.int32], width: int) -> dict[int, Buckets]:
    """Summaries, sorted by series and time, as buckets of each wanted series."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = found.sum / found.numbers
    start = (found.span - 1) * width
    edges = np.searchsorted(found.series, wanted).tolist(), np.searchsorted(found.series, wanted, "right").tolist()
    return {
        series: Buckets(
            start=start[a:b],
            n=found.n[a:b],
            min=found.min[a:b],
            mean=mean[a:b],
            max=found.max[a:b],
            last=found.value[a:b],
            width=width,
        )
        for series, a, b in zip(wanted.tolist(), *edges, strict=True)
    }
