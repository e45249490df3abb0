"""Snapshot: what a tocsin tells about itself at one instant, ready to be shown. Not here: how it is shown."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from telemetry import AlertEvent


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
    last_message: int = 0
    """Our clock at the newest message, ns; 0: none since the start."""
    reconnects: int = 0


@dataclass(frozen=True, slots=True)
class AccountRow:
    """What came of everything that one stage received: received = sum of the parts, always."""

    stage: str
    """What is counted where, e.g. "messages" or "store"."""
    received: int
    parts: tuple[tuple[str, int], ...]
    """In the order of the path: stored, late, duplicate, rejected, in flight …"""
    causes: dict[str, dict[str, int]] = field(default_factory=dict)
    """Of those parts that have some: how many by cause."""

    @property
    def missing(self) -> int:
        """How many rows are not accounted for; negative if there are more than came in."""
        return self.received - sum(n for _, n in self.parts)

    @property
    def is_balanced(self) -> bool:
        return self.missing == 0 and all(n >= 0 for _, n in self.parts)

    def __str__(self) -> str:
        parts = " + ".join(f"{n:,} {name}" for name, n in self.parts if n) or "nothing"
        return f"{self.stage}: {self.received:,} {'=' if self.is_balanced else '≠'} {parts}"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertRow:
    """One alert; the newest first in a Snapshot."""

    state: str
    """pending, firing or resolved."""
    name: str
    device: str
    value: float | None
    """None: NaN or infinite, which JSON cannot say."""
    since: int
    """Event time at which it came into this state, ns since the epoch (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRow:
    """What one stream has received since the start."""

    name: str
    topic: str
    messages: int
    rejected: int
    """Readings."""
    last_message: int = 0
    """Our clock at the newest one, ns; 0: none since the start."""
    last_error: str = ""
    """Why something was last refused."""
    guarantee: str = ""
    """What is promised now for its messages: G2, G0 or none; empty if that is not known."""
    notes: tuple[str, ...] = ()
    """Why it is not more, and what may be lost all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRow:
    """The event log."""

    start: int
    """The oldest offset that is kept."""
    end: int
    """The next offset to be written."""
    bytes: int
    free_bytes: int | None = None
    """By so much it may still grow; None while it is not known."""
    seconds_to_full: float | None = None
    """If what sinks hold back goes on growing; None: never, or not known."""
    error: str = ""
    """Why it cannot be written; empty if it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandstillRow:
    """Evaluation waits: no alert is noticed meanwhile, and what is received is evaluated later."""

    error: str
    """Why."""
    since: int
    """Our clock, ns since the epoch (UTC)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkRow:
    """A sink or receiver."""

    name: str
    kind: str = "sink"
    """sink or receiver."""
    state: str
    """running, retrying or stopped."""
    lag: int
    """Messages of the journal (alerts, for a receiver) that it has yet to write."""
    written: int
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a tocsin tells about itself."""

    running: bool = True
    """False: nobody runs; it is what the files tell."""
    version: str = ""
    pid: int = 0
    time: int
    """ns since the epoch (UTC)."""
    started: int
    """ns since the epoch (UTC)."""
    title: str = "tocsin"
    session: SessionRow | None = None
    journal: JournalRow | None = None
    streams: tuple[StreamRow, ...] = ()
    messages: int = 0
    readings: int = 0
    messages_per_second: float = 0.0
    readings_per_second: float = 0.0
    series: int = 0
    accounts: tuple[AccountRow, ...] = ()
    imbalances: tuple[str, ...] = ()
    """Stages whose books do not balance, and have not for some seconds."""
    alerts: tuple[AlertRow, ...] = ()
    """Firing and pending ones, then those that were resolved lately."""
    firing: int = 0
    fired: int = 0
    resolved: int = 0
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    """All counters since the start: by name, and by reason ("": without)."""
    sinks: tuple[SinkRow, ...] = ()
    latency_p50: int | None = None
    """From receipt to alert event, ns; None while there were no alerts."""
    latency_p99: int | None = None
    hints: tuple[str, ...] = ()
    """What the user may want to try, one line each."""
    standstill: StandstillRow | None = None
    """Of the rules; None while they are evaluated."""
    rule_errors: tuple[str, ...] = ()
    """Rules that cannot be evaluated, and why, one line each."""
    errors: tuple[str, ...] = field(default=())
    """The last errors, newest last, one line each."""


def event_row(event: AlertEvent) -> AlertRow:
    return alert_row(str(event.state), event.labels, event.value, event.ends_at or event.starts_at)


def alert_row(state: str, labels: tuple[tuple[str, str], ...], value: float, since: int) -> AlertRow:
    own = dict(labels)
    return AlertRow(
        state=state,
        name=own.get("alertname", ""),
        device=own.get("device", "") or next((own[name] for name in ("sink", "stage", "rule") if name in own), ""),
        value=value if math.isfinite(value) else None,
        since=since,
    )
