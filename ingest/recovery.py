"""Opening a journal: what is there, what is cut off, what is lost."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from ingest.durable import allocate
from ingest.segment import HEADER_BYTES, SUFFIX, Segment

_log = logging.getLogger("tocsin.ingest")


class Gap(NamedTuple):
    """Offsets [first, next) that are lost."""

    first: int
    next: int
    reason: str


@dataclass(frozen=True, slots=True)
class Recovery:
    """What opening found."""

    records: int
    """Committed records that are there."""
    cut_bytes: int
    """Bytes behind the last whole block, cut off: an append that a crash interrupted, never acknowledged."""
    gaps: tuple[Gap, ...]

    def tell(self, directory: Path) -> None:
        """Log what is not as it should be."""
        if self.cut_bytes:
            _log.info("journal %s: cut off %d bytes of an append that was interrupted", directory, self.cut_bytes)
        for gap in self.gaps:
            _log.warning(
                "journal %s: records %d to %d are lost (%s); going on behind them",
                directory,
                gap.first,
                gap.next - 1,
                gap.reason,
            )


class Resumed(NamedTuple):
    """The newest file, ready for more."""

    fd: int | None
    """To be written at its position; None if the file is full or unreadable, or gone."""
    cut_bytes: int
    gone: bool = False
    """Deleted: a crash interrupted its creation, and nothing was ever behind its header."""


def open_segments(directory: Path, known: Sequence[Segment]) -> tuple[Segment, ...]:
    """All segments in order; those that are known are only looked at again if they may have grown. Raises OSError."""
    by_path = {segment.path: segment for segment in known}
    found = []
    for path in sorted(directory.glob(f"{'[0-9]' * 20}{SUFFIX}")):
        segment = by_path.get(path)
        try:
            found.append(Segment.open(path) if segment is None else segment.grown())
        except FileNotFoundError:
            continue  # the writer has trimmed it
    return tuple(found)


def resume(last: Segment, *, reserve: int) -> Resumed:
    """Cuts off what is behind the last block, so that it never comes to light, and reserves room. Raises OSError."""
    if last.sealed:
        return Resumed(None, 0)
    fd = os.open(last.path, os.O_RDWR | os.O_CLOEXEC)
    try:
        size, used = os.fstat(fd).st_size, last.used(fd)
        if used == last.end and (size < HEADER_BYTES or not last.marker):
            last.path.unlink()
            return Resumed(None, min(size, HEADER_BYTES), gone=True)
        if not last.marker:
            # Its offsets are unknown: number on behind all that it can have held, so that none is given twice.
            last.next = last.first + last.records_possible(used)
            return Resumed(None, 0)
        os.ftruncate(fd, last.end)
        with suppress(OSError):  # then the file grows as long as there is room
            allocate(fd, reserve)
        os.fsync(fd)
        os.lseek(fd, last.end, os.SEEK_SET)
        resumed, fd = Resumed(fd, used - last.end), -1
        return resumed
    finally:
        if fd >= 0:
            os.close(fd)


def find_gaps(segments: Sequence[Segment], end: int, read_to: int) -> tuple[Gap, ...]:
    """What is known to be lost in, between and behind segments in order, which end at `end`.

    Damage inside sealed ones shows only on reading. `read_to`: somebody has read all before this offset.
    """
    behind = Gap(end, read_to, "the end is missing: it has been read further")
    return tuple(gap for gap in (*_gaps(segments), behind) if gap.next > gap.first)


def _gaps(segments: Sequence[Segment]) -> Iterator[Gap]:
    for segment, following in zip_longest(segments, segments[1:]):
        behind = segment.next if following is None else following.first
        for first, found in segment.damage:
            yield Gap(first, found, f"damaged blocks in {segment.path.name}")
        if not segment.marker:
            yield Gap(segment.first, behind, f"{segment.path.name} is damaged")
        else:
            yield Gap(segment.next, behind, "a file is missing or damaged")
