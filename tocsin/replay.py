"""Replay: takes up what is asked of dead letters, and sends them through once more. Runs beside the pipeline.

Messages go into the journal again, as if they had just come, and points to the sink that refused them. Not here: what
is asked, and what became of it (`ingest.replay_queue`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence

from ingest.replay_queue import Log, ReplayQueue
from sinks.second_try import SecondTry
from telemetry import Counters, ReadingBatch, SeriesTable, TocsinError
from tocsin.points import rows_of

_log = logging.getLogger("tocsin.pipeline")
_LOOK_SECONDS = 0.5
_GO_ON_SECONDS = 0.02
_RETRY_SECONDS = 1.0


class Replay:
    """A thread from `start` to `stop`.

    Counters: `ingest.received` and `rules.records`, both with the reason `replayed`, for what is in the journal again.
    """

    def __init__(
        self,
        queue: ReplayQueue,
        journal: Log,
        table: SeriesTable,
        *,
        decoded_to: Callable[[], int],
        sinks: Mapping[str, SecondTry],
        counters: Counters,
    ) -> None:
        """`decoded_to`: up to which offset the head of the feed has handed out readings, and parked what it refused.

        Settles what a crash has interrupted: nothing may have been decoded yet. Raises RetryLater, JournalError.
        """
        self._queue, self._journal, self._table = queue, journal, table
        self._decoded_to, self._sinks, self._counters = decoded_to, sinks, counters
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tocsin-replay", daemon=True)
        self._last_error = ""
        queue.settle(journal)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """What is not done yet is done at the next start."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()

    def advance(self) -> bool:
        """One step; whether there is more to do soon. Raises RetryLater, JournalError."""
        for sink in self._queue.sinks():
            self._offer(sink)
        if not self._queue.judge(self._decoded_to()):
            return True  # so that what is received meanwhile does not wait for all of a large replay
        written = self._queue.append(self._journal)
        if written is None:
            return False
        self._counters.add("ingest.received", written.messages, "replayed")
        self._counters.add("rules.records", written.samples, "replayed")
        return True

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                pause = _GO_ON_SECONDS if self.advance() else _LOOK_SECONDS
            except Exception as error:  # noqa: BLE001  # the letters stay, and nobody would notice a dead thread
                self._complain(error)
                pause = _RETRY_SECONDS
            else:
                self._last_error = ""

    def _offer(self, sink: str) -> None:
        """Gives the sink its next points, if it has none at hand."""
        second_try = self._sinks.get(sink)
        if second_try is not None and second_try.waiting:
            return
        letters = self._queue.points(sink)
        if second_try is None:
            gone = f"there is no sink {sink!r} any more: configure it again, or purge its points"
            self._queue.refused({letter.id: gone for letter in letters}, "no_such_sink")
            return
        rows, ids, unknown = rows_of(letters, self._table)
        if unknown:
            why = "its series is not in the table of series: was it deleted?"
            self._queue.refused(dict.fromkeys(unknown, why), "no_such_series")
        if ids:
            second_try.offer(rows, lambda refused: self._settle(rows, ids, refused))

    def _settle(self, rows: ReadingBatch, ids: Sequence[int], refused: Sequence[tuple[ReadingBatch, str]]) -> None:
        why = {key: detail for part, detail in refused for key in _keys(part)}
        found = dict(zip(ids, (why.get(key) for key in _keys(rows)), strict=True))
        self._queue.refused({id_: detail for id_, detail in found.items() if detail is not None})
        self._queue.written([id_ for id_, detail in found.items() if detail is None])

    def _complain(self, error: Exception) -> None:
        known = isinstance(error, TocsinError)
        message = str(error) if known else repr(error)
        if message != self._last_error:
            _log.warning("dead letters that are to be replayed wait: %s", message, exc_info=None if known else error)
        self._last_error = message


def _keys(rows: ReadingBatch) -> list[tuple[int, int, int, bytes]]:
    """What tells the rows of a lot apart."""
    return [
        (int(rows.series[i]), int(rows.offset[i]), int(rows.time[i]), rows.value[i].tobytes()) for i in range(len(rows))
    ]
