"""Event times as devices write them: numbers in some unit, and ISO 8601 text. Results are ns since the epoch (UTC)."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, tzinfo

from ingest.rejection import Refused

SCALES = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
"""ns in one of the unit."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_LIMIT = 1 << 63
_ISO = re.compile(
    r"(?P<whole>\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d)?)(?:[.,](?P<fraction>\d{1,12}))?"
    r"\s?(?P<zone>[Zz]|UTC|[+-]\d\d(?::?\d\d)?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?\d{1,25}(?:\.\d{0,25})?", re.ASCII)


def unit_by_magnitude(number: float) -> str:
    """The unit in which the number is a time between 1973 and 5138 (nearer to now: whatever is nearest)."""
    size = abs(number)
    return "s" if size < 1e11 else "ms" if size < 1e14 else "us" if size < 1e17 else "ns"


def as_number(value: object) -> int | float | None:
    """The number, also when it stands in a text; None for anything else."""
    if type(value) is int or type(value) is float:
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        text = value.strip()
        return float(text) if "." in text else int(text)
    return None


def from_number(number: float, unit: str) -> int:
    """ns of a number in that unit. Fractions are taken to the µs, which is all that a float holds of a time near now.

    Raises Refused(bad_time) beyond the years 1677 to 2262, which int64 ns can hold.
    """
    scale = SCALES[unit]
    if isinstance(number, int):
        ns = number * scale
    elif not math.isfinite(number) or abs(number) > _LIMIT:
        ns = _LIMIT
    else:
        ns = round(number * (scale // 1_000)) * 1_000 if scale > 1 else round(number)
    if not -_LIMIT < ns < _LIMIT:
        raise Refused("bad_time", f"the time in {unit} is beyond the year 2262: is time.unit right?")
    return ns


def from_iso(text: str, zone: tzinfo) -> int:
    """ns of ISO 8601 text with date and time of day; exact to the ns. Text without a zone is in `zone`.

    Raises Refused(bad_time). Source of the format: RFC 3339, with the liberties that devices take (a blank for T, no
    seconds, a decimal comma, an offset without minutes).
    """
    found = _ISO.fullmatch(text.strip())
    if found is None:
        raise Refused(
            "bad_time", f"{text[:40]!r} is no time: send a number or ISO 8601, or set time.field or time.unit: arrival"
        )
    written = found["zone"]
    offset = "+00:00" if written in ("Z", "z", "UTC") else written or ""
    try:
        when = datetime.fromisoformat(found["whole"].upper() + (offset + ":00" if len(offset) == 3 else offset))
        if not written:
            when = when.replace(tzinfo=zone)
        seconds = (when - _EPOCH) // _SECOND
    except (ValueError, OverflowError) as error:
        raise Refused("bad_time", f"{text[:40]!r} is no time: {error}") from None
    ns = seconds * 10**9 + int((found["fraction"] or "0").ljust(12, "0")[:9])
    if not -_LIMIT < ns < _LIMIT:
        raise Refused("bad_time", f"{text[:40]!r} is beyond the years 1677 to 2262")
    return ns


def written(ns: int) -> str:
    """`2023-11-14T22:13:20.123Z`, for messages."""
    return (_EPOCH + timedelta(microseconds=ns // 1_000)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
