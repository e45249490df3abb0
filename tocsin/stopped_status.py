"""What the data directory of a tocsin that does not run tells: how far everyone has come, and what waits."""

from __future__ import annotations

import json

from ingest.journal import Journal
from sinks.alert_history import AlertHistory
from telemetry import TocsinError
from tocsin import __version__
from tocsin.data_dir import DataDir
from tocsin.status import AlertRow, JournalRow, SinkRow, Snapshot, event_row


def stopped_snapshot(data: DataDir, *, now: int) -> Snapshot:
    """Raises TocsinError if nothing has run there yet, or a file cannot be read."""
    data.require(data.journal, "records")
    journal = Journal(data.journal, read_only=True)
    try:
        row = JournalRow(start=journal.start, end=journal.end, bytes=journal.size)
    finally:
        journal.close()
    alerts, receivers = _alerts(data)
    return Snapshot(
        running=False,
        version=__version__,
        time=now,
        started=now,
        title=f"tocsin {data.path}",
        journal=row,
        sinks=(*_consumers(data, row.end), *receivers),
        alerts=alerts,
        firing=len(alerts),
    )


def _consumers(data: DataDir, end: int) -> tuple[SinkRow, ...]:
    rows = []
    for file in sorted(data.cursor("rules").parent.glob("*.json")):
        try:
            offset = int(json.loads(file.read_bytes())["offset"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TocsinError(f"cannot read {file} ({error!r}): is it a cursor of tocsin?") from error
        rows.append(SinkRow(name=file.stem, state="stopped", lag=max(0, end - offset), written=0))
    return tuple(rows)


def _alerts(data: DataDir) -> tuple[tuple[AlertRow, ...], tuple[SinkRow, ...]]:
    """What fires, and how many events wait for each receiver."""
    if not data.alerts.exists():
        return (), ()
    history = AlertHistory(data.alerts)
    try:
        alerts = tuple(event_row(event) for event in reversed(history.firing()))
        backlogs = [(name, history.backlog(name)) for name in history.receivers()]
    finally:
        history.close()
    rows = [
        SinkRow(name=name, kind="receiver", state="stopped", lag=b.pending, written=b.sent, error=b.last_error)
        for name, b in backlogs
    ]
    return alerts, tuple(rows)
