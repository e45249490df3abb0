"""A reception in a process of its own, seen from the process that started it: as if it were here.

The journal's files are read here, up to where the other process says that they are durable; everything else is asked
of it. When it ends by itself, nothing more is received: `failure` says so, and who runs us ends too.
"""

from __future__ import annotations

import logging
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from ingest.block import Records
from ingest.guarantee import Guarantee
from ingest.journal import Journal, JournalError
from ingest.mqtt import SessionStatus
from ingest.receiver import ReceiverStatus
from ingest.reception import JournalSettings, SessionSettings
from ingest.reception_process import Logged, Progress, Reply
from ingest.room import Room
from telemetry import Clock, Counters, Message

_log = logging.getLogger("tocsin.ingest")
_END_SECONDS = 20.0
_PROGRAM = "from ingest.reception_process import main; main({fd})"
"""With -P: what lies in the working directory is not imported."""


class RemoteReception:
    """As `ingest.reception.Reception`; so are its `journal`, `session` and `receiver`, as far as others use them."""

    def __init__(self, settings: JournalSettings, *, clock: Clock, counters: Counters) -> None:
        """Starts the process. Raises as Journal."""
        self._counters = counters
        self._replies: queue.Queue[Reply] = queue.Queue()
        self._asking = threading.Lock()
        self._ended = False
        """Whether it is over, or has been told to be."""
        self._progress = Progress(end=0, size=0, waiting=0)
        self.changed = threading.Condition()
        self.failure = ""
        """Why the process has ended although nobody told it to."""
        self._stopped = SessionStatus("stopped", clock.now())
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _PROGRAM.format(fd=theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._connection = Connection(ours.detach())
        threading.Thread(target=self._listen, name="tocsin-reception", daemon=True).start()
        try:
            self.ask("open", settings)
            self.journal = FollowedJournal(self, Journal(settings.directory, read_only=True))
            self.journal.follow()
        except BaseException:
            self.close()
            raise

    def open_session(self, settings: SessionSettings) -> None:
        """Raises ConfigError."""
        self.ask("open_session", settings)
        self.session, self.receiver = RemoteSession(self), RemoteReceiver(self)

    def ask(self, name: str, *arguments: object) -> Any:
        """Has the other process do it; raises what it raises, or JournalError if it is gone."""
        with self._asking:
            if self._ended:
                raise JournalError(self.failure or "the journal is closed")
            self._ended = name == "close"
            try:
                self._connection.send((name, arguments))
            except OSError as error:
                raise JournalError(f"the process that receives does not answer ({error}): restart tocsin") from error
            reply = self._replies.get()
        if reply.error is not None:
            raise reply.error
        return reply.value

    @property
    def progress(self) -> Progress:
        """As of a moment ago."""
        return self._progress

    @property
    def session_status(self) -> SessionStatus:
        return self._progress.session or self._stopped

    def close(self) -> None:
        """Has the process end, and waits for it."""
        with suppress(JournalError):  # it is gone already
            self.ask("close")
        self._connection.close()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _listen(self) -> None:
        try:
            while True:
                came = self._connection.recv()
                if isinstance(came, Progress):
                    self._note(came)
                elif isinstance(came, Reply):
                    self._replies.put(came)
                elif isinstance(came, Logged):
                    logging.getLogger(came.logger).log(came.level, "%s", came.text)
        except (EOFError, OSError) as error:
            self._lost(error)

    def _note(self, progress: Progress) -> None:
        for (name, reason), n in progress.counts.items():
            self._counters.add(name, n, reason)
        before, self._progress = self._progress.end, progress
        with self.changed:
            if progress.end != before and hasattr(self, "journal"):
                self.journal.follow()
            self.changed.notify_all()

    def _lost(self, error: Exception) -> None:
        if not self._ended:
            self._ended, code = True, self._process.wait()
            self.failure = f"the process that receives has ended (exit code {code})"
            _log.error("%s: tocsin ends", self.failure)
        self._replies.put(Reply(error=JournalError(self.failure or str(error))))
        with self.changed:
            self.changed.notify_all()


class FollowedJournal:
    """The journal that the other process writes; reading is done here, from its files."""

    def __init__(self, reception: RemoteReception, files: Journal) -> None:
        self._reception, self._files = reception, files
        self._end = 0

    @property
    def start(self) -> int:
        return min(self._files.start, self._end)

    @property
    def end(self) -> int:
        """All before it is durable, and can be read here."""
        return self._end

    @property
    def size(self) -> int:
        return self._reception.progress.size

    def follow(self) -> None:
        """Takes in what has been added to the files."""
        try:
            self._files.refresh()
        except JournalError as error:
            _log.warning("%s; trying again", error)
            return
        self._end = self._reception.progress.end

    def read(self, offset: int, limit: int = 10_000) -> Records:
        """As `Journal.read`."""
        most = min(limit, self._end - offset)
        return self._files.read(offset, most) if most > 0 else Records.empty(max(offset, self.start))

    def wait(self, offset: int, timeout: float) -> bool:
        """As `Journal.wait`."""
        with self._reception.changed:
            return self._reception.changed.wait_for(lambda: self._end > offset, timeout)

    def append_samples(self, payloads: Sequence[bytes], time: int) -> int:
        """As `Journal.append_samples`."""
        return int(self._reception.ask("append_samples", payloads, time))

    def append_replayed(self, messages: Sequence[Message], *, samples: bool) -> int:
        """As `Journal.append_replayed`."""
        return int(self._reception.ask("append_replayed", messages, samples))

    def trim(self, keep_from: int) -> int:
        """As `Journal.trim`."""
        return int(self._reception.ask("trim", keep_from))

    def room(self, at: float) -> Room:
        """As `Journal.room`."""
        room: Room = self._reception.ask("room", at)
        return room


class RemoteSession:
    """What others ask of a session."""

    def __init__(self, reception: RemoteReception) -> None:
        self._reception = reception

    @property
    def status(self) -> SessionStatus:
        return self._reception.session_status

    def guarantees(self) -> tuple[Guarantee, ...]:
        return self._reception.progress.guarantees

    def wait_connected(self, timeout: float) -> bool:
        """As `Session.wait_connected`."""
        with self._reception.changed:
            return self._reception.changed.wait_for(lambda: self.status.state == "connected", timeout)


class RemoteReceiver:
    """What others ask of a receiver."""

    def __init__(self, reception: RemoteReception) -> None:
        self._reception = reception

    @property
    def status(self) -> ReceiverStatus:
        return self._reception.progress.receiver or ReceiverStatus("stopped")

    @property
    def waiting(self) -> int:
        return self._reception.progress.waiting

    def start(self) -> None:
        self._reception.ask("start")

    def stop(self) -> None:
        """As `Receiver.stop`; does nothing if the process is gone."""
        if not self._reception.failure:
            self._reception.ask("stop")
