"""The journal: the ordered, durable log of everything that was received, as the rest of tocsin sees it.

Here: which segments there are, who may write, what is committed, retention. Not here: the format of files and blocks
(`segment`, `block`), how far each consumer has come (`telemetry.Cursor`).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

from ingest.block import DUP, HEADER, QOS_SHIFT, RECORDS, RETAIN, SAMPLES, TICK, Block, Records, encode, encode_tick
from ingest.config import JournalConfig
from ingest.durable import JournalError, JournalFull, journal_error, lock, sync_directory, write_all
from ingest.recorded import TOPIC
from ingest.recovery import Gap, Recovery, find_gaps
from ingest.segment import HEADER_BYTES, SUFFIX, Segment
from telemetry import Message

__all__ = [
    "DUP",
    "QOS_SHIFT",
    "RETAIN",
    "SAMPLES",
    "TICK",
    "Gap",
    "Journal",
    "JournalError",
    "JournalFull",
    "Records",
    "Recovery",
]

_log = logging.getLogger("tocsin.ingest")
_BLOCK_MESSAGES = 10_000
_BLOCK_BYTES = 8 << 20
_POLL_SECONDS = 0.05


class Journal:
    """An append-only log of messages, ticks and recorded samples, numbered from 0.

    One process writes, in any of its threads; readers in any thread and process.

    A reader's offset may be ahead of `end` only if the disk has lost committed data: consumers start at
    `min(cursor, journal.end)`.

    Raises TocsinError when another process writes to it, JournalError for any other trouble with the files.
    """

    def __init__(self, directory: Path, *, config: JournalConfig | None = None, read_only: bool = False) -> None:
        self._directory, self._config, self._read_only = directory, config or JournalConfig(), read_only
        self._changed = threading.Condition()
        self._writing = threading.Lock()
        self._segments: tuple[Segment, ...] = ()  # replaced, never changed: readers take it as it is
        self._active: int | None = None
        self._lock: int | None = None
        self._end = 0
        try:
            if read_only:
                if not directory.is_dir():
                    raise JournalError(f"there is no journal in {directory}: has tocsin run with this data directory?")
                self._segments = self._open_segments()
                cut = 0
            else:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                sync_directory(directory.parent)
                self._lock = lock(directory)
                self._segments = self._open_segments()
                cut = self._resume()
        except OSError as error:
            self.close()
            raise journal_error(error, f"cannot open the journal in {directory}") from error
        self._end = max(self._end, self._segments[-1].next if self._segments else 0)
        gaps = find_gaps(self._segments)
        held = self._end - self.start - sum(gap.next - gap.first for gap in gaps)
        self.recovered = Recovery(records=held, cut_bytes=cut, gaps=gaps)
        for gap in gaps:
            _log.warning(
                "journal %s: records %d to %d are lost (%s); going on behind them",
                directory,
                gap.first,
                gap.next - 1,
                gap.reason,
            )

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
        return self._append(messages)

    def append_samples(self, payloads: Sequence[bytes], time: int) -> int:
        """Makes records of recorded samples (`ingest.recorded`) durable, written at `time` by our clock, ns.

        Returns the offset of the first. Raises as `append`.
        """
        return self._append([Message(TOPIC, payload, received=time) for payload in payloads], SAMPLES)

    def append_tick(self, time: int) -> int:
        """Makes a tick of our clock (ns) durable; returns its offset. Raises as `append`."""
        with self._writing:
            first = self._end
            self._commit([encode_tick(self._room_for(0), first, time)])
            return first

    def read(self, offset: int, limit: int = 10_000) -> Records:
        """Consecutive records from `offset` on, at most `limit`, possibly fewer; none at the end.

        When `offset` is no longer there (trimmed or lost), the result begins at the next record that is: compare
        `first`. Raises JournalError.
        """
        end = self._end
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

        Age is measured against the newest record. Returns the bytes freed. Raises JournalError.
        """
        freed = 0
        with self._writing:
            total = self.size
            newest = max((s.newest for s in self._segments), default=0)
            while len(self._segments) > 1:
                oldest, following = self._segments[:2]
                old = newest - oldest.newest > self._config.retention_age
                if following.first > keep_from or not (old or total - freed > self._config.retention_bytes):
                    break
                try:
                    oldest.path.unlink(missing_ok=True)
                except OSError as error:
                    raise journal_error(error, f"cannot delete {oldest.path}") from error
                self._segments = self._segments[1:]
                freed += oldest.end
            if freed:
                sync_directory(self._directory)
        return freed

    def refresh(self) -> None:
        """In a read-only journal: takes in what the writer has added or trimmed since. Raises JournalError."""
        if not self._read_only:
            return
        with self._writing:
            try:
                self._segments = self._open_segments()
            except OSError as error:
                raise journal_error(error, f"cannot read the journal in {self._directory}") from error
            if self._segments:
                self._end = max(self._end, self._segments[-1].next)

    def close(self) -> None:
        """Lets another writer in."""
        with self._writing:
            for fd in (self._active, self._lock):
                if fd is not None:
                    os.close(fd)
            self._active = self._lock = None

    def _append(self, messages: Sequence[Message], mark: int = 0) -> int:
        with self._writing:
            first = self._end
            if messages:
                marker = self._room_for(sum(len(m.payload) + len(m.topic) for m in messages))
                blocks: list[bytes] = []
                offset = first
                for part in _cut(messages):
                    blocks.append(encode(marker, offset, part, mark))
                    offset += len(part)
                self._commit(blocks)
            return first

    def _open_segments(self) -> tuple[Segment, ...]:
        """All segments in order; those that we know are only looked at again if they may have grown."""
        known = {s.path: s for s in self._segments}
        found = []
        for path in sorted(self._directory.glob(f"{'[0-9]' * 20}{SUFFIX}")):
            segment = known.get(path)
            try:
                found.append(Segment.open(path) if segment is None else segment.grown())
            except FileNotFoundError:
                continue  # the writer has trimmed it
        return tuple(found)

    def _resume(self) -> int:
        """Makes the newest segment ready for more; returns the bytes cut off."""
        if not self._segments:
            return 0
        last = self._segments[-1]
        size = last.path.stat().st_size
        if not last.marker:
            # Its offsets are unknown: number on behind all that it can have held, so that none is given twice.
            last.next = last.first + last.records_possible(size)
        if size < HEADER_BYTES:
            last.path.unlink()  # a crash interrupted its creation
            self._segments = self._segments[:-1]
            self._end = last.first
            return size
        if not last.marker:
            return 0
        if last.sealed:
            return 0
        fd = os.open(last.path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, last.end)
            os.fsync(fd)
            os.lseek(fd, last.end, os.SEEK_SET)
        except OSError:
            os.close(fd)
            raise
        self._active = fd
        return size - last.end

    def _room_for(self, size: int) -> bytes:
        """Begins a new segment if there is none to write to or it is full; returns the marker of the one to write."""
        if self._read_only or self._lock is None:
            raise JournalError(f"the journal in {self._directory} is not open for writing")
        try:
            if self._active is not None and self._segments[-1].end + size > self._config.segment_bytes:
                self._finish()
            if self._active is None:
                segment, self._active = Segment.create(self._directory, self._end)
                self._segments = (*self._segments, segment)
        except OSError as error:
            raise journal_error(error, f"cannot begin a new file in {self._directory}") from error
        return self._segments[-1].marker

    def _finish(self) -> None:
        """Ends the newest segment with its index; without one it is merely slower to open."""
        segment, fd = self._segments[-1], self._active
        if fd is None or segment.next == segment.first:
            return
        try:
            write_all(fd, segment.index())
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


def _cut(messages: Sequence[Message]) -> Iterator[Sequence[Message]]:
    """Parts that each make a block of bounded size."""
    start = size = 0
    for i, message in enumerate(messages):
        size += len(message.payload)
        if i > start and (i - start >= _BLOCK_MESSAGES or size > _BLOCK_BYTES):
            yield messages[start:i]
            start, size = i, len(message.payload)
    yield messages[start:]
