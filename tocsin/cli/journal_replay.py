"""`tocsin journal replay`: what rules make of what was received, without touching anything."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
from pydantic import TypeAdapter, ValidationError

from ingest.block import Records
from ingest.exported import Export, ExportError
from ingest.streams import LimitsConfig, StreamConfig
from rules import RuleGroup
from sinks.alert_history import AlertHistory
from telemetry import AlertEvent, TocsinError
from tocsin.cli.alerts import as_object, event_line
from tocsin.cli.journal import journal, progress_bar
from tocsin.cli.journal_records import Offset, chosen_range, open_journal, range_options
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import command, data_options, json_option, wants_colour
from tocsin.config import load_config, load_rule_files
from tocsin.data_dir import DataDir
from tocsin.journal_range import parts
from tocsin.journal_replay import replay as replayed
from tocsin.own_alerts import is_own
from tocsin.stream_record import load_streams
from tocsin.words import count

__all__ = ["journal"]


@dataclass(frozen=True)
class _Source:
    """Where the records come from, and what they were decoded with."""

    parts: Iterator[Records]
    length: int
    """How many offsets, for the bar; 0 if nobody knows."""
    streams: Sequence[StreamConfig]
    limits: LimitsConfig


@command(
    "tocsin journal replay",
    "tocsin journal replay --rules rules/new.yml --from 24h --json | jq .labels.device",
    "tocsin journal replay incident.jsonl.gz --rules rules/new.yml",
    "tocsin journal replay --diff     (is what was alerted what the rules say?)",
    group=journal,
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option(
    "--rules",
    "rule_files",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="Rule file; may be repeated.  [default: rules and streams of the configuration]",
)
@click.option("--diff", is_flag=True, help="Only where this differs from the alerts that there were; then exit code 1.")
@range_options
@data_options
@json_option("Print one JSON object a line.")
def replay(
    file: Path | None,
    rule_files: tuple[Path, ...],
    diff: bool,
    from_: Offset | int | None,
    to: Offset | int | None,
    config_file: Path | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Evaluate the journal, or an exported FILE, and print the alerts.

    Nothing is written and nobody is told. With the rules that were running, and from the journal's beginning, these are
    the very alerts that there were, with the same ids; from anywhere else, the rules begin with what they see there.

    With --diff, lines begin with - for alerts that there were and are not now, and with + for new ones; with --json,
    they have a key "diff".
    """
    if file is not None and (from_ is not None or to is not None):
        raise click.UsageError("--from and --to are for the journal: choose the stretch when it is exported")
    data = chosen_data(config_file, data_dir)
    source = _of_file(file) if file is not None else _of_journal(data, from_, to)
    groups, streams, limits = _rules(rule_files, config_file, source)
    told: list[AlertEvent] = []
    fired = resolved = first_received = last_received = 0
    with progress_bar(source.length, "replaying") as progress:
        before = None
        for part in replayed(source.parts, groups, streams, limits, on_error=_tell_of_error):
            progress(part.next - before if before is not None else 0)
            before = part.next
            first_received = first_received or part.first_received
            last_received = max(last_received, part.received)
            for event in part.events:
                fired, resolved = fired + (not event.ends_at), resolved + bool(event.ends_at)
                if diff:
                    told.append(event)
                else:
                    click.echo(_line(event, as_json=as_json), color=wants_colour())
    if diff:
        differences = list(_differences(data, told, first_received, last_received))
        for mark, event in differences:
            click.echo(_line(event, as_json=as_json, mark=mark), color=wants_colour())
        click.echo(f"{count(len(told))} events, {count(len(differences))} differences", err=True)
        sys.exit(1 if differences else 0)
    click.echo(f"{count(fired)} fired, {count(resolved)} resolved", err=True)


def _of_journal(data: DataDir, from_: Offset | int | None, to: Offset | int | None) -> _Source:
    opened = open_journal(data)
    first, end = chosen_range(opened, from_, to)
    return _Source(parts(opened, first, end), end - first, *load_streams(data))


def _of_file(file: Path) -> _Source:
    export = Export(file)
    try:
        streams = TypeAdapter(list[StreamConfig]).validate_python(export.said["streams"])
        return _Source(export.parts(), 0, streams, LimitsConfig.model_validate(export.said["limits"]))
    except (ValidationError, KeyError) as error:
        raise ExportError(f"{file} comes from another version of tocsin: export it again with this one") from error


def _rules(
    rule_files: Sequence[Path], config_file: Path | None, source: _Source
) -> tuple[Sequence[RuleGroup], Sequence[StreamConfig], LimitsConfig]:
    """Rules, and what is decoded with: that of the data goes with the rules of files."""
    if rule_files:
        return load_rule_files(rule_files), source.streams, source.limits
    path = config_file or Path("tocsin.yaml")
    if not path.exists():
        raise TocsinError("which rules? Name a rule file with --rules, or the configuration with -c")
    loaded = load_config(path)
    return loaded.groups, loaded.config.streams, loaded.config.limits


def _tell_of_error(rule: str, why: str) -> None:
    click.echo(f"rule {rule} cannot be evaluated: {why}", err=True)


def _differences(
    data: DataDir, events: Sequence[AlertEvent], since: int, until: int
) -> Iterator[tuple[str, AlertEvent]]:
    """By time of detection: what was alerted between two times (ns) and is not among the events, and the reverse."""
    history = AlertHistory(data.require(data.alerts, "alerts"))
    try:
        past = {event.id: event for event in history.recent(0, sys.maxsize)}
    finally:
        history.close()
    new = {event.id: event for event in events}
    # Times of detection go back with our clock: what was alerted is looked for at any time, what is missing is not.
    gone = (e for e in past.values() if e.id not in new and not is_own(e))
    differing = [("-", e) for e in gone if since <= e.detected_at <= until]
    differing += [("+", e) for e in new.values() if e.id not in past]
    yield from sorted(differing, key=lambda pair: pair[1].detected_at)


def _line(event: AlertEvent, *, as_json: bool, mark: str = "") -> str:
    if as_json:
        return json.dumps(as_object(event) | ({"diff": mark} if mark else {}), ensure_ascii=False)
    return f"{mark} {event_line(event)}" if mark else event_line(event)
