"""A reception in a process of its own: what that process does. It ends when the one that started it does.

One connection joins the two. From the parent come requests, (name, arguments), one at a time, each answered by a Reply.
To it go Progress, whenever there is something new, and the log. Here: this side. Not here: the parent's side
(`remote_reception`).
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from ingest.guarantee import Guarantee
from ingest.mqtt import SessionStatus
from ingest.receiver import ReceiverStatus
from ingest.reception import JournalSettings, Reception
from telemetry import Counters, SystemClock

_TELL_SECONDS = 0.2
"""So often at least, the parent hears how we are."""
_MOST_OFTEN_SECONDS = 0.001


@dataclass(frozen=True, slots=True)
class Progress:
    """Where reception is. `counts`: what is to be added to the counters, since the last one."""

    end: int
    """Of the journal: all before it is durable."""
    size: int
    waiting: int
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    session: SessionStatus | None = None
    guarantees: tuple[Guarantee, ...] = ()
    receiver: ReceiverStatus | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a request."""

    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Logged:
    """A line for the parent's log."""

    logger: str
    level: int
    text: str


class _Child:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._sending = threading.Lock()
        self._counters, self._counted = Counters(), dict[tuple[str, str], int]()
        self._telling = threading.Lock()
        self._ended = threading.Event()
        self._reception: Reception | None = None

    def run(self) -> None:
        """Until the parent is gone, or says so."""
        threading.Thread(target=self._keep_telling, name="tocsin-telling", daemon=True).start()
        try:
            while True:
                name, arguments = self._connection.recv()
                self.send(self._answer(name, arguments))
                if name == "close":
                    return
        except (EOFError, OSError):
            self._finish_alone()
        finally:
            self._ended.set()

    def send(self, what: object) -> None:
        with self._sending:
            self._connection.send(what)

    def _answer(self, name: str, arguments: tuple[Any, ...]) -> Reply:
        try:
            value = self._requests()[name](*arguments)
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent asked for it
            return Reply(error=error)
        self._tell()  # before the answer: who has it sees what was asked for
        return Reply(value)

    def _requests(self) -> dict[str, Callable[..., Any]]:
        if self._reception is None:
            return {"open": self._open, "close": lambda: None}
        journal = self._reception.journal
        common: dict[str, Callable[..., Any]] = {
            "open_session": self._reception.open_session,
            "append_samples": journal.append_samples,
            "append_replayed": lambda messages, samples: journal.append_replayed(messages, samples=samples),
            "trim": journal.trim,
            "room": journal.room,
            "close": self._reception.close,
        }
        if not hasattr(self._reception, "receiver"):
            return common
        return common | {"start": self._reception.receiver.start, "stop": self._reception.receiver.stop}

    def _open(self, settings: JournalSettings) -> None:
        self._reception = Reception(settings, clock=SystemClock(), counters=self._counters)

    def _finish_alone(self) -> None:
        """The parent is gone: what has come is made durable, nothing more is taken."""
        if self._reception is not None:
            if hasattr(self._reception, "receiver"):
                self._reception.receiver.stop()
            self._reception.close()

    def _keep_telling(self) -> None:
        while not self._ended.wait(_MOST_OFTEN_SECONDS if self._reception else _TELL_SECONDS):
            if self._reception is not None:
                try:
                    self._reception.journal.wait(self._told_end, _TELL_SECONDS)
                    self._tell()
                except OSError:
                    return  # nobody listens any more

    _told_end = 0

    def _tell(self) -> None:
        reception = self._reception
        if reception is None:
            return
        with self._telling:
            session = getattr(reception, "session", None)
            receiver = getattr(reception, "receiver", None)
            now = self._counters.snapshot()
            progress = Progress(
                end=reception.journal.end,
                size=reception.journal.size,
                waiting=receiver.waiting if receiver else 0,
                counts={key: n - self._counted.get(key, 0) for key, n in now.items() if n != self._counted.get(key, 0)},
                session=session.status if session else None,
                guarantees=session.guarantees() if session else (),
                receiver=receiver.status if receiver else None,
            )
            self._counted, self._told_end = now, progress.end
            self.send(progress)


class _Forwarding(logging.Handler):
    """The parent writes the log, of both."""

    def __init__(self, child: _Child) -> None:
        super().__init__()
        self._child = child

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):  # the parent is gone, and its log with it
            self._child.send(Logged(record.name, record.levelno, self.format(record)))


def main(fd: int) -> None:
    """`fd`: of the connection."""
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C reaches us too: the parent says when to end
        signal.signal(number, signal.SIG_IGN)
    child = _Child(Connection(fd))
    root = logging.getLogger()
    root.addHandler(_Forwarding(child))
    root.setLevel(logging.WARNING)
    logging.getLogger("tocsin").setLevel(logging.INFO)
    child.run()
