"""Snapshot: what a running pipeline tells about itself at one instant, ready to be shown. Not here: how it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRow:
    """The connection to the broker."""

    url: str
    """Without credentials."""
    state: str
    """connecting, connected, disconnected, refused or stopped."""
    since: int
    """ns since the epoch (UTC)."""
    last_error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountRow:
    """What came of everything that one stage received: received = sum of the parts, always."""

    stage: str
    """What is counted where, e.g. "messages" or "store"."""
    received: int
    parts: tuple[tuple[str, int], ...]
    """In the order of the path: stored, late, duplicate, rejected, in flight …"""

    @property
    def is_balanced(self) -> bool:
        return self.received == sum(n for _, n in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert; the newest first in a Snapshot."""

    state: str
    """pending, firing or resolved."""
    name: str
    device: str
    value: float
    since: int
    """Event time at which it came into this state, ns since the epoch (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRow:
    """A sink or receiver."""

    name: str
    state: str
    """running, retrying or stopped."""
    lag: int
    """Messages of the journal (alerts, for a receiver) that it has yet to write."""
    written: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything the live view shows."""

    time: int
    """ns since the epoch (UTC)."""
    started: int
    """ns since the epoch (UTC)."""
    title: str = "tocsin"
    session: SessionRow | None = None
    messages: int = 0
    readings: int = 0
    messages_per_second: float = 0.0
    readings_per_second: float = 0.0
    series: int = 0
    accounts: tuple[AccountRow, ...] = ()
    alerts: tuple[AlertRow, ...] = ()
    """Firing and pending ones, then those that were resolved lately."""
    firing: int = 0
    fired: int = 0
    resolved: int = 0
    sinks: tuple[SinkRow, ...] = ()
    latency_p50: int | None = None
    """From receipt to alert event, ns; None while there were no alerts."""
    latency_p99: int | None = None
    hints: tuple[str, ...] = ()
    """What the user may want to try, one line each."""
    rule_errors: tuple[str, ...] = ()
    """Rules that cannot be evaluated, and why, one line each."""
    errors: tuple[str, ...] = field(default=())
    """The last errors, newest last, one line each."""
