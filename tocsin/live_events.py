"""LiveEvents: readings and alert events as they come, for those who watch. Who is too slow misses some, and is told.

Here: handing on without ever delaying the pipeline. Not here: how watchers show it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from telemetry import AlertEvent, ReadingBatch

Happening = ReadingBatch | AlertEvent
_MOST_WAITING = 1_000


class Watch:
    """What one watcher has still to see."""

    def __init__(self) -> None:
        self._waiting: deque[Happening] = deque()
        self._missed = 0
        self._changed = threading.Condition()

    def take(self, timeout: float) -> tuple[list[Happening], int]:
        """What waits, in order, after at most so many seconds; and how many before it there was no room for."""
        with self._changed:
            if not self._waiting:
                self._changed.wait(timeout)
            found, missed = list(self._waiting), self._missed
            self._waiting.clear()
            self._missed = 0
            return found, missed

    def put(self, happening: Happening) -> None:
        """Never waits: the oldest goes if there is no room."""
        with self._changed:
            if len(self._waiting) >= _MOST_WAITING:
                self._waiting.popleft()
                self._missed += 1
            self._waiting.append(happening)
            self._changed.notify()


class LiveEvents:
    """Any thread may call it. Without watchers it costs nothing."""

    def __init__(self) -> None:
        self._watches: tuple[Watch, ...] = ()
        self._lock = threading.Lock()

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Everything from now on, until the end of the block."""
        watch = Watch()
        with self._lock:
            self._watches += (watch,)
        try:
            yield watch
        finally:
            with self._lock:
                self._watches = tuple(other for other in self._watches if other is not watch)

    def readings(self, batch: ReadingBatch) -> None:
        """Decoded, their flags known; before they are evaluated and stored."""
        for watch in self._watches:
            watch.put(batch)

    def alerts(self, events: Sequence[AlertEvent]) -> None:
        """Published for the first time."""
        for watch in self._watches:
            for event in events:
                watch.put(event)
