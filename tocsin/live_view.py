"""The live view of `tocsin run` and `tocsin demo`: one screen that is redrawn, or plain lines if there is no terminal.

Shows a Snapshot (tocsin.status). Not here: where its figures come from.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from tocsin.status import AccountRow, AlertRow, SessionRow, SinkRow, Snapshot
from tocsin.words import clock_time, count, number, printable, span

_MARK_WIDTH = 3
_INNER_STAGES = frozenset({"session", "journal", "evaluation"})
"""Of the accounts, these and those of receivers are shown only when something is wrong with them: room is scarce."""
_COLOURS = {
    "connected": "green",
    "running": "green",
    "connecting": "yellow",
    "retrying": "yellow",
    "pending": "yellow",
    "disconnected": "red",
    "refused": "red",
    "stopped": "dim",
    "firing": "bold red",
    "resolved": "green",
}


class LiveView:
    """Shows what `status_source()` gives, until it is told to stop."""

    def __init__(
        self,
        status_source: Callable[[], Snapshot],
        *,
        console: Console | None = None,
        refresh_seconds: float = 0.5,
        line_seconds: float = 5.0,
    ) -> None:
        self._source = status_source
        self._console = console or Console()
        self._refresh_seconds, self._line_seconds = refresh_seconds, line_seconds
        self._log: deque[str] = deque(maxlen=200)

    def run(self, stop: threading.Event) -> None:
        """Show until `stop` is set (or Ctrl-C); on a terminal the screen is then as it was before."""
        if not self._console.is_terminal:
            self._run_lines(stop)
            return
        with (
            _log_kept_in(self._log),
            Live(self.screen(self._source()), console=self._console, screen=True, auto_refresh=False) as live,
        ):
            while not stop.wait(self._refresh_seconds):
                live.update(self.screen(self._source()), refresh=True)

    def show_once(self) -> None:
        """One screen, printed."""
        self._console.print(self.screen(self._source()))

    def _run_lines(self, stop: threading.Event) -> None:
        while not stop.wait(self._line_seconds):
            snapshot = self._source()
            print(clock_time(snapshot.time), plain_line(snapshot), flush=True)  # noqa: T201  # this is the view

    def screen(self, snapshot: Snapshot) -> RenderableType:
        """Fills the console's width and height exactly, at 80x24 or more."""
        width, height = self._console.size
        inner = _INNER_STAGES | {sink.name for sink in snapshot.sinks if sink.kind == "receiver"}
        wrong = snapshot.imbalances
        accounts = tuple(row for row in snapshot.accounts if row.stage not in inner or row.stage in wrong)
        errors = [*snapshot.errors, *self._log, *snapshot.rule_errors[:1]][-3:]
        top: list[RenderableType] = [
            _title(snapshot, width),
            *_figures(snapshot),
            *(Text(f" {hint}", "dim", no_wrap=True, overflow="ellipsis") for hint in snapshot.hints),
            Text(""),
            _accounts(accounts, wrong, width),
        ]
        used = 2 + len(top[1:-2]) + len(accounts)
        if snapshot.sinks:
            shown = snapshot.sinks[: max(1, height // 4)]
            top += [Text(""), _sinks(shown, snapshot)]
            used += 2 + len(shown)
        bottom: list[RenderableType] = []
        if errors:
            bottom = [Text(""), *(Text(line, "yellow", no_wrap=True, overflow="ellipsis") for line in errors)]
        room = height - used - len(bottom) - 2
        more, lines = self.more(snapshot, room - 1)
        return Group(*top, *more, Text(""), _alerts(snapshot, max(1, room - lines)), *bottom)

    def more(self, snapshot: Snapshot, room: int) -> tuple[list[RenderableType], int]:
        """What stands before the alerts, and how many lines it takes, of `room`; alerts get what is left."""
        del snapshot, room
        return [], 0


def plain_line(snapshot: Snapshot) -> str:
    """The snapshot in one line, for logs."""
    parts = [
        f"{snapshot.messages_per_second:,.0f} msgs/s",
        f"{snapshot.readings_per_second:,.0f} readings/s",
        f"{snapshot.messages:,} messages",
        f"{snapshot.readings:,} readings",
        f"{snapshot.firing} firing ({snapshot.fired} fired, {snapshot.resolved} resolved)",
    ]
    rejected = sum(dict(row.parts).get("rejected", 0) for row in snapshot.accounts if row.stage == "readings")
    if rejected:
        parts.append(f"{rejected:,} rejected")
    if snapshot.standstill is not None:
        parts.append(f"RULES ARE NOT EVALUATED: {snapshot.standstill.error}")
    if snapshot.rule_errors:
        more = len(snapshot.rule_errors) - 1
        parts.append(snapshot.rule_errors[0] + (f" (and {more} more in error)" if more else ""))
    if snapshot.latency_p99 is not None:
        parts.append(f"receipt to alert p99 {span(snapshot.latency_p99)}")
    parts += [f"{sink.name} {sink.state}, {sink.lag:,} behind" for sink in snapshot.sinks if sink.state != "running"]
    parts += [
        f"ACCOUNTS OF {row.stage} DO NOT BALANCE: {_sum(row)}"
        for row in snapshot.accounts
        if row.stage in snapshot.imbalances and not row.is_balanced
    ]
    if snapshot.session is not None:
        parts.append(snapshot.session.state)
        parts += [snapshot.session.last_error] if snapshot.session.last_error else []
    return " · ".join(parts)


def _sum(row: AccountRow) -> str:
    return f"{row.received} received, but " + " + ".join(f"{n} {name}" for name, n in row.parts)


def _title(snapshot: Snapshot, width: int) -> Text:
    up = f"up {span(snapshot.time - snapshot.started, digits=0)} · Ctrl-C stops "
    title = f" {snapshot.title}"[: max(0, width - len(up))]
    return Text(title + " " * (width - len(title) - len(up)) + up, "bold reverse", no_wrap=True)


def _figures(snapshot: Snapshot) -> list[Text]:
    lines = []
    if snapshot.session is not None:
        lines.append(_session(snapshot.session, snapshot.time))
    rates = Text(" ")
    for value, unit in (
        (f"{snapshot.messages_per_second:,.0f}", " msgs/s   "),
        (f"{snapshot.readings_per_second:,.0f}", " readings/s   "),
        (count(snapshot.series), " series"),
    ):
        rates.append(value, "bold cyan").append(unit)
    if snapshot.latency_p50 is not None and snapshot.latency_p99 is not None:
        rates.append(f"   latency p50 {span(snapshot.latency_p50)} p99 {span(snapshot.latency_p99)}")
    return [*lines, rates]


def _session(session: SessionRow, now: int) -> Text:
    text = Text(" ", no_wrap=True, overflow="ellipsis").append("● ", _COLOURS.get(session.state, ""))
    text.append(f"{session.state} {span(now - session.since, digits=0)}", _COLOURS.get(session.state, ""))
    text.append(f"  {session.url}", "dim")
    if session.last_error and session.state != "connected":
        text.append(f"  {session.last_error}", "red")
    return text


def _accounts(rows: tuple[AccountRow, ...], wrong: tuple[str, ...], width: int) -> Text:
    """A line each: what came in = the sum of what became of it."""
    lines = []
    for row in rows:
        line = _account(row, short=False)
        if len(line) + _MARK_WIDTH > width:
            line = _account(row, short=True)
        mark = ("✗", "bold red") if row.stage in wrong else ("✓", "green")
        lines.append(Text.assemble(" ", mark, f" {line}", no_wrap=True, overflow="ellipsis"))
    return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def _account(row: AccountRow, *, short: bool) -> str:
    parts = ", ".join(f"{count(n, short=short)} {name}" for name, n in row.parts if n) or "nothing yet"
    return f"{row.stage:<9}{count(row.received, short=short):>10} = {parts}"


def _sinks(rows: tuple[SinkRow, ...], snapshot: Snapshot) -> Table:
    hidden = len(snapshot.sinks) - len(rows)
    table = _table("sinks" + (f" (+{hidden})" if hidden else ""), "written", "behind")
    table.expand = True
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for row in rows:
        state = Text(row.state, _COLOURS.get(row.state, "")).append(f"  {row.error}" if row.error else "", "red")
        table.add_row(row.name, count(row.written, short=True), count(row.lag, short=True), state)
    return table


def _alerts(snapshot: Snapshot, room: int) -> Table:
    table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
    heading = f"{snapshot.firing:,} firing · {snapshot.fired:,} fired · {snapshot.resolved:,} resolved"
    table.add_column("alerts", no_wrap=True)
    table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=2)
    table.add_column("device", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("for", justify="right", no_wrap=True)
    rows = snapshot.alerts if len(snapshot.alerts) <= room else snapshot.alerts[: room - 1]
    for row in rows:
        table.add_row(*_alert(row, snapshot.time))
    if len(rows) < len(snapshot.alerts):
        table.add_row("", Text(f"and {len(snapshot.alerts) - len(rows)} more: tocsin alerts", "dim"))
    return table


def _alert(row: AlertRow, now: int) -> tuple[Text, str, str, str, str]:
    state = Text(row.state.upper() if row.state == "firing" else row.state, _COLOURS.get(row.state, ""))
    value = "" if row.value is None else number(row.value)
    return state, row.name, printable(row.device), value, span(max(0, now - row.since), digits=0)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=False)
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


class _LogInto(logging.Handler):
    def __init__(self, lines: deque[str]) -> None:
        super().__init__(logging.WARNING)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname.lower()}: {record.getMessage()}")


@contextmanager
def _log_kept_in(lines: deque[str]) -> Iterator[None]:
    """While the screen is ours, warnings are shown in it instead of being written over it."""
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, [_LogInto(lines)]
    try:
        yield
    finally:
        root.handlers = handlers
