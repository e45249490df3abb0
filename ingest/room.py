"""How long until a journal is full. Here: what its consumers hold back, how fast that grows, and what room there is.

What consumers have read does not fill a journal: retention lets it go in time. What they have not read stays, and the
journal is full when it has taken all the room. Not here: what is done when it is full (`journal`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

_SECONDS = 600.0
_LEAST_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Room:
    """How much room a journal has."""

    size: int
    """Bytes of what is kept."""
    held: int
    """Bytes of what not every consumer has read yet."""
    free: int
    """Bytes by which it may still grow: on the disk, and below `max_bytes`."""
    growth: float
    """Bytes/s by which that grows which fills it; 0 while everybody keeps up, and in the first minute."""
    seconds: float | None
    """Until it is full if that goes on; None: never."""


class Outlook:
    """Watches one journal. Times are in s, of any clock that is never set."""

    def __init__(self, *, kept: int) -> None:
        """`kept`: bytes of consumed data that stay even if room is short; 0 if they give way to what is held."""
        self._kept = kept
        self._held, self._size = _Growth(), _Growth()

    def look(self, at: float, *, size: int, held: int, free: int) -> Room:
        """Takes in how things are now."""
        growth, growth_of_all = self._held.see(at, held), self._size.see(at, size)
        spare = size + free - held
        if size + free < self._kept:  # it is full before retention lets anything go
            growth, spare = growth_of_all, free
        return Room(size, held, free, growth, max(0, spare) / growth if growth > 0 else None)


class _Growth:
    """The growth of one figure, over the last ten minutes."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def see(self, at: float, size: int) -> float:
        """Takes a size in; returns bytes/s, 0 if there is no growth.

        Cursors and snapshots let it go up and down all the time: its low points are compared.
        """
        seen = self._seen
        seen.append((at, size))
        while at - seen[0][0] > _SECONDS:
            seen.popleft()
        passed = at - seen[0][0]
        if passed < _LEAST_SECONDS:
            return 0.0
        middle = at - passed / 2
        earlier = min((size, time) for time, size in seen if time <= middle)
        later = min((size, time) for time, size in seen if time > middle)
        return max(0.0, (later[0] - earlier[0]) / (later[1] - earlier[1]))
