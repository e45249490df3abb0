"""Consumer: carries readings from a source to one sink, in order, at least once, for ever.

Here: retry, search for poison rows, accounting, the cursor. Not here: what a sink does with the rows, rows that it has
refused before (`second_try`).
"""

from __future__ import annotations

import logging
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from sinks.backoff import Backoff
from sinks.second_try import Park, SecondTry, Tally
from sinks.sink import RejectedRows, Sink, Source, Step
from telemetry import (
    DUPLICATE,
    LATE,
    RECORDED,
    Clock,
    Counters,
    Cursor,
    ReadingBatch,
    Rejected,
    RetryLater,
    SystemClock,
)
from telemetry.crash_points import reached

_log = logging.getLogger("tocsin.sinks")
_IDLE_S = 0.1
_SAVE_EVERY_S = 0.2
_MAX_STEPS = 1_000


class ConsumerState(StrEnum):
    """What a consumer is doing."""

    RUNNING = "running"
    RETRYING = "retrying"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class ConsumerStatus:
    """Where one consumer stands."""

    name: str
    state: ConsumerState
    offset: int
    """Next journal offset: all before it is durable at the sink, or parked."""
    lag: int
    """Journal records still to go; 0 if nobody told us where the journal ends."""
    rows_written: int = 0
    rows_parked: int = 0
    attempts: int = 0
    """Tries in a row that failed."""
    last_error: str = ""
    """Why the last try failed; empty while all is well."""


class Consumer:
    """A thread that writes what `source` gives to `sink` and remembers how far it came in `cursor`.

    RetryLater: the rows are kept and tried again until they are written. Rejected: halves are tried until the poison
    rows stand alone; `park(rows, reason)` takes them (it may be given the same rows again after a crash; until it
    returns, they are not passed over). Any other exception counts as RetryLater, since rows must not be lost by a bug.

    What a rule has recorded and the sink cannot represent (InfluxDB has no NaN) is skipped, and not parked: nobody can
    mend it and send it again.

    The cursor moves only after the sink's write has returned, so a crash repeats rows and never skips any.
    Counts `<name>.stored|late|other|duplicate|parked|skipped`: each row of each step that is done, exactly once.
    Rows that were parked and are offered to `second_try` are written before new ones, if the sink takes them.
    """

    def __init__(
        self,
        sink: Sink,
        source: Source,
        cursor: Cursor,
        counters: Counters,
        *,
        park: Park,
        clock: Clock | None = None,
        end: Callable[[], int] | None = None,
        batch_rows: int = 10_000,
    ) -> None:
        """`end`: the journal's next offset to be written, for the lag. `batch_rows`: how many rows to gather for one
        write when the sink is behind; a single step may be larger.
        """
        self.sink = sink
        self._source, self._cursor, self._counters, self._park = source, cursor, counters, park
        self._clock: Clock = clock or SystemClock()
        self._end = end
        self._batch_rows = batch_rows
        self._backoff = Backoff(seed=zlib.crc32(sink.name.encode()))
        self.second_try = SecondTry(sink.name, counters)
        self._stop = threading.Event()
        self._held: list[Step] = []
        self._saved_at = time.monotonic()
        self._save_error = ""
        self._status = ConsumerStatus(sink.name, ConsumerState.STOPPED, cursor.offset, 0)
        self._thread = threading.Thread(target=self._run, name=f"sink {sink.name}", daemon=True)

    @property
    def status(self) -> ConsumerStatus:
        status = self._status
        lag = max(0, self._end() - status.offset) if self._end else 0
        return replace(status, lag=lag, last_error=status.last_error or self.second_try.last_error or self._save_error)

    @property
    def waiting(self) -> int:
        """Rows that were read from the source, or offered again, and are neither written nor parked yet."""
        return sum(len(step.batch) for step in tuple(self._held)) + self.second_try.waiting

    def start(self) -> None:
        self._update(state=ConsumerState.RUNNING)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop soon, also in the middle of a wait; False if a write at the far side still hangs after `timeout` s.

        Rows that are not written yet come again at the next start.
        """
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._advance()
            except Exception as error:  # noqa: BLE001  # whatever it is: the rows stay, and we try again
                self._wait_after(error)
        self._save(every_s=0)
        self.sink.close()
        self._update(state=ConsumerState.STOPPED)

    def _advance(self) -> None:
        """Carry what the source has ready to the sink; what is not done when we are stopped comes again."""
        self.second_try.advance(self._write, stopped=self._stop.is_set)
        if not self._held:
            self._gather()
        if self._held:
            self._carry(ReadingBatch.concatenate([step.batch for step in self._held]), self._held[-1].next)
        self._save(every_s=_SAVE_EVERY_S)

    def _gather(self) -> None:
        rows, timeout = 0, _IDLE_S
        while rows < self._batch_rows and len(self._held) < _MAX_STEPS:
            try:
                step = self._source.read(timeout)
            except Exception:
                if self._held:
                    break  # it will be raised again when these are written
                raise
            if step is None:
                break
            self._held.append(step)
            rows, timeout = rows + len(step.batch), 0.0
        self._recovered()

    def _carry(self, batch: ReadingBatch, offset: int) -> None:
        duplicate = (batch.flags & DUPLICATE) != 0
        fresh = batch.select(~duplicate) if duplicate.any() else batch
        tally: Tally = Counter({("duplicate", ""): int(duplicate.sum())})
        pieces = deque([fresh])
        while pieces:
            piece = pieces.popleft()
            if not len(piece):
                continue
            if self._stop.is_set():
                return
            try:
                pieces.extendleft(reversed(self._write(piece, tally, self._park)))
            except Exception as error:  # noqa: BLE001  # see the class: never lose rows by a bug
                pieces.appendleft(piece)
                self._wait_after(error)
        for (outcome, reason), n in tally.items():
            self._counters.add(f"{self.sink.name}.{outcome}", n, reason)
        self._held = []
        self._recovered()
        parked = sum(n for (outcome, _), n in tally.items() if outcome == "parked")
        skipped = sum(n for (outcome, _), n in tally.items() if outcome == "skipped")
        if parked:
            _log.warning(
                "%s: parked %d readings that it can never take; look at the dead letters", self.sink.name, parked
            )
        self._update(
            state=ConsumerState.RUNNING,
            offset=offset,
            rows_written=self._status.rows_written + len(fresh) - parked - skipped,
            rows_parked=self._status.rows_parked + parked,
        )

    def _write(self, piece: ReadingBatch, tally: Tally, park: Park) -> list[ReadingBatch]:
        """Write or park the piece; what is still to be written of it, in order."""
        try:
            self.sink.write(piece)
            reached("sink.written")
        except RejectedRows as error:
            own = error.rows & ((piece.flags & RECORDED) != 0)
            foreign = error.rows & ~own
            if foreign.any():
                park(piece.select(foreign), str(error))
            tally["parked", error.reason] += int(foreign.sum())
            tally["skipped", error.reason] += int(own.sum())
            return [piece.select(~error.rows)]
        except Rejected as error:
            if len(piece) > 1:
                half = len(piece) // 2
                return [piece.select(slice(None, half)), piece.select(slice(half, None))]
            park(piece, str(error))
            tally["parked", "rejected"] += 1
            return []
        self._recovered()
        late = (piece.flags & LATE) != 0
        live = (piece.flags | RECORDED) == RECORDED
        tally["stored", ""] += int(live.sum())
        tally["late", ""] += int(late.sum())
        tally["other", ""] += int((~live & ~late).sum())
        return []

    def _wait_after(self, error: Exception) -> None:
        if isinstance(error, RetryLater):
            message, retry_after = str(error), error.retry_after
        else:
            message, retry_after = f"unexpected {type(error).__name__}: {error}", None
        delay = self._backoff.failed(retry_after)
        if message != self._status.last_error:
            unexpected = None if isinstance(error, RetryLater) else error
            _log.warning("%s: %s; trying again, nothing is lost", self.sink.name, message, exc_info=unexpected)
        self._update(state=ConsumerState.RETRYING, last_error=message, attempts=self._backoff.failures)
        self._clock.sleep(delay, self._stop)

    def _recovered(self) -> None:
        if self._backoff.failures:
            _log.info("%s: works again after %d failed tries", self.sink.name, self._backoff.failures)
            self._backoff.succeeded()
            self._update(state=ConsumerState.RUNNING, last_error="", attempts=0)

    def _save(self, *, every_s: float) -> None:
        """A cursor that cannot be saved only means more repetition after a crash, so the rows keep flowing."""
        now = time.monotonic()
        if self._status.offset == self._cursor.offset or now - self._saved_at < every_s:
            return
        self._saved_at = now
        try:
            self._cursor.save(self._status.offset)
        except OSError as error:
            problem = f"cannot save its cursor ({error}): check the disk and its permissions"
        else:
            problem = ""
        if problem and not self._save_error:
            _log.warning("%s: %s", self.sink.name, problem)
        self._save_error = problem

    def _update(self, **changes: object) -> None:
        self._status = replace(self._status, **changes)  # type: ignore[arg-type]  # fields of ConsumerStatus
