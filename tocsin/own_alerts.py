"""Own alerts: tocsin's word on itself, told to all receivers as other alerts are.

Here: which troubles there are, and when one of them fires and is resolved. Not here: rules of the user (`evaluation`),
how an imbalance is found (`audit`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from ingest.mqtt import SessionStatus
from sinks.consumer import ConsumerState, ConsumerStatus
from telemetry import AlertEvent, AlertState, Counters, RetryLater

SECOND = 10**9
GROUP = "tocsin:own"
"""In the place of a rule group, in ids of rules."""
KEEP = 15 * SECOND
"""A trouble that comes back this soon was never over."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A condition that holds now, and what is said of it."""

    name: str
    severity: str
    component: str
    summary: str
    description: str
    """What to do."""
    value: float = 1.0
    labels: Mapping[str, str] = field(default_factory=dict)
    """Which one, where there are several."""
    hold: int = 0
    """How long it must hold before it fires, ns."""

    @property
    def rule(self) -> str:
        return f"{GROUP}/{self.name}"

    @property
    def all_labels(self) -> tuple[tuple[str, str], ...]:
        own = {"alertname": self.name, "severity": self.severity, "component": self.component}
        return tuple(sorted({**self.labels, **own}.items()))


def is_own(event: AlertEvent) -> bool:
    """Whether the event is tocsin's word on itself, and not a rule's."""
    return event.rule.startswith(f"{GROUP}/")


def imbalance(stage: str, missing: int, row: str) -> Trouble:
    what = f"{missing:,} more came in than are accounted for" if missing > 0 else f"{-missing:,} more came out than in"
    return Trouble(
        "TocsinAccountingImbalance",
        "critical",
        "accounting",
        f"the books of {stage} do not balance: {what}",
        f"{row}. What was received is in the journal. Keep a copy of the data directory and report this: it is a bug, "
        "or the disk has lost data (look for damage in the log).",
        float(missing),
        {"stage": stage},
    )


def journal_unwritable(error: str) -> Trouble:
    return Trouble(
        "TocsinJournalUnwritable",
        "critical",
        "journal",
        "nothing is received: the journal cannot be written",
        f"{error}. The broker keeps what is sent with QoS 1, as far as its queue has room: free disk space, or check "
        "the disk and its permissions.",
        hold=5 * SECOND,
    )


def session_down(address: str, session: SessionStatus) -> Trouble:
    return Trouble(
        "TocsinSessionDown",
        "critical",
        "session",
        f"nothing is received: no session at {address}",
        f"{session.last_error or session.state}. Check the broker and the network; tocsin goes on trying.",
        hold=60 * SECOND,
    )


def sink_down(sink: ConsumerStatus) -> Trouble:
    return Trouble(
        "TocsinSinkDown",
        "warning",
        "sink",
        f"sink {sink.name} takes nothing and is {sink.lag:,} records behind",
        f"{sink.last_error}. Nothing is lost while the disk has room: the journal is kept until the sink has read it. "
        "Mend the sink, or take it out of the configuration.",
        labels={"sink": sink.name},
        hold=60 * SECOND,
    )


def rule_error(rule: str, why: str) -> Trouble:
    return Trouble(
        "TocsinRuleError",
        "warning",
        "rules",
        f"rule {rule} cannot be evaluated",
        f"{why}. Its alerts stay as they are meanwhile. Mend the rule, or what its series say.",
        labels={"rule": rule},
        hold=30 * SECOND,
    )


def troubles(
    *,
    journal_error: str,
    address: str,
    session: SessionStatus,
    sinks: Iterable[ConsumerStatus],
    rule_errors: Mapping[str, str],
) -> Iterator[Trouble]:
    """Whatever is wrong now. `journal_error`: why the journal cannot be written; empty if it can."""
    if journal_error:
        yield journal_unwritable(journal_error)
    elif session.state not in ("connected", "stopped"):
        yield session_down(address, session)
    for sink in sinks:
        if sink.state is ConsumerState.RETRYING:
            yield sink_down(sink)
    for rule, why in rule_errors.items():
        yield rule_error(rule, why)


class Outlet(Protocol):
    """What own alerts need of an outbox."""

    def publish(self, events: Sequence[AlertEvent], *, offset: int) -> list[AlertEvent]: ...
    def firing(self) -> list[AlertEvent]: ...


_Key = tuple[str, tuple[tuple[str, str], ...]]


class OwnAlerts:
    """For one thread. What fired when tocsin stopped goes on firing, or is resolved, without being told again."""

    def __init__(self, outbox: Outlet, *, counters: Counters) -> None:
        self._outbox, self._counters = outbox, counters
        self._since: dict[_Key, int] = {}
        """When each trouble that holds now was first seen, by a clock that only goes forward, ns."""
        self._firing = {(event.rule, event.labels): event for event in outbox.firing() if is_own(event)}
        self._seen: dict[_Key, int] = {}
        """When each firing alert's trouble was last seen, by the same."""
        self.last_error = ""

    @property
    def firing(self) -> tuple[AlertEvent, ...]:
        return tuple(self._firing.values())

    def look(self, found: Iterable[Trouble], *, now: int, at: int) -> None:
        """`found` is what is wrong now. `now`: our clock, ns; `at`: ns of a clock that only goes forward."""
        by_key = {(trouble.rule, trouble.all_labels): trouble for trouble in found}
        self._since = {key: self._since.get(key, at) for key in by_key}
        events = []
        for key, trouble in by_key.items():
            if key in self._firing:
                self._seen[key] = at
            elif at - self._since[key] >= trouble.hold:
                events.append(_event(trouble, now))
        for key, event in self._firing.items():
            if key not in by_key and at - self._seen.setdefault(key, at) >= KEEP:
                ends_at = max(now, event.starts_at)
                events.append(replace(event, id="", state=AlertState.RESOLVED, ends_at=ends_at, detected_at=now))
        if events:
            self._publish(events, at)

    def _publish(self, events: Sequence[AlertEvent], at: int) -> None:
        """What cannot be written now comes with the next look, if it is still so."""
        try:
            new = self._outbox.publish(events, offset=0)
        except RetryLater as error:
            self.last_error = str(error)
            return
        self.last_error = ""
        self._counters.add("alerts.published", len(new))
        for event in events:
            key = event.rule, event.labels
            self._counters.add(f"alerts.own_{event.state}")
            if event.state is AlertState.FIRING:
                self._firing[key] = event
                self._seen[key] = at
            else:
                del self._firing[key]
                self._seen.pop(key, None)


def _event(trouble: Trouble, now: int) -> AlertEvent:
    annotations = (("description", trouble.description), ("summary", trouble.summary))
    labels = trouble.all_labels
    return AlertEvent(trouble.rule, labels, AlertState.FIRING, trouble.value, now, 0, now, annotations)
