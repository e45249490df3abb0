"""Alert events, receipts and traces, as models. Not here: the routes (`alerts`)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sinks.alert_receipts import PublishedEvent, Receipt
from telemetry import AlertEvent
from tocsin.http.resource import Answer, Instant, Labels, Page, Text, Value, instant, seconds, value
from tocsin.trace import AlertTrace


class Event(Answer):
    """An alert began to fire, or was resolved."""

    id: str = Field(description="The same after any replay.", examples=["5c0f3a0e1b2d4c6f8a9b0c1d2e3f4a5b"])
    rule: Text = Field(description="GROUP/NAME", examples=["plant/TooHot"])
    state: Literal["firing", "resolved"]
    labels: Labels = Field(examples=[{"alertname": "TooHot", "device": "sensor-0017"}])
    annotations: Labels
    value: Value = Field(description="When it fired; resolved: the last value that held.")
    starts_at: Instant = Field(description="Event time at which it began to fire.")
    ends_at: Instant = Field(description="Event time at which it was resolved; null while it fires.")
    detected_at: Instant = Field(description="Our clock at the reading or tick that showed it.")
    fingerprint: str = Field(description="Of the labels, as Prometheus and Alertmanager know it.")


class EventPage(Page):
    """Some of the alert events."""

    events: list[Event]


class DeliveryReceipt(Answer):
    """How far one receiver has been told of an event."""

    receiver: Text
    state: Literal["pending", "sending", "sent", "dead"] = Field(
        description="sending: under way, or cut off by a crash, then it comes again; dead: refused for good."
    )
    attempts: int
    tried_at: Instant = Field(description="For the first time.")
    sent_at: Instant = Field(description="Taken by the receiver.")
    next_at: Instant = Field(description="When it is tried again; null: at once, or no more.")
    latency_seconds: float | None = Field(description="From the reading that showed it to the receiver.")
    last_error: Text


class EventDetail(Event):
    """An alert event with what each receiver has been told."""

    receipts: list[DeliveryReceipt]


class TracedEvent(EventDetail):
    """An event of a trace."""

    shown_by_offset: int | None = Field(
        description="Journal offset of the message that showed it; null: not from the journal, or gone from it."
    )
    by_tick: bool = Field(description="Whether that was a tick of the clock, and not a message.")


class TracedSeries(Answer):
    """The last stored readings of a series before the event."""

    metric: Text
    labels: Labels
    times: list[Instant]
    values: list[Value]


class Trace(Answer):
    """The whole way of one alert."""

    asked: str = Field(description="Id of the event that was asked for.")
    events: list[TracedEvent] = Field(description="Its firing and its resolving, as far as they are there.")
    expression: Text | None = Field(description="Of the rule as it is now; null: the rule is gone.")
    hold: str | None = Field(description="`for` of the rule.")
    readings: list[TracedSeries] = Field(description="Of the series that the rule looks at.")


def event_fields(event: AlertEvent) -> dict[str, object]:
    """Of an Event."""
    return {
        "id": event.id,
        "rule": event.rule,
        "state": str(event.state),
        "labels": dict(event.labels),
        "annotations": dict(event.annotations),
        "value": value(event.value),
        "starts_at": instant(event.starts_at),
        "ends_at": instant(event.ends_at),
        "detected_at": instant(event.detected_at),
        "fingerprint": event.fingerprint,
    }


def detail_fields(published: PublishedEvent) -> dict[str, object]:
    """Of an EventDetail."""
    receipts = [_receipt(receipt, published.event) for receipt in published.receipts]
    return {**event_fields(published.event), "receipts": receipts}


def _receipt(receipt: Receipt, event: AlertEvent) -> DeliveryReceipt:
    states: dict[str, Literal["pending", "sending", "sent", "dead"]] = {
        "sending": "sending",
        "sent": "sent",
        "dead": "dead",
    }
    over = receipt.state in ("sent", "dead")
    return DeliveryReceipt(
        receiver=receipt.receiver,
        state=states.get(receipt.state, "pending"),
        attempts=receipt.attempts,
        tried_at=instant(receipt.tried_at),
        sent_at=instant(receipt.sent_at),
        next_at=None if over else instant(receipt.next_at),
        latency_seconds=seconds(max(0, receipt.sent_at - event.detected_at)) if receipt.sent_at else None,
        last_error=receipt.last_error,
    )


def trace_of(found: AlertTrace) -> Trace:
    """As a model."""
    return Trace(
        asked=found.asked,
        events=[
            TracedEvent.model_validate({**detail_fields(published), "shown_by_offset": source, "by_tick": by_tick})
            for published, source, by_tick in zip(found.events, found.sources, found.by_tick, strict=True)
        ],
        expression=found.rule.expr if found.rule else None,
        hold=(found.rule.hold or None) if found.rule else None,
        readings=[
            TracedSeries(
                metric=readings.series.metric,
                labels=dict(readings.series.labels),
                times=[instant(time) for time in readings.time],
                values=[value(one) for one in readings.value],
            )
            for readings in found.readings
        ],
    )
