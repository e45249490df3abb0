"""Stores full of readings that the benches look at: a fleet's, as it comes in, and one series' whole year."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sinks.store import Store
from tests.bench.fleet import PERIOD, T0, S

YEAR = 365 * 86_400 * S
_DAY_READINGS = 8_640


def fill(path: Path, devices: int, readings: int, *, together: int = 10) -> None:
    """So many readings of each device, one every ten seconds, two decimals: a slow walk; some from all at a time."""
    random = np.random.default_rng(1)
    level, delay = random.normal(20, 3, devices), random.integers(0, 10_000, devices) * 10**6
    ids = np.arange(devices, dtype=np.int32)
    with Store(path) as store:
        for begin in range(0, readings, together):
            rounds = np.arange(begin, min(begin + together, readings))
            values = level + np.cumsum(random.normal(0, 0.1, (len(rounds), devices)), axis=0)
            level = values[-1]
            times = T0 + rounds[:, None] * PERIOD + delay
            store.append(np.tile(ids, len(rounds)), times.ravel(), np.round(values, 2).ravel())
            while store.compact():
                pass


def fill_year(path: Path, series: int = 1, *, share: int = 1) -> None:
    """A reading every ten seconds, appended by the day; of the year, a share."""
    fill(path, series, YEAR // PERIOD // share, together=_DAY_READINGS)
