"""`tocsin run`: the pipeline in the foreground."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tocsin.cli.options import command, config_option, port_option
from tocsin.config import at_port, load_config


@command("tocsin run -c tocsin.yaml", "tocsin run -c tocsin.yaml --dry-run", "tocsin run -c tocsin.yaml --port 9000")
@config_option
@port_option
@click.option("--dry-run", is_flag=True, help="Receive and evaluate, but write to no sink and tell no receiver.")
@click.option("--headless", is_flag=True, help="No live view, even on a terminal.")
def run(config_file: Path, port: int | None, dry_run: bool, headless: bool) -> None:
    """Receive, store and alert, as a configuration file says.

    Runs until Ctrl-C or SIGTERM; then everything received is safe, and the next run goes on where this one ended.
    """
    os.umask(0o077)  # what is received is the owner's, also where the data directory is open to others
    loaded = at_port(load_config(config_file), port)
    from tocsin.foreground import run_pipeline  # noqa: PLC0415  # imports everything: not for --help, nor for mistakes

    run_pipeline(loaded, dry_run=dry_run, headless=headless)
