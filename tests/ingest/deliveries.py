"""Arrivals message by message, for tests that look at each."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from ingest.arrivals import Arrivals
from ingest.block import DUP, QOS_SHIFT, RETAIN
from telemetry import Message


class Delivery(NamedTuple):
    """A message, and the number of the connection that brought it."""

    message: Message
    epoch: int

    @property
    def mid(self) -> int:
        return self.message.mid


def mids_of(arrivals: Arrivals) -> list[int]:
    return [mid for (mid,) in struct.iter_unpack("!H", arrivals.mids)]


def deliveries(arrived: Iterable[Arrivals]) -> list[Delivery]:
    found = []
    for each in arrived:
        columns = zip(each.topics, each.payloads, each.flags, mids_of(each), strict=True)
        for i, (topic, payload, flags, mid) in enumerate(columns):
            qos, retain, dup = flags >> QOS_SHIFT & 3, bool(flags & RETAIN), bool(flags & DUP)
            message = Message(topic, payload, qos, retain, dup, each.received + i, mid)
            found.append(Delivery(message, each.epoch))
    return found


def arrived(several: Iterable[Delivery]) -> list[Arrivals]:
    """Each by itself."""
    return [Arrivals.of(each.message, each.epoch) for each in several]
