"""The parameters of Prometheus' HTTP API: which there are, and what their texts mean.

Every one is taken as text, so that what is wrong is answered in upstream's words and with its status. Instants are ns
since the epoch (UTC), to the millisecond, as upstream has them; durations are ns.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Self

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import QueryParams

from telemetry import parse_duration
from tocsin.http.prometheus_answers import ApiError

FARTHEST = 6 * 10**18
"""ns; instants further from 1970 are out of bounds."""
_MS = 10**6
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_WHOLE = re.compile(r"[+-]?[0-9]+")
_LONGEST = 100
_ALWAYS = {"-292273086-05-16T16:47:06Z": -FARTHEST, "292277025-08-18T07:12:54.999999999Z": FARTHEST}
"""Upstream's first and last instant, which its clients send for "from ever" and "for ever"."""
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00Z")

INSTANT = "Seconds since 1970, or RFC 3339."
DURATION = "As `5m` or `1h30m`, or a number of seconds."


class Parameters(BaseModel):
    """Of a request: in its URL, or in its body as a form, which wins."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    def or_from(self, url: QueryParams) -> Self:
        """With what the form does not say, but the URL does."""
        found: dict[str, object] = {name: getattr(self, name) for name in self.model_fields_set}
        for name, field in type(self).model_fields.items():
            key = field.alias or name
            if name not in found and key in url:
                found[name] = url.getlist(key) if field.annotation == list[str] else url[key]
        return type(self).model_validate(found)


class InstantQuery(Parameters):
    """Of /query."""

    query: str = Field("", description="A PromQL expression.")
    time: str = Field("", description=f"{INSTANT} Default: now.")
    timeout: str = Field("", description=f"{DURATION} At most, and by default, 60 s.")
    limit: str = Field("", description="Give at most so many series; 0: all.")
    lookback_delta: str = Field("", description=f"How long a sample is seen. {DURATION}")


class RangeQuery(Parameters):
    """Of /query_range."""

    query: str = Field("", description="A PromQL expression.")
    start: str = Field("", description=INSTANT)
    end: str = Field("", description=INSTANT)
    step: str = Field("", description=f"Distance of evaluations; at most 11,000 of them. {DURATION}")
    timeout: str = Field("", description=f"{DURATION} At most, and by default, 60 s.")
    limit: str = Field("", description="Give at most so many series; 0: all.")
    lookback_delta: str = Field("", description=f"How long a sample is seen. {DURATION}")


class SeriesQuery(Parameters):
    """Of /series, /labels and /label/…/values."""

    match: list[str] = Field([], alias="match[]", description='Selectors, such as `temperature{site="north"}`.')
    start: str = Field("", description=f"Leave out series that have had no sample since. {INSTANT}")
    end: str = Field("", description=INSTANT)
    limit: str = Field("", description="Give at most so many; 0: all.")


class ExemplarQuery(Parameters):
    """Of /query_exemplars."""

    query: str = Field("", description="A PromQL expression.")
    start: str = Field("", description=INSTANT)
    end: str = Field("", description=INSTANT)


def instant(name: str, text: str, default: int | None = None) -> int:
    """Raises ApiError, also if it is empty and there is no default."""
    if not text and default is not None:
        return default
    found = _instant(text) if len(text) <= _LONGEST else None
    if found is None:
        raise invalid(name, f'cannot parse "{text[:_LONGEST]}" to a valid timestamp')
    return found


def _instant(text: str) -> int | None:
    if text in _ALWAYS:
        return _ALWAYS[text]
    if _NUMBER.fullmatch(text):
        seconds = max(-FARTHEST / 1e9, min(FARTHEST / 1e9, float(text)))
        return round(seconds * 1_000) * _MS
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    day, clock, fraction, zone = found.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{zone.upper()}")
        ns = (moment - _EPOCH) // timedelta(seconds=1) * 10**9 + int((fraction or ".")[1:10].ljust(9, "0"))
    except (ValueError, OverflowError):
        return None
    return max(-FARTHEST, min(FARTHEST, ns // _MS * _MS))


def within_reach(name: str, ns: int) -> int:
    """The instant, unless it is too far away to be evaluated. Raises ApiError."""
    if abs(ns) >= FARTHEST:
        raise invalid(name, "it is out of bounds: between the years 1780 and 2160")
    return ns


def duration(name: str, text: str) -> int:
    """Raises ApiError."""
    try:
        ns = round(float(text) * 1e9) if _NUMBER.fullmatch(text) else parse_duration(text[: _LONGEST + 1])
    except (ValueError, OverflowError):
        raise invalid(name, f'cannot parse "{text[:_LONGEST]}" to a valid duration') from None
    if abs(ns) > FARTHEST:
        raise invalid(name, f'cannot parse "{text[:_LONGEST]}" to a valid duration. It overflows int64')
    return ns


def limit(text: str) -> int | None:
    """None: no limit. Raises ApiError."""
    if not text:
        return None
    if len(text) > _LONGEST or not _WHOLE.fullmatch(text):
        raise invalid("limit", "limit must be a number")
    if int(text) < 0:
        raise invalid("limit", "limit must be non-negative")
    return int(text) or None


def flag(name: str, text: str) -> bool:
    """Raises ApiError."""
    if text.lower() in ("1", "t", "true"):
        return True
    if text.lower() in ("", "0", "f", "false"):
        return False
    raise invalid(name, f'"{text[:_LONGEST]}" is neither true nor false')


def invalid(name: str, why: str) -> ApiError:
    """What is wrong with a parameter."""
    return ApiError("bad_data", f'invalid parameter "{name}": {why}')
