"""Counts of what happened to rows and messages, by stage and reason. What is dropped is counted here by its reason."""

from __future__ import annotations

import threading
from collections import defaultdict


class Counters:
    """Thread-safe counters named `stage.outcome`, with an optional reason: ("ingest.rejected", "payload_too_large")."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: defaultdict[tuple[str, str], int] = defaultdict(int)

    def add(self, name: str, n: int = 1, reason: str = "") -> None:
        if n:
            with self._lock:
                self._counts[name, reason] += n

    def get(self, name: str, reason: str | None = None) -> int:
        """The count of `name` with that reason; over all reasons when `reason` is None."""
        with self._lock:
            if reason is not None:
                return self._counts.get((name, reason), 0)
            return sum(n for (key, _), n in self._counts.items() if key == name)

    def reasons(self, name: str) -> dict[str, int]:
        with self._lock:
            return {reason: n for (key, reason), n in self._counts.items() if key == name}

    def snapshot(self) -> dict[tuple[str, str], int]:
        """A consistent copy of everything."""
        with self._lock:
            return dict(self._counts)
