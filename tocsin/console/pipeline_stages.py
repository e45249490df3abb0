"""The picture of the pipeline as boxes with figures: a Snapshot, and the one before → what each box says. Pure.

Not here: how boxes are drawn (`pipeline_page`).
"""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.status import AccountRow, SinkRow, Snapshot
from tocsin.words import count, span

_GOOD_JOURNAL_SECONDS = 24 * 3_600
_STATES = {"connected": "ok", "connecting": "waiting", "disconnected": "trouble", "refused": "trouble"}
_SINK_STATES = {"running": "ok", "retrying": "waiting", "stopped": "trouble"}


@dataclass(frozen=True, slots=True)
class Books:
    """What a stage received, and what became of it."""

    stage: str
    received: str
    parts: tuple[tuple[str, str], ...]
    """What came of it, and how much; in the order of the path, without what is zero."""
    wrong: str
    """Where the sum is not right, and has not been for some seconds: by how much; else empty."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One box."""

    name: str
    title: str
    state: str
    """ok, waiting, trouble or stopped"""
    word: str
    """The state in a word."""
    figure: str
    unit: str
    lines: tuple[str, ...]
    books: tuple[Books, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Picture:
    """All boxes: those in a row, and the branches behind them."""

    trunk: tuple[Stage, ...]
    rules: tuple[Stage, ...]
    """Evaluation, and the receivers that are told."""
    sinks: tuple[Stage, ...]


class Rates:
    """Per second, of what the accounts count; from one look to the next."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._now: Snapshot | None = None

    def look(self, snapshot: Snapshot) -> None:
        """A newer snapshot."""
        if self._now is None or snapshot.time > self._now.time:
            self._before, self._now = self._now, snapshot

    def of(self, stage: str, part: str = "") -> float | None:
        """Of what a stage received, or of one part of it; None while it is not known."""
        if self._before is None or self._now is None:
            return None
        then, now = _account(self._before, stage), _account(self._now, stage)
        if then is None or now is None:
            return None
        seconds = (self._now.time - self._before.time) / 1e9
        return max(0.0, (_figure(now, part) - _figure(then, part)) / seconds)


def picture(snapshot: Snapshot, rates: Rates) -> Picture:
    """What to draw."""
    sinks = [row for row in snapshot.sinks if row.kind == "sink"]
    receivers = [row for row in snapshot.sinks if row.kind == "receiver"]
    return Picture(
        trunk=(_session(snapshot), _journal(snapshot, rates), _feed(snapshot, rates)),
        rules=(_evaluation(snapshot, rates), *(_sink(row, snapshot, rates, "alerts") for row in receivers)),
        sinks=tuple(_sink(row, snapshot, rates, "messages") for row in sinks),
    )


def books(row: AccountRow, snapshot: Snapshot) -> Books:
    """An account in words; it is wrong once the audit says so."""
    wrong = ""
    if row.stage in snapshot.imbalances and not row.is_balanced:
        missing = row.missing
        wrong = f"{count(abs(missing))} {'not accounted for' if missing >= 0 else 'more than were received'}"
    elif row.stage in snapshot.imbalances:
        wrong = "did not balance a moment ago"
    parts = tuple((name, count(n, short=True)) for name, n in row.parts if n)
    return Books(row.stage, count(row.received, short=True), parts, wrong)


def _session(s: Snapshot) -> Stage:
    if s.session is None:
        return Stage("session", "Broker", "stopped", "not running", "–", "", ("tocsin does not run",))
    row = s.session
    lines = [row.url, f"since {span(s.time - row.since, digits=0)}, {count(row.reconnects)} reconnects"]
    if row.last_message:
        lines.append(f"newest message {span(max(0, s.time - row.last_message), digits=0)} ago")
    return Stage(
        "session", "Broker", _STATES.get(row.state, "stopped"), row.state,
        f"{s.messages_per_second:,.0f}", "messages/s", tuple(lines), _books(s, "session"),
        row.last_error if row.state != "connected" else "",
    )  # fmt: skip


def _journal(s: Snapshot, rates: Rates) -> Stage:
    row = s.journal
    if row is None:
        return Stage("journal", "Journal", "stopped", "unknown", "–", "", ())
    state, word = ("trouble", "cannot be written") if row.error else ("ok", "written")
    lines = [f"{count(row.end - row.start)} records, {size(row.bytes)}"]
    if row.seconds_to_full is not None:
        lines.append(f"full in {span(int(row.seconds_to_full * 1e9), digits=0)} at this pace")
        if row.seconds_to_full < _GOOD_JOURNAL_SECONDS and not row.error:
            state, word = "waiting", "filling up"
    elif row.free_bytes is not None:
        lines.append(f"may grow by {size(row.free_bytes)}")
    return Stage(
        "journal", "Journal", state, word, _per_second(rates.of("journal")), "records/s",
        tuple(lines), _books(s, "journal"), row.error,
    )  # fmt: skip


def _feed(s: Snapshot, rates: Rates) -> Stage:
    rejected = rates.of("readings", "rejected")
    lines = [f"{count(s.series)} series"]
    if rejected:
        lines.append(f"{rejected:,.1f} readings/s refused: see Dead letters")
    return Stage(
        "feed", "Decoding", "ok" if s.running else "stopped", "decoding" if s.running else "not running",
        f"{s.readings_per_second:,.0f}", "readings/s", tuple(lines), _books(s, "messages", "readings"),
    )  # fmt: skip


def _evaluation(s: Snapshot, rates: Rates) -> Stage:
    lines = [f"{count(s.firing)} firing, {count(s.fired)} fired, {count(s.resolved)} resolved"]
    if s.latency_p50 is not None and s.latency_p99 is not None:
        lines.append(f"receipt to alert: p50 {span(s.latency_p50)}, p99 {span(s.latency_p99)}")
    state, word, error = ("ok", "evaluating", "") if s.running else ("stopped", "not running", "")
    if s.rule_errors:
        state, word, error = "waiting", f"{len(s.rule_errors)} in error", s.rule_errors[0]
    if s.standstill is not None:
        state, word, error = "trouble", "not evaluated", s.standstill.error
    rate = _per_second(rates.of("evaluation"))
    return Stage("evaluation", "Rules", state, word, rate, "readings/s", tuple(lines), _books(s, "evaluation"), error)


def _sink(row: SinkRow, s: Snapshot, rates: Rates, what: str) -> Stage:
    state = _SINK_STATES.get(row.state, "trouble") if s.running else "stopped"
    behind = (
        f"{count(row.lag, short=True)} {what[: -1 if row.lag == 1 else None]} behind" if row.lag else "nothing waits"
    )
    part = "stored" if row.kind == "sink" else "delivered"
    rate = rates.of(row.name, part)
    return Stage(
        row.name, f"{row.kind} {row.name}", state, row.state if s.running else "not running", _per_second(rate),
        "readings/s" if row.kind == "sink" else "alerts/s", (behind, f"{count(row.written, short=True)} {part}"),
        _books(s, row.name), row.error,
    )  # fmt: skip


def _books(s: Snapshot, *stages: str) -> tuple[Books, ...]:
    return tuple(books(row, s) for stage in stages for row in s.accounts if row.stage == stage)


def _account(snapshot: Snapshot, stage: str) -> AccountRow | None:
    return next((row for row in snapshot.accounts if row.stage == stage), None)


def _figure(row: AccountRow, part: str) -> int:
    return dict(row.parts).get(part, 0) if part else row.received


def _per_second(rate: float | None) -> str:
    if rate is None:
        return "–"
    return f"{rate:,.0f}" if rate >= 10 or rate == 0 else f"{rate:.1f}"


def size(n: int) -> str:
    """Bytes as people read them: 12.3 MiB."""
    amount = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:,.0f} {unit}" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"
