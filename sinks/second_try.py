"""Second try: rows that a sink has refused before are written once more, when somebody has mended what was wrong.

Here: one lot of them at a time, and what became of it. Not here: where refused rows are kept, who asks for it, and how
a write is done (`consumer`).
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from telemetry import Counters, ReadingBatch, RetryLater

_log = logging.getLogger("tocsin.sinks")
_PAUSE_S = 2.0

Tally = Counter[tuple[str, str]]
"""Rows by outcome and reason."""
Park = Callable[[ReadingBatch, str], None]
"""Takes rows that a sink can never write, durably, with the reason in words."""
Write = Callable[[ReadingBatch, Tally, Park], list[ReadingBatch]]
"""Writes rows or parks some; gives what is still to be written of them, in order. Raises when they must come again."""
Done = Callable[[Sequence[tuple[ReadingBatch, str]]], None]
"""Told of the rows that were refused again, and why; all others of the lot are written. Called again if it raises."""


class _Lot:
    def __init__(self, rows: ReadingBatch, done: Done) -> None:
        self.rows, self.done = rows, done
        self.pieces = deque([rows])
        self.refused: list[tuple[ReadingBatch, str]] = []
        self.tally: Tally = Counter()
        self.not_before = 0.0
        """By time.monotonic."""

    def park(self, rows: ReadingBatch, why: str) -> None:
        self.refused.append((rows, why))


class SecondTry:
    """`offer` is for any thread, `advance` for the sink's. New rows never wait for a lot that has to wait.

    Counts `<name>.replayed`, and what became of the rows as a consumer does.
    """

    def __init__(self, name: str, counters: Counters, *, pause_s: float = _PAUSE_S) -> None:
        self._name, self._counters, self._pause_s = name, counters, pause_s
        self._lot: _Lot | None = None
        self.last_error = ""
        """Why the lot waits; empty if it does not."""

    @property
    def waiting(self) -> int:
        """Rows that are neither written nor refused again yet."""
        lot = self._lot
        return 0 if lot is None else len(lot.rows)

    def offer(self, rows: ReadingBatch, done: Done) -> bool:
        """False, and nothing is done, while there is another lot. A lot that is not done at a stop is forgotten."""
        if self._lot is not None:
            return False
        self._counters.add(f"{self._name}.replayed", len(rows))
        self._lot = _Lot(rows, done)
        return True

    def advance(self, write: Write, *, stopped: Callable[[], bool]) -> None:
        """Writes the lot if there is one; what cannot be written now is tried again by a later call."""
        lot = self._lot
        if lot is None or time.monotonic() < lot.not_before:
            return
        try:
            while lot.pieces:
                if stopped():
                    return
                rest = write(lot.pieces[0], lot.tally, lot.park)
                lot.pieces.popleft()
                lot.pieces.extendleft(piece for piece in reversed(rest) if len(piece))
            lot.done(lot.refused)
        except Exception as error:  # noqa: BLE001  # a mistake of ours must not stop the sink
            lot.not_before = time.monotonic() + self._pause_s
            self._complain(error)
            return
        self._lot, self.last_error = None, ""
        for (outcome, reason), n in lot.tally.items():
            self._counters.add(f"{self._name}.{outcome}", n, reason)

    def _complain(self, error: Exception) -> None:
        unexpected = None if isinstance(error, RetryLater) else error
        message = f"points to be tried again wait: {error if unexpected is None else repr(error)}"
        if message != self.last_error:
            _log.warning("%s: %s", self._name, message, exc_info=unexpected)
        self.last_error = message
