"""Decoding single messages of the past anew: what the pipeline made of them, flags included. Nothing is written.

Which of its rows were late or repeated is kept nowhere; it is found again by reading the journal from a snapshot before
the message, or else some way back. Not here: what became of the rows (trace).
"""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingest.block import SAMPLES, TICK, Records
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.journal import Journal
from ingest.rejection import Rejection
from telemetry import Counters, ReadingBatch, SeriesTable
from tocsin.data_dir import DataDir
from tocsin.journal_range import offset_at
from tocsin.snapshot_file import state_before
from tocsin.stream_record import load_streams

LOOK_BACK = 100_000
"""Records before a message, without a snapshot."""
_AT_ONCE = 2_000
_FEED = "feed."


@dataclass(frozen=True, slots=True)
class Retraced:
    """What some consecutive records became."""

    batch: ReadingBatch
    """Their rows, with all flags."""
    rejections: tuple[Rejection, ...]
    looked_back: int | None
    """So many records before them were read, and none before those; None: the flags are what they were."""


class Retracing:
    """For one thread. The journal is read-only, the series are a copy."""

    def __init__(self, data: DataDir) -> None:
        """Raises TocsinError when there is nothing there yet."""
        self._data = data
        self._streams, self._limits = load_streams(data)
        self.journal = Journal(data.require(data.journal, "messages"), read_only=True)
        self.table = SeriesTable()
        for series in SeriesTable(data.series, read_only=True):
            self.table.add(series)
        self.known = len(self.table)
        """Series with a higher id have come up while looking, and were never stored."""

    def record(self, offset: int) -> Records | None:
        """The one record there; None if it is gone, or not written yet."""
        records = self.journal.read(offset, 1)
        return records.part(0, 1) if len(records) and records.first == offset else None

    def between(self, first: int, end: int) -> Retraced:
        """What the records [first, end), as far as they are there, became."""
        state = state_before(self._data.snapshots, first)
        start = max(self.journal.start, first - LOOK_BACK)
        rejections, rows = _Collected(), list[ReadingBatch]()
        feed = Feed(
            self.journal,
            Decoder(self._streams, self._limits, self.table, counters=Counters()),
            self.table,
            dead_letters=rejections,
            counters=Counters(),
            offset=start,
            ring_bytes=0,
            on_batch=lambda batch: rows.append(batch.select((batch.offset >= first) & (batch.offset < end))),
        )
        exact = start == 0
        if state is not None and int(state[f"{_FEED}offset"][0]) >= self.journal.start:
            feed.restore({name.removeprefix(_FEED): a for name, a in state.items() if name.startswith(_FEED)})
            exact = True
        with _unlogged():
            while feed.offset < end and self.journal.wait(feed.offset, 0):
                feed.poll(0, limit=min(_AT_ONCE, end - feed.offset))
        found = tuple(r for r in rejections.found if first <= r.offset < end)
        return Retraced(ReadingBatch.concatenate(rows), found, None if exact else first - start)

    def near(self, device: str, time: int, limit: int) -> list[int]:
        """Offsets of messages of a device, the nearest to `time` (ns) first: by arrival, or by a reading's time.

        Looks at `LOOK_BACK` records on both sides of the arrival, at most.
        """
        middle = offset_at(self.journal, time)
        decoder = Decoder(self._streams, self._limits, self.table, counters=Counters())
        decoder.admission.admit_up_to(len(self.table))
        found: list[tuple[int, int]] = []
        for parts in (self._onwards(middle), self._backwards(middle)):
            here: list[tuple[int, int]] = []
            for records in parts:
                with _unlogged():
                    batch = decoder.decode(records).batch
                here += _distances(records, batch, self.table.with_label("device", device), device, time)
                if len(here) >= limit:
                    break
            found += here
        return [offset for _, offset in heapq.nsmallest(limit, found)]

    def _onwards(self, first: int) -> Iterator[Records]:
        end = min(self.journal.end, first + LOOK_BACK)
        while first < end and len(records := self.journal.read(first, _AT_ONCE)):
            yield records
            first = records.next

    def _backwards(self, end: int) -> Iterator[Records]:
        last = max(self.journal.start, end - LOOK_BACK)
        while end > last:
            first = max(last, end - _AT_ONCE)
            at = first
            parts: list[Records] = []
            while at < end and len(records := self.journal.read(at, end - at)) and records.first < end:
                parts.append(records)
                at = records.next
            yield from reversed(parts)
            end = first


class _Collected:
    """Dead letters that are kept nowhere."""

    def __init__(self) -> None:
        self.found: list[Rejection] = []

    def add(self, rejections: Sequence[Rejection], /) -> None:
        self.found += rejections


@contextmanager
def _unlogged() -> Iterator[None]:
    """What is decoded again was told of when it was new."""
    log = logging.getLogger("tocsin.ingest")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _distances(
    records: Records,
    batch: ReadingBatch,
    series: NDArray[np.int32],
    device: str,
    time: int,
) -> Iterator[tuple[int, int]]:
    """(ns from `time`, offset) of the messages that have readings of the device, or its name in the topic."""
    rows = np.isin(batch.series, series)
    nearest = {
        int(offset): int(np.abs(batch.time[rows & (batch.offset == offset)] - time).min())
        for offset in np.unique(batch.offset[rows])
    }
    for i, topic in enumerate(records.topics):
        offset, flags = records.first + i, int(records.flags[i])
        if flags & (TICK | SAMPLES) or not (offset in nearest or device in topic.split("/")):
            continue
        arrival = abs(int(records.received[i]) - time)
        yield min(arrival, nearest.get(offset, arrival)), offset
