"""The journal: the ordered, durable log of everything that was received, as the rest of tocsin sees it.

Here: which segments there are, who may write, what is committed, what happens when it is full. Not here: the format of
files and blocks (`segment`, `block`), which files may go (`retention`), how far each consumer has come
(`telemetry.Cursor`).
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from ingest.block import (
    DUP,
    HEADER,
    QOS_SHIFT,
    RECORDS,
    REPLAYED,
    RETAIN,
    SAMPLES,
    TICK,
    Block,
    Records,
    body_of,
    columns_of,
    encode,
    portions,
    tick_at,
)
from ingest.config import JournalConfig
from ingest.durable import JournalError, JournalFull, journal_error, lock, sync_directory, write_all
from ingest.recorded import TOPIC
from ingest.recovery import Gap, Recovery, find_gaps, open_segments, resume
from ingest.retention import consumed, outdated
from ingest.room import Outlook, Room
from ingest.segment import Segment
from ingest.tail import Tail
from telemetry import Counters, Message
from telemetry.crash_points import reached

__all__ = [
    "DUP",
    "QOS_SHIFT",
    "REPLAYED",
    "RETAIN",
    "SAMPLES",
    "TICK",
    "Gap",
    "Journal",
    "JournalError",
    "JournalFull",
    "Records",
    "Recovery",
    "Room",
]

_log = logging.getLogger("tocsin.ingest")
_POLL_SECONDS = 0.05
_TAIL_BYTES = 16 << 20
_HELD = "journal.max_bytes is reached; `tocsin journal stats` tells who lags: mend that, or raise it"


class Journal:
    """An append-only log of messages, ticks and recorded samples, numbered from 0.

    One process writes, in any of its threads; readers in any thread and process.

    Counters: `journal.full` (files that could not be begun, reason `disk` or `max_bytes`) and
    `journal.dropped_consumed` (records that `on_full` has deleted before their time, same reasons).

    Raises TocsinError when another process writes to it, JournalError for any other trouble with the files.
    """

    def __init__(
        self,
        directory: Path,
        *,
        config: JournalConfig | None = None,
        counters: Counters | None = None,
        read_only: bool = False,
        read_to: int = 0,
    ) -> None:
        """`read_to`: somebody has read all before this offset; if the journal ends earlier, its end is lost."""
        self._directory, self._config, self._read_only = directory, config or JournalConfig(), read_only
        self._counters = counters or Counters()
        self._outlook = Outlook(kept=self._config.retention_bytes if self._config.on_full == "stop" else 0)
        self.needed = 0
        """Everybody has read what is before this offset; 0 until `trim` is told."""
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._segments: tuple[Segment, ...] = ()  # replaced, never changed: readers take it as it is
        self._active: int | None = None
        self._lock: int | None = None
        self._end = 0
        self._tail = Tail(_TAIL_BYTES)
        try:
            if read_only:
                if not directory.is_dir():
                    raise JournalError(f"there is no journal in {directory}: has tocsin run with this data directory?")
                self._segments = open_segments(self._directory, self._segments)
                cut = 0
            else:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                sync_directory(directory.parent)
                self._lock = lock(directory)
                self._segments = open_segments(self._directory, self._segments)
                cut = self._resume()
        except OSError as error:
            self.close()
            raise journal_error(error, f"cannot open the journal in {directory}") from error
        end = max(self._end, self._segments[-1].next if self._segments else 0)
        gaps, self._end = find_gaps(self._segments, end, read_to), max(end, read_to)
        held = self._end - self.start - sum(gap.next - gap.first for gap in gaps)
        self.recovered = Recovery(records=held, cut_bytes=cut, gaps=gaps)
        self.recovered.tell(directory)

    @property
    def start(self) -> int:
        """The oldest offset that is kept."""
        return self._segments[0].first if self._segments else self._end

    @property
    def end(self) -> int:
        """The next offset to be written; everything before it is on disk."""
        return self._end

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(segment.end for segment in self._segments)

    def append(self, messages: Sequence[Message]) -> int:
        """Makes the messages durable (one write, one fdatasync) and returns the offset of the first.

        Raises JournalFull or JournalError: then none of them is committed, and the next append tries a new file.
        """
        return self.append_columns(columns_of(messages))

    def append_columns(self, records: Records) -> int:
        """As `append`, of records whose offsets are still to be given."""
        with self._writing:
            first = self._end
            if len(records):
                parts = list(portions(replace(records, first=first)))
                bodies = [body_of(part) for part in parts]
                marker = self._room_for(sum(map(len, bodies)))
                self._commit([encode(marker, part, body) for part, body in zip(parts, bodies, strict=True)])
                self._tail.add(parts)
            return first

    def append_samples(self, payloads: Sequence[bytes], time: int) -> int:
        """Makes records of recorded samples (`ingest.recorded`) durable, written at `time` by our clock, ns.

        Returns the offset of the first. Raises as `append`.
        """
        return self.append_columns(
            columns_of([Message(TOPIC, payload, received=time) for payload in payloads], SAMPLES)
        )

    def append_replayed(self, messages: Sequence[Message], *, samples: bool) -> int:
        """Makes dead letters durable once more, as they were received first; `samples`: they are recorded samples.

        Returns the offset of the first. Raises as `append`.
        """
        return self.append_columns(columns_of(messages, REPLAYED | (SAMPLES if samples else 0)))

    def append_tick(self, time: int) -> int:
        """Makes a tick of our clock (ns) durable; returns its offset. Raises as `append`."""
        with self._writing:
            first = self._end
            tick = tick_at(first, time)
            self._commit([encode(self._room_for(0), tick, body_of(tick))])
            self._tail.add([tick])
            return first

    def read(self, offset: int, limit: int = 10_000) -> Records:
        """Consecutive records from `offset` on, at most `limit`, possibly fewer; none at the end.

        When `offset` is no longer there (trimmed or lost), the result begins at the next record that is: compare
        `first`. Raises JournalError.
        """
        end = self._end
        recent = self._tail.read(offset, limit) if offset >= self.start else None
        if recent is not None:
            return recent
        while True:
            segments = self._segments
            offset = max(offset, segments[0].first if segments else end)
            if offset >= end:
                return Records.empty(offset)
            at = max(0, bisect_right(segments, offset, key=lambda s: s.first) - 1)
            until = min(end, segments[at + 1].first if at + 1 < len(segments) else end)
            try:
                records = segments[at].read(offset, until, limit)
            except FileNotFoundError:
                records = None  # trimmed meanwhile, or deleted by hand
            except OSError as error:
                raise journal_error(error, f"cannot read {segments[at].path}") from error
            if records is not None:
                return records
            offset = until

    def wait(self, offset: int, timeout: float) -> bool:
        """Waits up to `timeout` seconds until there is a record at `offset`; True when there is."""
        if not self._read_only:
            with self._changed:
                return self._changed.wait_for(lambda: self._end > offset, timeout)
        deadline = time.monotonic() + timeout
        while True:
            self.refresh()
            if self._end > offset or time.monotonic() >= deadline:
                return self._end > offset
            time.sleep(min(_POLL_SECONDS, timeout))

    def trim(self, keep_from: int) -> int:
        """Deletes the oldest files, whole, as far as retention asks and nothing at `keep_from` or later is in them.

        Returns the bytes freed. Raises JournalError.
        """
        with self._writing:
            self.needed = keep_from
            return self._delete_oldest(outdated(self._segments, keep_from, self._config))

    def bytes_from(self, offset: int) -> int:
        """About how many bytes the records at `offset` and behind it take."""
        return sum(segment.bytes_from(offset) for segment in self._segments)

    def room(self, at: float) -> Room:
        """How long until it is full; for the same caller every few seconds. `at`: s, of a clock that is never set.

        Raises JournalError.
        """
        segments, limit = self._segments, self._config.max_bytes
        size = sum(segment.end for segment in segments)
        held = self.bytes_from(self.needed)
        try:
            free = shutil.disk_usage(self._directory).free
        except OSError as error:
            raise journal_error(error, f"cannot look at the disk of {self._directory}") from error
        if self._active is not None and segments:
            free += max(0, self._config.segment_bytes - segments[-1].end)  # reserved
        if limit is not None:
            free = max(0, min(free, limit - size))
        return self._outlook.look(at, size=size, held=held, free=free)

    def refresh(self) -> None:
        """In a read-only journal: takes in what the writer has added or trimmed since. Raises JournalError."""
        if not self._read_only:
            return
        with self._writing:
            try:
                self._segments = open_segments(self._directory, self._segments)
            except OSError as error:
                raise journal_error(error, f"cannot read the journal in {self._directory}") from error
            if self._segments:
                self._end = max(self._end, self._segments[-1].next)

    def close(self) -> None:
        """Lets another writer in."""
        with self._writing:
            if self._active is not None:
                with suppress(OSError):  # zeros behind the last block do no harm
                    os.ftruncate(self._active, self._segments[-1].end)
            for fd in (self._active, self._lock):
                if fd is not None:
                    os.close(fd)
            self._active = self._lock = None

    def _resume(self) -> int:
        """Makes the newest segment ready for more; returns the bytes cut off."""
        if not self._segments:
            return 0
        last = self._segments[-1]
        resumed = resume(last, reserve=self._config.segment_bytes)
        if resumed.gone:
            self._segments, self._end = self._segments[:-1], last.first
        self._active = resumed.fd
        return resumed.cut_bytes

    def _room_for(self, size: int) -> bytes:
        """Begins a new segment if there is none to write to or it is full; returns the marker of the one to write."""
        if self._read_only or self._lock is None:
            raise JournalError(f"the journal in {self._directory} is not open for writing")
        if self._active is not None and self._segments[-1].end + size > self._config.segment_bytes:
            self._finish()
        if self._active is None:
            self._begin()
        return self._segments[-1].marker

    def _begin(self) -> None:
        """A new segment; while there is no room for one, `on_full` decides. Raises JournalError."""
        limit, reserve = self._config.max_bytes, self._config.segment_bytes
        while self._active is None:
            if limit is not None and self.size + reserve > limit:
                self._make_room("max_bytes", JournalFull(f"the journal in {self._directory} is full: {_HELD}"))
                continue
            try:
                segment, self._active = Segment.create(self._directory, self._end, reserve=reserve)
                self._segments = (*self._segments, segment)
            except OSError as error:
                failure = journal_error(error, f"cannot begin a new file of {reserve} bytes in {self._directory}")
                if not isinstance(failure, JournalFull):
                    raise failure from error
                self._make_room("disk", failure)

    def _make_room(self, reason: str, full: JournalFull) -> None:
        """Deletes the oldest files that may go. Raises `full` if there are none."""
        if n := outdated(self._segments, self.needed, self._config):
            self._delete_oldest(n)
            return
        if self._config.on_full == "stop" or not consumed(self._segments, self.needed):
            self._counters.add("journal.full", reason=reason)
            raise full
        oldest = self._segments[0]
        self._delete_oldest(1)
        self._counters.add("journal.dropped_consumed", oldest.next - oldest.first, reason)
        _log.warning(
            "journal %s: no room (%s): deleted records %d to %d, which everyone has read, before their time",
            self._directory,
            reason,
            oldest.first,
            oldest.next - 1,
        )

    def _delete_oldest(self, n: int) -> int:
        """Returns the bytes freed. Raises JournalError."""
        freed = 0
        for oldest in self._segments[:n]:
            try:
                oldest.path.unlink(missing_ok=True)
                self._segments = self._segments[1:]
                sync_directory(self._directory)  # one after the other: a power loss leaves no hole
            except OSError as error:
                raise journal_error(error, f"cannot delete {oldest.path}") from error
            freed += oldest.end
        return freed

    def _finish(self) -> None:
        """Ends the newest segment with its index; without one it is merely slower to open."""
        segment, fd = self._segments[-1], self._active
        if fd is None or segment.next == segment.first:
            return
        try:
            index = segment.index()
            write_all(fd, index)
            os.ftruncate(fd, segment.end + len(index))
            segment.sealed = True
        except OSError as error:
            _log.warning("cannot write the index of %s (%s)", segment.path, error.strerror)
        os.close(fd)
        self._active = None

    def _commit(self, blocks: Sequence[bytes]) -> None:
        segment, fd = self._segments[-1], self._active
        if fd is None:
            raise JournalError(f"the journal in {self._directory} is closed")
        try:
            write_all(fd, b"".join(blocks) if len(blocks) > 1 else blocks[0])
            reached("journal.written")
            os.fdatasync(fd)
        except OSError as error:
            self._abandon()
            raise journal_error(error, f"cannot write to {segment.path}") from error
        for block in blocks:
            _, _, _, length, count, first, newest = HEADER.unpack_from(block)
            at = segment.end
            segment.add(Block(RECORDS, first, count, newest, at, at + HEADER.size + length))
        with self._changed:
            self._end = segment.next
            self._changed.notify_all()

    def _abandon(self) -> None:
        """After a failed write or fsync nobody knows what of it is on disk: never write to that file again."""
        segment, fd = self._segments[-1], self._active
        self._active = None
        if fd is None:
            return
        try:
            os.ftruncate(fd, segment.end)
        except OSError as error:
            _log.warning("cannot cut off what was not committed in %s (%s)", segment.path, error.strerror)
        finally:
            os.close(fd)
        if segment.next == segment.first:
            segment.path.unlink(missing_ok=True)
            self._segments = self._segments[:-1]
