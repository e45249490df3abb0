"""/api/v1/tocsin/streams: how far the messages of each stream come, and why there are no data if there are none.

Not here: the judgement (`tocsin.no_data`).
"""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import Field

from tocsin.backend import Backend
from tocsin.http.resource import Answer, Instant, Text, instant, resources


class Stream(Answer):
    """A stream, and what has come of its messages since the start."""

    name: Text = Field(examples=["plant"])
    topic: Text = Field(description="Its topic pattern.", examples=["plant/{site}/{device}/telemetry"])
    guarantee: Text = Field(
        description="What is promised now: G2 (in the journal before it is acknowledged), G0 (from our socket on), "
        "none (nothing arrives); empty: not known."
    )
    seen: int = Field(description="Messages that came for it.", ge=0)
    decoded: int = Field(description="Of them, those that were not refused as a whole.", ge=0)
    matched: int = Field(description="Of them, those with a field that the stream wants.", ge=0)
    stored: int = Field(description="Readings that are stored, or on their way into the store.", ge=0)
    last_message: Instant = Field(description="Our clock at the newest message on its topics.")
    last_error: Text = Field(description="Why something was last refused; empty: nothing was.")
    why: Text = Field(description="Why there are no data, or not all, and what to do next; empty: all is well.")


class StreamList(Answer):
    """All streams."""

    streams: list[Stream]


def router(backend: Backend) -> APIRouter:
    """Its routes."""
    routes = resources("streams")

    @routes.get("/streams", summary="Streams, and why they give no data if they give none", operation_id="list_streams")
    def streams() -> StreamList:
        """All streams in the order of the configuration, which is the order in which topics are looked for."""
        return StreamList(
            streams=[
                Stream(
                    name=flow.name,
                    topic=flow.topic,
                    guarantee=flow.guarantee,
                    seen=flow.seen,
                    decoded=flow.decoded,
                    matched=flow.matched,
                    stored=flow.stored,
                    last_message=instant(flow.last_message),
                    last_error=flow.last_error,
                    why=flow.why,
                )
                for flow in backend.flows()
            ]
        )

    return routes
