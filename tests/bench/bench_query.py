"""How fast stored series are queried: 1,000 steps over 1,000 series, each an hour of readings every ten seconds."""

from __future__ import annotations

import numpy as np

from rules import query_range
from telemetry import Series, SeriesTable
from tests.bench.fleet import T0, S
from tests.bench.measuring import Effort, Figure, Floats, Report, cpu_seconds

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


def bench_query(effort: Effort, report: Report) -> None:
    """CPU time of `query_range`; samples come from memory."""
    series, steps = effort.of(1_000), effort.of(1_000)
    table = SeriesTable()
    for i in range(series):
        table.add(Series.of("temperature", device=f"d{i}", site=f"s{i % 10}"))
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
