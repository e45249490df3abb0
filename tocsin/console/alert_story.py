"""All that is known of one alert: its events, its rule, what the receivers were told. Reads the files of the backend.

Not here: the values of the rule's parts (`expression_values`), how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from rules import Record, Rule
from sinks.alert_receipts import AlertReceipts, PublishedEvent, Receipt
from telemetry import AlertEvent
from tocsin.backend import Backend
from tocsin.console.alert_rows import AlertItem, active_items
from tocsin.words import local, number, span

_EARLIER = 20


@dataclass(frozen=True, slots=True)
class Story:
    """One alert, from its first condition to its end."""

    item: AlertItem
    """As it stands: firing, pending or resolved."""
    starts_at: int
    """Event time at which it began to fire, ns; of a pending one, at which its condition began to hold."""
    ends_at: int
    """0 while it fires or is pending."""
    event: AlertEvent | None
    """That was asked for; None of a pending one."""
    published: tuple[PublishedEvent, ...]
    """Its firing and its resolving, with receipts."""
    rule: Rule | None
    """As it is now; None: it is gone."""
    earlier: tuple[AlertEvent, ...]
    """Firings of the same labels, the newest first, this one included."""

    @property
    def at(self) -> int:
        """The instant that its page explains: when it came into the state that was asked for."""
        return self.item.since


@dataclass(frozen=True, slots=True)
class Moment:
    """A line of the state timeline."""

    time: int
    """ns since the epoch (UTC)"""
    state: str
    text: str
    key: str = ""
    """Of the event that told of it; empty: nobody was told."""


def find_story(backend: Backend, key: str) -> Story | None:
    """By the id of an event, or the fingerprint of its labels (the newest with it)."""
    active = active_items(backend)
    items = {item.key: item for item in active}
    if not backend.data.alerts.exists():
        item = items.get(key)
        return None if item is None else _story(backend, item, None, None)
    with closing(AlertReceipts(backend.data.alerts)) as receipts:
        if key in items and items[key].state == "pending":
            return _story(backend, items[key], None, receipts)
        found = [p.event for p in receipts.with_id(key, 1) if p.event.id == key] or receipts.with_fingerprint(key, 1)
        if not found:
            return None
        event = found[0]
        return _story(backend, items.get(event.id) or _item(event), event, receipts)


def moments(story: Story) -> Iterator[Moment]:
    """What happened, in order."""
    hold = story.rule.hold if story.rule is not None else 0
    if story.event is None:
        until = f"; fires after {span(hold, digits=0)}" if hold else ""
        yield Moment(story.starts_at, "pending", f"the condition holds since then{until}")
        return
    if hold:
        yield Moment(story.starts_at - hold, "pending", "the condition began to hold")
    told = {str(published.event.state): published.event.id for published in story.published}
    yield Moment(story.starts_at, "firing", _with_value("fires", story.published, 0), told.get("firing", ""))
    if story.ends_at:
        text = f"resolved after {span(story.ends_at - story.starts_at, digits=0)}"
        yield Moment(story.ends_at, "resolved", _with_value(text, story.published, -1), told.get("resolved", ""))


def receipts(story: Story) -> list[tuple[AlertEvent, Receipt]]:
    """What each receiver was told, by event."""
    return [(published.event, receipt) for published in story.published for receipt in published.receipts]


def outcome(receipt: Receipt) -> tuple[str, str]:
    """(state as the console shows it, what to know of it)."""
    tries = f"{receipt.attempts} tr{'y' if receipt.attempts == 1 else 'ies'}"
    if receipt.state == "sent":
        took = (
            f", {span(max(0, receipt.sent_at - receipt.tried_at))} after the first try" if receipt.attempts > 1 else ""
        )
        return "ok", f"delivered {local(receipt.sent_at):%H:%M:%S}, {tries}{took}"
    if receipt.state == "dead":
        return "trouble", f"given up after {tries}: {receipt.last_error}"
    waits = f"waiting, {tries}" if receipt.attempts else "waiting"
    return "waiting", waits + (f": {receipt.last_error}" if receipt.last_error else "")


def _story(backend: Backend, item: AlertItem, event: AlertEvent | None, receipts: AlertReceipts | None) -> Story:
    published = receipts.of_same_alert(event) if receipts is not None and event is not None else []
    ends = [p.event.ends_at for p in published if p.event.ends_at]
    fingerprint = event.fingerprint if event is not None else item.key
    earlier = receipts.with_fingerprint(fingerprint, _EARLIER) if receipts is not None else []
    return Story(
        item=item,
        starts_at=event.starts_at if event is not None else item.since,
        ends_at=max(ends, default=0),
        event=event,
        published=tuple(published),
        rule=find_rule(backend, item.rule),
        earlier=tuple(earlier),
    )


def find_rule(backend: Backend, id_: str) -> Rule | None:
    """The alerting rule as it is now."""
    rules: list[Rule | Record] = [rule for group in backend.groups for rule in group.rules]
    return next((rule for rule in rules if isinstance(rule, Rule) and rule.id == id_), None)


def _item(event: AlertEvent) -> AlertItem:
    since = event.ends_at or event.starts_at
    lasted = event.ends_at - event.starts_at if event.ends_at else 0
    return AlertItem(
        event.id, str(event.state), event.labels, event.annotations, event.value, since, lasted, rule=event.rule
    )


def _with_value(text: str, published: tuple[PublishedEvent, ...], which: int) -> str:
    return f"{text}, value {number(published[which].event.value)}" if published else text
