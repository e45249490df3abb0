"""`tocsin query`: stored readings, and expressions over them, as a chart, CSV or JSON."""

from __future__ import annotations

import csv
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import click
import numpy as np

import rules
from sinks.store import Store
from telemetry import SeriesTable, SystemClock
from tocsin.cli.opening import chosen_data, labels_of, open_series, open_store
from tocsin.cli.options import command, data_options, json_option, print_json, wants_colour
from tocsin.cli.parameters import DURATION, INSTANT, instant
from tocsin.curve import MAX_CURVES, Curve
from tocsin.staleness_file import load_staleness
from tocsin.words import exact, iso, printable

_STEPS_ACROSS = 250
_READ_TOGETHER = 500
Result = tuple[dict[str, str], Curve]


@command(
    "tocsin query 'temperature{device=\"d1\"}'",
    "tocsin query 'temperature > 30' --since 6h --step 1m",
    "tocsin query temperature --since 2026-01-31T00:00:00Z --until 2026-02-01T00:00:00Z --csv > day.csv",
)
@click.argument("expr")
@click.option("--since", type=INSTANT, default="1h", show_default=True, help="Begin: so long ago, or a time.")
@click.option("--until", type=INSTANT, default="0", help="End: so long ago, or a time.  [default: now]")
@click.option("--step", type=DURATION, help="Distance of evaluations of an expression.  [default: 250 of them]")
@click.option("--csv", "as_csv", is_flag=True, help="Print time,series,value.")
@json_option("Print what Prometheus' query_range gives.")
@data_options
def query(
    expr: str,
    since: int,
    until: int,
    step: int | None,
    as_csv: bool,
    as_json: bool,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Draw or print stored series and expressions over them.

    A plain selector gives the readings as they are stored, anything else is evaluated every --step.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    if step == 0:
        raise click.UsageError("--step must be longer than 0")
    now = SystemClock().now()
    start, end = instant(since, now), instant(until, now)
    if start >= end:
        raise click.UsageError("--since must lie before --until")
    data = chosen_data(config_file, data_dir)
    table = open_series(data)
    with open_store(data) as store:
        own = load_staleness(data)
        results = _results(expr, table, store, start, end, step, own, for_chart=not (as_csv or as_json))
    if as_csv:
        _print_csv(results)
    elif as_json:
        print_json(_matrix(results))
    else:
        _draw(expr, results, start, end)


def _results(
    expr: str,
    table: SeriesTable,
    store: Store,
    start: int,
    end: int,
    step: int | None,
    own_staleness: dict[int, int],
    *,
    for_chart: bool,
) -> list[Result]:
    if rules.is_selector(expr):
        ids = sorted(rules.select(expr, table).tolist(), key=lambda id_: str(table[id_]))
        return _readings(ids, table, store, start, end, for_chart=for_chart)
    step = step or max(10**9, (end - start) // _STEPS_ACROSS // 10**9 * 10**9)
    found = rules.query_range(
        expr, table, store.read_many, start, end, step, own_staleness=own_staleness, read_at=store.read_at
    )
    return [(labels, Curve(_name(labels), time, value)) for labels, time, value in found]


def _readings(
    ids: list[int], table: SeriesTable, store: Store, start: int, end: int, *, for_chart: bool
) -> list[Result]:
    """Series with readings; for a chart, of those behind the first eight only the names."""
    results: list[Result] = []
    wanted = iter(ids)
    while some := list(islice(wanted, _READ_TOGETHER)):
        rows = store.read_many(some, start, end)
        results += [(labels_of(table[i]), Curve(str(table[i]), *rows[i])) for i in some if len(rows[i][0])]
        if for_chart and len(results) >= MAX_CURVES:
            break
    nothing = np.empty(0, np.int64), np.empty(0)
    return results + [(labels_of(table[i]), Curve(str(table[i]), *nothing)) for i in wanted]


def _name(labels: dict[str, str]) -> str:
    inner = ", ".join(f'{name}="{value}"' for name, value in sorted(labels.items()) if name != "__name__")
    return f"{labels.get('__name__', '')}{{{inner}}}"


def _draw(expr: str, results: Sequence[Result], start: int, end: int) -> None:
    if not results:
        click.echo(f"nothing in this time for {expr}: `tocsin series` lists what there is", err=True)
        return
    from tocsin.chart import draw  # noqa: PLC0415  # takes half a second to import: not for --csv and --json

    size = shutil.get_terminal_size((80, 24))
    curves = [replace(curve, name=printable(curve.name)) for _, curve in results]
    click.echo(draw(curves, start=start, end=end, width=size.columns, height=size.lines - 1, colour=wants_colour()))


def _print_csv(results: Sequence[Result]) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("time", "series", "value"))
    for _, curve in results:
        for time, value in zip(curve.time.tolist(), curve.value.tolist(), strict=True):
            out.writerow((iso(time), curve.name, exact(value)))


def _matrix(results: Sequence[Result]) -> dict[str, Any]:
    """Source: Prometheus' HTTP API, "Range queries"."""
    result = [
        {
            "metric": labels,
            "values": [
                [round(time / 1e9, 3), exact(value)]
                for time, value in zip(curve.time.tolist(), curve.value.tolist(), strict=True)
            ],
        }
        for labels, curve in results
    ]
    return {"status": "success", "data": {"resultType": "matrix", "result": result}}
