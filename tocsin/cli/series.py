"""`tocsin series`: which series there are, and their newest readings."""

from __future__ import annotations

from pathlib import Path

import click

import rules
from telemetry import SystemClock
from tocsin.cli.opening import chosen_data, json_number, labels_of, open_series, open_store
from tocsin.cli.options import command, data_options, json_option, print_json
from tocsin.words import iso, number, printable, span


@command(
    "tocsin series", "tocsin series 'temperature{site=\"north\"}'", "tocsin series --json | jq '.[].series.device'"
)
@click.argument("selector", required=False)
@data_options
@json_option("Print a JSON array; times in RFC 3339.")
def series(selector: str | None, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """List the series that are stored.

    Each with its newest reading. SELECTOR is Prometheus': metric{label="value", other=~"regular expression"}.
    """
    data = chosen_data(config_file, data_dir)
    table = open_series(data)
    ids = rules.select(selector, table).tolist() if selector else list(range(len(table)))
    with open_store(data) as store:
        times, values = store.latest(ids)
    names = [printable(str(table[id_])) for id_ in ids]
    rows = sorted(zip(names, ids, times.tolist(), values.tolist(), strict=True))
    if as_json:
        print_json(
            [
                {
                    "series": labels_of(table[id_]),
                    "time": iso(time) if time else None,
                    "value": json_number(value),
                }
                for _, id_, time, value in rows
            ]
        )
        return
    now = SystemClock().now()
    width = max((len(name) for name, *_ in rows), default=0)
    for name, _, time, value in rows:
        newest = f"{number(value):>12}  {_age(now - time)}" if time else f"{'-':>12}"
        click.echo(f"{name:<{width}}  {newest}")
    if not rows:
        click.echo("no series" + (f" matches {selector}" if selector else " yet"), err=True)


def _age(ns: int) -> str:
    return f"{span(ns, digits=0)} ago" if ns >= 0 else f"{span(-ns, digits=0)} ahead"
