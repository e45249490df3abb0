"""What `tocsin trace --json` prints. Here: traces as plain objects; times as RFC 3339, or null."""

from __future__ import annotations

from typing import Any

from ingest.exported import as_object as record_object
from sinks.alert_receipts import PublishedEvent
from telemetry import DUPLICATE, HISTORICAL, LATE, RECORDED, RETAINED
from tocsin.cli.alerts import as_object as event_object
from tocsin.cli.opening import json_number, labels_of
from tocsin.trace import AlertTrace, MessageTrace, Reader
from tocsin.words import iso

_FLAGS = {LATE: "late", RETAINED: "retained", HISTORICAL: "historical", DUPLICATE: "duplicate", RECORDED: "recorded"}


def flag_words(flags: int) -> list[str]:
    """Names of the flags of a reading; none: live."""
    return [word for bit, word in _FLAGS.items() if flags & bit]


def message_object(found: MessageTrace, others: list[int]) -> dict[str, Any]:
    """`others`: offsets of messages that may have been meant."""
    return {
        **record_object(found.records, 0),
        "readings": [
            {
                "series": labels_of(row.series),
                "time": iso(row.time),
                "value": json_number(row.value),
                "flags": flag_words(row.flags),
                "kept": str(row.kept),
                "stored": None if row.stored is None else json_number(row.stored),
            }
            for row in found.rows
        ],
        "refused": [
            {"reason": r.reason, "detail": r.detail, "readings": r.readings, "dead_letter": r.letter}
            for r in found.refusals
        ],
        "looked_back": found.looked_back,
        "sinks": [
            _reader(sink)
            | {"refused": [{"dead_letter": x.id, "series": x.topic, "detail": x.detail} for x in sink.parked]}
            for sink in found.sinks
        ],
        "rules": _reader(found.rules),
        "alerts": [_published(published) for published in found.alerts],
        "later": [_published(published) for published in found.later],
        "others": others,
    }


def alert_object(found: AlertTrace) -> dict[str, Any]:
    return {
        "id": found.asked,
        "rule": found.events[0].event.rule,
        "expr": found.rule.expr if found.rule else None,
        "for": (found.rule.hold or None) if found.rule else None,
        "events": [
            _published(published) | {"shown_by": source, "by_tick": by_tick}
            for published, source, by_tick in zip(found.events, found.sources, found.by_tick, strict=True)
        ],
        "readings": [
            {
                "series": labels_of(readings.series),
                "values": [
                    [iso(time), json_number(value)] for time, value in zip(readings.time, readings.value, strict=True)
                ],
            }
            for readings in found.readings
        ],
    }


def _reader(reader: Reader) -> dict[str, Any]:
    return {"name": reader.name, "passed": reader.passed, "cursor": reader.offset, "lag": reader.lag}


def _published(published: PublishedEvent) -> dict[str, Any]:
    receipts = [
        {
            "receiver": receipt.receiver,
            "state": receipt.state,
            "attempts": receipt.attempts,
            "tried_at": _instant(receipt.tried_at),
            "sent_at": _instant(receipt.sent_at),
            "next_at": _instant(receipt.next_at) if receipt.state not in ("sent", "dead") else None,
            "latency_ms": _milliseconds(receipt.sent_at - published.event.detected_at) if receipt.sent_at else None,
            "last_error": receipt.last_error,
        }
        for receipt in published.receipts
    ]
    return event_object(published.event) | {"journal_offset": published.offset or None, "receipts": receipts}


def _instant(ns: int) -> str | None:
    return iso(ns) if ns else None


def _milliseconds(ns: int) -> float:
    return round(max(0, ns) / 1e6, 3)
