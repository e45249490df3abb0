"""/api/v1/tocsin/alerts: events of the past, what receivers were told of each, its trace.

What is pending or fires now stands at /api/v1/alerts, in Prometheus' shape.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path, Query

from sinks.alert_receipts import AlertReceipts, PublishedEvent
from tocsin.backend import Backend
from tocsin.http.alert_bodies import Event, EventDetail, EventPage, Trace, detail_fields, event_fields, trace_of
from tocsin.http.resource import (
    NOT_FOUND,
    Cursor,
    LabelPairs,
    Limit,
    Since,
    Words,
    from_cursor,
    label_pairs,
    not_found,
    resources,
    since,
    to_cursor,
)
from tocsin.trace import Tracer

_TRACE_SECONDS = 20.0
_EventId = Annotated[
    str, Path(pattern="^[0-9a-f]{4,32}$", description="Id of an event, or how it begins, if only one begins so.")
]


def router(backend: Backend) -> APIRouter:
    """Its routes."""
    routes = resources("alerts")
    tracing = threading.Lock()

    @routes.get("/alerts/recent", summary="Alert events, the last published first", operation_id="list_alert_events")
    def recent(
        state: Annotated[Literal["firing", "resolved"] | None, Query(description="Only these.")] = None,
        rule: Annotated[Words, Query(description="Only of this rule: GROUP/NAME.")] = None,
        label: LabelPairs = [],  # noqa: B006  # FastAPI makes a new one for each request
        detected_since: Annotated[Since, Query(alias="since")] = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> EventPage:
        """What began to fire and what was resolved, in pages."""
        place = from_cursor(cursor, int)
        found = backend.history.page(
            limit + 1,
            before=place[0] if place else None,
            since=since("since", detected_since, backend.clock.now()) or 0,
            state=state,
            rule=rule,
            labels=label_pairs(label),
        )
        more = to_cursor(found[limit - 1][0]) if len(found) > limit else None
        events = [Event.model_validate(event_fields(event)) for _, event in found[:limit]]
        return EventPage(events=events, next_cursor=more)

    @routes.get("/alerts/{id}", summary="An alert event", operation_id="show_alert_event", responses=NOT_FOUND)
    def show(id: _EventId) -> EventDetail:  # noqa: A002  # as it stands in the path
        """What it was, and what each receiver has been told of it."""
        return EventDetail.model_validate(detail_fields(_only(backend, id)))

    @routes.get(
        "/alerts/{id}/trace", summary="The whole way of an alert", operation_id="trace_alert", responses=NOT_FOUND
    )
    def trace(id: _EventId) -> Trace:  # noqa: A002  # as it stands in the path
        """From the readings that its rule looks at to its receipts. It reads the journal anew: one at a time."""
        asked = _only(backend, id).event.id
        if not tracing.acquire(timeout=_TRACE_SECONDS):
            raise HTTPException(503, "too many alerts are being traced: ask again in a moment")
        try:
            with closing(Tracer(backend.data)) as tracer:
                return trace_of(tracer.alert(asked))
        finally:
            tracing.release()

    return routes


def _only(backend: Backend, prefix: str) -> PublishedEvent:
    """Raises HTTPException."""
    if not backend.data.alerts.exists():
        raise not_found(f"there is no alert event {prefix}: there have been none")
    with closing(AlertReceipts(backend.data.alerts)) as receipts:
        found = receipts.with_id(prefix)
    if len(found) != 1:
        many = f"there are {len(found)} or more alert events whose id begins with {prefix}: write more of it"
        none = f"there is no alert event {prefix}: it is another one's id, or the event was deleted for its age"
        raise not_found(many if found else none)
    return found[0]
