"""Blocks: the records of one append as checksummed columns, and the way back from bytes to Records.

Here: the layout of a block and its proof of integrity. Not here: files, offsets of segments, who may write.

A block is a header and then the columns received int64[n], flags uint8[n], mid uint16[n], topic length uint16[n],
payload length uint32[n], all topics joined, all payloads joined; little-endian. The header begins with a marker of 8
random bytes that belongs to the segment: no message can contain it, so that after damage the next block is found
without mistaking a payload for a block. The CRC-32 covers the marker and everything behind the CRC.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import Message

RETAIN = 0x01
"""The broker sent it as a retained message."""
DUP = 0x02
"""The broker says that it may have sent it before."""
QOS_SHIFT = 2
"""Bits 2 and 3 hold the QoS."""
TICK = 0x80
"""Our clock, not a message: no topic, no payload."""
SAMPLES = 0x40
"""Samples that recording rules have made, not a message: no broker can deliver a record with this bit."""

REPLAYED = 0x20
"""A dead letter that was written again (`dead_letters`), with the other flags and the `received` of its first time."""

RECORDS = 0
"""Kind of a block: records."""
INDEX = 1
"""Kind of a block: the index that ends a full segment."""

HEADER = struct.Struct("<8sIB3xIIQq")
"""marker, CRC-32, kind, bytes of the body, count, first offset, newest `received`."""
_CHECKED_FROM = 12
PER_RECORD = 8 + 1 + 2 + 2 + 4
"""Bytes of a record without its topic and payload."""
_WINDOW = 1 << 20
_MOST_MESSAGES = 10_000
_MOST_BYTES = 8 << 20
"""In a block, of payloads."""


@dataclass(frozen=True, slots=True)
class Records:
    """n consecutive committed records as columns (n = 0 is legal)."""

    first: int
    """Offset of record 0; record i has the offset first + i."""
    received: NDArray[np.int64]
    """(n,) our clock, ns since the epoch (UTC)."""
    flags: NDArray[np.uint8]
    """(n,) RETAIN | DUP | QoS << QOS_SHIFT, or TICK, or SAMPLES; REPLAYED beside any but TICK."""
    topics: list[str]
    """n; empty for ticks."""
    payloads: list[bytes]
    """n; empty for ticks."""
    mids: NDArray[np.uint16]
    """(n,) MQTT packet identifiers; 0 for QoS 0 and for what is no message."""

    def __len__(self) -> int:
        return len(self.topics)

    @property
    def next(self) -> int:
        """The offset behind the last record."""
        return self.first + len(self.topics)

    def part(self, start: int, stop: int) -> Records:
        """Records start to stop (exclusive), counted from the first."""
        if start == 0 and stop == len(self):
            return self
        part = slice(start, stop)
        return Records(
            self.first + start,
            self.received[part],
            self.flags[part],
            self.topics[part],
            self.payloads[part],
            self.mids[part],
        )

    @classmethod
    def empty(cls, first: int) -> Records:
        return cls(first, np.empty(0, np.int64), np.empty(0, np.uint8), [], [], np.empty(0, np.uint16))


class Block(NamedTuple):
    """What the header of a block says, and where the block stands."""

    kind: int
    first: int
    records: int
    """How many; of an INDEX: entries."""
    newest: int
    """ns, largest `received` in the block."""
    position: int
    """Of the header, in the file."""
    end: int
    """Position behind the block."""

    @property
    def next(self) -> int:
        """Offset behind the last record."""
        return self.first + self.records


def columns_of(messages: Sequence[Message], mark: int = 0) -> Records:
    """Messages as records; `mark` is added to the flags of each."""
    return Records(
        0,
        np.array([m.received for m in messages], np.int64),
        np.array([m.retain | m.dup << 1 | m.qos << QOS_SHIFT | mark for m in messages], np.uint8),
        [m.topic for m in messages],
        [m.payload for m in messages],
        np.array([m.mid for m in messages], np.uint16),
    )


def portions(records: Records) -> Iterator[Records]:
    """Parts that each make a block of bounded size."""
    if len(records) <= _MOST_MESSAGES and sum(map(len, records.payloads)) <= _MOST_BYTES:
        yield records
        return
    start = size = 0
    for i, payload in enumerate(records.payloads):
        size += len(payload)
        if i > start and (i - start >= _MOST_MESSAGES or size > _MOST_BYTES):
            yield records.part(start, i)
            start, size = i, len(payload)
    yield records.part(start, len(records))


def encode(marker: bytes, records: Records, body: bytes) -> bytes:
    """The block of one or more records, whose `body_of` is given."""
    newest = int(records.received.max())
    return seal(marker, RECORDS, body, count=len(records), first=records.first, newest=newest)


def body_of(records: Records) -> bytes:
    """The columns of one or more records."""
    topics, payloads = records.topics, records.payloads
    joined = "".join(topics)
    if joined.isascii():
        names, topic_lengths = joined.encode(), array("H", map(len, topics))
    else:
        encoded = [topic.encode("utf-8", "surrogatepass") for topic in topics]
        names, topic_lengths = b"".join(encoded), array("H", map(len, encoded))
    return b"".join(
        (
            records.received.tobytes(),
            records.flags.tobytes(),
            records.mids.tobytes(),
            topic_lengths.tobytes(),
            array("I", map(len, payloads)).tobytes(),
            names,
            *payloads,
        )
    )


def tick_at(offset: int, time: int) -> Records:
    """A tick of our clock, ns, as a record."""
    return Records(offset, np.array([time]), np.array([TICK], np.uint8), [""], [b""], np.zeros(1, np.uint16))


def seal(marker: bytes, kind: int, body: bytes, *, count: int, first: int, newest: int) -> bytes:
    """Header and body of a block."""
    rest = HEADER.pack(marker, 0, kind, len(body), count, first, newest)[_CHECKED_FROM:]
    crc = zlib.crc32(body, zlib.crc32(rest, zlib.crc32(marker)))
    return b"".join((marker, crc.to_bytes(4, "little"), rest, body))


class Columns:
    """Collects records out of consecutive blocks; numpy only once at the end, since most blocks are small."""

    def __init__(self) -> None:
        self._received: list[bytes] = []
        self._flags: list[bytes] = []
        self._mids: list[bytes] = []
        self._topics: list[str] = []
        self._payloads: list[bytes] = []

    def __len__(self) -> int:
        return len(self._topics)

    def take(self, block: Block, data: bytes, start: int, *, low: int, high: int) -> None:
        """Records low to high (exclusive) of a valid block whose body begins at `data[start]`."""
        n = block.records
        self._received.append(data[start + 8 * low : start + 8 * high])
        self._flags.append(data[start + 8 * n + low : start + 8 * n + high])
        self._mids.append(data[start + 9 * n + 2 * low : start + 9 * n + 2 * high])
        lengths = struct.unpack_from(f"<{n}H{n}I", data, start + 11 * n)
        names = start + PER_RECORD * n
        payloads = names + sum(lengths[:n])
        at = names + sum(lengths[:low])
        if data[names:payloads].isascii():
            text, at = data[at:payloads].decode(), 0
            self._topics += [text[at : (at := at + length)] for length in lengths[low:high]]
        else:
            self._topics += [
                data[at : (at := at + length)].decode("utf-8", "surrogatepass") for length in lengths[low:high]
            ]
        at = payloads + sum(lengths[n : n + low])
        self._payloads += [data[at : (at := at + length)] for length in lengths[n + low : n + high]]

    def records(self, first: int) -> Records:
        """All that was collected."""
        return Records(
            first,
            np.frombuffer(b"".join(self._received), np.int64),
            np.frombuffer(b"".join(self._flags), np.uint8),
            self._topics,
            self._payloads,
            np.frombuffer(b"".join(self._mids), np.uint16),
        )


def walk(
    fd: int, position: int, end: int, marker: bytes, *, growing: bool = False
) -> Iterator[tuple[Block, bytes, int]]:
    """Every valid block of a file from `position` up to `end`, with the bytes that hold it and where its body begins.

    Damaged stretches are stepped over: the caller sees them as a jump in positions. Reads with `pread`, so that any
    number of threads may walk the same file. `growing`: somebody writes to it, so what is reserved and still empty is
    not searched.
    """
    data, base = b"", position
    while position + HEADER.size <= end:
        at = position - base
        if at + HEADER.size > len(data):
            data, base, at = os.pread(fd, min(_WINDOW, end - position), position), position, 0
            if len(data) < HEADER.size:
                return
        block = _header(data, at, position, marker)
        if block is not None and block.end <= end:
            if at + block.end - position > len(data):
                data, base, at = os.pread(fd, max(_WINDOW, block.end - position), position), position, 0
            if _intact(data, at, block, marker):
                yield block, data, at + HEADER.size
                position = block.end
                continue
        if growing and not any(data[at : at + len(marker)]):
            return
        found = data.find(marker, at + 1)
        position = base + (found if found >= 0 else max(at + 1, len(data) - len(marker) + 1))


def _header(data: bytes, at: int, position: int, marker: bytes) -> Block | None:
    found, _, kind, length, count, first, newest = HEADER.unpack_from(data, at)
    if found != marker:
        return None
    return Block(kind, first, count, newest, position, position + HEADER.size + length)


def _intact(data: bytes, at: int, block: Block, marker: bytes) -> bool:
    length = block.end - block.position
    checked = memoryview(data)[at + _CHECKED_FROM : at + length]
    crc = zlib.crc32(checked, zlib.crc32(marker))
    return len(checked) == length - _CHECKED_FROM and crc == int.from_bytes(data[at + 8 : at + 12], "little")
