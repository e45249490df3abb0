"""Witness: what was sent, promised and received, seen from outside of tocsin. It believes no word that tocsin says.

Here: the record, and what follows from it alone. Not here: who reports to it (`plant`, `network`, `far_side`), what
tocsin has made of it (`oracle`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from simulators.fleet import Publication

Key = tuple[str, bytes]
"""Topic and payload; the fleet never sends the same twice, but for copies."""


class Told(NamedTuple):
    """One post of alerts that the receiver has taken."""

    key: str
    """Idempotency-Key."""
    repeat: bool
    ids: tuple[str, ...]


class Witness:
    """Thread-safe. Times are those of time.monotonic()."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: dict[Key, Publication] = {}
        """What the devices have sent, in their order; copies count in `times_sent`."""
        self.times_sent: Counter[Key] = Counter()
        self.published: dict[Key, float] = {}
        """What the broker has acknowledged to a device, and when."""
        self.delivered: set[Key] = set()
        """What the broker has given to tocsin."""
        self.acknowledged: dict[Key, float] = {}
        """What tocsin has acknowledged to the broker, and when first."""
        self.told: list[Told] = []
        """What the receiver of alerts has taken, in order."""
        self.posts: list[Told] = []
        """What reached the receiver of alerts, taken or not, in order."""
        self.points: dict[str, dict[int, float]] = {}
        """What the sink has taken: series as text → time, ns → value."""
        self.poison: set[tuple[str, int]] = set()
        """Points that the sink has refused for good: series, time."""
        self.broker_losses: list[tuple[float, float]] = []
        """When a broker without memory was killed, and when tocsin had subscribed again."""
        self._killed_at: float | None = None
        self._first: float | None = None

    def note_sent(self, publication: Publication) -> None:
        key = publication.topic, publication.payload
        with self._lock:
            self.sent.setdefault(key, publication)
            self.times_sent[key] += 1

    def note_published(self, publication: Publication) -> None:
        with self._lock:
            self.published[publication.topic, publication.payload] = time.monotonic()

    def note_delivered(self, topic: str, payload: bytes) -> None:
        with self._lock:
            self.delivered.add((topic, payload))

    def note_acknowledged(self, topic: str, payload: bytes) -> None:
        now = time.monotonic()
        with self._lock:
            self.acknowledged.setdefault((topic, payload), now)
            if self._first is None:
                self._first = now

    def note_told(self, told: Told, *, taken: bool) -> None:
        with self._lock:
            self.posts.append(told)
            if taken:
                self.told.append(told)

    def note_points(self, points: Sequence[tuple[str, int, float]]) -> None:
        with self._lock:
            for series, at, value in points:
                self.points.setdefault(series, {})[at] = value

    def note_poison(self, points: Sequence[tuple[str, int]]) -> None:
        with self._lock:
            self.poison.update(points)

    def note_broker_killed(self) -> None:
        """A broker that forgets is killed: what it has promised and not yet delivered is its own loss."""
        with self._lock:
            self._killed_at = time.monotonic()

    def note_subscribed(self) -> None:
        with self._lock:
            if self._killed_at is not None:
                self.broker_losses.append((self._killed_at, time.monotonic()))
                self._killed_at = None

    @property
    def is_subscribed(self) -> bool:
        """Whether the broker has known our subscription since it was last killed."""
        return self._killed_at is None

    def watch(self) -> float:
        """Begin to wait for an acknowledgement by tocsin (see `first_acknowledgement`); the time."""
        with self._lock:
            self._first = None
            return time.monotonic()

    @property
    def first_acknowledgement(self) -> float | None:
        """When tocsin acknowledged a message for the first time since `watch`."""
        return self._first

    def lost_by_broker(self, key: Key) -> bool:
        """Whether the broker may have forgotten it: acknowledged to the device, never by tocsin, and then killed."""
        at = self.published.get(key)
        return at is not None and key not in self.acknowledged and any(at <= back for _, back in self.broker_losses)

    def promised(self) -> set[Key]:
        """Messages that must be in the journal: acknowledged by tocsin, or by the broker unless it has lost them."""
        with self._lock:
            return {*self.acknowledged, *(key for key in self.published if not self.lost_by_broker(key))}
