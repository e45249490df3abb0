"""Prometheus' duration notation: `1h30m`, `500ms`, `0`. Units y w d h m s ms (and our us, ns), largest first."""

from __future__ import annotations

import re

_UNITS = {
    "y": 365 * 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
    "d": 86_400 * 10**9,
    "h": 3_600 * 10**9,
    "m": 60 * 10**9,
    "s": 10**9,
    "ms": 10**6,
    "us": 10**3,
    "ns": 1,
}
_PATTERN = re.compile("".join(rf"(?:(?P<{u}>[0-9]+){u}(?![a-z]))?" for u in _UNITS))


def parse_duration(text: str | int) -> int:
    """A duration in ns. Only the number 0 may stand without a unit.

    Raises ValueError with an example of what would be right.
    """
    if text in (0, "0"):
        return 0
    found = _PATTERN.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        raise ValueError(f"{text!r} is not a duration: write for example 30s, 5m, 1h30m or 7d")
    return sum(int(n) * _UNITS[unit] for unit, n in found.groupdict().items() if n)


def format_duration(ns: int) -> str:
    """The shortest exact notation: 5400 s is `1h30m`."""
    if ns < 0:
        return "-" + format_duration(-ns)
    if ns == 0:
        return "0s"
    parts = []
    for unit, size in _UNITS.items():
        if unit in ("y", "w") and ns % size:
            continue  # upstream, too, writes years and weeks only when they are exact
        n, ns = divmod(ns, size)
        if n:
            parts.append(f"{n}{unit}")
    return "".join(parts)
