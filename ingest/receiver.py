"""The receiver: from the inbox into the journal, and only then the acknowledgement. Writes the ticks, too.

Here: the order of these steps, and what to do while the journal cannot be written. Not here: how each step is done.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from ingest.arrivals import Arrivals, as_records
from ingest.inbox import Inbox
from ingest.journal import Journal, JournalError
from telemetry import Clock, Counters
from telemetry.crash_points import reached

_log = logging.getLogger("tocsin.ingest")
_TICK_NS = 10**9
_FIRST_PAUSE_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0


class Acknowledger(Protocol):
    """What the receiver needs of an MQTT session."""

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def acknowledge(self, arrived: Sequence[Arrivals]) -> None: ...


@dataclass(frozen=True, slots=True)
class ReceiverStatus:
    """How receiving is doing."""

    state: Literal["receiving", "journal_failed", "stopped"]
    last_error: str = ""
    """One line that says what to do; empty when there is nothing to do."""


class Receiver:
    """Runs the session and the thread that makes its messages durable.

    Nothing is acknowledged that is not on disk. While the journal cannot be written, the session is closed, so that the
    broker keeps the messages; what was already taken is kept in memory and written first.
    """

    def __init__(
        self, inbox: Inbox, journal: Journal, session: Acknowledger, *, clock: Clock, counters: Counters
    ) -> None:
        self._inbox, self._journal, self._session = inbox, journal, session
        self._clock, self._counters = clock, counters
        self._status = ReceiverStatus("stopped")
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._held: list[Arrivals] = []
        self._ticked = 0

    @property
    def status(self) -> ReceiverStatus:
        return self._status

    @property
    def waiting(self) -> int:
        """Messages that were received and are not in the journal yet."""
        return sum(map(len, self._held)) + len(self._inbox)

    def start(self) -> None:
        """Starts the session, too."""
        if self._thread is not None:
            return
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="tocsin-receiver", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Writes and acknowledges what is there, then closes the session; the broker keeps it."""
        if self._thread is None:
            return
        self._stopping.set()
        self._inbox.interrupt()
        self._thread.join()
        self._thread = None

    # --- the receiver's thread ---

    def _run(self) -> None:
        self._status = ReceiverStatus("receiving")
        self._session.start()
        while not self._stopping.is_set():
            try:
                self._receive(self._seconds_to_tick())
            except Exception as error:  # noqa: BLE001  # not only JournalError: nobody would notice a dead thread
                self._wait_for_journal(error)
        self._finish()
        self._status = ReceiverStatus("stopped", self._status.last_error)

    def _receive(self, timeout: float) -> None:
        """Takes what is there, makes it durable, acknowledges it; then the tick if it is due. Raises JournalError."""
        self._held += self._inbox.take(timeout)
        if self._held:
            self._journal.append_columns(as_records(self._held))
            written, self._held = self._held, []
            self._counters.add("ingest.received", sum(map(len, written)))
            reached("journal.synced")
            self._session.acknowledge(written)
            reached("messages.acknowledged")
        now = self._clock.now()
        if not 0 <= now - self._ticked < _TICK_NS:  # also after the clock was set back
            self._journal.append_tick(now)
            self._counters.add("ingest.ticks")
            self._ticked = now

    def _seconds_to_tick(self) -> float:
        return min(max(0, self._ticked + _TICK_NS - self._clock.now()), _TICK_NS) / 1e9

    def _wait_for_journal(self, error: Exception) -> None:
        """Returns when the journal takes messages again, or when we are to stop."""
        pause = _FIRST_PAUSE_SECONDS
        self._report(error)
        self._session.stop()
        while not self._stopping.wait(pause):
            try:
                self._receive(0)
            except Exception as again:  # noqa: BLE001  # as above
                self._report(again)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
            else:
                _log.warning("the journal can be written again: receiving")
                self._status = ReceiverStatus("receiving")
                self._session.start()
                return

    def _report(self, error: Exception) -> None:
        text = str(error) if isinstance(error, JournalError) else f"receiving failed ({error!r})"
        text += "; disconnected from the broker, which keeps the messages; trying again"
        if self._status.state != "journal_failed":  # once, and not at every attempt
            _log.error("%s", text, exc_info=None if isinstance(error, JournalError) else error)
        self._status = ReceiverStatus("journal_failed", text)
        self._counters.add("ingest.journal_failures")

    def _finish(self) -> None:
        try:
            if self._status.state == "receiving":
                self._receive(0)
            self._session.stop()
            # What came after that: QoS 1 was not acknowledged and comes again, QoS 0 does not.
            rest = self._held + self._inbox.take(0)
            self._held = [kept for each in rest if len(kept := each.of_qos_0())]
            resent = sum(map(len, rest)) - sum(map(len, self._held))
            self._counters.add("ingest.dropped", resent, "stopping_resent")
            self._receive(0)
        except Exception as error:  # noqa: BLE001  # as above
            self._session.stop()
            self._report(error)
            rest = self._held + self._inbox.take(0)
            self._held = []
            lost = sum(len(each.of_qos_0()) for each in rest)
            self._counters.add("ingest.dropped", lost, "journal_failed")
            self._counters.add("ingest.dropped", sum(map(len, rest)) - lost, "journal_failed_resent")
