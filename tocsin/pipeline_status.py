"""A running pipeline → Snapshot. Here: where each figure of the live view comes from."""

from __future__ import annotations

import math
from collections import deque

from tocsin.pipeline import Pipeline
from tocsin.status import AlertRow, SessionRow, SinkRow, Snapshot

_RATE_SECONDS = 5.0
_RECENT_ALERTS = 50


def percentile(values: list[int], q: float) -> int | None:
    """The nearest-rank percentile; None of nothing."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(q * len(values)) - 1)]


class PipelineStatus:
    """Snapshots of one pipeline; rates are over the last seconds."""

    def __init__(self, pipeline: Pipeline, *, title: str, hints: tuple[str, ...] = ()) -> None:
        self._pipeline, self._title, self._hints = pipeline, title, hints
        self._started = pipeline.clock.now()
        self._history: deque[tuple[int, int, int]] = deque([(self._started, 0, 0)])

    def snapshot(self) -> Snapshot:
        p = self._pipeline
        now = p.clock.now()
        messages, readings = p.counters.get("ingest.messages"), p.counters.get("ingest.readings")
        messages_rate, readings_rate = self._rates(now, messages, readings)
        session = p.session.status
        latencies = list(p.evaluation.latencies)
        fired, resolved = p.counters.get("alerts.firing"), p.counters.get("alerts.resolved")
        active = p.evaluation.alerts
        return Snapshot(
            time=now,
            started=self._started,
            title=self._title,
            session=SessionRow(
                url=p.config.mqtt.address, state=session.state, since=session.since, last_error=session.last_error
            ),
            messages=messages,
            readings=readings,
            messages_per_second=messages_rate,
            readings_per_second=readings_rate,
            series=len(p.table),
            accounts=p.accounts.rows(),
            alerts=self._alerts(),
            firing=sum(alert.state == "firing" for alert in active),
            fired=fired,
            resolved=resolved,
            sinks=self._sinks(),
            latency_p50=percentile(latencies, 0.5),
            latency_p99=percentile(latencies, 0.99),
            hints=self._hints,
            rule_errors=tuple(f"rule {rule}: {why}" for rule, why in sorted(p.evaluation.errors.items())),
            errors=self._errors(),
        )

    def _rates(self, now: int, messages: int, readings: int) -> tuple[float, float]:
        self._history.append((now, messages, readings))
        while len(self._history) > 1 and now - self._history[1][0] > _RATE_SECONDS * 1e9:
            self._history.popleft()
        then, before, read = self._history[0]
        seconds = max(now - then, 1) / 1e9
        return (messages - before) / seconds, (readings - read) / seconds

    def _alerts(self) -> tuple[AlertRow, ...]:
        p = self._pipeline
        rows = [
            AlertRow(
                state=a.state,
                name=dict(a.labels).get("alertname", ""),
                device=dict(a.labels).get("device", ""),
                value=a.value,
                since=a.active_at,
            )
            for a in p.evaluation.alerts
        ]
        rows.sort(key=lambda row: (row.state != "firing", -row.since))
        past = [e for e in p.outbox.recent(limit=_RECENT_ALERTS) if e.ends_at]
        rows += [
            AlertRow(
                state="resolved",
                name=dict(e.labels).get("alertname", ""),
                device=dict(e.labels).get("device", ""),
                value=e.value,
                since=e.ends_at,
            )
            for e in past
        ]
        return tuple(rows)

    def _sinks(self) -> tuple[SinkRow, ...]:
        p = self._pipeline
        rows = [
            SinkRow(name=s.name, state=s.state, lag=s.lag, written=s.rows_written, error=s.last_error)
            for s in (consumer.status for consumer in p.consumers)
        ]
        rows += [
            SinkRow(
                name=s.name,
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
        return tuple(filter(None, (p.receiver.status.last_error, p.evaluation.last_error)))
