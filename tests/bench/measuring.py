"""What the benches share: how they time, what they find, and on which machine. Not here: what is measured."""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Figure(NamedTuple):
    """What was measured: the median, and the quartiles of the repetitions."""

    median: float
    low: float
    high: float
    unit: str

    @classmethod
    def of(cls, values: Floats | float, unit: str) -> Figure:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        return cls(median, low, high, unit)

    def __str__(self) -> str:
        spread = f"{_short(self.low)} – {_short(self.high)}" if self.high > self.low else ""
        return f"{_short(self.median):>9} {self.unit:<15}{spread}"


def _short(value: float) -> str:
    """Three digits."""
    decimals = next((n for least, n in ((100, 0), (10, 1), (1, 2)) if value >= least), 3)
    return f"{value:,.{decimals}f}"


Figures = dict[str, Figure]
Report = Callable[[str, Figure], None]
"""Told of every figure as soon as it is known."""


class Effort(NamedTuple):
    """How much to measure."""

    share: int = 1
    """Sizes are divided by this"""
    sweep_to: int = 100_000
    """Series, at most, where it is measured how time grows with them"""
    longer: int = 1
    """Benches of the whole pipeline take so many times as many messages"""
    excursions: float = 0.0005
    """Share of readings that exceed limits"""

    def of(self, size: int, *, least: int = 10) -> int:
        return max(size // self.share, least)


NORMAL = Effort()
QUICK, FULL = Effort(share=100, sweep_to=10_000, excursions=0.05), Effort(sweep_to=1_000_000, longer=5)


def cpu_seconds(*ways: Callable[[], object], repeats: int) -> Floats:
    """(ways, repeats) CPU time of this thread; the ways take turns, so that what slows the machine slows them alike."""
    return _timed(time.thread_time, ways, repeats)


def wall_seconds(*ways: Callable[[], object], repeats: int) -> Floats:
    """(ways, repeats), as `cpu_seconds`, with what the disk takes."""
    return _timed(time.perf_counter, ways, repeats)


def _timed(clock: Callable[[], float], ways: tuple[Callable[[], object], ...], repeats: int) -> Floats:
    spent = np.empty((len(ways), repeats))
    gc.collect()
    gc.freeze()  # what one way keeps in memory is not to burden the other
    for turn in range(repeats):
        for i, way in enumerate(ways):
            begin = clock()
            way()
            spent[i, turn] = clock() - begin
    gc.unfreeze()
    return spent


def machine() -> str:
    """Processor, cores, versions."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return (
        f"{model or platform.machine()}, {os.cpu_count()} cores, {platform.system()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}"
    )
