"""Pulse: what stands at the top of every page, computed once a second at most however many pages are open."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.status import Snapshot

_FRESH_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Pulse:
    """How a tocsin is doing, in a few words."""

    state: str
    """ok, waiting, trouble or stopped"""
    words: str
    why: str
    firing: int


def pulse(snapshot: Snapshot) -> Pulse:
    """The worst there is to tell."""
    session, firing = snapshot.session, snapshot.firing
    if not snapshot.running:
        return Pulse("stopped", "not running", "these are its files; nothing new comes in", firing)
    if snapshot.journal is not None and snapshot.journal.error:
        return Pulse("trouble", "journal cannot be written", snapshot.journal.error, firing)
    if snapshot.standstill is not None:
        return Pulse("trouble", "rules are not evaluated", snapshot.standstill.error, firing)
    if session is None or session.state == "connected":
        return Pulse("ok", f"{snapshot.readings_per_second:,.0f} readings/s", session.url if session else "", firing)
    state = "waiting" if session.state == "connecting" else "trouble"
    return Pulse(state, f"{session.state}: {session.url}", session.last_error, firing)


class PulseTaker:
    """Any thread may call it."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._taking = threading.Lock()
        self._taken = -1e9
        self._last: Snapshot | None = None

    def snapshot(self) -> Snapshot:
        """At most a second old."""
        with self._taking:
            if self._last is None or time.monotonic() - self._taken > _FRESH_SECONDS:
                self._last = self._taken_now()
                self._taken = time.monotonic()
            return self._last

    def _taken_now(self) -> Snapshot:
        try:
            return self._backend.snapshot()
        except TocsinError as error:  # files of a tocsin that has never received anything
            now = self._backend.clock.now()
            return Snapshot(running=False, time=now, started=now, errors=(str(error),))
