"""Messages on their way from a socket to the journal, as columns: an object for each would cost more than the rest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ingest.block import DUP, QOS_SHIFT, RETAIN, Records
from telemetry import Message

NO_MID = b"\0\0"
_PUBACK, _PUBCOMP = 0x4002, 0x7002
"""What is sent before a packet identifier to acknowledge QoS 1 and QoS 2."""
_QOS = 3 << QOS_SHIFT


class Arrivals:
    """n messages that were read from one connection at once, in order. Filled by who reads, then left as it is."""

    __slots__ = ("epoch", "flags", "mids", "payloads", "received", "size", "topics")

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
        self.mids = bytearray()
        """2 n; packet identifiers as they came, two bytes each (big-endian); NO_MID for QoS 0."""
        self.size = 0
        """Bytes of topics and payloads, and perhaps of what was around them."""

    def __len__(self) -> int:
        return len(self.payloads)

    @classmethod
    def of(cls, message: Message, epoch: int) -> Arrivals:
        """A single one."""
        single = cls(epoch, message.received)
        single.topics.append(message.topic)
        single.payloads.append(message.payload)
        single.flags.append(message.retain * RETAIN | message.dup * DUP | message.qos << QOS_SHIFT)
        single.mids += message.mid.to_bytes(2, "big")
        single.size = len(message.topic) + len(message.payload)
        return single

    @property
    def confirmable(self) -> int:
        """How many of them wait for an acknowledgement."""
        return int(np.count_nonzero(np.frombuffer(self.mids, ">u2")))

    def acknowledgements(self) -> bytes:
        """Those of all messages, in their order."""
        mids = np.frombuffer(self.mids, ">u2")
        mids = mids[mids != 0]
        frames = np.empty((len(mids), 2), ">u2")
        # QoS 2 comes by itself: it is not for the short cut
        frames[:, 0] = _PUBCOMP if len(mids) == 1 and self.flags[0] & _QOS == 2 << QOS_SHIFT else _PUBACK
        frames[:, 1] = mids
        return frames.tobytes()

    def of_qos_0(self) -> Arrivals:
        """Those that nobody will send again."""
        kept = Arrivals(self.epoch, self.received)
        for i, flags in enumerate(self.flags):
            if not flags & _QOS:
                kept.topics.append(self.topics[i])
                kept.payloads.append(self.payloads[i])
                kept.flags.append(flags)
                kept.mids += NO_MID
        return kept


def as_records(arrived: Sequence[Arrivals]) -> Records:
    """For the journal, which gives the offsets."""
    if len(arrived) == 1:
        received = arrived[0].received + np.arange(len(arrived[0]), dtype=np.int64)
    else:
        received = np.concatenate([each.received + np.arange(len(each), dtype=np.int64) for each in arrived])
    return Records(
        0,
        received,
        np.frombuffer(b"".join([each.flags for each in arrived]), np.uint8),
        arrived[0].topics if len(arrived) == 1 else [topic for each in arrived for topic in each.topics],
        arrived[0].payloads if len(arrived) == 1 else [payload for each in arrived for payload in each.payloads],
        np.frombuffer(b"".join([each.mids for each in arrived]), ">u2").astype(np.uint16),
    )
