"""The inbox: what the MQTT session has received and the journal has not yet taken, bounded by bytes and count."""

from __future__ import annotations

import threading

from ingest.arrivals import Arrivals

_OVERHEAD_BYTES = 250
"""What a message costs in memory beside its topic and payload, roughly."""


class Inbox:
    """A queue between the network thread and the journal's.

    When it is full, `put` blocks: the network thread stops reading, and TCP makes the broker wait.
    """

    def __init__(self, *, max_bytes: int = 64 << 20, max_messages: int = 100_000) -> None:
        self._max_bytes, self._max_messages = max_bytes, max_messages
        self._changed = threading.Condition()
        self._waiting: list[Arrivals] = []
        self._messages = self._bytes = 0
        self._interrupted = False

    def __len__(self) -> int:
        """How many messages."""
        return self._messages

    def put(self, arrivals: Arrivals, timeout: float | None = None) -> bool:
        """Adds all of them as soon as there is room; False (and none added) if there is none within `timeout` seconds.

        There is room while the bounds are not reached, so one call may overrun them by what it brings.
        """
        size = arrivals.size + _OVERHEAD_BYTES * len(arrivals)
        with self._changed:
            if not self._changed.wait_for(self._has_room, timeout):
                return False
            self._waiting.append(arrivals)
            self._messages += len(arrivals)
            self._bytes += size
            self._changed.notify_all()
            return True

    def take(self, timeout: float) -> list[Arrivals]:
        """Everything that is there, in order of arrival; waits up to `timeout` seconds for something."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._interrupted, timeout)
            self._interrupted = False
            taken, self._waiting, self._messages, self._bytes = self._waiting, [], 0, 0
            self._changed.notify_all()
            return taken

    def interrupt(self) -> None:
        """Makes the current or next `take` return at once."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._bytes < self._max_bytes and self._messages < self._max_messages
