"""Segments: the files of the journal, each a header and then blocks with rising offsets.

Here: one file, its index, reading from it and writing to it. Not here: which files there are (`journal`), what is in a
block (`block`).

A full segment ends with its index (a block of kind INDEX) and a footer that says where the index begins, so that
opening a large journal reads a few bytes of each file. A segment without them (the newest, or one whose writing was
given up) is read through and verified. Room is reserved ahead: zeros behind the newest one's last block are no damage.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from bisect import bisect_right
from pathlib import Path

from ingest.block import HEADER, INDEX, PER_RECORD, RECORDS, Block, Columns, Records, seal, walk
from ingest.durable import allocate, sync_directory, write_all

SUFFIX = ".journal"
_MAGIC = b"tocsinJ2"
_HEADER = struct.Struct("<8s8sQ4x")
"""magic with the version, marker, first offset; a CRC-32 follows. The file begins with it twice."""
HEADER_BYTES = 2 * (_HEADER.size + 4)
FOOTER = struct.Struct("<Q8s")
"""Position of the index block, marker."""
_STRIDE = 8 << 10
"""Bytes between entries of the index: a trade between memory and headers to step over."""
_LOOK_BYTES = 1 << 20


class Segment:
    """One file. Its writer adds blocks; any number of threads read what lies before `end`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.first = int(path.stem)
        self.next = self.first
        """Offset behind the last record."""
        self.newest = 0
        """ns, largest `received`; 0 if there are no records."""
        self.end = HEADER_BYTES
        """Position behind the last valid block."""
        self.marker = b""
        """Empty when the file's header is damaged: then nothing in it can be read."""
        self.sealed = False
        self.damage: list[tuple[int, int]] = []
        """Offsets [from, to) that are missing inside the segment, as far as opening it has shown."""
        self._offsets = array("Q")
        self._positions = array("Q")

    @classmethod
    def create(cls, directory: Path, first: int, *, reserve: int) -> tuple[Segment, int]:
        """A new file with room for `reserve` bytes, durable on return, and its descriptor for writing.

        Raises OSError.
        """
        segment = cls(directory / f"{first:020d}{SUFFIX}")
        marker = os.urandom(8)  # must not be guessable: see `block`
        header = _HEADER.pack(_MAGIC, marker, first)
        fd = os.open(segment.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            allocate(fd, reserve)
            write_all(fd, 2 * (header + zlib.crc32(header).to_bytes(4, "little")))
            os.fsync(fd)
            sync_directory(directory)
        except OSError:
            os.close(fd)
            segment.path.unlink(missing_ok=True)
            raise
        segment.marker = marker
        return segment, fd

    @classmethod
    def open(cls, path: Path) -> Segment:
        """A file as it is found: by its index if it has one, else read through. Raises OSError."""
        segment = cls(path)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            segment.marker = _marker(os.pread(fd, HEADER_BYTES, 0), segment.first)
            if segment.marker and not segment._load_index(fd):
                segment.scan(fd)
        finally:
            os.close(fd)
        return segment

    def grown(self) -> Segment:
        """The same file with what has been added to it; a new object if another file has taken its name.

        Raises OSError.
        """
        if self.sealed:
            return self
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self.marker and _marker(os.pread(fd, HEADER_BYTES, 0), self.first) == self.marker:
                if any(os.pread(fd, len(self.marker), self.end)):  # else nothing has been added yet
                    self.scan(fd, growing=True)
                return self
        finally:
            os.close(fd)
        return Segment.open(self.path)

    def scan(self, fd: int, *, growing: bool = False) -> None:
        """Finds the valid blocks behind `end`; `growing`: as `walk`."""
        size = os.fstat(fd).st_size
        for block, _, _ in walk(fd, self.end, size, self.marker, growing=growing):
            if block.kind == INDEX:
                self.sealed = True
                break
            if block.first > self.next:
                self.damage.append((self.next, block.first))
            if block.first >= self.next:
                self.add(block)

    def add(self, block: Block) -> None:
        """Takes a block that has become durable into account."""
        if not self._positions or block.position - self._positions[-1] >= _STRIDE:
            self._positions.append(block.position)
            self._offsets.append(block.first)  # last: a reader that finds the offset finds its position
        self.newest = max(self.newest, block.newest)
        self.end = block.end
        self.next = block.next

    def used(self, fd: int) -> int:
        """Position behind `end` up to which there is anything but zeros: where a torn append ends. Raises OSError."""
        position = used = self.end
        while data := os.pread(fd, _LOOK_BYTES, position):
            if data != bytes(len(data)):
                used = position + len(data.rstrip(b"\0"))
            position += len(data)
        return used

    def records_possible(self, used: int) -> int:
        """How many records at most a damaged file may have held that is used up to there."""
        return -(-max(0, used - HEADER_BYTES) // PER_RECORD)

    def bytes_from(self, offset: int) -> int:
        """About how many bytes the records at `offset` and behind it take."""
        at = bisect_right(self._offsets, offset) - 1
        if offset >= self.next:
            return 0
        return self.end - (self._positions[at] if at >= 0 else 0)

    def read(self, offset: int, until: int, limit: int) -> Records | None:
        """Up to `limit` consecutive records of [offset, until), from the first one that is there; None if none is.

        Raises OSError, FileNotFoundError when the file has been deleted.
        """
        if not self.marker:
            return None
        at = bisect_right(self._offsets, offset) - 1
        position = self._positions[at] if at >= 0 else HEADER_BYTES
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._collect(fd, position, offset, until, limit)
        finally:
            os.close(fd)

    def _collect(self, fd: int, position: int, offset: int, until: int, limit: int) -> Records | None:
        found, first = Columns(), offset
        for block, data, start in walk(fd, position, self.end, self.marker):
            if block.kind != RECORDS or block.first >= until:
                break
            if block.next <= offset:
                continue
            if block.first > offset:
                if len(found):
                    break  # a damaged block lies between
                first = offset = block.first
            stop = min(block.next, until, first + limit)
            found.take(block, data, start, low=offset - block.first, high=stop - block.first)
            offset = stop
            if offset >= min(until, first + limit):
                break
        return found.records(first) if len(found) else None

    def index(self) -> bytes:
        """The index block and the footer that end a full segment."""
        body = self._offsets.tobytes() + self._positions.tobytes()
        count = len(self._offsets)
        block = seal(self.marker, INDEX, body, count=count, first=self.next, newest=self.newest)
        return block + FOOTER.pack(self.end, self.marker)

    def _load_index(self, fd: int) -> bool:
        size = os.fstat(fd).st_size
        if size < HEADER_BYTES + HEADER.size + FOOTER.size:
            return False
        position, marker = FOOTER.unpack(os.pread(fd, FOOTER.size, size - FOOTER.size))
        if marker != self.marker or not HEADER_BYTES <= position < size:
            return False
        block, data, start = next(walk(fd, position, size - FOOTER.size, self.marker), (None, b"", 0))
        if block is None or block.kind != INDEX or block.position != position:
            return False
        self._offsets.frombytes(data[start : start + 8 * block.records])
        self._positions.frombytes(data[start + 8 * block.records : start + 16 * block.records])
        self.next, self.newest, self.end, self.sealed = block.first, block.newest, position, True
        return True


def _marker(data: bytes, first: int) -> bytes:
    """The marker from the first copy of the file's header that is intact; empty if none is."""
    length = _HEADER.size + 4
    for copy in (data[:length], data[length : 2 * length]):
        if len(copy) == length and zlib.crc32(copy[:-4]) == int.from_bytes(copy[-4:], "little"):
            magic, marker, stated = _HEADER.unpack(copy[:-4])
            if magic == _MAGIC and stated == first:
                return bytes(marker)
    return b""
