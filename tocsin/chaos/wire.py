"""MQTT 5 as it passes by on a wire: enough of it to know which message was delivered, and which acknowledged.

Source: MQTT 5.0, 1.5.5 (variable byte integer), 2.1 (fixed header), 3.3 (PUBLISH), 3.4 (PUBACK).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

PUBLISH, PUBACK, SUBACK = 3, 4, 9
_REFUSED = 0x80


class Packet(NamedTuple):
    """One MQTT control packet."""

    kind: int
    flags: int
    body: bytes


class Delivered(NamedTuple):
    """A PUBLISH of QoS 1."""

    packet_id: int
    topic: str
    payload: bytes


class Packets:
    """Cuts one direction of a connection into packets, however it comes in pieces."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Packet]:
        """The packets that are complete by now."""
        rest = self._rest + data
        at = 0
        while (header := _length(rest, at + 1)) is not None:
            length, start = header
            if start + length > len(rest):
                break
            yield Packet(rest[at] >> 4, rest[at] & 0x0F, rest[start : start + length])
            at = start + length
        self._rest = rest[at:]


def delivered(packet: Packet) -> Delivered | None:
    """What a PUBLISH delivers; None for QoS 0, of which nobody promises anything."""
    if not packet.flags & 0x06:
        return None
    body = packet.body
    end = 2 + int.from_bytes(body[:2], "big")
    packet_id = int.from_bytes(body[end : end + 2], "big")
    properties, start = _length(body, end + 2) or (0, len(body))
    return Delivered(packet_id, body[2:end].decode(), body[start + properties :])


def acknowledged(packet: Packet) -> int | None:
    """The packet identifier that a PUBACK takes responsibility for; None if it refuses it."""
    if len(packet.body) > 2 and packet.body[2] >= _REFUSED:
        return None
    return int.from_bytes(packet.body[:2], "big")


def _length(data: bytes, at: int) -> tuple[int, int] | None:
    """A variable byte integer: (its value, where it ends); None if it is not there as a whole."""
    value = 0
    for i in range(4):
        if at + i >= len(data):
            return None
        value |= (data[at + i] & 0x7F) << (7 * i)
        if data[at + i] < 0x80:
            return value, at + i + 1
    raise ValueError("this is no MQTT")
