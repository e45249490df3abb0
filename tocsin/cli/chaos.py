"""`tocsin chaos`: options only; the campaign itself is tocsin.chaos."""

from __future__ import annotations

import logging
import sys
import threading
from pathlib import Path
from typing import Any

import click

from tocsin.cli.options import command, json_option, print_json
from tocsin.cli.parameters import SECONDS

_ALL = ("kill", "point", "stop", "broker", "network", "storm", "sink", "receiver", "disk", "clock")
_KILLS = ("kill", "point")
_DEFAULT_SECONDS = 30.0


class _Faults(click.ParamType[tuple[str, ...]]):
    """Names of faults, in the order in which the schedule knows them."""

    name = "faults"

    def convert(
        self, value: str | tuple[str, ...], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        names = [name.strip() for name in value.split(",")] if isinstance(value, str) else list(value)
        if names == ["all"]:
            return _ALL
        for name in names:
            if name not in _ALL:
                self.fail(f"{name!r} is none of: all, {', '.join(_ALL)}", param, ctx)
        return tuple(name for name in _ALL if name in names)


@command(
    "tocsin chaos",
    "tocsin chaos --kills 200 --json",
    "tocsin chaos --kills 0 --faults network,sink --duration 5m",
    "tocsin chaos --broker mosquitto --seed 7 --keep evidence",
)
@click.option("--kills", type=click.IntRange(0), metavar="N", help="Kill tocsin so often.  [default: 20]")
@click.option("--duration", type=SECONDS, metavar="S", help="Go on for at least S seconds, or 5m.")
@click.option(
    "--faults",
    type=_Faults(),
    default="all",
    show_default=True,
    metavar="LIST",
    help=f"What may go wrong, separated by commas: {', '.join(_ALL)}.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same faults in order.")
@click.option(
    "--broker",
    type=click.Choice(["embedded", "mosquitto"]),
    default="embedded",
    show_default=True,
    help="The embedded broker forgets everything when it is killed; mosquitto must be installed.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep all data and logs here.  [default: a temporary directory, kept only if something is wrong]",
)
@click.option("--cold", is_flag=True, help="Start a new interpreter for each life; by default it is forked from one.")
@json_option("Print the result as one JSON object.")
def chaos(
    kills: int | None,
    duration: float | None,
    faults: tuple[str, ...],
    seed: int,
    broker: Any,
    keep: Path | None,
    cold: bool,
    as_json: bool,
) -> None:
    """Break tocsin in every way, and prove that nothing is lost.

    Runs the real pipeline on simulated devices, kills it again and again, and makes trouble for everything around it.
    An oracle that knows every message compares what was acknowledged with the journal, the store, a sink, the alerts
    and what their receiver was told. Exit code 1 on any loss; it says where the evidence is.
    """
    from tocsin.chaos.campaign import CampaignInterrupted, Options  # noqa: PLC0415  # imports everything: not for --help
    from tocsin.chaos.session import run_chaos  # noqa: PLC0415  # as above
    from tocsin.foreground import stopped_by_signals  # noqa: PLC0415  # as above

    may_kill = any(name in faults for name in _KILLS)
    if kills and not may_kill:
        raise click.UsageError("--kills needs kill or point among the --faults")
    kills = (20 if may_kill else 0) if kills is None else kills
    seconds = duration or (0.0 if kills else _DEFAULT_SECONDS)
    options = Options(kills=kills, duration_s=seconds, faults=faults, seed=seed, broker=broker, cold=cold)
    for name in ("simulators", "ingest"):  # connections are meant to break, and messages to be damaged
        logging.getLogger(f"tocsin.{name}").setLevel(logging.ERROR)
    stop = threading.Event()
    with stopped_by_signals(stop):
        try:
            result, lines = run_chaos(options, keep, stop=stop, say=_say)
        except CampaignInterrupted:
            click.echo("tocsin: interrupted: no verdict", err=True)
            sys.exit(130)
    if as_json:
        print_json(result)
    else:
        click.echo("\n".join(lines))
    sys.exit(0 if result["ok"] else 1)


def _say(line: str) -> None:
    click.echo(f"chaos: {line}", err=True)
