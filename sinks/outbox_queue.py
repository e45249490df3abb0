"""What of the outbox a receiver is told next: the order of sending, and which events go into one message.

Here: reading only, inside the outbox's transactions. Not here: what becomes of them (outbox.py).

Each alert has a queue of its own, whose head may be sent; so an event that a receiver cannot take holds up its own
alert and no other. Of the heads, those never tried go first, the oldest of them first, then those whose wait is over.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

MAX_EVENTS_PER_SEND = 100
STALE_NS = 300 * 10**9
"""An event that has waited for so long is told together with those of its alert that came since."""
_SCAN = 1_000
_OPEN = "state IN ('pending', 'sending')"
# The indexes are named, since SQLite's planner knows nothing of how many rows wait and takes the primary key.
_HEAD = f"""
SELECT d.seq, d.send, d.next_at, d.attempts, d.tried_at, events.alertname
FROM deliveries d INDEXED BY deliveries_due JOIN events USING (seq)
WHERE d.receiver = ? AND d.{_OPEN} AND NOT EXISTS (
    SELECT 1 FROM deliveries e INDEXED BY deliveries_in_order
    WHERE e.receiver = d.receiver AND e.alert = d.alert AND e.{_OPEN} AND e.seq < d.seq)
ORDER BY d.next_at, d.seq LIMIT 1
"""  # noqa: S608  # our own words
_COMPANY = f"""
SELECT seq FROM deliveries INDEXED BY deliveries_due
WHERE receiver = ? AND {_OPEN} AND next_at = ? AND send = ? ORDER BY seq
"""  # noqa: S608  # ours
_FRESH = f"""
SELECT d.seq, events.alertname, d.alert, events.detected_at,
    (SELECT e.seq FROM deliveries e INDEXED BY deliveries_in_order
     WHERE e.receiver = d.receiver AND e.alert = d.alert AND e.{_OPEN} ORDER BY e.seq LIMIT 1) AS head
FROM deliveries d INDEXED BY deliveries_due JOIN events USING (seq)
WHERE d.receiver = ? AND d.{_OPEN} AND d.next_at = 0 AND d.send IS NULL AND d.seq >= ?
ORDER BY d.seq LIMIT {_SCAN}
"""  # noqa: S608  # ours


class Head(NamedTuple):
    """The event that is sent next."""

    seq: int
    send: str | None
    """Names those it was sent with before; None: never tried."""
    next_at: int
    """ns; 0: at once."""
    attempts: int
    tried_at: int
    """When it was tried first, ns; 0: never."""
    alertname: str


def head(db: sqlite3.Connection, receiver: str) -> Head | None:
    """The next event for a receiver, due or not; None if nothing waits."""
    found = db.execute(_HEAD, (receiver,)).fetchone()
    return Head(*found) if found else None


def company(db: sqlite3.Connection, receiver: str, first: Head, *, now: int) -> list[int]:
    """Numbers of the events that go into one message with `first`, in order.

    Those that were sent with it before; else the following ones of its alertname. No event overtakes an earlier one of
    the same alert. No message tells of an alert twice, unless its earlier news is stale: nobody shall be paged, after
    an outage, for something that is over.
    """
    if first.send is not None:
        return [seq for (seq,) in db.execute(_COMPANY, (receiver, first.next_at, first.send))]
    chosen: list[int] = []
    latest: dict[str, int] = {}  # when the last chosen event of an alert was detected
    passed = set()
    for seq, alertname, alert, detected_at, oldest in db.execute(_FRESH, (receiver, first.seq)):
        follows = alert in latest and now - latest[alert] >= STALE_NS
        if alertname == first.alertname and alert not in passed and (seq == oldest or follows):
            chosen.append(seq)
            latest[alert] = detected_at
            if len(chosen) == MAX_EVENTS_PER_SEND:
                break
        else:
            passed.add(alert)
    return chosen
