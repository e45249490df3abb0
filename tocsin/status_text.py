"""A Snapshot as lines of text, for `tocsin status`. Here: the words, the columns, the colours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click

from tocsin.status import AlertRow, JournalRow, SessionRow, SinkRow, Snapshot, StreamRow
from tocsin.words import count, local, number, printable, span

_GOOD, _BAD = ("connected", "running", "G2"), ("disconnected", "refused", "firing", "none")
_MOST_ALERTS = 20
_SECOND = 10**9


def lines(snapshot: Snapshot) -> Iterator[str]:
    """All that is known, the most important first."""
    yield from _head(snapshot)
    if snapshot.streams:
        yield from ("", *_table(("stream", "messages", "rejected", "newest", "guarantee", ""), _streams(snapshot)))
    if snapshot.accounts:
        yield from ("", "accounts", *(f"  {line}" for line in _accounts(snapshot)))
    for kind, heading in (("sink", "sink"), ("receiver", "receiver")):
        rows = [row for row in snapshot.sinks if row.kind == kind]
        if rows:
            yield from ("", *_table((heading, "state", "behind", "written", ""), [_sink(row) for row in rows]))
    yield from ("", *_alerts(snapshot))
    for error in (*snapshot.rule_errors, *snapshot.errors):
        yield click.style(f"! {printable(error)}", fg="yellow")


def verdict(snapshot: Snapshot) -> str:
    """Of the books."""
    if snapshot.imbalances:
        return f"THE BOOKS DO NOT BALANCE: {', '.join(snapshot.imbalances)}"
    return "everything is accounted for"


def _head(s: Snapshot) -> Iterator[str]:
    if not s.running:
        yield click.style(
            f"no tocsin runs with this data ({s.title.removeprefix('tocsin ')}); its files say:", bold=True
        )
    else:
        up = span(s.time - s.started, digits=0)
        yield click.style(f"{printable(s.title)}, version {s.version}, process {s.pid}, up {up}", bold=True)
    if s.session is not None:
        yield from _session(s.session, s.time)
    if s.journal is not None:
        yield from _journal(s.journal)
    if s.standstill is not None:
        since = _ago(s.standstill.since, s.time)
        yield click.style(f"rules     NOT EVALUATED: {printable(s.standstill.error)} (since {since})", fg="red")
    if s.running:
        rates = f"{s.messages_per_second:,.0f} messages/s, {s.readings_per_second:,.0f} readings/s"
        latency = ""
        if s.latency_p50 is not None and s.latency_p99 is not None:
            latency = f"; from receipt to alert p50 {span(s.latency_p50)}, p99 {span(s.latency_p99)}"
        yield f"load      {rates}, {count(s.series)} series{latency}"


def _session(session: SessionRow, now: int) -> Iterator[str]:
    newest = f", newest message {_ago(session.last_message, now)}" if session.last_message else ""
    again = f", {session.reconnects} reconnects" if session.reconnects else ""
    state = _coloured(session.state)
    yield f"session   {state} for {span(max(0, now - session.since), digits=0)}, {session.url}{newest}{again}"
    if session.last_error:
        yield click.style(f"          {printable(session.last_error)}", fg="yellow")


def _journal(journal: JournalRow) -> Iterator[str]:
    free = f", room for {_size(journal.free_bytes)} more" if journal.free_bytes is not None else ""
    full = ""
    if journal.seconds_to_full is not None:
        full = click.style(f", full in {span(round(journal.seconds_to_full) * _SECOND, digits=0)}", fg="red")
    yield f"journal   offsets {journal.start:,} to {journal.end:,}, {_size(journal.bytes)}{free}{full}"
    if journal.error:
        yield click.style(f"          CANNOT BE WRITTEN: {printable(journal.error)}", fg="red")


def _streams(s: Snapshot) -> list[Sequence[str]]:
    return [_stream(row, s.time) for row in s.streams]


def _stream(row: StreamRow, now: int) -> Sequence[str]:
    newest = _ago(row.last_message, now) if row.last_message else "-"
    told = [*(row.notes if row.guarantee != "G2" else row.notes[1:]), *([row.last_error] if row.last_error else [])]
    promised = _coloured(row.guarantee) if row.guarantee else "-"
    return row.name, count(row.messages), count(row.rejected), newest, promised, printable("; ".join(told))


def _accounts(s: Snapshot) -> Iterator[str]:
    for row in s.accounts:
        wrong = row.stage in s.imbalances
        yield click.style(f"{'✗' if wrong else '✓'} {row}", fg="red" if wrong else None)
    yield click.style(verdict(s), fg="red" if s.imbalances else "green")


def _sink(row: SinkRow) -> Sequence[str]:
    # of a sink that is stopped, no file says how much it has written
    written = "–" if row.state == "stopped" and row.written == 0 else count(row.written)
    return row.name, _coloured(row.state), count(row.lag), written, printable(row.error)


def _alerts(s: Snapshot) -> Iterator[str]:
    current = [row for row in s.alerts if row.state != "resolved"]
    pending = sum(row.state == "pending" for row in current)
    lately = f"; since the start {s.fired:,} fired and {s.resolved:,} were resolved" if s.running else ""
    yield f"alerts: {s.firing:,} firing" + (f", {pending:,} pending" if pending else "") + lately
    for row in current[:_MOST_ALERTS]:
        yield f"  {_alert(row, s.time)}"
    if len(current) > _MOST_ALERTS:
        yield f"  and {len(current) - _MOST_ALERTS:,} more: tocsin alerts"


def _alert(row: AlertRow, now: int) -> str:
    value = "" if row.value is None else f"  value {number(row.value)}"
    since = f"since {local(row.since):%H:%M:%S} ({_ago(row.since, now)})"
    return f"{_coloured(row.state)}  {row.name}  {printable(row.device)}{value}  {since}"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as they must be; the last one takes what it needs."""
    everything = [heading, *rows]
    widths = [max(len(click.unstyle(row[i])) for row in everything) for i in range(len(heading))]
    for row in everything:
        cells = [cell + " " * (width - len(click.unstyle(cell))) for cell, width in zip(row, widths, strict=True)]
        yield "  ".join(cells).rstrip()


def _coloured(word: str) -> str:
    return click.style(word, fg="green" if word in _GOOD else "red" if word in _BAD else "yellow")


def _ago(then: int, now: int) -> str:
    return f"{span(max(0, now - then), digits=0)} ago"


def _size(n: int) -> str:
    for size, unit in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if n >= size:
            return f"{n / size:,.1f} {unit}"
    return f"{n:,} bytes"
