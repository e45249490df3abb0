"""Figures as people read them: counts, values, spans and times. Pure functions, without colours."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal

_SPANS = ((86_400 * 10**9, "d"), (3_600 * 10**9, "h"), (60 * 10**9, "m"))


def count(n: int, *, short: bool = False) -> str:
    """12,345; with `short`, from ten million on, 12.3M."""
    if short and n >= 10_000_000:
        return f"{n / 1e9:.2f}G" if n >= 10**9 else f"{n / 1e6:.1f}M"
    return f"{n:,}"


def number(value: float) -> str:
    """Up to six significant digits; NaN, +Inf and -Inf as Prometheus writes them."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return f"{value:.6g}"


def exact(value: float) -> str:
    """The shortest text that reads back as the same value, as Prometheus' API gives it: no exponent up to 1e21."""
    text = repr(float(value))
    if text.endswith(".0"):
        return text[:-2]
    if "n" in text:
        return number(value)
    return format(Decimal(text), "f") if "e" in text and 1e-6 <= abs(value) < 1e21 else text


def span(ns: int, *, digits: int = 1) -> str:
    """A length of time in one or two units: 3.2ms, 45s, 3m20s, 2d4h."""
    for (size, unit), smaller in zip(_SPANS, (*_SPANS[1:], (10**9, "s")), strict=True):
        if ns >= size:
            rest = ns % size // smaller[0]
            return f"{ns // size}{unit}" + (f"{rest}{smaller[1]}" if rest else "")
    if ns >= 10**9 or ns == 0 or digits == 0:
        return f"{ns / 1e9:.{digits if ns else 0}f}s"
    return f"{ns / 1e6:.{digits}f}ms" if ns >= 10**6 else f"{ns / 1e3:.{digits}f}µs"


def clock_time(ns: int) -> str:
    """HH:MM:SS in this machine's time zone."""
    return local(ns).strftime("%H:%M:%S")


def local(ns: int) -> datetime:
    """The instant in this machine's time zone, to the microsecond."""
    return datetime.fromtimestamp(ns // 10**9, UTC).replace(microsecond=ns % 10**9 // 1000).astimezone()


def iso(ns: int) -> str:
    """RFC 3339 in UTC, to the millisecond: 2026-01-31T12:00:00.000Z."""
    moment = datetime.fromtimestamp(ns // 10**9, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 10**9 // 10**6:03d}Z"


def printable(text: str) -> str:
    """The text on one line and without control characters: what devices send must not steer a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
