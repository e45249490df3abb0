"""What is asked and answered at /api/v1/tocsin/dead-letters, as models. Not here: the routes (`dead_letters`)."""

from __future__ import annotations

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, ConfigDict, Field

from tocsin.http.resource import Answer, Instant, Page, Text

Id = Annotated[int, Path(ge=1, lt=1 << 63, description="As in the list.")]


class Choice(BaseModel):
    """Which dead letters: `ids`, or filters that must all be satisfied, or `all`; exactly one of these ways."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"reason": "unknown_topic"}]})

    ids: list[Annotated[int, Field(ge=1, lt=1 << 63)]] | None = Field(None, min_length=1, max_length=10_000)
    stream: str | None = Field(None, max_length=1_000, description="Only those of this stream.")
    reason: str | None = Field(None, max_length=1_000, description="Only those with this reason.")
    topic: str | None = Field(None, max_length=1_000, description="Only these topics: an MQTT filter with + and #.")
    since: str | None = Field(None, max_length=100, description="Received then or later: RFC 3339, or how long ago.")
    until: str | None = Field(None, max_length=100, description="Received before: RFC 3339, or how long ago.")
    all: bool = Field(default=False, description="All there are.")


class Letter(Answer):
    """A message, or a part of it, that could not be used; or a point that a sink has refused."""

    id: int = Field(description="Never given twice.")
    received: Instant = Field(description="Our clock.")
    topic: Text = Field(description="Of a point that a sink has refused: its series.")
    stream: Text = Field(description="Empty: of none.")
    sink: Text = Field(description="The sink that has refused the point; empty: it could not be decoded.")
    reason: Text = Field(examples=["bad_json"])
    detail: Text = Field(description="What was wrong in this one.")
    readings: int = Field(description="How many were lost.")
    offset: int = Field(description="Of the message in the journal.")
    bytes: int = Field(description="Of the whole payload.")
    payload: Text = Field(description="Its first 1,000 bytes as text; what is no UTF-8 stands as \\xNN.")


class LetterDetail(Letter):
    """All that is known of a dead letter."""

    payload_base64: str = Field(description="The payload, as far as it was kept: up to 256 KiB.")
    advice: Text = Field(description="What to mend.")


class LetterPage(Page):
    """Some of the dead letters."""

    letters: list[Letter]


class Reason(Answer):
    """How much was refused for one reason."""

    reason: Text
    letters: int
    readings: int
    first: Instant
    last: Instant


class Reasons(Answer):
    """By reason."""

    reasons: list[Reason]


class Replay(Answer):
    """Where a replay stands."""

    replay: int = Field(description="Its id, for /dead-letters/replays/{replay}.")
    letters: int = Field(description="All that it has.")
    to_come: int = Field(description="Not tried yet, or not decoded yet.")
    decoded: int = Field(description="They are readings now.")
    written: int = Field(description="The sink has taken these points.")
    refused: int = Field(description="They are dead letters again.")
    done: bool


class Purged(Answer):
    """What was deleted."""

    purged: int = Field(description="So many dead letters.")
