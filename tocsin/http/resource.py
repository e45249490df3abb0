"""What tocsin's own resources have in common: errors, pages, and how instants, values and texts are written.

Instants are RFC 3339 in UTC, to the nanosecond, or null for "never"; lengths of time are seconds. Values that JSON has
no number for are the strings "NaN", "+Inf" and "-Inf". Not here: what is answered (a module for each resource).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException

from telemetry import RetryLater, TocsinError, parse_duration
from tocsin.http import prometheus_parameters as parameters
from tocsin.http.prometheus_answers import ApiError, rfc3339
from tocsin.words import number

PREFIX = "/api/v1/tocsin"
ErrorType = Literal["bad_data", "unauthorized", "forbidden", "not_found", "too_large", "unavailable", "internal"]
_TYPES: dict[int, ErrorType] = {
    400: "bad_data",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    413: "too_large",
    503: "unavailable",
}
_log = logging.getLogger("tocsin.http")


def _speakable(text: Any) -> Any:
    """Half a character (a lone surrogate), which JSON in UTF-8 cannot hold, is written as its escape."""
    return text.encode("utf-8", "backslashreplace").decode() if isinstance(text, str) else text


def instant(ns: int | None) -> str | None:
    """None and 0: never."""
    return rfc3339(ns) if ns else None


def seconds(ns: int | None) -> float | None:
    """A length of time; None: not known."""
    return None if ns is None else ns / 1e9


def value(given: float | None) -> float | str | None:
    """As a number, or as text if JSON has none for it."""
    return given if given is None or math.isfinite(given) else number(given)


Text = Annotated[str, BeforeValidator(_speakable)]
"""From outside: it may hold anything."""
Labels = dict[Text, Text]
Instant = Annotated[
    str | None, Field(json_schema_extra={"format": "date-time", "examples": ["2026-01-31T12:00:00.123456789Z"]})
]
Value = float | Literal["NaN", "+Inf", "-Inf"] | None
Limit = Annotated[int, Query(ge=1, le=1_000, description="At most so many.")]
Cursor = Annotated[
    str | None, Query(max_length=2_000, description="`next_cursor` of the page before; none: the first page.")
]
Since = Annotated[
    str | None,
    Query(
        max_length=100,
        description="A time (RFC 3339, or seconds since 1970), or how long ago (`90m`).",
        examples=["2h", "2026-01-31T12:00:00Z"],
    ),
]
Words = Annotated[str | None, Query(max_length=1_000)]
LabelPairs = Annotated[
    list[Annotated[str, Field(max_length=1_000)]],
    Query(max_length=20, description="Only with this label, as NAME=VALUE; again for more.", examples=[["site=north"]]),
]


class Answer(BaseModel):
    """Of what tocsin answers."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="null")


class Page(Answer):
    """One page of a list."""

    next_cursor: str | None = Field(description="For `cursor`, to get the next page; null: this is the last one.")


class ResourceFailure(Answer):
    """Why there is no answer; the envelope of errors is that of the API in Prometheus' shape."""

    model_config = ConfigDict(extra="ignore")

    status: Literal["error"] = "error"
    errorType: ErrorType = Field(description="By whom it can be mended.")  # noqa: N815  # upstream's name
    error: Text = Field(description="What is wrong, and what to do.")


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": ResourceFailure, "description": "A parameter is missing or wrong."},
    503: {"model": ResourceFailure, "description": "It is not there now: the message says why, and what to do."},
    "default": {"model": ResourceFailure, "description": "Any other error, such as 401 and 403 when one must log in."},
}
NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"model": ResourceFailure, "description": "There is none such."}}
FORBIDDEN: dict[int | str, dict[str, Any]] = {
    403: {"model": ResourceFailure, "description": "Only an operator may do this."}
}


class ResourceRoute(APIRoute):
    """A route whose errors, whatever raises them, come in the envelope."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As APIRoute's."""
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                place = ".".join(str(part) for part in first["loc"][1:]) or "body"
                return failure(400, f'invalid parameter "{place}": {first["msg"]}')
            except HTTPException as error:
                return failure(error.status_code, str(error.detail))
            except ApiError as error:
                return failure(400, str(error))
            except (RetryLater, TocsinError) as error:
                return failure(503, str(error))

        return handled


def failure(status: int, why: str) -> Response:
    """An error in the envelope."""
    told = ResourceFailure(errorType=_TYPES.get(status, "internal"), error=why)
    return JSONResponse(told.model_dump(), status)


async def refused(request: Request, error: Exception) -> Response:
    """For what no route of the application has answered."""
    del request
    return failure(error.status_code, str(error.detail)) if isinstance(error, HTTPException) else failure(500, "")


def resources(tag: str) -> APIRouter:
    """A router for resources of one kind."""
    return APIRouter(prefix=PREFIX, tags=[tag], route_class=ResourceRoute, responses=ERRORS)


def not_found(what: str) -> HTTPException:
    return HTTPException(404, what)


def since(name: str, text: str | None, now: int) -> int | None:
    """ns of what a Since says. Raises ApiError."""
    if not text:
        return None
    try:
        return parameters.within_reach(name, now - parse_duration(text))
    except ValueError:
        return parameters.within_reach(name, parameters.instant(name, text))


def label_pairs(labels: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Of NAME=VALUE. Raises ApiError."""
    for text in labels:
        if "=" not in text:
            raise ApiError("bad_data", f'invalid parameter "label": {text[:100]!r} is not NAME=VALUE')
    return tuple((name, said) for name, _, said in (text.partition("=") for text in labels))


def to_cursor(*place: str | int) -> str:
    """A place in a list, as one word."""
    said = json.dumps(place, ensure_ascii=True, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(said).rstrip(b"=").decode()


def from_cursor(cursor: str | None, *kinds: type) -> list[Any] | None:
    """The place that `to_cursor` was given, its parts of these kinds; None: at the beginning. Raises ApiError."""
    if cursor is None:
        return None
    try:
        place = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        is_ours = isinstance(place, list) and [type(part) for part in place] == list(kinds)
    except (binascii.Error, ValueError, RecursionError):
        is_ours = False
    if not is_ours or any(isinstance(part, int) and abs(part) >= 1 << 63 for part in place):
        raise ApiError("bad_data", 'invalid parameter "cursor": it is not the next_cursor of a page')
    return list(place)
