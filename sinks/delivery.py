"""Delivery: a thread that tells one receiver what the outbox holds for it. A slow receiver delays nobody else.

Here: when to try, when to give up. Not here: order and memory (outbox.py), what is sent (webhook.py, log.py).
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from sinks.backoff import Backoff
from sinks.outbox import Outbox, Send
from sinks.sink import Receiver
from telemetry import Clock, Counters, Rejected, RetryLater, SystemClock, TocsinError

_log = logging.getLogger("tocsin.sinks")
_IDLE_S = 1.0
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0


class DeliveryState(StrEnum):
    """What a delivery is doing."""

    IDLE = "idle"
    SENDING = "sending"
    RETRYING = "retrying"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class DeliveryStatus:
    """How one receiver is doing."""

    name: str
    state: DeliveryState = DeliveryState.STOPPED
    sent: int = 0
    """Events that it took since the start."""
    dead: int = 0
    """Events that it refused for good since the start."""
    attempts: int = 0
    """Tries in a row that failed."""
    last_error: str = ""
    """Why the last try failed; empty while all is well."""


class Delivery:
    """A thread that sends `receiver` its events in order, each at least once.

    RetryLater (and any unexpected exception): the same events are tried again, after a delay that grows, survives
    restarts and honours Retry-After. Rejected: each event is tried alone; those refused then are dead, with the reason.
    Counts `<name>.sent|dead|retries`, in events.
    """

    def __init__(
        self, receiver: Receiver, outbox: Outbox, counters: Counters | None = None, *, clock: Clock | None = None
    ) -> None:
        self.receiver = receiver
        self._name = receiver.name
        self._outbox = outbox
        self._counters = counters or Counters()
        self._clock: Clock = clock or SystemClock()
        self._backoff = Backoff(seed=zlib.crc32(self._name.encode()), first_s=_FIRST_DELAY_S, cap_s=_LONGEST_DELAY_S)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._status = DeliveryStatus(self._name)
        self._thread = threading.Thread(target=self._run, name=f"receiver {self._name}", daemon=True)
        outbox.ring(self._wake)

    @property
    def status(self) -> DeliveryStatus:
        return self._status

    def start(self) -> None:
        self._status = replace(self._status, state=DeliveryState.IDLE)
        self._thread.start()

    def stop(self, timeout: float = 5.0) -> bool:
        """Stop soon, also in the middle of a wait; False if the receiver still hangs after `timeout` seconds.

        What is not delivered then is sent at the next start, as a repetition.
        """
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                wait_s = self._advance()
            except Exception as error:  # noqa: BLE001  # the thread must outlive whatever it meets
                self._complain(error)
                wait_s = _FIRST_DELAY_S
            if wait_s and not self._stopping.is_set():
                self._clock.sleep(wait_s, self._wake)
        self.receiver.close()
        self._status = replace(self._status, state=DeliveryState.STOPPED)

    def _advance(self) -> float:
        """Send one message, if one is due; seconds until it makes sense to look again."""
        send = self._outbox.take(self._name)
        if send is None:
            next_at = self._outbox.next_at(self._name)
            due_in_s = _IDLE_S if next_at is None else (next_at - self._clock.now()) / 1e9
            return min(_IDLE_S, max(0.01, due_in_s))
        self._status = replace(self._status, state=DeliveryState.SENDING)
        self._conclude(self._try(send))
        return 0.0

    def _try(self, send: Send) -> Callable[[], None]:
        """Send it; what the outbox must be told."""
        try:
            self.receiver.send(send.events, repeat=send.attempts > 1)
        except Rejected as error:
            return self._refused(send, str(error))
        except Exception as error:  # noqa: BLE001  # a bug in a receiver must not lose alerts
            return self._failed(send, error)
        if self._backoff.failures:
            _log.info("%s: works again after %d failed tries", self._name, self._backoff.failures)
        self._backoff.succeeded()
        self._counters.add(f"{self._name}.sent", len(send.events))
        status = self._status
        self._status = replace(
            status, state=DeliveryState.IDLE, sent=status.sent + len(send.events), attempts=0, last_error=""
        )
        return lambda: self._outbox.delivered(send)

    def _refused(self, send: Send, reason: str) -> Callable[[], None]:
        if len(send.events) > 1:
            return lambda: self._outbox.split(send, error=reason)
        _log.error("%s: refused alert %s for good: %s", self._name, send.events[0].rule, reason)
        self._counters.add(f"{self._name}.dead")
        self._status = replace(self._status, state=DeliveryState.IDLE, dead=self._status.dead + 1, last_error=reason)
        return lambda: self._outbox.bury(send, error=reason)

    def _failed(self, send: Send, error: Exception) -> Callable[[], None]:
        self._backoff.failures = send.attempts - 1  # counted in the outbox, so that restarts do not begin anew
        delay_s = self._backoff.failed(error.retry_after if isinstance(error, RetryLater) else None)
        self._complain(error)
        self._counters.add(f"{self._name}.retries", len(send.events))
        until = self._clock.now() + round(delay_s * 1e9)
        message = self._status.last_error
        return lambda: self._outbox.postpone(send, until=until, error=message)

    def _conclude(self, tell_outbox: Callable[[], None]) -> None:
        """Try until the outbox has taken it, so that a full disk does not send the same again and again."""
        while True:
            try:
                tell_outbox()
            except RetryLater as error:
                self._complain(error)
                if self._clock.sleep(_FIRST_DELAY_S, self._stopping):
                    return
            else:
                return

    def _complain(self, error: Exception) -> None:
        """One log line for each new kind of trouble; the status keeps the words."""
        expected = isinstance(error, TocsinError)
        message = str(error) if expected else f"unexpected {type(error).__name__}: {error}"
        if message != self._status.last_error:
            _log.warning(
                "%s: %s; trying again, no alert is lost", self._name, message, exc_info=None if expected else error
            )
        self._status = replace(
            self._status, state=DeliveryState.RETRYING, attempts=self._backoff.failures, last_error=message
        )
