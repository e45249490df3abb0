"""A stretch of a journal, named by offsets or times. Here: which offsets are meant, and reading them part by part."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from ingest.block import Records
from ingest.journal import Journal

_AT_ONCE = 2_000


def offset_at(journal: Journal, time: int) -> int:
    """The first offset received at or after `time` (ns); the end of the journal if there is none.

    Times of arrival rise, unless the clock was set back: then it may be any offset that is preceded by an earlier time.
    """
    offsets = range(journal.start, journal.end)

    def received(offset: int) -> int:
        records = journal.read(offset, 1)
        return int(records.received[0]) if len(records) else time

    return journal.start + bisect_left(offsets, time, key=received)


def parts(journal: Journal, first: int, end: int) -> Iterator[Records]:
    """The records [first, end) that are there."""
    while first < end and len(records := journal.read(first, min(_AT_ONCE, end - first))):
        first = records.next
        if records.first < end:  # behind a gap it may be more than was asked for
            yield records.part(0, min(len(records), end - records.first))
