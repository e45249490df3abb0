"""Random samples of several series, and random windows over them, for laws about windows."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from rules.history import History, Window

Data = dict[int, list[tuple[int, float]]]

CHARACTERS = (
    lambda r: r.choice([0.0, 1.0, 2.0]),
    lambda r: 20.1,
    lambda r: r.gauss(20, 1),
    lambda r: float(r.randrange(100)),
    lambda r: r.gauss(1e9, 1e-2),
    lambda r: r.choice([math.nan, math.inf, -math.inf, 1.0, 2.0]),
    lambda r: r.choice([math.nan] + [r.random()] * 30),
    lambda r: r.choice([1e300, -1e300, 1e-320, 5.0, 1e30]),
    lambda r: r.choice([4294967295.0] + [20 + r.random()] * 50),
    lambda r: r.choice([1e19] + [20 + r.random()] * 50),
    lambda r: r.choice([3.4e38] + [20 + r.random()] * 50),
)


def samples(r: Random, length: int) -> list[tuple[int, float]]:
    """Of one series: one character, sometimes a counter with resets; even, jittering and wild intervals."""
    time = r.choice([0, 1_700_000_000_000_000_000])
    character, pace = r.choice(CHARACTERS), r.choice([0, 1, 2])
    counter, reached = r.random() < 0.3, 0.0
    found = []
    for _ in range(length):
        time += (10**10, 10**10 + r.randint(-(10**8), 10**8), r.randint(10**6, 10**12))[pace]
        value = character(r)
        if counter and 0 <= value < 1e10:
            reached = reached + value if r.random() < 0.95 else value
            value = reached
        found.append((time, value))
    return found


def data(r: Random, lengths: tuple[int, ...] = (1, 5, 40, 300)) -> Data:
    return {series: samples(r, r.choice(lengths)) for series in r.sample(range(20), r.randint(1, 4))}


def append(history: History, rows: list[tuple[int, int, float]]) -> np.ndarray:
    series, time, value = zip(*rows, strict=True) if rows else ((), (), ())
    return history.append(np.array(series, np.int64), np.array(time, np.int64), np.array(value, np.float64))


def cut(r: Random, stream: Data) -> list[list[tuple[int, int, float]]]:
    """The samples in calls for `append`, cut at random."""
    batches: list[list[tuple[int, int, float]]] = []
    at = dict.fromkeys(stream, 0)
    while any(at[s] < len(stream[s]) for s in stream):
        batch = []
        for series in sorted(stream):
            count = r.choice([0, 1, 2, 7, 50, 400])
            batch += [(series, *sample) for sample in stream[series][at[series] : at[series] + count]]
            at[series] = min(at[series] + count, len(stream[series]))
        batches.append(batch)
    return batches


def whole(stream: Data) -> list[tuple[int, int, float]]:
    return [(series, *sample) for series in sorted(stream) for sample in stream[series]]


def windows(r: Random, stream: Data, count: int = 20, since: float = 0.0) -> list[tuple[int, int, int, int]]:
    """(series, start, end, now), some of them empty; since: the share of each series' samples to leave out."""
    found = []
    for _ in range(count):
        series = r.choice(list(stream))
        times = [t for t, _ in stream[series]]
        low = r.randrange(int(since * len(times)), len(times))
        high = min(len(times) - 1, low + r.choice([0, 1, 2, 5, 30, 300, 5000]))
        start = times[low] - r.choice([0, 1, 10**9])
        end = max(times[high] + r.choice([0, 1, 10**9, 10**11]), start + 1)
        found.append((series, start, end, end + r.choice([0, 10**9, -(10**9), 10**13])))
    return found


def look(history: History, found: list[tuple[int, int, int, int]]) -> Window:
    series, start, end, now = (np.array(column, np.int64) for column in zip(*found, strict=True))
    hi = history.after(series, end, history.next[series])
    lo = history.after(series, start, hi)
    return Window(history, series, lo, hi, start, end, now)


def inside(stream: Data, series: int, start: int, end: int) -> list[tuple[int, float]]:
    return [sample for sample in stream[series] if start < sample[0] <= end]
