"""/api/v1/tocsin/events: readings and alert events as they come, as Server-Sent Events.

Source: https://html.spec.whatwg.org/multipage/server-sent-events.html. Here: who may watch, and for how long. Not here:
what is written of each event (`event_text`), how the pipeline hands them on (`tocsin.live_events`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import Field
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from tocsin.backend import Backend
from tocsin.http.event_text import EventText, Filter
from tocsin.http.resource import LabelPairs, failure, label_pairs, resources
from tocsin.live_events import LiveEvents, Watch

MOST_STREAMS = 16
"""Open at the same time."""
_LOOK_SECONDS = 0.1
_HEARTBEAT_SECONDS = 15.0
_Texts = list[Annotated[str, Field(max_length=1_000)]]
_EXAMPLE = """event: readings
data: [{"metric":"temperature","labels":{"device":"d1"},"time":"2026-01-31T12:00:00.000000000Z",\
"received":"2026-01-31T12:00:00.041000000Z","value":21.5,"flags":[]}]

event: alert
id: 5c0f3a0e1b2d4c6f8a9b0c1d2e3f4a5b
data: {"id":"5c0f3a0e1b2d4c6f8a9b0c1d2e3f4a5b","rule":"plant/TooHot","state":"firing", ...}

event: missed
data: {"batches":3,"readings":250}
"""


def router(backend: Backend) -> APIRouter:
    """Its routes."""
    routes = resources("events")
    streams = _Streams()

    @routes.get(
        "/events",
        summary="Readings and alert events as they come",
        operation_id="watch_events",
        response_class=StreamingResponse,
        responses={
            200: {"description": "Server-Sent Events.", "content": {"text/event-stream": {"example": _EXAMPLE}}}
        },
    )
    async def events(
        request: Request,
        what: Annotated[Literal["all", "readings", "alerts"], Query(description="Only these.")] = "all",
        metric: Annotated[
            _Texts, Query(max_length=100, description="Only readings of this metric; again for more.")
        ] = [],  # noqa: B006  # FastAPI makes new ones
        device: Annotated[_Texts, Query(max_length=100, description="Only of this device; again for more.")] = [],  # noqa: B006  # as above
        label: LabelPairs = [],  # noqa: B006  # as above
    ) -> Response:
        """Everything from now on, until you go or tocsin stops.

        `readings` is an array, `alert` one alert event as at /alerts/{id}; `missed` tells how many batches or alert
        events (`batches`) and how many readings were left out because you are too slow. Comments keep the connection
        alive. At most 16 streams are open at a time.
        """
        live = backend.live
        if live is None:
            raise HTTPException(503, "no tocsin runs here, so that nothing new comes: ask the one that runs")
        text = EventText(backend.table, Filter(what, frozenset(metric), frozenset(device), label_pairs(label)))
        stopping = getattr(request.app.state, "stopping", None)
        return _Stream(streams, live, text, (lambda: False) if stopping is None else stopping.is_set)

    return routes


class _Streams:
    """How many are open; of one event loop."""

    def __init__(self) -> None:
        self.open = 0


class _Stream(StreamingResponse):
    """One watcher's stream, from its first byte to its end."""

    def __init__(self, streams: _Streams, live: LiveEvents, text: EventText, is_over: Callable[[], bool]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(iter(()), media_type="text/event-stream", headers=headers)
        self._streams, self._live, self._text, self._is_over = streams, live, text, is_over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._streams.open >= MOST_STREAMS:
            why = f"{MOST_STREAMS} streams of events are open already: close one of them, or ask again later"
            await failure(503, why)(scope, receive, send)
            return
        self._streams.open += 1
        try:
            with self._live.watched() as watch:
                self.body_iterator = self._events(watch)
                await super().__call__(scope, receive, send)
        finally:
            self._streams.open -= 1

    async def _events(self, watch: Watch) -> AsyncIterator[bytes]:
        yield b"retry: 2000\n\n"
        told_at = time.monotonic()
        while not self._is_over():
            found, missed = watch.take(0)
            told = await run_in_threadpool(self._text.of, found, missed) if found or missed else b""
            if not told and time.monotonic() - told_at > _HEARTBEAT_SECONDS:
                told = b": nothing new\n\n"
            if told:
                told_at = time.monotonic()
                yield told  # waits while the watcher takes no more
            await asyncio.sleep(_LOOK_SECONDS)
