"""What Explore shows, as it stands in the address of the page: to be shared, and to be gone back to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self
from urllib.parse import urlencode

from telemetry.duration import format_duration, parse_duration
from tocsin.words import iso

MOST_QUERIES = 8
MOST_CHARACTERS = 4_000
DEFAULT_SINCE = 900 * 10**9
LONGEST = 5 * 365 * 86_400 * 10**9
SHORTEST = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = 1 << 62


@dataclass(frozen=True, slots=True)
class ExploreState:
    """Immutable; every change makes another."""

    queries: tuple[str, ...] = ()
    since: int = DEFAULT_SINCE
    """ns before now; 0: from `start` to `end`"""
    start: int = 0
    end: int = 0
    """ns since the epoch (UTC)"""
    live: bool = False
    table: bool = False

    @classmethod
    def read(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        """Of the query parameters of an address; whoever wrote it, what makes no sense is left out."""
        given: dict[str, list[str]] = {}
        for name, value in pairs:
            given.setdefault(name, []).append(value)
        queries = tuple(q[:MOST_CHARACTERS] for q in given.get("q", []) if q.strip())[:MOST_QUERIES]
        start, end = (_instant(given.get(name, [""])[0]) for name in ("from", "to"))
        state = cls(queries, table="table" in given.get("view", []))
        if start and SHORTEST <= end - start <= LONGEST:
            return replace(state, since=0, start=start, end=end)
        return replace(state, since=_since(given.get("since", [""])[0]), live=given.get("live") == ["1"])

    def address(self) -> str:
        """Path and query parameters."""
        pairs: list[tuple[str, str]] = [("q", query) for query in self.queries]
        if self.since:
            pairs.append(("since", format_duration(self.since)))
        else:
            pairs += [("from", iso(self.start)), ("to", iso(self.end))]
        pairs += [("live", "1")] * self.live + [("view", "table")] * self.table
        return f"/?{urlencode(pairs)}"

    def window(self, now: int) -> tuple[int, int]:
        """From when to when, ns."""
        return (now - self.since, now) if self.since else (self.start, self.end)

    def with_queries(self, queries: Sequence[str]) -> Self:
        return replace(self, queries=tuple(queries))

    def last(self, since: int) -> Self:
        """The time up to now."""
        return replace(self, since=since, start=0, end=0)

    def between(self, start: int, end: int) -> Self:
        """A time of its own, at least a second and at most some years; it does not move."""
        length = min(max(end - start, SHORTEST), LONGEST)
        return replace(self, since=0, start=start, end=start + length, live=False)


def _since(text: str) -> int:
    try:
        return min(max(parse_duration(text), SHORTEST), LONGEST)
    except ValueError:
        return DEFAULT_SINCE


def _instant(text: str) -> int:
    """ns since the epoch of RFC 3339; 0 if it is none, or a time that nobody has readings of."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0
    since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    ns = (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000
    return ns if 0 < ns < _LATEST else 0
