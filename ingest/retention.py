"""Which of a journal's files may go. Here: decisions about segments in order. Not here: deleting them (`journal`)."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.config import JournalConfig
from ingest.segment import Segment


def consumed(segments: Sequence[Segment], needed: int) -> int:
    """How many of the oldest hold nothing at `needed` or behind it; never the newest."""
    n = 0
    while n + 1 < len(segments) and segments[n + 1].first <= needed:
        n += 1
    return n


def outdated(segments: Sequence[Segment], needed: int, config: JournalConfig) -> int:
    """How many of the consumed ones retention does not ask for. Age is measured against the newest record."""
    total = sum(segment.end for segment in segments)
    newest = max((segment.newest for segment in segments), default=0)
    for n, segment in enumerate(segments[: consumed(segments, needed)]):
        if total <= config.retention_bytes and newest - segment.newest <= config.retention_age:
            return n
        total -= segment.end
    return consumed(segments, needed)
