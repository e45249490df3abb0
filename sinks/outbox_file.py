"""The file of the outbox: its tables, and how files of earlier versions get what they lack.

Not here: what is written into it (outbox.py), what viewers ask of it (alert_history.py).
"""

from __future__ import annotations

import sqlite3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,            -- order of publishing
    id TEXT NOT NULL UNIQUE,
    rule TEXT NOT NULL,
    labels TEXT NOT NULL,               -- JSON object
    annotations TEXT NOT NULL,          -- JSON object
    state TEXT NOT NULL,                -- firing | resolved
    value REAL,                         -- NULL: NaN
    starts_at INTEGER NOT NULL,         -- ns
    ends_at INTEGER NOT NULL,           -- ns; 0 while firing
    detected_at INTEGER NOT NULL,       -- ns
    alertname TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    journal_offset INTEGER NOT NULL     -- of whoever published it
);
CREATE INDEX IF NOT EXISTS events_of_an_alert ON events (fingerprint, rule, seq);
CREATE INDEX IF NOT EXISTS events_by_time ON events (detected_at);
CREATE TABLE IF NOT EXISTS deliveries (
    receiver TEXT NOT NULL,
    seq INTEGER NOT NULL REFERENCES events (seq) ON DELETE CASCADE,
    state TEXT NOT NULL DEFAULT 'pending',   -- pending | sending | sent | dead
    send TEXT,                               -- names the events that are sent together, for ever in this company
    attempts INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL DEFAULT 0,      -- ns; 0: not tried yet
    last_error TEXT NOT NULL DEFAULT '',
    sent_at INTEGER NOT NULL DEFAULT 0,      -- ns
    tried_at INTEGER NOT NULL DEFAULT 0,     -- ns; the first time
    alert TEXT NOT NULL DEFAULT '',          -- events.fingerprint, so that an index has it
    PRIMARY KEY (receiver, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS deliveries_of_an_event ON deliveries (seq);
CREATE TABLE IF NOT EXISTS receivers (
    name TEXT PRIMARY KEY,
    failures INTEGER NOT NULL DEFAULT 0,     -- in a row
    paused_until INTEGER NOT NULL DEFAULT 0, -- ns
    worked_at INTEGER NOT NULL DEFAULT 0,    -- ns
    asked_at INTEGER NOT NULL DEFAULT 0      -- ns; the last try
) WITHOUT ROWID;
"""
_INDEXES = """
DROP INDEX IF EXISTS deliveries_open;
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (receiver, next_at, seq)
    WHERE state IN ('pending', 'sending');
CREATE INDEX IF NOT EXISTS deliveries_in_order ON deliveries (receiver, alert, seq)
    WHERE state IN ('pending', 'sending');
"""
_ADDED = {
    "deliveries": {"tried_at": "INTEGER NOT NULL DEFAULT 0", "alert": "TEXT NOT NULL DEFAULT ''"},
    "receivers": dict.fromkeys(("failures", "paused_until", "worked_at", "asked_at"), "INTEGER NOT NULL DEFAULT 0"),
}
"""Columns that the first files did not have."""


def prepare(db: sqlite3.Connection) -> None:
    """Make the tables, or add what is missing; safe to be cut off at any point and done again."""
    for setting in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        db.execute(f"PRAGMA {setting}")
    db.executescript(_SCHEMA)
    for table, columns in _ADDED.items():
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        for column in columns.keys() - there:
            db.execute(f"ALTER TABLE {table} ADD COLUMN {column} {columns[column]}")
    db.execute(
        "UPDATE deliveries SET alert = (SELECT fingerprint FROM events WHERE events.seq = deliveries.seq) "
        "WHERE alert = ''"
    )
    db.executescript(_INDEXES)
