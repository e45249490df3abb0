"""What arrives from outside (Message) and what we add ourselves (Tick)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Message:
    """One MQTT PUBLISH as it was received, before any decoding."""

    topic: str
    payload: bytes
    qos: int = 0
    retain: bool = False
    dup: bool = False
    received: int = 0
    """Our clock when the message was read from the socket, in ns since the epoch (UTC)."""
    mid: int = 0
    """MQTT packet identifier, by which a redelivery is recognised; 0 for QoS 0."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Our clock, written to the journal once a second, so that timers replay exactly."""

    time: int
    """ns since the epoch (UTC)."""
    offset: int = 0
    """Journal offset of the tick."""
