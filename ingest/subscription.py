"""A consumer's own view of the feed. Here: from the ring, or decoded again from the journal when it lags behind."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ingest.block import Records
from telemetry import Counters, ReadingBatch

if TYPE_CHECKING:
    from ingest.feed import Feed

_log = logging.getLogger("tocsin.ingest")
_MAX_ROWS = 50_000
_RECORDS_AGAIN = 2_000
"""Decoded again at a time: the head waits meanwhile."""


@dataclass(frozen=True, slots=True)
class Step:
    """Some rows, and where to go on."""

    batch: ReadingBatch
    """May be empty: there were ticks, or messages without usable readings."""
    next: int
    """The offset behind it: all rows before it have been given."""


class Subscription:
    """Batches from an offset on, each row once, with the flags that the head gave. For one thread.

    Counter: `ingest.subscription_lost` (records that were trimmed from the journal before they were read here).
    """

    def __init__(self, feed: Feed, offset: int, *, counters: Counters) -> None:
        self._feed = feed
        self._counters = counters
        self.offset = offset
        """What the next `read` gives begins here."""
        self.settled = offset
        """All before it is durable at the consumer, who moves this on; from here on it may ask again after a crash."""

    def read(self, timeout: float) -> Step | None:
        """The next rows; None when there were none for `timeout` seconds."""
        step = self._feed.recent(self.offset, timeout, _MAX_ROWS)
        if step is None:
            return None
        if step.next <= self.offset:
            step = self._again()
        self.offset = step.next
        return step

    def close(self) -> None:
        """Nothing is kept for it any more."""
        self._feed.unsubscribe(self)

    def _again(self) -> Step:
        records = self._feed.journal.read(self.offset, min(_RECORDS_AGAIN, self._feed.offset - self.offset))
        if records.first > self.offset:
            lost = min(records.first, self._feed.offset) - self.offset
            _log.error("%d records from %d on are gone from the journal and were never read", lost, self.offset)
            self._counters.add("ingest.subscription_lost", lost)
        return Step(self._feed.again(_before(records, self._feed.offset)), min(records.next, self._feed.offset))


def _before(records: Records, offset: int) -> Records:
    """The records before `offset`."""
    return records.part(0, max(0, min(len(records), offset - records.first)))
