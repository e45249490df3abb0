"""Reading every block of a journal: what is in it, and what is wrong with it. Changes nothing, beside a running writer.

Not here: what a writer mends when it opens the journal (`recovery`).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

import numpy as np

from ingest.block import INDEX, SAMPLES, TICK, walk
from ingest.segment import FOOTER, HEADER_BYTES, SUFFIX, Segment

KINDS = ("messages", "ticks", "samples")
"""What records are."""

Progress = Callable[[int], object]
"""Told of so many more bytes that are done."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be."""

    file: str
    position: int
    """Bytes from the file's beginning."""
    bytes: int
    first: int
    next: int
    """Offsets [first, next) are lost; none if they are equal."""
    what: str

    @property
    def is_damage(self) -> bool:
        """False: it is what a crash leaves behind, and nothing that was committed."""
        return self.next > self.first


@dataclass(slots=True)
class Checked:
    """What is in one file."""

    file: str
    bytes: int
    """Of its blocks; room that is reserved does not count."""
    first: int
    next: int
    kinds: Counter[str] = field(default_factory=Counter)
    """Records by kind."""
    oldest: int | None = None
    newest: int | None = None
    """Smallest and largest `received`, ns."""
    sealed: bool = False
    findings: list[Finding] = field(default_factory=list)


def files_of(directory: Path) -> list[Path]:
    """The journal's files, in order."""
    return sorted(directory.glob(f"{'[0-9]' * 20}{SUFFIX}"))


def check(paths: list[Path], progress: Progress = lambda _: None) -> Iterator[Checked]:
    """Verifies every block of the files, which are in order. Raises OSError."""
    expected: int | None = None
    for path, following in zip_longest(paths, paths[1:]):
        try:
            checked = _check_file(path, None if following is None else int(following.stem), progress)
        except FileNotFoundError:
            expected = None  # trimmed meanwhile
            continue
        if expected is not None and checked.first > expected:
            checked.findings.insert(0, Finding(path.name, 0, 0, expected, checked.first, "a file before it is missing"))
        expected = checked.next
        yield checked


def _check_file(path: Path, following: int | None, progress: Progress) -> Checked:
    """`following`: the offset at which the next file begins."""
    segment = Segment.open(path)
    done = Checked(path.name, 0, segment.first, segment.first)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        at = _blocks(segment, fd, size, done, progress) if segment.marker else 0
        if not done.sealed:
            _tail(segment, fd, at, following, done)
    finally:
        os.close(fd)
    progress(size - at)
    return done


def _blocks(segment: Segment, fd: int, size: int, done: Checked, progress: Progress) -> int:
    """All blocks; returns the position behind the last of them."""
    at = HEADER_BYTES
    progress(at)
    for block, data, start in walk(fd, at, size, segment.marker):
        if block.position > at:
            lost = max(block.first, done.next)
            done.findings.append(Finding(done.file, at, block.position - at, done.next, lost, "damaged blocks"))
        progress(block.end - at)
        at = block.end
        if block.kind == INDEX:
            done.sealed, done.next = True, max(done.next, block.first)
            if os.pread(fd, size, at) != FOOTER.pack(block.position, segment.marker):
                done.findings.append(Finding(done.file, at, size - at, 0, 0, "its index has no end: slower to open"))
            return at
        n = block.records
        flags = data[start + 8 * n : start + 9 * n]
        ticks = flags.count(TICK)
        samples = int(np.count_nonzero(np.frombuffer(flags, np.uint8) & SAMPLES))
        done.kinds.update(dict(zip(KINDS, (n - ticks - samples, ticks, samples), strict=True)))
        oldest = int(np.frombuffer(data, np.int64, n, start).min())
        done.oldest = oldest if done.oldest is None else min(done.oldest, oldest)
        done.newest = block.newest if done.newest is None else max(done.newest, block.newest)
        done.bytes, done.next = at, max(done.next, block.next)
    return at


def _tail(segment: Segment, fd: int, at: int, following: int | None, done: Checked) -> None:
    """What is behind the last block of a file that has no index."""
    segment.end = at
    torn = segment.used(fd) - at
    behind = done.next if following is None else max(following, done.next)
    if not segment.marker:
        lost = segment.first + segment.records_possible(at + torn) if following is None else behind
        what = "its header is damaged" if torn else "its creation was interrupted"
        done.findings.append(Finding(done.file, 0, torn, segment.first, lost, what))
        done.next = lost
    elif behind > done.next:
        done.findings.append(Finding(done.file, at, torn, done.next, behind, "its end is missing or damaged"))
        done.next = behind
    elif torn:
        done.findings.append(Finding(done.file, at, torn, 0, 0, "an append that was interrupted, or is under way"))
