"""`tocsin journal`: what is in the journal and whether it is whole. Read-only, beside a running tocsin or without one.

Not here: its records (journal_records, journal_replay).
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from ingest.check import KINDS, Checked, Finding, Progress, check, files_of
from ingest.journal import Journal, JournalError
from telemetry import SystemClock, read_cursor
from tocsin.cli.opening import chosen_data
from tocsin.cli.options import command, data_options, json_option, print_json
from tocsin.data_dir import DataDir
from tocsin.snapshot_file import read_to, snapshot_offsets
from tocsin.words import count, local, span

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody for whom the journal is kept."""

    name: str
    offset: int
    lag: int
    """Records to go."""
    bytes: int
    """About how many these are."""
    age: int
    """ns since the first of them was received; 0 if there are none."""


@click.group
def journal() -> None:
    """Look into the journal: check, print, export, replay it.

    It is the log of all that was received. These commands change nothing, and work beside a running tocsin.
    """


@command("tocsin journal stats", "tocsin journal stats --json | jq '.readers[] | select(.lag > 10000)'", group=journal)
@data_options
@json_option("Print one JSON object; times in ns.")
def stats(config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Tell what is in the journal, and how far each of its readers has come."""
    data = chosen_data(config_file, data_dir)
    known = read_to(data)  # first: a running tocsin goes on
    files = _checked(data, known)
    kinds = {kind: sum(file.kinds[kind] for file in files) for kind in KINDS}
    readers = list(readers_of(data, now=SystemClock().now()))
    lost = sum(f.next - f.first for file in files for f in file.findings)
    found: dict[str, Any] = {
        "directory": str(data.journal),
        "segments": len(files),
        "first": files[0].first if files else 0,
        "next": files[-1].next if files else 0,
        "bytes": sum(file.bytes for file in files),
        "free": shutil.disk_usage(data.journal).free,
        "records": kinds,
        "lost": lost,
        "oldest": min((file.oldest for file in files if file.oldest is not None), default=None),
        "newest": max((file.newest for file in files if file.newest is not None), default=None),
        "readers": [asdict(reader) for reader in readers],
    }
    if as_json:
        print_json(found)
        return
    click.echo(
        f"{found['directory']}: records {count(found['first'])} to {count(found['next'])}, {size(found['bytes'])} in "
        f"{count(found['segments'])} files, {size(found['free'])} free"
    )
    click.echo("  " + ", ".join(f"{count(n)} {kind}" for kind, n in kinds.items()))
    if found["oldest"] is not None:
        click.echo(
            f"  {local(found['oldest']):%Y-%m-%d %H:%M:%S} to {local(found['newest']):%Y-%m-%d %H:%M:%S}, "
            + span(max(0, found["newest"] - found["oldest"]), digits=0)
        )
    if lost:
        click.echo(f"  {count(lost)} records are lost: `tocsin journal fsck` tells where")
    for reader in readers:
        lag = (
            f"{count(reader.lag)} behind ({size(reader.bytes)}, {span(reader.age, digits=0)})" if reader.lag else "all"
        )
        click.echo(f"  {reader.name:<20} at {count(reader.offset):>12}  {lag}")


def readers_of(data: DataDir, *, now: int) -> Iterator[Reader]:
    """Cursors and snapshots, and how far they are behind the journal's end."""
    opened = Journal(data.journal, read_only=True)
    offsets = {path.stem: read_cursor(path) for path in sorted((data.path / "cursors").glob("*.json"))}
    offsets |= {f"snapshot {n}": offset for n, offset in enumerate(snapshot_offsets(data.snapshots)[::-1], 1)}
    for name, offset in offsets.items():
        first = opened.read(offset, 1)
        age = max(0, now - int(first.received[0])) if len(first) else 0
        yield Reader(name, offset, max(0, opened.end - offset), opened.bytes_from(offset), age)


@command("tocsin journal fsck", "tocsin journal fsck --json | jq '.findings[]'", group=journal)
@data_options
@json_option("Print one JSON object.")
def fsck(config_file: Path | None, data_dir: Path | None, as_json: bool) -> None:
    """Verify every block of the journal against its checksum.

    Tells of each damage and gap, with its place and the records that are lost. What a crash has left behind, and was
    never acknowledged, is told, too, and is no damage. Nothing is changed: tocsin passes over what is damaged, and
    counts it. Exit code 1 if there is damage.
    """
    data = chosen_data(config_file, data_dir)
    known = read_to(data)  # first: a running tocsin goes on
    files = _checked(data, known)
    findings = [finding for file in files for finding in file.findings]
    damaged = [finding for finding in findings if finding.is_damage]
    lost = sum(finding.next - finding.first for finding in damaged)
    records, bytes_ = sum(file.kinds.total() for file in files), sum(file.bytes for file in files)
    if as_json:
        told = [asdict(finding) | {"damage": finding.is_damage} for finding in findings]
        print_json({"files": len(files), "records": records, "bytes": bytes_, "lost": lost, "findings": told})
    else:
        for finding in findings:
            which = (
                f"records {finding.first} to {finding.next - 1} are lost" if finding.is_damage else "nothing is lost"
            )
            place = f"{finding.file}:{finding.position}: {finding.what} ({size(finding.bytes)})"
            click.echo(f"{place}: {which}")
        verdict = f"{count(lost)} records are lost" if damaged else "all is well"
        click.echo(f"{count(records)} records in {count(len(files))} files, {size(bytes_)}: {verdict}")
    sys.exit(1 if damaged else 0)


def _checked(data: DataDir, known: int) -> list[Checked]:
    """All files, verified, with a bar on a terminal; somebody has read all before `known`. Raises JournalError."""
    paths = files_of(data.require(data.journal, "messages"))
    try:
        total = sum(path.stat().st_size for path in paths if path.exists())
        with progress_bar(total, "checking") as progress:
            files = list(check(paths, progress))
    except OSError as error:
        raise JournalError(f"cannot read the journal in {data.journal}: {error}") from error
    end = files[-1].next if files else 0
    if known > end:
        files = files or [Checked(data.journal.name, 0, 0, 0)]
        missing = Finding(
            files[-1].file, files[-1].bytes, 0, end, known, "the end is missing: it has been read further"
        )
        files[-1].findings.append(missing)
    return files


@contextmanager
def progress_bar(total: int, label: str) -> Iterator[Progress]:
    """On standard error, if that is a terminal."""
    bar = click.progressbar(length=total, label=label, file=sys.stderr, hidden=not sys.stderr.isatty())
    with bar as shown:
        yield shown.update


def size(n: float) -> str:
    """12.3 MiB."""
    for unit in _UNITS[:-1]:
        if n < 1024:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1024
    return f"{n:.1f} {_UNITS[-1]}"
