"""`tocsin dead-letters`: what was refused, with the reason. Here: list, show, purge. Not here: `replay`."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import click

from ingest.block import DUP, QOS_SHIFT, RETAIN
from ingest.dead_letters import DeadLetter, DeadLetters, Selection
from ingest.topics import TopicPattern
from telemetry import SystemClock
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import Decorated, command, data_options, json_option, print_json
from tocsin.cli.parameters import INSTANT, instant
from tocsin.mending import advice
from tocsin.words import count, iso, local, printable

_SHOWN_CHARACTERS = 200
_HEX_BYTES = 4_096
_PER_LINE = 16


class _ListIfBare(click.Group):
    """A group that lists when no command is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        first = args[0] if args else ""
        if not first or (first.startswith("-") and first not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group(name="dead-letters", cls=_ListIfBare)
def dead_letters() -> None:
    """Show what was refused and why; replay or purge it.

    Without a command: list.
    """


def _topic(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        try:
            TopicPattern.parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error
    return value


def filters(command_: Decorated) -> Decorated:
    """Options that choose dead letters: see `selection`."""
    for option in (
        click.option("--until", type=INSTANT, help="Received before: so long ago, or a time."),
        click.option("--since", type=INSTANT, help="Received after: so long ago, or a time."),
        click.option("--topic", callback=_topic, help="Only these topics: an MQTT filter with + and #."),
        click.option("--stream", help="Only those of this stream."),
        click.option("--reason", help="Only those with this reason."),
    ):
        command_ = option(command_)
    return command_


def choosing(command_: Decorated) -> Decorated:
    """IDs, filters or --all: see `chosen`."""
    command_ = click.option("--all", "everything", is_flag=True, help="All of them.")(filters(command_))
    return click.argument("ids", nargs=-1, type=click.IntRange(1), metavar="[ID]...")(command_)


def selection(
    *, reason: str | None, stream: str | None, topic: str | None, since: int | None, until: int | None
) -> Selection:
    """What the filters say."""
    now = SystemClock().now()
    return Selection(
        reason=reason,
        stream=stream,
        topic=topic,
        since=None if since is None else instant(since, now),
        until=None if until is None else instant(until, now),
    )


def chosen(ids: tuple[int, ...], *, everything: bool, **given: Any) -> Selection:
    """What the ids, filters or --all say. Raises UsageError unless it is exactly one of them."""
    filtered = any(value is not None for value in given.values())
    if (bool(ids), filtered, everything).count(True) != 1:
        raise click.UsageError("say which: IDs, or filters such as --reason, or --all")
    return Selection(ids=ids) if ids else selection(**given)


def open_letters(config_file: Path | None, data_dir: Path | None, *, read_only: bool = True) -> DeadLetters:
    data = chosen_data(config_file, data_dir)
    return DeadLetters(data.require(data.dead_letters, "dead letters"), read_only=read_only)


@command(
    "tocsin dead-letters list",
    "tocsin dead-letters list --reason bad_json -n 5",
    "tocsin dead-letters list --topic 'sensors/north/#' --since 2h",
    "tocsin dead-letters list --summary",
    "tocsin dead-letters list --json | jq '.letters[].topic'",
    group=dead_letters,
    name="list",
)
@filters
@click.option("-n", "--last", "--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest N.")
@click.option("--summary", is_flag=True, help="Only how much there is of each reason, and since when.")
@data_options
@json_option("Print one JSON object: counts by reason, and the letters.")
def list_(
    last: int, summary: bool, config_file: Path | None, data_dir: Path | None, as_json: bool, **given: Any
) -> None:
    """List what was refused, and how much of each reason."""
    selected = selection(**given)
    letters = open_letters(config_file, data_dir)
    try:
        if summary:
            _print_summary(letters, selected, as_json=as_json)
            return
        counts, newest = letters.count(), letters.list(selected, limit=last)
    finally:
        letters.close()
    if as_json:
        print_json({"counts": counts, "letters": [as_object(letter) for letter in reversed(newest)]})
        return
    for letter in reversed(newest):
        click.echo(_lines(letter))
    if not counts:
        click.echo("no dead letters", err=True)
    elif not newest:
        click.echo(f"no dead letters are so; there are: {_listed(counts)}", err=True)
    else:
        click.echo(f"in all: {_listed(counts)}", err=True)


@command(
    "tocsin dead-letters show 17",
    "tocsin dead-letters show 17 --raw | mosquitto_pub -t sensors/north/d1/telemetry -s",
    group=dead_letters,
)
@click.argument("id_", metavar="ID", type=click.IntRange(1))
@click.option("--raw", is_flag=True, help="Print the bytes of the payload and nothing else.")
@data_options
@json_option("Print one JSON object.")
def show(id_: int, raw: bool, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Show all that is known of one dead letter, and how to mend it."""
    letters = open_letters(config_file, data_dir)
    try:
        letter = letters.find(id_)
    finally:
        letters.close()
    if letter is None:
        raise click.ClickException(f"there is no dead letter {id_}: it was replayed, purged, or dropped for newer ones")
    if raw:
        sys.stdout.buffer.write(letter.payload)
    elif as_json:
        payload = base64.b64encode(letter.payload).decode()
        more = {
            "qos": letter.flags >> QOS_SHIFT & 3,
            "retained": bool(letter.flags & RETAIN),
            "payload_base64": payload,
        }
        print_json({**as_object(letter), **more, "advice": advice(letter)})
    else:
        click.echo(_everything(letter))


@command(
    "tocsin dead-letters purge 17 18",
    "tocsin dead-letters purge --reason unknown_topic --until 7d",
    "tocsin dead-letters purge --all --yes",
    group=dead_letters,
)
@choosing
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@data_options
@json_option('Print {"purged": N}; needs --yes.')
def purge(
    ids: tuple[int, ...], yes: bool, config_file: Path | None, data_dir: Path | None, as_json: bool, **given: Any
) -> int:
    """Delete dead letters for ever.

    The exit code is 1 if an ID is no dead letter (the others are deleted all the same), or if the answer is no.
    """
    selected = chosen(ids, **given)
    if as_json and not yes:
        raise click.UsageError("--json needs --yes")
    letters = open_letters(config_file, data_dir, read_only=False)
    try:
        found = sum(letters.count(selected).values())
        if found and not yes:
            sure = click.confirm(f"Delete {count(found)} dead letter{'s' if found > 1 else ''} for ever?")
            if not sys.stdin.isatty():
                click.echo()  # nobody has pressed Enter
            if not sure:
                click.echo("nothing deleted", err=True)
                return 1
        unknown = name_unknown(letters, ids)
        purged = letters.purge(selected) if found else 0
    finally:
        letters.close()
    if as_json:
        print_json({"purged": purged})
    else:
        click.echo(f"{count(purged)} dead letter{'' if purged == 1 else 's'} deleted")
    return int(unknown)


def name_unknown(letters: DeadLetters, ids: tuple[int, ...]) -> bool:
    """Say which of the ids are no dead letters; whether there are any."""
    unknown = [str(id_) for id_ in ids if letters.find(id_) is None]
    if unknown:
        are = "is no dead letter" if len(unknown) == 1 else "are no dead letters"
        click.echo(f"{', '.join(unknown)} {are}: replayed, purged, or dropped for newer ones", err=True)
    return bool(unknown)


def as_object(letter: DeadLetter) -> dict[str, Any]:
    """For machines."""
    return {
        "id": letter.id,
        "received": iso(letter.received),
        "offset": letter.offset,
        "topic": letter.topic,
        "reason": letter.reason,
        "detail": letter.detail,
        "stream": letter.stream,
        "sink": letter.sink,
        "readings": letter.readings,
        "bytes": letter.size,
        "payload": letter.payload.decode(errors="backslashreplace"),
    }


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{n:,} {why}" for why, n in counts.items())


def _print_summary(letters: DeadLetters, selected: Selection, *, as_json: bool) -> None:
    rows = letters.summary(selected)
    if as_json:
        print_json(
            [
                {
                    "reason": row.reason,
                    "letters": row.letters,
                    "readings": row.readings,
                    "first": iso(row.first),
                    "last": iso(row.last),
                }
                for row in rows
            ]
        )
        return
    width = max((len(row.reason) for row in rows), default=0)
    for row in rows:
        span = f"{local(row.first):%Y-%m-%d %H:%M:%S} to {local(row.last):%Y-%m-%d %H:%M:%S}"
        readings = f"{row.readings:,} reading{'' if row.readings == 1 else 's'}"
        click.echo(f"{row.reason:{width}}  {row.letters:>7,}  {span}  {readings}")
    if not rows:
        click.echo("no dead letters", err=True)


def _lines(letter: DeadLetter) -> str:
    text = letter.payload[:_SHOWN_CHARACTERS].decode(errors="backslashreplace")
    rest = "…" if letter.size > _SHOWN_CHARACTERS else ""
    return "\n  ".join(
        (
            f"{local(letter.received):%Y-%m-%d %H:%M:%S}  {letter.id}  {letter.reason}  {printable(letter.topic)}",
            printable(letter.detail),
            printable(text) + rest,
        )
    )


def _everything(letter: DeadLetter) -> str:
    marks = [f"QoS {letter.flags >> QOS_SHIFT & 3}"]
    marks += [word for bit, word in ((RETAIN, "retained"), (DUP, "sent again")) if letter.flags & bit]
    lines: list[tuple[str, str]] = [
        ("dead letter", f"{letter.id}"),
        ("reason", letter.reason),
        ("detail", printable(letter.detail)),
        ("mend", advice(letter)),
        ("received", f"{local(letter.received):%Y-%m-%d %H:%M:%S.%f}  ({iso(letter.received)})"),
        ("series" if letter.sink else "topic", printable(letter.topic)),
        *(
            [("sink", letter.sink)]
            if letter.sink
            else [("stream", letter.stream or "none"), ("sent", ", ".join(marks))]
        ),
        ("readings", count(letter.readings)),
        ("offset", f"{letter.offset} in the journal"),
        ("payload", _size(letter)),
    ]
    return "\n".join([*(f"{name + ':':13}{text}" for name, text in lines), _payload(letter.payload)])


def _size(letter: DeadLetter) -> str:
    kept = "" if len(letter.payload) == letter.size else f", of which {len(letter.payload):,} were kept"
    return f"{letter.size:,} bytes{kept}"


def _payload(payload: bytes) -> str:
    """As text if it is text, else in hexadecimal."""
    try:
        return "\n".join(f"  {printable(line)}" for line in payload.decode().splitlines())
    except UnicodeDecodeError:
        pass
    lines = []
    for at in range(0, min(len(payload), _HEX_BYTES), _PER_LINE):
        part = payload[at : at + _PER_LINE]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"  {at:06x}  {part.hex(' '):{3 * _PER_LINE}} {text}")
    if len(payload) > _HEX_BYTES:
        lines.append(f"  … and {len(payload) - _HEX_BYTES:,} more bytes: --raw gives them all")
    return "\n".join(lines)
