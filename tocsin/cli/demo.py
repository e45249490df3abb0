"""`tocsin demo`: options only; the demo itself is tocsin.demo."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tocsin.cli.options import command, port_option
from tocsin.cli.parameters import SECONDS


@command("tocsin demo", "tocsin demo --devices 500 --rate 800", "tocsin demo --headless --json --duration 20")
@click.option("--devices", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="Size of the fleet.")
@click.option("--duration", type=SECONDS, metavar="S", help="Stop after S seconds, or 5m.  [default: at Ctrl-C]")
@click.option("--rate", type=click.FloatRange(0.1), metavar="N", help="Messages a second, of all devices together.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same fleet and faults.")
@click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Keep the data here.  [default: a temporary directory]"
)
@port_option
@click.option("--headless", is_flag=True, help="No live view: plain lines.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object, as the last line.")
def demo(
    devices: int,
    duration: float | None,
    rate: float | None,
    seed: int,
    data_dir: Path | None,
    port: int | None,
    headless: bool,
    as_json: bool,
) -> None:
    """Show everything with a simulated fleet, without any set-up.

    Starts a broker, a fleet with faults, the pipeline with example rules and the store, and shows them live. Ctrl-C
    ends it in order. Exit code 1 if an alert was missed or false, or if a message is not accounted for.
    """
    from tocsin.demo import DemoOptions, run_demo  # noqa: PLC0415  # imports everything: not for --help

    options = DemoOptions(
        devices=devices,
        duration=duration,
        rate=rate,
        seed=seed,
        data_dir=data_dir,
        port=port,
        headless=headless,
        json=as_json,
    )
    sys.exit(run_demo(options))
