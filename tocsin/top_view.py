"""The screen of `tocsin top`: the live view with the busiest devices and rules. Not here: where figures come from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from tocsin.live_view import LiveView
from tocsin.status import Snapshot
from tocsin.words import number, printable, span

_S = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyDevice:
    """One of the devices that send most."""

    device: str
    state: str
    """reporting, silent or never"""
    readings_per_second: float
    last_seen: int
    """ns since the epoch (UTC); 0: never"""
    skew: int | None
    """ns; None: not known"""
    firing: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BusyRule:
    """One of the rules that cost most."""

    rule: str
    health: str
    """ok, err or unknown"""
    firing: int
    pending: int
    share: float
    """Of one processor, over the last seconds"""


@dataclass(frozen=True, slots=True)
class Top:
    """One frame."""

    snapshot: Snapshot
    devices: Sequence[BusyDevice]
    """The busiest first, as are the rules."""
    rules: Sequence[BusyRule]


class TopView(LiveView):
    """The live view with devices and rules."""

    def __init__(self, source: Callable[[], Top], *, console: Console | None = None, refresh_seconds: float) -> None:
        super().__init__(self._look, console=console, refresh_seconds=refresh_seconds)
        self._top_source = source
        self._top: Top | None = None

    def _look(self) -> Snapshot:
        self._top = self._top_source()
        return self._top.snapshot

    def more(self, snapshot: Snapshot, room: int) -> tuple[list[RenderableType], int]:
        """A third of the room for devices, a third for rules, with a heading and a space each."""
        each = room // 3 - 2
        if self._top is None or each < 1:
            return [], 0
        devices, rules = self._top.devices[:each], self._top.rules[:each]
        tables: list[RenderableType] = [Text(""), _devices(devices, snapshot.time), Text(""), _rules(rules)]
        return tables, len(devices) + len(rules) + len(tables)


def _devices(rows: Sequence[BusyDevice], now: int) -> Table:
    table = _table("busiest devices", "readings/s", "last seen", "clock", "firing")
    for row in rows:
        seen = f"{span(max(0, now - row.last_seen), digits=0)} ago" if row.last_seen else "never"
        skew = "" if row.skew is None or abs(row.skew) < _S else f"{'-' if row.skew < 0 else '+'}{span(abs(row.skew))}"
        name = Text(printable(row.device)) if row.state == "reporting" else Text(f"{printable(row.device)} {row.state}")
        table.add_row(name, number(row.readings_per_second), seen, skew, str(row.firing or ""))
    return table


def _rules(rows: Sequence[BusyRule]) -> Table:
    table = _table("busiest rules", "CPU", "firing", "pending", "health")
    for row in rows:
        table.add_row(
            Text(printable(row.rule)),
            f"{row.share:.1%}",
            str(row.firing or ""),
            str(row.pending or ""),
            Text(row.health, "red" if row.health == "err" else ""),
        )
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="dim", expand=True)
    table.add_column(first, no_wrap=True, overflow="ellipsis", ratio=1)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table
