"""What opening a journal finds out about it: what is there, what was cut off, what is lost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from ingest.segment import Segment


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


def find_gaps(segments: Sequence[Segment]) -> tuple[Gap, ...]:
    """What is known to be lost in and between segments in order; damage inside sealed ones shows only on reading."""
    return tuple(gap for gap in _gaps(segments) if gap.next > gap.first)


def _gaps(segments: Sequence[Segment]) -> Iterator[Gap]:
    for segment, following in zip_longest(segments, segments[1:]):
        behind = segment.next if following is None else following.first
        for first, found in segment.damage:
            yield Gap(first, found, f"damaged blocks in {segment.path.name}")
        if not segment.marker:
            yield Gap(segment.first, behind, f"{segment.path.name} is damaged")
        else:
            yield Gap(segment.next, behind, "a file is missing or damaged")
