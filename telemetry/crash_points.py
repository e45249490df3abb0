"""Crash points: named places at which a process can be told to kill itself, to prove that nothing is lost by it.

Here: the names, and `reached`. Not here: who arms them (`tocsin chaos`, tests). Unless the environment variable
TOCSIN_CRASH_AT is set when the process starts, `reached` does nothing.
"""

from __future__ import annotations

import os
import signal
import threading

VARIABLE = "TOCSIN_CRASH_AT"
"""`NAME` or `NAME:COUNT`: die when the point is reached for the COUNT-th time (first: 1)."""
POINTS = {
    "journal.written": "a block is written to the journal and not yet synced",
    "journal.synced": "messages are durable and not yet acknowledged",
    "messages.acknowledged": "messages are acknowledged to the broker, and nothing else is done with them",
    "feed.decoded": "messages are decoded and handed to nobody",
    "outbox.committing": "alert events are written to the outbox and not yet committed",
    "outbox.committed": "alert events are committed, and the cursor does not know it",
    "recorder.written": "recorded samples are in the journal, and the recorder does not know it",
    "snapshot.written": "the new snapshot is written beside the old one",
    "snapshot.replaced": "the new snapshot is in its place, and the cursor is not saved",
    "json.written": "a new cursor is written beside the old one",
    "cursor.saved": "a cursor is in its place",
    "sink.written": "rows are written to a sink, and its cursor does not know it",
    "delivery.sent": "a receiver has been told, and the outbox does not know it",
    "dead_letter.parked": "dead letters are kept, and nobody knows it",
    "dead_letter.replayed": "dead letters are in the journal again, and nobody knows it",
}
"""Name: what is done and what is not, when the process dies there."""

_name = ""
_left = 0
_counting = threading.Lock()


def arm(spec: str) -> None:
    """Die at another point than the variable says, or at none: `journal.synced:3`. Only where the variable is set.

    Raises ValueError if there is no such point, or the count is none.
    """
    global _name, _left  # of the whole process, as there is one death
    name, _, count = spec.partition(":")
    if name and name not in POINTS:
        raise ValueError(f"{VARIABLE}: {name!r} is no crash point: use one of {', '.join(POINTS)}")
    if count and not count.isdecimal():
        raise ValueError(f"{VARIABLE}: {count!r} is no count: write {name}:2 for the second time")
    _name, _left = name, int(count or 1)


def _die_if_due(name: str) -> None:
    global _left  # noqa: PLW0603  # as above
    if name == _name:
        with _counting:
            _left -= 1
            if _left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)


def _go_on(_name: str) -> None:
    pass


reached = _die_if_due if VARIABLE in os.environ else _go_on
"""Say that a point has been reached: `reached("journal.synced")`. Any thread may."""
arm(os.environ.get(VARIABLE, ""))
