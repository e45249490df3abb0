"""What the parts of this room ask of each other: Source, Sink and Receiver.

Here: protocols, and the one error that only sinks raise. Not here: the threads that drive them (consumer.py for sinks,
delivery.py for receivers).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from telemetry import AlertEvent, ReadingBatch, Rejected


class Step(Protocol):
    """Some readings, and where to read on once they are durable."""

    @property
    def batch(self) -> ReadingBatch:
        """May be empty: messages without readings still move the offset."""
        ...

    @property
    def next(self) -> int:
        """Journal offset after the last message of `batch`."""
        ...


class Source(Protocol):
    """One consumer's view of the journal, decoded; the head's feed gives such subscriptions."""

    def read(self, timeout: float) -> Step | None:
        """The next step in order; None when nothing new came within `timeout` seconds."""
        ...


class Sink(Protocol):
    """Where readings go: a store, a database, a bus."""

    @property
    def name(self) -> str:
        """Unique; names the sink's cursor, counters and log lines."""
        ...

    def write(self, batch: ReadingBatch) -> None:
        """Make every row durable at the far side before returning. Idempotent: rows may come again, in any grouping.

        Never called with DUPLICATE rows or with an empty batch. Raises RetryLater (nothing, or only a part, was
        written: the same rows come again), Rejected (at least one row can never be written: the caller finds out
        which) or RejectedRows (these rows can never be written: the others come again without them).
        """
        ...

    def close(self) -> None:
        """Called once, after the last write has returned."""
        ...


class RejectedRows(Rejected):
    """A sink knows which rows can never be written, so that nobody has to search for them."""

    def __init__(self, message: str, rows: NDArray[np.bool_], *, reason: str) -> None:
        super().__init__(message)
        if not rows.any():
            raise ValueError("RejectedRows needs at least one row")
        self.rows = rows
        """(n,) mask over the batch; at least one is set."""
        self.reason = reason
        """One word for the counter."""


class Receiver(Protocol):
    """Where alert events go: a webhook, a chat, the log."""

    @property
    def name(self) -> str:
        """Unique; names the receiver's deliveries in the outbox."""
        ...

    def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
        """Tell the far side of all `events` (at least one, of one alertname, oldest first) in one message.

        False if they are nothing to tell this receiver, so that it was not asked. `repeat`: an earlier try may have
        arrived although we never heard so. Raises RetryLater or Rejected.
        """
        ...

    def close(self) -> None:
        """Called once, after the last send has returned."""
        ...
