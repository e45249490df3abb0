"""/metrics: a Snapshot and the counters as Prometheus metrics. Here: names, help texts, types.

Source of the format and of the naming rules: https://prometheus.io/docs/practices/naming and the OpenMetrics
specification; prometheus-client writes both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tocsin.status import Snapshot

IN_FLIGHT = "in flight"
_STATES = ("connecting", "connected", "disconnected", "refused", "stopped")
_Values = dict[tuple[tuple[str, str], ...], float]
"""By labels."""
COUNTERS = {
    "ingest.journal_failures": ("journal_failures", "Failed tries to write to the journal.", ""),
    "ingest.dead_letters_dropped": ("dead_letters_dropped", "Dead letters deleted to make room for newer ones.", ""),
    "ingest.flags_forgotten": (
        "flags_forgotten",
        "Readings that a sink far behind will not know to be late or duplicate.",
        "",
    ),
    "ingest.invalid_topics": ("invalid_topics", "Messages whose topic was not UTF-8.", ""),
    "ingest.session_errors": ("session_errors", "Unexpected ends of the MQTT session.", ""),
    "ingest.sessions_lost": ("sessions_lost", "Connections at which the broker had forgotten the session.", ""),
    "ingest.skipped": ("skipped_fields", "Fields that are no readings, by reason.", "reason"),
    "ingest.subscription_lost": ("sink_lost_records", "Journal records gone before a sink could read them.", ""),
    "journal.full": ("journal_full", "Times that there was no room in the journal, by what was short.", "reason"),
    "journal.dropped_consumed": (
        "journal_dropped_records",
        "Records, read by everyone, deleted before their time to make room (journal.on_full).",
        "reason",
    ),
    "rules.dropped": ("window_dropped_readings", "Readings that a rule's window had no room for.", "reason"),
    "rules.recorded": ("recorded_samples", "Samples that recording rules have made.", ""),
    "alerts.firing": ("alerts_fired", "Alerts of rules that began to fire.", ""),
    "alerts.resolved": ("alerts_resolved", "Alerts of rules that were resolved.", ""),
}
"""Counters that are not in the accounts: name without tocsin_ and _total, help, label of the reason."""


class Metrics:
    """What stands at /metrics, computed at each request."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Pipeline(snapshot))
        ProcessCollector(registry=self._registry)

    def text(self, accept: str) -> tuple[bytes, str]:
        """Body and content type, in the format that the Accept header asks for."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type


class _Pipeline(Collector):
    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        s = self._snapshot()
        yield _gauge("build_info", "Version of tocsin; always 1.", {(("version", s.version),): 1})
        yield from _of_session(s)
        yield from _of_accounts(s)
        yield from _of_journal(s)
        yield from _of_sinks(s)
        yield from _of_alerts(s)
        yield from _of_streams(s)
        yield _gauge("series", "Series that are known.", {(): s.series})
        for name, (metric, help_, label) in COUNTERS.items():
            found = s.counters.get(name, {})
            values: _Values = {((label, reason),) if label else (): n for reason, n in found.items()}
            yield _counter(metric, help_, values if values or label else {(): 0})


def _of_session(s: Snapshot) -> Iterator[Metric]:
    if s.session is None:
        return
    states: _Values = {(("state", state),): int(s.session.state == state) for state in _STATES}
    yield _gauge("session_state", "1 for the state that the MQTT session is in.", states)
    yield _gauge("session_connected", "Whether the MQTT session is connected.", {(): s.session.state == "connected"})
    yield _counter("session_reconnects", "Connections to the broker after the first.", {(): s.session.reconnects})
    if s.session.last_message:
        newest: _Values = {(): s.session.last_message / 1e9}
        yield _gauge("session_last_message_timestamp_seconds", "When the newest message came.", newest)


def _of_accounts(s: Snapshot) -> Iterator[Metric]:
    received: _Values = {}
    rows: _Values = {}
    in_flight: _Values = {}
    missing: _Values = {}
    for row in s.accounts:
        stage = ("stage", row.stage)
        received[(stage,)] = row.received
        missing[(stage,)] = row.missing
        for part, n in row.parts:
            if part == IN_FLIGHT:
                in_flight[(stage,)] = n
                continue
            causes = row.causes.get(part)
            for cause, of_it in causes.items() if causes else (("", n),):
                rows[stage, ("outcome", part.replace(" ", "_")), ("cause", cause)] = of_it
    yield _counter("stage_received", "What each stage has received since the start.", received)
    yield _counter("stage_rows", "What came of it, by outcome and cause.", rows)
    yield _gauge("stage_in_flight", "What each stage has received and not finished yet.", in_flight)
    yield _gauge(
        "stage_missing", "Received, but neither finished nor in flight; passing deviations are normal.", missing
    )
    yield _gauge("accounting_balanced", "0 while the books of a stage do not balance.", {(): not s.imbalances})


def _of_journal(s: Snapshot) -> Iterator[Metric]:
    if s.journal is None:
        return
    yield _gauge("journal_bytes", "Size of the journal.", {(): s.journal.bytes})
    yield _gauge("journal_start_offset", "Oldest offset that is kept.", {(): s.journal.start})
    yield _gauge("journal_end_offset", "Next offset to be written.", {(): s.journal.end})
    yield _gauge("journal_writable", "Whether the journal can be written.", {(): not s.journal.error})
    if s.journal.free_bytes is not None:
        yield _gauge("journal_free_bytes", "By so much the journal may still grow.", {(): s.journal.free_bytes})
    if s.journal.seconds_to_full is not None:
        left: _Values = {(): s.journal.seconds_to_full}
        yield _gauge("journal_full_seconds", "Time until the journal is full, if sinks go on lagging; or absent.", left)


def _of_sinks(s: Snapshot) -> Iterator[Metric]:
    sinks = [row for row in s.sinks if row.kind == "sink"]
    receivers = [row for row in s.sinks if row.kind == "receiver"]
    lag: _Values = {(("sink", row.name),): row.lag for row in sinks}
    yield _gauge("sink_lag_records", "Journal records that the sink has still to read.", lag)
    takes: _Values = {(("sink", row.name),): row.state == "running" for row in sinks}
    yield _gauge("sink_up", "Whether the sink takes what it is given.", takes)
    pending: _Values = {(("receiver", row.name),): row.lag for row in receivers}
    yield _gauge("receiver_pending_events", "Alert events that the receiver has still to be told of.", pending)
    hears: _Values = {(("receiver", row.name),): row.state == "running" for row in receivers}
    yield _gauge("receiver_up", "Whether the receiver takes what it is told.", hears)


def _of_alerts(s: Snapshot) -> Iterator[Metric]:
    yield _gauge("alerts_firing", "Alerts that fire now.", {(): s.firing})
    yield _gauge("evaluation_up", "0 while rules wait, as for a full disk.", {(): s.standstill is None})
    yield _gauge("rules_in_error", "Rules that cannot be evaluated.", {(): len(s.rule_errors)})
    latency = Metric(
        "tocsin_alert_latency_seconds", "From receipt to the alert being on disk, of the latest.", "summary"
    )
    for quantile, ns in (("0.5", s.latency_p50), ("0.99", s.latency_p99)):
        if ns is not None:
            latency.add_sample("tocsin_alert_latency_seconds", {"quantile": quantile}, ns / 1e9)
    yield latency


def _of_streams(s: Snapshot) -> Iterator[Metric]:
    messages: _Values = {(("stream", row.name),): row.messages for row in s.streams}
    yield _counter("stream_messages", "Messages of the stream.", messages)
    rejected: _Values = {(("stream", row.name),): row.rejected for row in s.streams}
    yield _counter("stream_rejected", "Readings of the stream that were refused.", rejected)


def _gauge(name: str, help_: str, values: _Values) -> Metric:
    return _family(GaugeMetricFamily(f"tocsin_{name}", help_, labels=_label_names(values)), values)


def _counter(name: str, help_: str, values: _Values) -> Metric:
    return _family(CounterMetricFamily(f"tocsin_{name}", help_, labels=_label_names(values)), values)


def _family(family: GaugeMetricFamily | CounterMetricFamily, values: _Values) -> Metric:
    for labels, value in values.items():
        family.add_metric([text for _, text in labels], float(value))
    return family


def _label_names(values: _Values) -> list[str]:
    return [name for name, _ in next(iter(values), ())]
