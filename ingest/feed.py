"""The feed: decodes the journal once, flags what is late or seen before, and hands it to all consumers.

Here: the head (`Feed.poll`), which adds series and rejections, and the ring of recent batches. Not here: the other
consumers' side (`subscription`).
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ingest.block import SAMPLES, TICK, Records
from ingest.decode import Decoder
from ingest.flag_log import FlagLog
from ingest.lateness import Lateness
from ingest.rejection import Rejection
from ingest.repeats import Redeliveries
from ingest.replayed import Arrivals, never_duplicate
from ingest.subscription import Step, Subscription
from telemetry import DUPLICATE, RECORDED, Counters, ReadingBatch, RetryLater, SeriesTable, Tick
from telemetry.crash_points import reached

_log = logging.getLogger("tocsin.ingest")
_ROW_BYTES = 4 + 8 + 8 + 8 + 1 + 8
_EMPTY_BYTES = 1_000
_MAX_TOLD = 1_000


class Log(Protocol):
    """What a feed needs of a journal."""

    @property
    def start(self) -> int: ...
    def read(self, offset: int, limit: int = ..., /) -> Records: ...
    def wait(self, offset: int, timeout: float, /) -> bool: ...


class Parking(Protocol):
    """What a feed needs of the dead letters."""

    def add(self, rejections: Sequence[Rejection], /) -> None: ...


class _Recent(NamedTuple):
    """Decoded records [first, next)."""

    first: int
    next: int
    batch: ReadingBatch


class _Undelivered(NamedTuple):
    """Decoded, but not yet safe to hand out."""

    records: Records
    batch: ReadingBatch
    rejections: list[Rejection]


class Feed:
    """The head of all consumers. `poll` and `state` belong to one thread; subscriptions have threads of their own.

    Counters: those of the decoder, `ingest.lost` (records that were trimmed or damaged before they were read),
    `ingest.ticks_read`, `ingest.samples_read` (records that are no messages), and `ingest.flags_forgotten` (rows that a
    subscription lagging far behind will see without LATE or DUPLICATE).
    """

    def __init__(
        self,
        journal: Log,
        decoder: Decoder,
        table: SeriesTable,
        *,
        dead_letters: Parking,
        counters: Counters,
        offset: int = 0,
        ring_bytes: int = 64 << 20,
        on_batch: Callable[[ReadingBatch], None] | None = None,
    ) -> None:
        """Starts at `offset`. Anywhere but at offset 0, all series of the table count as known (see `restore`).

        `on_batch` is told of each batch before anybody can read it.
        """
        self.offset = max(offset, journal.start)
        """The next journal offset to decode; all before it has been handed out."""
        self.journal = journal
        self._decoder, self._table = decoder, table
        self._dead_letters, self._counters = dead_letters, counters
        self._lateness = Lateness()
        self._redeliveries = Redeliveries()
        self._arrivals = Arrivals()
        self._decoding = threading.Lock()
        """Held while the decoder or the kept flags are in use."""
        self._flags = FlagLog()
        self._moved = threading.Condition()
        """Guards the ring, the offset and the list of subscriptions."""
        self._ring: deque[_Recent] = deque()
        self._ring_size, self._ring_bytes = 0, ring_bytes
        self._subscriptions: list[Subscription] = []
        self._on_batch = on_batch
        self._undelivered: _Undelivered | None = None
        self._read_at = -math.inf
        """When records were read last, by time.monotonic."""
        self._told: set[tuple[str, str]] = set()
        self.last_rejections: dict[str, Rejection] = {}
        """By stream ("": those of no stream): the newest since the start."""
        if self.offset > 0:
            decoder.admission.admit_up_to(len(table))

    @property
    def decoded_to(self) -> int:
        """The offset up to which records have been decoded, also those that could not be handed out yet."""
        undelivered = self._undelivered
        return self.offset if undelivered is None else undelivered.records.next

    @property
    def undelivered_rows(self) -> int:
        """Rows that were decoded and could not be handed out yet."""
        undelivered = self._undelivered
        return 0 if undelivered is None else len(undelivered.batch)

    def poll(self, timeout: float, *, limit: int = 10_000, linger: float = 0.0) -> list[ReadingBatch | Tick]:
        """The next batches and ticks, in journal order, from up to `limit` records; [] when `timeout` seconds passed.

        A batch is empty if its records held no readings. Rows that are RECORDED are left out: the head evaluates the
        rules, which have made them, and would only take their arrival for a sign of time.
        Within `linger` seconds of the last reading of records, it waits for more of them, up to `limit`: a batch costs
        much, however few readings it holds. What comes after a silence of that length is read at once.

        New series and rejections are durable before anything is handed out. Raises RetryLater when they cannot be
        written: nothing is lost, the next call tries again.
        """
        if self._undelivered is None:
            if not self.journal.wait(self.offset, timeout):
                return []
            if (rest := self._read_at + linger - time.monotonic()) > 0:
                self.journal.wait(self.offset + limit - 1, rest)
            self._read_at = time.monotonic()
            self._undelivered = self._decode(self.journal.read(self.offset, limit))
            reached("feed.decoded")
        records, batch, rejections = self._undelivered
        try:
            if rejections:
                self._dead_letters.add(rejections)
                self._tell_of(rejections)
            self._table.sync()
        except OSError as error:
            raise RetryLater(f"cannot write the series table: {error}; is the disk full?") from error
        self._undelivered = None
        if self._on_batch is not None:
            self._on_batch(batch)
        with self._moved:
            self._keep(_Recent(self.offset, records.next, batch))
            self.offset = records.next
            self._moved.notify_all()
        return _in_order(records, self._arrivals.pass_by(records, _received(batch)))

    def subscribe(self, offset: int) -> Subscription:
        """A consumer's own view, from `offset` on.

        Subscribe before the first `poll`: of rows decoded before, LATE and DUPLICATE may have been forgotten.
        """
        subscription = Subscription(self, offset, counters=self._counters)
        with self._moved:
            self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Nothing is kept for the subscription any more."""
        with self._moved:
            self._subscriptions.remove(subscription)

    def recent(self, offset: int, timeout: float, max_rows: int) -> Step | None:
        """What the ring has from `offset` on, joined up to about `max_rows` rows; waits for it up to `timeout` seconds.

        A Step that does not advance says that the ring no longer reaches back so far; None that there is nothing yet.
        """
        with self._moved:
            if not self._moved.wait_for(lambda: self.offset > offset, timeout):
                return None
            batches: list[ReadingBatch] = []
            rows, end = 0, offset
            for entry in self._ring:
                if entry.next <= offset:
                    continue
                if entry.first > end or (batches and rows + len(entry.batch) > max_rows):
                    break
                batches.append(entry.batch)
                rows += len(entry.batch)
                end = entry.next
        batch = ReadingBatch.concatenate(batches)
        if len(batch) and batch.offset[0] < offset:
            batch = batch.select(batch.offset >= offset)
        return Step(batch, end)

    def again(self, records: Records) -> ReadingBatch:
        """The rows of records that the head has decoded already, with the flags that they got then."""
        with self._decoding:
            batch = self._decoder.decode(records, add_series=False).batch
            return replace(batch, flags=self._flags.flags_of(batch))

    def state(self) -> dict[str, NDArray[np.generic]]:
        """All that a new feed needs to go on at `offset` exactly as this one; call it between two polls.

        Raises RetryLater when the last poll did.
        """
        if self._undelivered is not None:
            raise RetryLater("the feed has decoded records that it could not hand out yet")
        with self._decoding:
            decoder = json.dumps(self._decoder.state()).encode()
            parts: dict[str, NDArray[np.generic]] = {
                "offset": np.array([self.offset], np.int64),
                "decoder": np.frombuffer(decoder, np.uint8),
                "arrived": np.array([self._arrivals.last], np.int64),
                "admitted": self._decoder.admission.admitted.copy(),
            }
            parts |= {f"lateness.{name}": column.copy() for name, column in self._lateness.state().items()}
            parts |= {f"redeliveries.{name}": column for name, column in self._redeliveries.state().items()}
            parts |= {f"message_ids.{name}": column for name, column in self._decoder.message_ids.state().items()}
            return parts | {f"flags.{name}": column for name, column in self._flags.state().items()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Takes over what `state` gave, with the same series table; before the first poll."""
        with self._decoding:
            self.offset = int(state["offset"][0])
            self._arrivals.last = int(state["arrived"][0])
            self._decoder.restore(json.loads(state["decoder"].tobytes()), state["admitted"].astype(np.int64))
            self._lateness.restore(_part(state, "lateness."))
            self._redeliveries.restore(_part(state, "redeliveries."))
            self._decoder.message_ids.restore(_part(state, "message_ids."))
            self._flags.restore(_part(state, "flags."))

    def _decode(self, records: Records) -> _Undelivered:
        if records.first > self.offset:
            lost = records.first - self.offset
            _log.error("%d records from %d on are gone from the journal and were never read", lost, self.offset)
            self._counters.add("ingest.lost", lost)
        settled = [subscription.settled for subscription in list(self._subscriptions)]
        with self._decoding:
            self._flags.trim(min(settled, default=0))
            self._counters.add("ingest.ticks_read", int(((records.flags & TICK) != 0).sum()))
            self._counters.add("ingest.samples_read", int(((records.flags & SAMPLES) != 0).sum()))
            redelivered = self._redeliveries.find(records, self.journal.read)
            decoded = self._decoder.decode(records)
            batch = _with_repeats(decoded.batch, np.concatenate([redelivered, decoded.repeats]).astype(np.int64))
            batch = never_duplicate(records, replace(batch, flags=self._lateness.flag(batch)))
            self._counters.add("ingest.flags_forgotten", self._flags.add(batch, records.next))
        return _Undelivered(records, batch, decoded.rejections)

    def _tell_of(self, rejections: Sequence[Rejection]) -> None:
        """Log the first of each kind: nobody looks at dead letters who does not know of them."""
        for r in rejections:
            self.last_rejections[r.stream] = r
            self._counters.add("ingest.rejected_of_stream", r.rows, r.stream)
            kind = (r.stream, r.reason)
            if kind not in self._told and len(self._told) < _MAX_TOLD:
                self._told.add(kind)
                _log.warning(
                    "refused (%s), first from %.100r: %.300s; see `tocsin dead-letters list`",
                    r.reason,
                    r.topic,
                    r.detail,
                )

    def _keep(self, entry: _Recent) -> None:
        self._ring.append(entry)
        self._ring_size += _EMPTY_BYTES + _ROW_BYTES * len(entry.batch)
        while self._ring_size > self._ring_bytes and len(self._ring) > 1:
            self._ring_size -= _EMPTY_BYTES + _ROW_BYTES * len(self._ring.popleft().batch)


def _with_repeats(batch: ReadingBatch, repeats: NDArray[np.int64]) -> ReadingBatch:
    """The batch, the rows of these messages flagged as duplicates."""
    if not len(repeats):
        return batch
    came_before = np.where(np.isin(batch.offset, repeats), DUPLICATE, 0).astype(np.uint8)
    return replace(batch, flags=batch.flags | came_before)


def _received(batch: ReadingBatch) -> ReadingBatch:
    """Without what recording rules have made."""
    made = (batch.flags & RECORDED) != 0
    return batch.select(~made) if made.any() else batch


def _in_order(records: Records, batch: ReadingBatch) -> list[ReadingBatch | Tick]:
    """The batch, cut at the ticks between its messages; never nothing, which would say that there were no records."""
    items: list[ReadingBatch | Tick] = []
    start = 0
    for i in np.flatnonzero(records.flags & TICK).tolist():
        end = int(np.searchsorted(batch.offset, records.first + i))
        if end > start:
            items.append(batch.select(slice(start, end)))
            start = end
        items.append(Tick(int(records.received[i]), records.first + i))
    if start < len(batch) or not items:
        items.append(batch.select(slice(start, len(batch))) if start else batch)
    return items


def _part(state: dict[str, NDArray[np.generic]], prefix: str) -> dict[str, NDArray[np.generic]]:
    return {name.removeprefix(prefix): column for name, column in state.items() if name.startswith(prefix)}
