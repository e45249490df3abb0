"""The inbox: what the MQTT session has received and the journal has not yet taken, bounded by bytes and count."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import NamedTuple

from telemetry import Message

_OVERHEAD_BYTES = 250
"""What a message costs in memory beside its topic and payload, roughly."""


class Delivery(NamedTuple):
    """A message and what is needed to acknowledge it."""

    message: Message
    mid: int
    """MQTT packet identifier; 0 for QoS 0."""
    epoch: int
    """Number of the connection that delivered it."""


class Inbox:
    """A queue between the network thread and the journal's.

    When it is full, `put` blocks: the network thread stops reading, and TCP makes the broker wait.
    """

    def __init__(self, *, max_bytes: int = 64 << 20, max_messages: int = 100_000) -> None:
        self._max_bytes, self._max_messages = max_bytes, max_messages
        self._changed = threading.Condition()
        self._waiting: list[Delivery] = []
        self._bytes = 0
        self._interrupted = False

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, deliveries: Sequence[Delivery], timeout: float | None = None) -> bool:
        """Adds all of them as soon as there is room; False (and none added) if there is none within `timeout` seconds.

        There is room while the bounds are not reached, so one call may overrun them by what it brings.
        """
        size = sum(len(d.message.payload) + len(d.message.topic) + _OVERHEAD_BYTES for d in deliveries)
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout):
                return False
            self._waiting.extend(deliveries)
            self._bytes += size
            self._changed.notify_all()
            return True

    def take(self, timeout: float) -> list[Delivery]:
        """Everything that is there, in order of arrival; waits up to `timeout` seconds for something."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._interrupted, timeout)
            self._interrupted = False
            taken, self._waiting, self._bytes = self._waiting, [], 0
            self._changed.notify_all()
            return taken

    def interrupt(self) -> None:
        """Makes the current or next `take` return at once."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._bytes < self._max_bytes and len(self._waiting) < self._max_messages
