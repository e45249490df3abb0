"""`tocsin dead-letters`: messages and readings that were refused, with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ingest.dead_letters import DeadLetter, DeadLetters
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import command, data_options, json_option, print_json
from tocsin.words import iso, local, printable

_SHOWN_CHARACTERS = 200


@click.group(name="dead-letters")
def dead_letters() -> None:
    """Show the messages that could not be decoded."""


@command(
    "tocsin dead-letters list",
    "tocsin dead-letters list --reason bad_json -n 5",
    "tocsin dead-letters list --json | jq '.letters[].topic'",
    group=dead_letters,
    name="list",
)
@click.option("--reason", help="Only those with this reason.")
@click.option("-n", "--last", type=click.IntRange(1), default=20, show_default=True, help="Only the newest N.")
@data_options
@json_option("Print one JSON object: counts by reason, and the letters.")
def list_(reason: str | None, last: int, config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """List what was refused, and how much of each reason."""
    data = chosen_data(config_file, data_dir)
    letters = DeadLetters(data.require(data.dead_letters, "dead letters"), read_only=True)
    try:
        counts, newest = letters.count(), letters.list(limit=last, reason=reason)
    finally:
        letters.close()
    if as_json:
        print_json({"counts": counts, "letters": [_as_object(letter) for letter in reversed(newest)]})
        return
    for letter in reversed(newest):
        click.echo(_lines(letter))
    if reason is not None and reason not in counts:
        known = ", ".join(counts) or "none at all"
        click.echo(f"no dead letters with the reason {reason!r}; there are: {known}", err=True)
    elif counts:
        click.echo("in all: " + ", ".join(f"{n:,} {why}" for why, n in counts.items()), err=True)
    else:
        click.echo("no dead letters", err=True)


def _lines(letter: DeadLetter) -> str:
    text = letter.payload[:_SHOWN_CHARACTERS].decode(errors="backslashreplace")
    rest = "…" if letter.size > _SHOWN_CHARACTERS else ""
    return "\n  ".join(
        (
            f"{local(letter.received):%Y-%m-%d %H:%M:%S}  {letter.reason}  {printable(letter.topic)}",
            printable(letter.detail),
            printable(text) + rest,
        )
    )


def _as_object(letter: DeadLetter) -> dict[str, Any]:
    return {
        "received": iso(letter.received),
        "offset": letter.offset,
        "topic": letter.topic,
        "reason": letter.reason,
        "detail": letter.detail,
        "stream": letter.stream,
        "readings": letter.readings,
        "bytes": letter.size,
        "payload": letter.payload.decode(errors="backslashreplace"),
    }
