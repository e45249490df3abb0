"""Draining: wait until everything that was promised has gone all the way, then stop tocsin in order.

Waiting ends when nothing has moved for a while, too: then the oracle finds what is missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from ingest.journal import Journal, JournalError
from sinks.alert_history import AlertHistory
from telemetry import TocsinError
from telemetry.cursor import read_cursor
from tocsin.chaos.plant import RECEIVER, SINK
from tocsin.chaos.program import Program
from tocsin.chaos.witness import Witness
from tocsin.data_dir import DataDir

_STILL_SECONDS = 25.0
_LOOK_SECONDS = 0.1
_TRIES = 3
_CONSUMERS = ("rules", "store", SINK)
Pause = Callable[[float], None]


def drain(witness: Witness, data: DataDir, program: Program, *, pause: Pause) -> list[str]:
    """Returns the problems with that: what would not end, and how."""
    problems: list[str] = []
    for attempt in range(_TRIES):
        if attempt:
            program.start()
        end = _journaled(witness, data, pause)
        problems = [
            *_awaited(partial(_behind, data, end), "the consumers of the journal do not get to its end", pause),
            *_awaited(partial(_pending, data), "the receiver is not told of all alerts", pause),
        ]
        code = program.stop()
        if code:
            problems.append(f"asked to stop, tocsin ended with {code}")
        if code or not _pending(data):
            break
    return problems


def _journaled(witness: Witness, data: DataDir, pause: Pause) -> int:
    """Wait until all that was promised is in the journal; its end."""
    journal = Journal(data.journal, read_only=True)
    missing, offset = witness.promised(), 0
    moved_at = time.monotonic()
    while missing and time.monotonic() < moved_at + _STILL_SECONDS:
        pause(_LOOK_SECONDS)
        journal.refresh()
        while len(records := journal.read(offset)):
            found = {(topic, bytes(payload)) for topic, payload in zip(records.topics, records.payloads, strict=True)}
            if found & missing:
                moved_at = time.monotonic()
                missing -= found
            offset = records.next
    return journal.end


def _behind(data: DataDir, end: int) -> int:
    """Records that the consumer that lags most has to go."""
    return end - min(end, *(read_cursor(data.cursor(name)) for name in _CONSUMERS))


def _pending(data: DataDir) -> int:
    """Events that the receiver has not been told of."""
    if not data.alerts.exists():
        return 0
    history = AlertHistory(data.alerts)
    try:
        return history.backlog(RECEIVER).pending
    finally:
        history.close()


def _awaited(left: Callable[[], int], what: str, pause: Pause) -> list[str]:
    """Wait until nothing is left."""
    before, moved_at = -1, time.monotonic()
    while True:
        try:
            now = left()
        except (JournalError, TocsinError, OSError, ValueError):
            now = before  # a file is just being made
        if now == 0:
            return []
        if now != before:
            before, moved_at = now, time.monotonic()
        if time.monotonic() > moved_at + _STILL_SECONDS:
            return [f"{what}: {now} left"]
        pause(_LOOK_SECONDS)
