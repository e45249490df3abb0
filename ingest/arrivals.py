"""Messages on their way from a socket to the journal, as columns: an object for each would cost more than the rest."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.block import DUP, QOS_SHIFT, RETAIN
from telemetry import Message

NO_MID = b"\0\0"


class Arrivals:
    """n messages that were read from one connection at once, in order. Filled by whoever reads, then left as it is."""

    __slots__ = ("epoch", "flags", "mids", "payloads", "received", "topics")

    def __init__(self, epoch: int = 0, received: int = 0) -> None:
        """`epoch`: number of the connection; `received`: our clock when they were read, ns."""
        self.epoch, self.received = epoch, received
        self.topics: list[bytes] = []
        """n; UTF-8, not checked."""
        self.payloads: list[bytes] = []
        """n"""
        self.flags = bytearray()
        """n; as in the journal: RETAIN | DUP | QoS << QOS_SHIFT."""
        self.mids: list[bytes] = []
        """n; packet identifiers as they came, two bytes each (big-endian); NO_MID of QoS 0."""

    def __len__(self) -> int:
        return len(self.topics)

    @property
    def size(self) -> int:
        """Bytes of topics and payloads."""
        return sum(map(len, self.topics)) + sum(map(len, self.payloads))

    def add(self, topic: bytes, payload: bytes, flags: int, mid: bytes = NO_MID) -> None:
        self.topics.append(topic)
        self.payloads.append(payload)
        self.flags.append(flags)
        self.mids.append(mid)


def flags_of(message: Message) -> int:
    """As in the journal."""
    return message.retain * RETAIN | message.dup * DUP | message.qos << QOS_SHIFT


def arrivals(messages: Sequence[Message]) -> Arrivals:
    """Messages as columns; they have one time of arrival, that of the first."""
    columns = Arrivals(received=messages[0].received if messages else 0)
    for m in messages:
        columns.add(m.topic.encode("utf-8", "surrogatepass"), m.payload, flags_of(m), m.mid.to_bytes(2, "big"))
    return columns
