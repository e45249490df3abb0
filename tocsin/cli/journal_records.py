"""`tocsin journal dump` and `export`: the records of the journal, for people and for `tocsin journal replay`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from ingest.block import TICK, Records
from ingest.exported import as_line, as_object, write_export
from ingest.journal import Journal
from ingest.topics import TopicPattern
from telemetry import SystemClock, TocsinError
from tocsin.cli.journal import journal, progress_bar
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import Decorated, command, data_options
from tocsin.cli.parameters import INSTANT, instant
from tocsin.data_dir import DataDir
from tocsin.journal_range import offset_at, parts
from tocsin.stream_record import as_written, load_streams
from tocsin.words import count


class Offset(NamedTuple):
    """A number that is meant as an offset."""

    value: int


class _Place(click.ParamType["Offset | int"]):
    """An offset, or a time as INSTANT gives it."""

    name = "offset|time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Offset | int:
        if isinstance(value, str) and value.isdecimal():
            return Offset(int(value))
        return value if isinstance(value, Offset) else INSTANT.convert(value, param, ctx)


def range_options(command_: Decorated) -> Decorated:
    """--from and --to: see `chosen_range`."""
    what = "An offset, or a time of arrival: 1h ago, or 2026-01-31T12:00:00Z."
    command_ = click.option("--to", "to", type=_Place(), help="Before this. [default: the end]")(command_)
    return click.option("--from", "from_", type=_Place(), help=f"From here on. {what} [default: the beginning]")(
        command_
    )


def chosen_range(opened: Journal, from_: Offset | int | None, to: Offset | int | None) -> tuple[int, int]:
    """The offsets that the options mean: [first, end)."""
    now = SystemClock().now()

    def offset(place: Offset | int | None, default: int) -> int:
        if place is None:
            return default
        if isinstance(place, Offset):
            return min(max(place.value, opened.start), opened.end)
        return offset_at(opened, instant(place, now))

    return offset(from_, opened.start), offset(to, opened.end)


def open_journal(data: DataDir) -> Journal:
    """Read-only. Raises TocsinError."""
    return Journal(data.require(data.journal, "messages"), read_only=True)


@command(
    "tocsin journal dump --from 10m",
    "tocsin journal dump --from 12000 --to 12100",
    "tocsin journal dump --topic 'sensors/north/+/telemetry' --limit 5 | jq .payload",
    group=journal,
)
@range_options
@click.option("--topic", help="Only messages on these topics: an MQTT filter with + and #.")
@click.option("--limit", type=click.IntRange(1), help="At most so many records.")
@data_options
def dump(
    from_: Offset | int | None,
    to: Offset | int | None,
    topic: str | None,
    limit: int | None,
    config_file: Path | None,
    data_dir: Path | None,
) -> None:
    """Print records as JSON, one a line.

    Each has its offset and the time at which it was received. Messages have topic, qos and payload; what is no UTF-8
    text is payload_base64. Ticks of the clock and samples of recording rules have a kind.
    """
    pattern = _pattern(topic) if topic else None
    opened = open_journal(chosen_data(config_file, data_dir))
    left = -1 if limit is None else limit
    for records in parts(opened, *chosen_range(opened, from_, to)):
        for i in range(len(records)):
            if pattern is not None and not _is_on(pattern, records, i):
                continue
            click.echo(as_line(as_object(records, i)))
            left -= 1
            if left == 0:
                return


def _pattern(topic: str) -> TopicPattern:
    try:
        return TopicPattern.parse(topic)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--topic") from error


def _is_on(pattern: TopicPattern, records: Records, i: int) -> bool:
    return int(records.flags[i]) != TICK and pattern.match(records.topics[i].split("/")) is not None


@command(
    "tocsin journal export incident.jsonl.gz --from 2026-01-31T12:00:00Z --to 2026-01-31T13:00:00Z",
    "tocsin journal replay incident.jsonl.gz --rules rules/new.yml",
    group=journal,
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@range_options
@data_options
def export(
    file: Path, from_: Offset | int | None, to: Offset | int | None, config_file: Path | None, data_dir: Path | None
) -> None:
    """Write a stretch of the journal to FILE, for `tocsin journal replay` here or elsewhere.

    The file is gzipped JSON lines: first an object with the streams and limits that the messages are decoded with, then
    the records as `tocsin journal dump` prints them, at last {"end": offset, "records": number}.
    """
    data = chosen_data(config_file, data_dir)
    opened = open_journal(data)
    first, end = chosen_range(opened, from_, to)
    streams, limits = load_streams(data)
    said = {"streams": [as_written(stream) for stream in streams], "limits": as_written(limits)}
    new = file.with_name(file.name + ".new")
    try:
        with progress_bar(max(0, end - first), "exporting") as progress:
            n = write_export(new, said, _told(parts(opened, first, end), progress))
        new.replace(file)
    except OSError as error:
        raise TocsinError(f"cannot write {file}: {error.strerror}; choose another file, or free disk space") from error
    finally:
        new.unlink(missing_ok=True)
    click.echo(f"{file}: {count(n)} records, {count(first)} to {count(end)}", err=True)


def _told(read: Iterator[Records], progress: Any) -> Iterator[Records]:
    for records in read:
        yield records
        progress(len(records))
