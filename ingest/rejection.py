"""What could not become readings, and why. Here: the record of it. Not here: where it is kept (dead_letters)."""

from __future__ import annotations

from dataclasses import dataclass

from ingest.block import REPLAYED, Records


class Refused(Exception):
    """A message, record or field cannot be used. Never leaves the decoder: it becomes a Rejection."""

    def __init__(self, reason: str, detail: str, *, rows: int = 1) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.rows = rows


@dataclass(frozen=True, slots=True)
class Rejection:
    """Readings of one message that were refused for one reason."""

    offset: int
    """Journal offset of the message."""
    received: int
    """Our clock, ns since the epoch (UTC)."""
    topic: str
    payload: bytes
    """Whole."""
    reason: str
    """One word for counters: `time_too_old`, `bad_json`, …"""
    detail: str
    """What is wrong, the place in the payload, and what to change."""
    stream: str
    """Name of the stream; empty when no stream has the topic."""
    rows: int = 1
    """Readings lost; 1 when the message could not be read at all."""
    flags: int = 0
    """Of the record (`Records.flags`), without REPLAYED."""
    sink: str = ""
    """The sink that has refused the reading (then `payload` is a point); empty for what could not be decoded."""


class Refusals:
    """Collects what is refused while Records are decoded: one entry for each message and reason.

    One entry, since a message with thousands of bad fields must not become thousands of dead letters.
    """

    def __init__(self) -> None:
        self._found: dict[tuple[int, str], tuple[Refused, str, int]] = {}

    def add(self, message: int, stream: str, why: Refused) -> None:
        """`message` counts from the first of the Records."""
        first, _, rows = self._found.get((message, why.reason), (why, stream, 0))
        self._found[message, why.reason] = (first, stream, rows + why.rows)

    def of(self, records: Records) -> list[Rejection]:
        """Everything collected, in the order of the messages."""
        return [
            Rejection(
                offset=records.first + message,
                received=int(records.received[message]),
                topic=records.topics[message],
                payload=records.payloads[message],
                reason=reason,
                detail=why.detail
                + (f" (and {rows - why.rows} more readings of this message)" if rows > why.rows else ""),
                stream=stream,
                rows=rows,
                flags=int(records.flags[message]) & ~REPLAYED,
            )
            for (message, reason), (why, stream, rows) in self._found.items()
        ]
