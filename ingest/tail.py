"""The tail of the journal in memory, so that who follows it closely need not read back what was just written."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable

import numpy as np

from ingest.block import Records

_RECORD_BYTES = 200
"""What a record costs beside its payload, roughly."""


class Tail:
    """The newest committed records, in the pieces in which they came; bounded by bytes. Any thread may use it."""

    def __init__(self, max_bytes: int = 16 << 20) -> None:
        self._pieces: deque[Records] = deque()
        self._sizes: deque[int] = deque()
        self._size, self._max_bytes = 0, max_bytes
        self._lock = threading.Lock()

    def add(self, pieces: Iterable[Records]) -> None:
        """Pieces that have become durable."""
        with self._lock:
            for piece in pieces:
                if self._pieces and self._pieces[-1].next != piece.first:
                    self._clear()
                size = sum(map(len, piece.payloads)) + _RECORD_BYTES * len(piece)
                self._pieces.append(piece)
                self._sizes.append(size)
                self._size += size
            while self._size > self._max_bytes and self._pieces:
                self._pieces.popleft()
                self._size -= self._sizes.popleft()

    def read(self, offset: int, limit: int) -> Records | None:
        """Up to `limit` records from `offset` on; None if that is not here."""
        with self._lock:
            if not self._pieces or not self._pieces[0].first <= offset < self._pieces[-1].next:
                return None
            at = bisect_right(self._pieces, offset, key=_first) - 1
            found = []
            while at < len(self._pieces) and self._pieces[at].first < offset + limit:
                found.append(self._pieces[at])
                at += 1
        joined = _joined(found)
        start = offset - joined.first
        return joined.part(start, min(start + limit, len(joined)))

    def _clear(self) -> None:
        self._pieces.clear()
        self._sizes.clear()
        self._size = 0


def _first(piece: Records) -> int:
    return piece.first


def _joined(pieces: list[Records]) -> Records:
    if len(pieces) == 1:
        return pieces[0]
    return Records(
        pieces[0].first,
        np.concatenate([piece.received for piece in pieces]),
        np.concatenate([piece.flags for piece in pieces]),
        [topic for piece in pieces for topic in piece.topics],
        [payload for piece in pieces for payload in piece.payloads],
        np.concatenate([piece.mids for piece in pieces]),
    )
