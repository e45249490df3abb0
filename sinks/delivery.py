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
from sinks.config import GIVE_UP_AFTER
from sinks.outbox import Health, Outbox, Send
from sinks.sink import Receiver
from telemetry import Clock, Counters, Rejected, RetryLater, SystemClock, TocsinError
from telemetry.crash_points import reached

_log = logging.getLogger("tocsin.sinks")
_IDLE_S = 1.0
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
"""Between two tries of an event."""
_LONGEST_PAUSE_S = 10.0
"""Between two tries of whatever, if the receiver did not ask for more: new events wait no longer for lost causes."""
_TRIES_BEFORE_PARTING = frozenset(3 << i for i in range(20))
"""Then a message loses its first alert, which may be why it fails: seldom, since mostly the receiver is just down."""
_FEW_MESSAGES = 3
_MAX_TOLD = 100


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
    """A thread that sends `receiver` its events, those of each alert in order, each at least once.

    RetryLater (and any unexpected exception): the same events are tried again later, and so is every other one, since
    the receiver may be down. Both waits grow, survive restarts and honour Retry-After; the receiver's ends with the
    first event that it takes, so that one that it cannot take holds up its own alert only; those that were to be told
    in the same message are told alone. It is given up when it has failed for `give_up_after` while others were taken;
    a receiver that is down makes nothing old.
    Rejected: each event is tried alone; those refused then are dead, with the reason.
    Counts `<name>.sent`, `.retries` and `.dead` (`refused`, `gave_up`), in events.
    """

    def __init__(
        self,
        receiver: Receiver,
        outbox: Outbox,
        counters: Counters | None = None,
        *,
        clock: Clock | None = None,
        give_up_after: int = GIVE_UP_AFTER,
    ) -> None:
        """`give_up_after`: ns; 0: never."""
        self.receiver = receiver
        self._name = receiver.name
        self._outbox = outbox
        self._counters = counters or Counters()
        self._clock: Clock = clock or SystemClock()
        self._give_up_after = give_up_after
        seed = zlib.crc32(self._name.encode())
        self._receiver_backoff = Backoff(seed=seed, first_s=_FIRST_DELAY_S, cap_s=_LONGEST_PAUSE_S)
        self._event_backoff = Backoff(seed=seed + 1, first_s=_FIRST_DELAY_S, cap_s=_LONGEST_DELAY_S)
        self._told: set[str] = set()
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
        if self._status.state is not DeliveryState.RETRYING:  # so it stays until it has taken something
            self._status = replace(self._status, state=DeliveryState.SENDING)
        self._conclude(self._try(send))
        return 0.0

    def _try(self, send: Send) -> Callable[[], None]:
        """Send it; what the outbox must be told."""
        try:
            told = self.receiver.send(send.events, repeat=send.attempts > 1)
        except Rejected as error:
            return self._refused(send, str(error))
        except Exception as error:  # noqa: BLE001  # a bug in a receiver must not lose alerts
            return self._failed(send, error)
        reached("delivery.sent")
        self._status = replace(self._status, sent=self._status.sent + len(send.events), attempts=0)

        def tell() -> None:
            self._outbox.delivered(send, told=told)
            self._counters.add(f"{self._name}.sent", len(send.events))
            self._recovered()

        return tell

    def _recovered(self) -> None:
        """The error stays in the status while any event waits for its next try."""
        trouble = self._outbox.trouble(self._name)
        if self._told and not trouble:
            _log.info("%s: works again", self._name)
            self._told.clear()
        state = DeliveryState.RETRYING if trouble else DeliveryState.IDLE
        self._status = replace(self._status, state=state, last_error=trouble)

    def _refused(self, send: Send, reason: str) -> Callable[[], None]:
        if len(send.events) > 1:
            return lambda: self._outbox.split(send, error=reason)
        return self._dead(send, reason, why="refused")

    def _failed(self, send: Send, error: Exception) -> Callable[[], None]:
        health = self._outbox.health(self._name)
        # Counted in the outbox, so that restarts do not begin anew.
        self._receiver_backoff.failures, self._event_backoff.failures = health.failures, send.attempts - 1
        now = self._clock.now()
        pause_s = self._receiver_backoff.failed(error.retry_after if isinstance(error, RetryLater) else None)
        paused = Health(health.failures + 1, now + round(pause_s * 1e9), health.worked_at)
        self._status = replace(self._status, attempts=paused.failures)
        # It has taken something else since, and just before.
        works_otherwise = health.failures == 0 and health.worked_at > send.tried_at
        if works_otherwise and 0 < self._give_up_after <= now - send.tried_at and len(send.events) == 1:
            words = str(error) or type(error).__name__
            return self._dead(send, f"given up after {send.attempts} tries: {words}", why="gave_up", health=paused)
        self._complain(error)
        self._counters.add(f"{self._name}.retries", len(send.events))
        message = self._status.last_error
        if works_otherwise and len(send.events) > 1:
            return lambda: self._outbox.split(send, error=message, health=paused)
        until = now + round(self._event_backoff.failed() * 1e9)
        # When more messages than a few fail, it is the receiver, and after the outage they shall be few.
        alone = health.failures < _FEW_MESSAGES * send.attempts
        apart = len(send.events) > 1 and alone and send.attempts in _TRIES_BEFORE_PARTING
        return lambda: self._outbox.postpone(send, until=until, error=message, health=paused, apart=apart)

    def _dead(self, send: Send, reason: str, *, why: str, health: Health | None = None) -> Callable[[], None]:
        for event in send.events:
            _log.error("%s: alert %s is lost to it: %s", self._name, event.rule, reason)
        self._status = replace(
            self._status, state=DeliveryState.IDLE, dead=self._status.dead + len(send.events), last_error=reason
        )

        def tell() -> None:
            self._outbox.bury(send, error=reason, health=health)
            self._counters.add(f"{self._name}.dead", len(send.events), why)

        return tell

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
        if message not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(message)
            _log.warning(
                "%s: %s; trying again, no alert is lost", self._name, message, exc_info=None if expected else error
            )
        self._status = replace(self._status, state=DeliveryState.RETRYING, last_error=message)
