"""How the time that rules take grows with batches, series, rules and excursions, and what they keep in memory."""

from __future__ import annotations

import gc
import tracemalloc
from collections import deque
from functools import partial
from typing import Any

from rules import Engine, load_rules
from telemetry import AlertEvent, SeriesTable, Tick
from tests.bench.bench_rules import HOLD, Stream, alert, limit, thresholds, windows
from tests.bench.fleet import PERIOD, S
from tests.bench.measuring import Effort, Figure, Report, cpu_seconds
from tests.bench.objects import Threshold
from tocsin.yaml_source import parse_yaml

M_EVAL = "M eval/s/core"


def of_kind(kind: str, rules: int) -> list[dict[str, Any]]:
    if kind == "for":
        return thresholds(rules)
    if kind in {"avg_over_time", "rate", "max_over_time"}:
        return windows(kind, rules, 10)
    text = {
        "threshold": "temperature > {limit}",
        "arithmetic": "temperature * 1.8 + 32 > 32 + 1.8 * {limit}",
        "two metrics": "temperature > {limit} and on(device) humidity > {limit}",
        "offset": "temperature - temperature offset 1m > {limit}",
        "avg_over_time, never calm": "avg_over_time(temperature[{range}s]) > {near}",
        "quantile_over_time": "quantile_over_time(0.9, temperature[{range}s]) > {limit}",
        "stddev_over_time": "stddev_over_time(temperature[{range}s]) > {limit}",
    }[kind]
    hold = 0 if kind == "threshold" else HOLD
    return [
        alert(i, text.format(limit=limit(i), near=limit(i, 22.0), range=35 + 3 * (i % 10)), hold=hold)
        for i in range(rules)
    ]


KINDS = (
    "threshold", "for", "arithmetic", "two metrics", "offset",
    "avg_over_time", "avg_over_time, never calm", "max_over_time", "rate", "stddev_over_time", "quantile_over_time",
)  # fmt: skip


def stream_of(
    kind: str, rules: int, series: int, batch: int, effort: Effort, excursions: float | None = None
) -> Stream:
    """Which every series has spoken to as often as its windows hold readings."""
    stream = Stream(
        of_kind(kind, rules), series, batch, metrics=2 if kind == "two metrics" else 1, counters=kind == "rate",
        excursions=effort.excursions if excursions is None else excursions,
    )  # fmt: skip
    deque(stream.settle(8 if "rate" in kind or "over_time" in kind or kind == "offset" else 3), maxlen=0)
    return stream


def evaluations(stream: Stream, repeats: int) -> Figure:
    return Figure.of(stream.rules * stream.batch / stream.seconds(repeats) / 1e6, M_EVAL)


def bench_sweeps(effort: Effort, report: Report) -> None:
    """`temperature > limit` with `for`: 100 rules on 10,000 series at batches of 10,000, but for what is named."""
    rules, series, batch = effort.of(100), effort.of(10_000), effort.of(10_000)
    for size in sorted({1, 10, *map(effort.of, (100, 1_000, 10_000, 100_000))}):
        stream = stream_of("for", rules, series, size, effort)
        report(f"batches of {size:,}", evaluations(stream, 200 if size == 1 else 20))
    for count in (1_000, 10_000, 100_000, 1_000_000):
        if effort.of(count) <= effort.sweep_to:
            stream = stream_of("for", rules, effort.of(count), min(batch, effort.of(count)), effort)
            report(f"{effort.of(count):,} series", evaluations(stream, 20))
    for count in (1, 10, 100, 1_000):
        report(f"{count:,} rules", evaluations(stream_of("for", count, series, batch, effort), 20))
    for share in (0.0, 0.0001, 0.001, 0.01):
        stream = stream_of("for", rules, series, batch, effort, share)
        report(f"{share:.2%} of readings exceed limits", evaluations(stream, 20))
    for kind in KINDS:
        stream = stream_of(kind, effort.of(20), series, batch, effort)
        report(f"kind {kind}, 20 rules", evaluations(stream, 5))


def bench_single(effort: Effort, report: Report) -> None:
    """A batch of one reading: µs for each rule that it touches."""
    for kind in ("for", "two metrics", "avg_over_time", "max_over_time", "rate"):
        for rules in (1, 10, 100):
            stream = stream_of(kind, rules, effort.of(1_000), 1, effort)
            report(f"{kind}, {rules} rules", Figure.of(stream.seconds(effort.of(100)) / rules * 1e6, "µs/rule"))


def bench_ticks(effort: Effort, report: Report) -> None:
    """The tick of each second: timers, and what goes stale or leaves a window."""
    for kind in ("for", "avg_over_time"):
        series = effort.of(20_000)
        stream = stream_of(kind, effort.of(100), series, series, effort)
        ticks = iter(range(stream.readings.now, stream.readings.now + PERIOD, S))
        spent = cpu_seconds(partial(_tick, stream.engine, ticks), repeats=10)
        report(f"{kind}, 100 rules, {series:,} series", Figure.of(spent * 1e3, "ms"))


def _tick(engine: Engine, times: Any) -> list[AlertEvent]:
    return engine.tick(Tick(next(times)))


def bench_state(effort: Effort, report: Report) -> None:
    """Bytes for each (rule, series), of 100 rules; what is kept of each series is in them."""
    rules, series = effort.of(100), effort.of(10_000)
    for kind in ("for", "avg_over_time"):
        gc.collect()
        tracemalloc.start()
        stream = stream_of(kind, rules, series, series, effort)
        table = stream.engine
        with_all = tracemalloc.get_traced_memory()[0]
        stream.engine = None  # type: ignore[assignment]  # what is left is not the engine's
        stream.events.clear()
        del table
        gc.collect()
        report(f"{kind}, engine", Figure.of((with_all - tracemalloc.get_traced_memory()[0]) / rules / series, "B"))
        tracemalloc.stop()
    tracemalloc.start()
    kept = [[Threshold(f"A{i}", "d", limit(i), HOLD, []) for i in range(rules)] for _ in range(effort.of(1_000))]
    report("for, objects", Figure.of(tracemalloc.get_traced_memory()[0] / rules / len(kept), "B"))
    tracemalloc.stop()


def bench_loading(effort: Effort, report: Report, *, rules: int = 1_000) -> None:
    """A rule file, from YAML to an engine that is ready."""
    lines = ["groups:", "  - name: g", "    rules:"]
    for i in range(effort.of(rules)):
        lines += [
            f"      - alert: A{i}",
            f"        expr: avg_over_time(temperature{{site=~'a|b'}}[{30 + i}s]) > {i} and on(device) humidity > 3",
            "        for: 2m",
            "        labels: {severity: page}",
            "        annotations:",
            "          summary: '{{ $labels.device }} is at {{ $value | printf \"%.1f\" }}'",
        ]
    text = "\n".join(lines)

    def load() -> None:
        groups, problems = load_rules(parse_yaml(text, "rules.yml", only_text=True).data)
        assert not problems
        Engine(groups[0].rules, SeriesTable())

    (spent,) = cpu_seconds(load, repeats=3)
    report(f"{effort.of(rules):,} rules", Figure.of(spent * 1e3, "ms"))
