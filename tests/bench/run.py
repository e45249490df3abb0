"""`make bench`: how fast the stages are, each beside a straightforward way to do the same, in one run.

Figures of one machine say little; the ratios say more. What is compared takes turns; medians and quartiles are shown.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

from tests.bench.bench_end_to_end import bench_end_to_end
from tests.bench.bench_flood import bench_flood
from tests.bench.bench_latency import bench_latency
from tests.bench.bench_query import bench_query, bench_stored
from tests.bench.bench_rules import bench_rules
from tests.bench.bench_scaling import bench_devices, bench_memory, bench_start
from tests.bench.bench_stages import bench_decode, bench_journal
from tests.bench.bench_store import bench_drawing, bench_line_protocol, bench_store
from tests.bench.bench_sweeps import bench_loading, bench_single, bench_state, bench_sweeps, bench_ticks
from tests.bench.measuring import FULL, NORMAL, QUICK, Effort, Figure, Report, machine
from tests.bench.processes import broker_is_missing

BENCHES: dict[str, tuple[Callable[[Effort, Report], dict[str, Any] | None], ...]] = {
    "end_to_end": (bench_end_to_end,),
    "flood": (bench_flood,),
    "latency": (bench_latency,),
    "rules": (bench_rules, bench_sweeps, bench_single, bench_ticks, bench_state, bench_loading),
    "query": (bench_query, bench_stored),
    "scaling": (bench_devices, bench_start, bench_memory),
    "journal": (bench_journal,),
    "decode": (bench_decode,),
    "store": (bench_store, bench_drawing),
    "line_protocol": (bench_line_protocol,),
}
"""By section. What a bench returns is told to machines instead of its figures."""
WITH_BROKER = {"end_to_end", "latency", "scaling"}


def options_of(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…",
        description="Measure the stages of tocsin, each beside a straightforward way. All of it takes minutes.",
        epilog='Examples: make bench ARGS="--only query"; make bench ARGS="--only rules --json"',
    )
    parser.add_argument("--only", choices=BENCHES, action="append", help="run just this one; may be repeated")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="a hundredth of each size: shows only that benches run")
    size.add_argument("--full", action="store_true", help="longer, and also a million series: minutes more, several GB")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    options = options_of(arguments)
    effort = QUICK if options.quick else FULL if options.full else NORMAL
    found: dict[str, dict[str, Any]] = {}

    def report(section: str, name: str, figure: Figure) -> None:
        found.setdefault(section, {})[name] = figure._asdict()
        if not options.json:
            print(f"  {name:<42}{figure}", flush=True)  # noqa: T201

    if not options.json:
        print(f"{machine()}\nmedian, and quartiles where it was measured several times")  # noqa: T201
    for name in options.only or BENCHES:
        if name in WITH_BROKER and (why := broker_is_missing()):
            print(f"{name}: left out, {why}", file=sys.stderr)  # noqa: T201
            continue
        for bench in BENCHES[name]:
            part = bench.__name__.removeprefix("bench_")
            section = name if part == name else f"{name}.{part}"
            if not options.json:
                print(f"{section}: {(bench.__doc__ or '').strip()}", flush=True)  # noqa: T201
            said = bench(effort, lambda figure_name, figure, section=section: report(section, figure_name, figure))  # type: ignore[misc]
            found |= {section: said} if said is not None else {}
    if options.json:
        print(json.dumps({"machine": machine(), **found}))  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1:])
