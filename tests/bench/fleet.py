"""The readings that the benches feed: a fleet whose series speak in turn, every ten seconds or so."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from telemetry import ReadingBatch, Series, SeriesTable
from tests.bench.measuring import Floats

S = 10**9
T0 = 1_700_000_000 * S
PERIOD = 10 * S
"""ns; between two readings of a series, ± DELAY"""
DELAY = S
"""ns; a message arrives so long after its reading at most, so that samples leave windows between two readings"""
EXCURSION = 5
"""Readings in a row that lie higher"""


def fleet(devices: int, metrics: tuple[str, ...] = ("temperature",)) -> SeriesTable:
    """Series ids: the metrics of the first device, then those of the second …"""
    table = SeriesTable()
    for i in range(devices):
        for metric in metrics:
            table.add(Series.of(metric, device=f"d{i}"))
    return table


class Readings:
    """The stream of a fleet, cut into batches: n readings, every series in turn.

    Gauges lie around 20 ± 2, counters rise by about 10 a reading and begin anew once in a thousand. A share of all
    readings belong to excursions: then gauges lie up to 40 higher, and counters rise up to 40 times as fast.
    """

    def __init__(
        self, series: int, *, metrics: int = 1, counters: bool = False, excursions: float = 0.0005, seed: int = 1
    ) -> None:
        self._series, self._metrics, self._counters, self._excursions = series, metrics, counters, excursions
        self._random = np.random.default_rng(seed)
        devices = series // metrics
        self._left, self._height = np.zeros(devices, np.int64), np.zeros(devices)
        self._level = np.zeros(series)
        self._turn = 0
        self._waiting: list[ReadingBatch] = []

    @property
    def now(self) -> int:
        """Arrival of the newest round, ns."""
        return T0 + self._turn * PERIOD

    def batches(self, size: int) -> Iterator[ReadingBatch]:
        """Without end; `size` divides the series, or they divide it."""
        while True:
            rows = ReadingBatch.concatenate([self._round() for _ in range(max(1, size // self._series))])
            for begin in range(0, len(rows), size):
                yield rows.select(slice(begin, begin + size))

    def _round(self) -> ReadingBatch:
        """One reading of every series; those of a device are one message."""
        devices, random = len(self._left), self._random
        begins = np.flatnonzero((self._left == 0) & (random.random(devices) < self._excursions / EXCURSION))
        self._left[begins], self._height[begins] = EXCURSION, random.uniform(10, 40, len(begins))
        high = np.where(self._left > 0, self._height, 0.0)
        self._left = np.maximum(self._left - 1, 0)
        message = np.repeat(np.arange(devices), self._metrics)
        received = T0 + self._turn * PERIOD + message * PERIOD // devices
        late = random.integers(0, DELAY, devices)[message]
        rows = ReadingBatch(
            series=np.arange(self._series, dtype=np.int32),
            time=received - late,
            value=self._values(high[message]),
            received=received,
            flags=np.zeros(self._series, np.uint8),
            offset=message + self._turn * devices,
        )
        self._turn += 1
        return rows

    def _values(self, high: Floats) -> Floats:
        random, n = self._random, self._series
        if not self._counters:
            return random.normal(20, 2, n) + high
        self._level = np.where(random.random(n) < 0.001, 0.0, self._level)
        self._level = self._level + random.uniform(8, 12, n) * (1 + high)
        return self._level
