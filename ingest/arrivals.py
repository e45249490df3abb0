"""Messages on their way from a socket to the journal, as columns: an object for each would cost more than the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingest.block import DUP, QOS_SHIFT, RETAIN, Records
from telemetry import Message

NO_MID = b"\0\0"
PUBACK, PUBCOMP = b"\x40\x02", b"\x70\x02"
"""What is sent before a packet identifier to acknowledge QoS 1 and QoS 2."""
_QOS = 3 << QOS_SHIFT


class Arrivals:
    """n messages that were read from one connection at once, in order. Filled by who reads, then left as it is."""

    __slots__ = ("epoch", "flags", "mids", "payloads", "received", "topics")

    def __init__(self, epoch: int, received: int) -> None:
        """`epoch`: number of the connection; `received`: our clock when they were read, ns.

        Message i counts as received i ns later: two readings without a time of their own must not have the same.
        """
        self.epoch, self.received = epoch, received
        self.topics: list[str] = []
        """n"""
        self.payloads: list[bytes] = []
        """n"""
        self.flags = bytearray()
        """n; as in the journal: RETAIN | DUP | QoS << QOS_SHIFT."""
        self.mids: list[bytes] = []
        """n; packet identifiers as they came, two bytes each (big-endian); NO_MID for QoS 0."""

    def __len__(self) -> int:
        return len(self.payloads)

    @classmethod
    def of(cls, message: Message, epoch: int) -> Arrivals:
        """A single one."""
        single = cls(epoch, message.received)
        single.topics.append(message.topic)
        single.payloads.append(message.payload)
        single.flags.append(message.retain * RETAIN | message.dup * DUP | message.qos << QOS_SHIFT)
        single.mids.append(message.mid.to_bytes(2, "big"))
        return single

    @property
    def size(self) -> int:
        """Bytes of topics and payloads."""
        return sum(map(len, self.topics)) + sum(map(len, self.payloads))

    @property
    def confirmable(self) -> int:
        """How many of them wait for an acknowledgement."""
        return len(self) - self.mids.count(NO_MID)

    def acknowledgements(self) -> bytes:
        """Those of all messages, in their order."""
        if len(self.flags) == 1:
            ack = PUBCOMP if self.flags[0] & _QOS == 2 << QOS_SHIFT else PUBACK
            return b"" if self.mids[0] == NO_MID else ack + self.mids[0]
        # QoS 2 comes by itself: it is not for the short cut
        mids = self.mids if NO_MID not in self.mids else [mid for mid in self.mids if mid != NO_MID]
        return PUBACK + PUBACK.join(mids) if mids else b""

    def of_qos_0(self) -> Arrivals:
        """Those that nobody will send again."""
        kept = Arrivals(self.epoch, self.received)
        for i, flags in enumerate(self.flags):
            if not flags & _QOS:
                kept.topics.append(self.topics[i])
                kept.payloads.append(self.payloads[i])
                kept.flags.append(flags)
                kept.mids.append(self.mids[i])
        return kept


def as_records(arrived: Sequence[Arrivals]) -> Records:
    """For the journal, which gives the offsets."""
    mids = b"".join([mid for each in arrived for mid in each.mids])
    return Records(
        0,
        np.concatenate([each.received + np.arange(len(each), dtype=np.int64) for each in arrived]),
        np.frombuffer(b"".join([each.flags for each in arrived]), np.uint8),
        arrived[0].topics if len(arrived) == 1 else [topic for each in arrived for topic in each.topics],
        arrived[0].payloads if len(arrived) == 1 else [payload for each in arrived for payload in each.payloads],
        np.frombuffer(mids, ">u2").astype(np.uint16),
    )
