"""A running pipeline → Snapshot. Here: where each figure that tocsin tells of itself comes from."""

from __future__ import annotations

import math
import os
import threading
from collections import deque

from telemetry import AlertEvent
from tocsin import __version__
from tocsin.pipeline import Pipeline
from tocsin.status import (
    AlertRow,
    JournalRow,
    SessionRow,
    SinkRow,
    Snapshot,
    StandstillRow,
    StreamRow,
    alert_row,
    event_row,
)

_RATE_SECONDS = 5.0
_RECENT_ALERTS = 50


def percentile(values: list[int], q: float) -> int | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


class PipelineStatus:
    """Snapshots of one pipeline, for any thread; rates are over the last seconds."""

    def __init__(self, pipeline: Pipeline, *, title: str, hints: tuple[str, ...] = ()) -> None:
        self._pipeline, self._title, self.hints = pipeline, title, hints
        self._started = pipeline.clock.now()
        self._history: deque[tuple[int, int, int]] = deque([(self._started, 0, 0)])
        self._counting = threading.Lock()

    def snapshot(self) -> Snapshot:
        p = self._pipeline
        now = p.clock.now()
        messages, readings = p.counters.get("ingest.messages"), p.counters.get("ingest.readings")
        messages_rate, readings_rate = self._rates(now, messages, readings)
        latencies = list(p.evaluation.latencies)
        fired, resolved = p.counters.get("alerts.firing"), p.counters.get("alerts.resolved")
        own = p.own_alerts.firing
        return Snapshot(
            version=__version__,
            pid=os.getpid(),
            time=now,
            started=self._started,
            title=self._title,
            session=self._session(),
            journal=self._journal(),
            streams=self._streams(),
            messages=messages,
            readings=readings,
            messages_per_second=messages_rate,
            readings_per_second=readings_rate,
            series=len(p.table),
            accounts=p.audit.settled(),
            imbalances=tuple(p.audit.imbalances),
            alerts=self._alerts(own),
            firing=sum(alert.state == "firing" for alert in p.evaluation.alerts) + len(own),
            fired=fired,
            resolved=resolved,
            counters=self._counters(),
            sinks=self._sinks(),
            latency_p50=percentile(latencies, 0.5),
            latency_p99=percentile(latencies, 0.99),
            hints=self.hints,
            standstill=self._standstill(),
            rule_errors=tuple(f"rule {rule}: {why}" for rule, why in sorted(p.evaluation.errors.items())),
            errors=self._errors(),
        )

    def _rates(self, now: int, messages: int, readings: int) -> tuple[float, float]:
        with self._counting:
            self._history.append((now, messages, readings))
            while len(self._history) > 1 and now - self._history[1][0] > _RATE_SECONDS * 1e9:
                self._history.popleft()
            then, before, read = self._history[0]
        seconds = max(now - then, 1) / 1e9
        return (messages - before) / seconds, (readings - read) / seconds

    def _counters(self) -> dict[str, dict[str, int]]:
        found: dict[str, dict[str, int]] = {}
        for (name, reason), n in self._pipeline.counters.snapshot().items():
            found.setdefault(name, {})[reason] = n
        return found

    def _session(self) -> SessionRow:
        session = self._pipeline.session.status
        return SessionRow(
            url=self._pipeline.config.mqtt.address,
            state=session.state,
            since=session.since,
            last_error=session.last_error,
            last_message=session.last_message,
            reconnects=session.reconnects,
        )

    def _journal(self) -> JournalRow:
        p = self._pipeline
        receiving, room = p.receiver.status, p.room
        return JournalRow(
            start=p.journal.start,
            end=p.journal.end,
            bytes=p.journal.size,
            free_bytes=room.free if room else None,
            seconds_to_full=room.seconds if room else None,
            error=receiving.last_error if receiving.state == "journal_failed" else "",
        )

    def _standstill(self) -> StandstillRow | None:
        found = self._pipeline.evaluation.standstill
        return StandstillRow(error=found[0], since=found[1]) if found else None

    def _streams(self) -> tuple[StreamRow, ...]:
        p = self._pipeline
        messages, rejected = p.counters.reasons("ingest.of_stream"), p.counters.reasons("ingest.rejected_of_stream")
        promised = {guarantee.filter: guarantee for guarantee in p.session.guarantees()}
        rows = []
        for stream in p.config.streams:
            last, guarantee = p.feed.last_rejections.get(stream.name), promised.get(stream.filter)
            row = StreamRow(
                name=stream.name,
                topic=stream.topic,
                messages=messages.get(stream.name, 0),
                rejected=rejected.get(stream.name, 0),
                last_message=guarantee.last_message if guarantee else 0,
                last_error=f"{last.reason}: {last.detail}" if last else "",
                guarantee=guarantee.level if guarantee else "",
                notes=(*guarantee.reasons, *guarantee.caveats) if guarantee else (),
            )
            rows.append(row)
        return tuple(rows)

    def _alerts(self, own: tuple[AlertEvent, ...]) -> tuple[AlertRow, ...]:
        p = self._pipeline
        rows = [alert_row(a.state, a.labels, a.value, a.active_at) for a in p.evaluation.alerts]
        rows += [event_row(event) for event in own]
        rows.sort(key=lambda row: (row.state != "firing", -row.since))
        rows += [event_row(event) for event in p.outbox.recent(limit=_RECENT_ALERTS) if event.ends_at]
        return tuple(rows)

    def _sinks(self) -> tuple[SinkRow, ...]:
        p = self._pipeline
        rows = [
            SinkRow(name=s.name, state=str(s.state), lag=s.lag, written=s.rows_written, error=s.last_error)
            for s in (consumer.status for consumer in p.consumers)
        ]
        rows += [
            SinkRow(
                name=s.name,
                kind="receiver",
                state="running" if s.state in ("idle", "sending") else s.state,
                lag=p.outbox.pending(s.name),
                written=s.sent,
                error=s.last_error,
            )
            for s in (delivery.status for delivery in p.deliveries)
        ]
        return tuple(rows)

    def _errors(self) -> tuple[str, ...]:
        p = self._pipeline
        return tuple(filter(None, (p.receiver.status.last_error, p.evaluation.last_error, p.own_alerts.last_error)))
