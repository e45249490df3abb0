"""Messages that came before: redelivered by the broker, or sent twice on their way to it.

Here: how they are recognised. Not here: readings that came before in other messages (`lateness`), and what is done with
repeats (`feed`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ingest.block import DUP, Records

_NONE = -1
_MIDS = 1 << 16
_READ_AT_ONCE = 2_000
_HOUR_NS = 3_600 * 10**9
_MAX_IDS = 500_000

Read = Callable[[int, int], Records]
"""Journal.read: consecutive records from an offset on, at most so many."""


class Redeliveries:
    """Recognises what a broker sends once more because our PUBACK did not reach it (MQTT 5.0, 4.4).

    Such a message has the DUP flag, and the packet identifier, topic and payload of one that is in the journal. All of
    them are asked for: the flag is also set when the first delivery never arrived, and identifiers are used anew.
    """

    def __init__(self) -> None:
        self._last = np.full(_MIDS, _NONE, np.int64)
        """Offset of the last record with each packet identifier."""

    def find(self, records: Records, read: Read) -> NDArray[np.int64]:
        """Offsets of those among the next records that came before. Raises what `read` raises, and then knows nothing
        of these records.
        """
        mids = records.mids
        suspects = np.flatnonzero((records.flags & DUP != 0) & (mids > 0)).tolist()
        before = self._before(records, suspects)
        first = _contents(sorted({offset for offset in before.values() if offset < records.first}), read)
        found = []
        for i, offset in before.items():
            told = records.topics[i], records.payloads[i]
            at = offset - records.first
            if told == (first.get(offset) if at < 0 else (records.topics[at], records.payloads[at])):
                found.append(records.first + i)
        known = np.flatnonzero(mids)
        self._last[mids[known]] = records.first + known  # of several with one identifier, numpy keeps the last
        return np.array(found, np.int64)

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything, as arrays."""
        return {"last": self._last.copy()}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Takes over what `state` gave."""
        self._last = state["last"].astype(np.int64)

    def _before(self, records: Records, suspects: list[int]) -> dict[int, int]:
        """By suspect: the offset of the record before it that has its packet identifier, if there is one."""
        if not suspects:
            return {}
        wanted, found = set(suspects), {}
        latest: dict[int, int] = {}
        for i, mid in enumerate(records.mids[: suspects[-1] + 1].tolist()):
            if i in wanted:
                offset = latest.get(mid, int(self._last[mid]))
                if _NONE < offset < records.first + i:
                    found[i] = offset
            latest[mid] = records.first + i
        return found


class MessageIds:
    """Ids that senders gave their messages, as far as they came within the last hour."""

    def __init__(self, max_ids: int = _MAX_IDS) -> None:
        self._received: dict[bytes, int] = {}
        """By digest of id; in the order of arrival."""
        self._max_ids = max_ids

    def __len__(self) -> int:
        return len(self._received)

    def came_before(self, id_: tuple[str, ...], received: int) -> bool:
        """Whether the id was remembered less than an hour before `received` (our clock, ns)."""
        before = self._received.get(_digest(id_))
        return before is not None and received - before < _HOUR_NS

    def remember(self, id_: tuple[str, ...], received: int) -> None:
        """From now on it has come. Bounded: the oldest are forgotten."""
        key = _digest(id_)
        self._received.pop(key, None)
        self._received[key] = received
        while len(self._received) > self._max_ids or received - next(iter(self._received.values())) >= _HOUR_NS:
            del self._received[next(iter(self._received))]

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything, as two columns."""
        keys = np.frombuffer(b"".join(self._received), np.uint64)
        return {"ids": keys, "received": np.array(list(self._received.values()), np.int64)}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Takes over what `state` gave."""
        keys = state["ids"].astype(np.uint64).tobytes()
        self._received = {
            keys[8 * i : 8 * i + 8]: received for i, received in enumerate(state["received"].astype(np.int64).tolist())
        }


def _digest(id_: tuple[str, ...]) -> bytes:
    said = "".join(f"{len(part)}:{part}" for part in id_).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=8).digest()


def _contents(offsets: list[int], read: Read) -> dict[int, tuple[str, bytes]]:
    """Topic and payload of the records at these offsets, ascending, as far as they are still there."""
    found: dict[int, tuple[str, bytes]] = {}
    records: Records | None = None
    for offset in offsets:
        if records is None or offset >= records.next:
            records = read(offset, _READ_AT_ONCE)
        at = offset - records.first
        if 0 <= at < len(records):
            found[offset] = records.topics[at], records.payloads[at]
    return found
