"""`tocsin status`: what the running tocsin tells of itself, or what is known of one that does not run."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click
import urllib3

from telemetry import SystemClock, TocsinError
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import command, data_options, json_option, wants_colour
from tocsin.data_dir import DataDir
from tocsin.http.instance import Instance, read_instance
from tocsin.status import Snapshot
from tocsin.status_json import from_json, to_json
from tocsin.status_text import lines
from tocsin.stopped_status import stopped_snapshot

_WATCH_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_PATH = "/api/v1/status/tocsin"
_CLEAR = "\x1b[H\x1b[2J"


@command("tocsin status", "tocsin status --watch", "tocsin status --json | jq '.accounts'")
@click.option("--watch", "-w", is_flag=True, help="Again every second, until Ctrl-C.")
@data_options
@json_option("Print the whole status as one JSON object; times in ns.")
def status(watch: bool, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Show how tocsin is doing.

    Session, streams and what is promised for them, accounts, sinks, receivers, alerts. Without a running tocsin, what
    its files tell. Exit code 1 if the books do not balance, the journal cannot be written, rules cannot be
    evaluated at all, or nothing runs.
    """
    data = chosen_data(config_file, data_dir)
    while True:
        snapshot = current(data)
        if watch and not as_json and sys.stdout.isatty():
            click.echo(_CLEAR, nl=False, color=True)
        _show(snapshot, as_json=as_json)
        if not watch:
            sys.exit(0 if is_well(snapshot) else 1)
        time.sleep(_WATCH_SECONDS)


def current(data: DataDir) -> Snapshot:
    """Of the tocsin that runs with this data, or of its files. Raises TocsinError."""
    instance = read_instance(data.http)
    answer = ask(instance) if instance is not None else None
    if answer is not None:
        return answer
    return stopped_snapshot(data, now=SystemClock().now())


def ask(instance: Instance) -> Snapshot | None:
    """What it says; None if it is not there any more, or another program is in its place."""
    try:
        answer = instance.client(_ANSWER_SECONDS).request("GET", instance.url + _PATH)
    except urllib3.exceptions.NewConnectionError:
        return None
    except urllib3.exceptions.HTTPError as error:
        raise TocsinError(
            f"{instance.url} does not answer ({error}): is tocsin, process {instance.pid}, busy?"
        ) from error
    if answer.status in (401, 404):
        return None
    if answer.status != 200:
        raise TocsinError(f"{instance.url} answers {answer.status}: look at the log of tocsin, process {instance.pid}")
    snapshot = from_json(answer.data)
    return snapshot if snapshot.pid == instance.pid else None


def is_well(snapshot: Snapshot) -> bool:
    """Whether it runs, its books balance, the journal can be written, and rules are evaluated."""
    journal_fails = snapshot.journal is not None and bool(snapshot.journal.error)
    return snapshot.running and not snapshot.imbalances and not journal_fails and snapshot.standstill is None


def _show(snapshot: Snapshot, *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(snapshot).decode())
        return
    for line in lines(snapshot):
        click.echo(line, color=wants_colour())
