"""What the page of alerts lists: those that are firing or pending now, and those that were resolved lately. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from rules import Alert
from telemetry import AlertEvent, AlertState
from telemetry.alert import fingerprint
from tocsin.backend import Backend
from tocsin.console.filtering import Filter
from tocsin.own_alerts import is_own
from tocsin.words import number, span

MOST_RECENT = 500
_ORDER = {"firing": 0, "pending": 1, "resolved": 2}
_SEVERITIES = {"critical": 0, "page": 0, "error": 1, "warning": 2, "info": 4, "none": 5}
_UNKNOWN_SEVERITY = 3
_Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class AlertItem:
    """One row."""

    key: str
    """In the address of its page: the id of its event; of a pending alert, its fingerprint."""
    state: str
    """firing, pending or resolved"""
    labels: _Labels
    annotations: _Labels
    value: float
    since: int
    """Event time at which it came into this state, ns since the epoch (UTC)."""
    lasted: int = 0
    """Of a resolved one: how long it fired, ns."""
    rule: str = ""

    def label(self, name: str) -> str:
        return next((value for own, value in self.labels if own == name), "")

    @property
    def summary(self) -> str:
        said = dict(self.annotations)
        return said.get("summary") or said.get("description", "")

    @property
    def fields(self) -> dict[str, str]:
        """What can be filtered by."""
        return {**dict(self.labels), "state": self.state, "rule": self.rule, "summary": self.summary}


def active_items(backend: Backend) -> list[AlertItem]:
    """All that are pending or firing, those of tocsin itself included."""
    items = [_of_alert(alert) for alert in backend.alerts()]
    if backend.data.alerts.exists():
        known = {item.key for item in items}
        own = (_of_event(event) for event in backend.history.firing() if is_own(event))
        items += [item for item in own if item.key not in known]
    return items


def recent_items(backend: Backend, limit: int = MOST_RECENT) -> list[AlertItem]:
    """The newest that were resolved, the newest first."""
    if not backend.data.alerts.exists():
        return []
    events = backend.history.recent(limit=2 * limit)
    return [_of_event(event) for event in reversed(events) if event.state is AlertState.RESOLVED][:limit]


def listed(
    items: Iterable[AlertItem], wanted: Filter, sort: str = "state", *, descending: bool = False
) -> list[AlertItem]:
    """Those that pass the filter, sorted by a column."""
    found = [item for item in items if wanted.matches(item.fields)]
    found.sort(key=lambda item: (-item.since, item.key))
    found.sort(key=SORTS.get(sort, SORTS["state"]), reverse=descending)
    return found


def counted(items: Sequence[AlertItem]) -> dict[str, int]:
    """How many are in each state."""
    return {state: sum(item.state == state for item in items) for state in _ORDER}


def _severity(item: AlertItem) -> int:
    return _SEVERITIES.get(item.label("severity").lower(), _UNKNOWN_SEVERITY)


SORTS: dict[str, Callable[[AlertItem], tuple[object, ...]]] = {
    "state": lambda item: (_ORDER[item.state], _severity(item)),
    "severity": lambda item: (_severity(item), _ORDER[item.state]),
    "name": lambda item: (item.label("alertname").lower(), item.label("device").lower()),
    "device": lambda item: (item.label("device").lower(), item.label("alertname").lower()),
    "value": lambda item: (item.value != item.value, item.value),  # NaN is not itself
    "age": lambda item: (item.lasted, -item.since),
    "since": lambda item: (-item.since,),
}
"""By the name of the column."""


def table_row(item: AlertItem, now: int) -> dict[str, object]:
    """For the browser."""
    shown = ("alertname", "device", "severity")
    return {
        "key": item.key,
        "state": item.state,
        "name": item.label("alertname") or item.rule,
        "device": item.label("device"),
        "severity": item.label("severity"),
        "labels": ", ".join(f"{name}={value}" for name, value in item.labels if name not in shown),
        "summary": item.summary,
        "value": number(item.value),
        "since": item.since // 10**6,
        "age": coarse(item.lasted if item.state == "resolved" else now - item.since),
    }


def coarse(ns: int) -> str:
    """A length of time in one unit, so that it seldom changes: 45s, 3m, 2h, 5d."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if ns >= 2 * size * 10**9:
            return f"{ns // (size * 10**9)}{unit}"
    return span(max(0, ns), digits=0) if ns < 60 * 10**9 else f"{ns // 10**9}s"


def _of_alert(alert: Alert) -> AlertItem:
    key = event_id(alert) if alert.state == "firing" else fingerprint_of(alert.labels)
    return AlertItem(key, alert.state, alert.labels, alert.annotations, alert.value, alert.active_at, rule=alert.rule)


def _of_event(event: AlertEvent) -> AlertItem:
    firing = event.state is AlertState.FIRING
    since, lasted = (event.starts_at, 0) if firing else (event.ends_at, event.ends_at - event.starts_at)
    return AlertItem(
        event.id, str(event.state), event.labels, event.annotations, event.value, since, lasted, rule=event.rule
    )


def event_id(alert: Alert) -> str:
    """Of the event that told of an alert that fires: ids follow from rule, labels and time."""
    return _event_id(alert.rule, alert.labels, alert.active_at)


@lru_cache(maxsize=10_000)
def _event_id(rule: str, labels: _Labels, starts_at: int) -> str:
    return AlertEvent(rule, labels, AlertState.FIRING, 0.0, starts_at, 0, 0).id


@lru_cache(maxsize=10_000)
def fingerprint_of(labels: _Labels) -> str:
    """As an alert's of these labels."""
    return fingerprint(dict(labels))
