"""Evaluating a stretch of a journal in an engine of its own: what the rules make of it. Nothing is written.

With the rules and streams of the pipeline that wrote it, and from the journal's beginning, these are its very events.
From anywhere else, state begins empty there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ingest.block import Records
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.rejection import Rejection
from ingest.streams import LimitsConfig, StreamConfig
from rules import Engine, RuleGroup
from telemetry import AlertEvent, Counters, SeriesTable, Tick

_REMEMBERED = 100_000


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of the replay up to some offset."""

    events: list[AlertEvent]
    next: int
    first_received: int
    received: int
    """ns, of the first and of the last tick or reading so far; 0 if there was none."""


class _Log:
    """The records as the feed wants them: read on, and some way back, since redelivered messages are looked up."""

    def __init__(self, parts: Iterator[Records]) -> None:
        self._parts = parts
        self._held: deque[Records] = deque()
        self.start = 0
        self._ahead: Records | None = next(parts, None)
        if self._ahead is not None:
            self.start = self._ahead.first

    def wait(self, _offset: int, _timeout: float) -> bool:
        return self._ahead is not None

    def read(self, offset: int, limit: int = 10_000) -> Records:
        for records in self._held:
            if offset < records.next:
                at = max(0, offset - records.first)
                return records.part(at, min(at + limit, len(records)))
        if self._ahead is None:
            return Records.empty(offset)
        read, self._ahead = self._ahead, next(self._parts, None)
        self._held.append(read)
        while self._held[-1].next - self._held[0].next > _REMEMBERED:
            self._held.popleft()
        return read


class _Nowhere:
    def add(self, rejections: Sequence[Rejection], /) -> None:
        pass


def replay(
    parts: Iterator[Records],
    groups: Sequence[RuleGroup],
    streams: Sequence[StreamConfig],
    limits: LimitsConfig,
    *,
    on_error: Callable[[str, str], None],
) -> Iterator[Replayed]:
    """Part by part. `on_error` is told of rules that cannot be evaluated, each with the reason, once."""
    table, counters = SeriesTable(), Counters()
    decoder = Decoder(streams, limits, table, counters=counters)
    log = _Log(parts)
    feed = Feed(log, decoder, table, dead_letters=_Nowhere(), counters=counters, offset=log.start, ring_bytes=0)
    engine = Engine([rule for group in groups for rule in group.rules], table, staleness=decoder.staleness)
    told: set[str] = set()
    first_received = received = 0
    while items := feed.poll(0):
        events: list[AlertEvent] = []
        for item in items:
            events += engine.tick(item) if isinstance(item, Tick) else engine.apply(item)
            if isinstance(item, Tick):
                received = item.time
            elif len(item):
                received = int(item.received[-1])
            first_received = first_received or received
        engine.take_recorded()
        for rule, why in engine.errors().items():
            if rule not in told:
                told.add(rule)
                on_error(rule, why)
        yield Replayed(events, feed.offset, first_received, received)
