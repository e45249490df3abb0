"""How fast stored series are queried: 1,000 steps over an hour of 1,000 series, and over millions of readings."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from rules import query_range
from sinks.store import Store
from telemetry import Series, SeriesTable
from tests.bench.fleet import PERIOD, T0, S
from tests.bench.measuring import Effort, Figure, Floats, Report, cpu_seconds
from tests.bench.stored_fleet import YEAR, fill, fill_year

QUERIES = (
    "temperature",
    "temperature > 20",
    "rate(temperature[5m])",
    "avg_over_time(temperature[5m])",
    "max_over_time(temperature[5m])",
    "quantile_over_time(0.9, temperature[5m])",
    "sum by (site) (temperature)",
    "topk(3, temperature)",
)
STORED = (
    "temperature",
    'temperature{site="s1"}',
    "avg by (site) (temperature)",
    'avg_over_time(temperature{site="s1"}[5m])',
    "avg_over_time(temperature[5m])",
)


def bench_query(effort: Effort, report: Report) -> None:
    """CPU time of `query_range`; samples come from memory."""
    series, steps = effort.of(1_000), effort.of(1_000)
    table = _table(series)
    times = T0 + np.arange(360) * 10 * S
    values = np.random.default_rng(1).normal(20, 2, (series, len(times)))

    def read(ids: list[int], begin: int, end: int) -> dict[int, tuple[np.ndarray, Floats]]:
        a, b = np.searchsorted(times, [begin, end])
        return {i: (times[a:b], values[i, a:b]) for i in ids}

    step = 3_600 * S // steps
    for text in QUERIES:
        (spent,) = cpu_seconds(
            lambda text=text: query_range(text, table, read, T0, T0 + (steps - 1) * step, step),  # type: ignore[misc]
            repeats=3,
        )
        report(text, Figure.of(spent * 1e3, "ms"))


def bench_stored(effort: Effort, report: Report) -> None:
    """CPU time of 1,000 steps over 10 million stored readings of 1,000 devices, and over one series' year."""
    devices = effort.of(1_000)
    readings = effort.of(10_000_000) // devices
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        fill(path, devices, readings)
        _ask(path, devices, readings * PERIOD, STORED, report, "fleet")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "store.db"
        fill_year(path, share=effort.share)
        _ask(path, 1, YEAR // effort.share, ("temperature", "max_over_time(temperature[9h])"), report, "year")


def _ask(path: Path, series: int, span: int, queries: tuple[str, ...], report: Report, name: str) -> None:
    table, step = _table(series), span // 1_000
    with Store(path, read_only=True) as store:
        for text in queries:
            (spent,) = cpu_seconds(
                lambda text=text: query_range(  # type: ignore[misc]
                    text, table, store.read_many, T0, T0 + span, step, read_at=store.read_at
                ),
                repeats=3,
            )
            report(f"{name}: {text}", Figure.of(spent * 1e3, "ms"))


def _table(series: int) -> SeriesTable:
    table = SeriesTable()
    for i in range(series):
        table.add(Series.of("temperature", device=f"d{i}", site=f"s{i % 10}"))
    return table
