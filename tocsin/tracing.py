"""OpenTelemetry spans of batches and deliveries: an extra, off unless `tracing.endpoint` is set.

Here: the spans, and the wrappers that make them around sinks and receivers. Not here: the way of one message after the
fact, which needs no collector (`trace`). opentelemetry is imported only when it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, HttpUrl

from sinks.sink import Receiver, Sink
from telemetry import AlertEvent, ConfigError, Problem, ReadingBatch

Span = Callable[..., AbstractContextManager[object]]
"""span(name, attribute=value, …): around what is to be timed."""
_SERVICE = "tocsin"
_TIMEOUT_SECONDS = 5


class TracingConfig(BaseModel):
    """Spans for a collector of OpenTelemetry (OTLP over HTTP)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    endpoint: HttpUrl | None = Field(
        None,
        description="Where spans of batches and deliveries go, for example http://localhost:4318; nothing: nowhere. "
        "Needs the extra: pip install 'tocsin[otel]'.",
    )


def no_span(_name: str, **_attributes: object) -> AbstractContextManager[object]:
    """While tracing is off."""
    return nullcontext()


class Tracing:
    """Where spans go. `close` sends what is left, for a few seconds at most."""

    def __init__(self, config: TracingConfig) -> None:
        """Raises ConfigError if the extra is not installed."""
        self._provider: Any = None
        self.span: Span = no_span
        if config.endpoint is not None:
            self._provider = _provider(str(config.endpoint).rstrip("/"))
            tracer = self._provider.get_tracer(_SERVICE)

            def span(name: str, **attributes: Any) -> AbstractContextManager[object]:
                found: AbstractContextManager[object] = tracer.start_as_current_span(name, attributes=attributes)
                return found

            self.span = span

    def sink(self, sink: Sink) -> Sink:
        """The sink, its writes as spans."""
        return sink if self._provider is None else _TracedSink(sink, self.span)

    def receiver(self, receiver: Receiver) -> Receiver:
        """The receiver, its sends as spans."""
        return receiver if self._provider is None else _TracedReceiver(receiver, self.span)

    def close(self) -> None:
        if self._provider is not None:
            self._provider.shutdown()


class _TracedSink:
    def __init__(self, sink: Sink, span: Span) -> None:
        self._sink, self._span = sink, span

    @property
    def name(self) -> str:
        return self._sink.name

    def write(self, batch: ReadingBatch) -> None:
        offsets = {"first_offset": int(batch.offset[0]), "last_offset": int(batch.offset[-1])}
        with self._span("sink.write", sink=self.name, readings=len(batch), **offsets):
            self._sink.write(batch)

    def close(self) -> None:
        self._sink.close()


class _TracedReceiver:
    def __init__(self, receiver: Receiver, span: Span) -> None:
        self._receiver, self._span = receiver, span

    @property
    def name(self) -> str:
        return self._receiver.name

    def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
        ids = [event.id for event in events]
        with self._span("alerts.send", receiver=self.name, events=len(ids), alert_ids=ids, repeat=repeat):
            return self._receiver.send(events, repeat=repeat)

    def close(self) -> None:
        self._receiver.close()


def _provider(endpoint: str) -> Any:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # the extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        problem = Problem("tracing.endpoint needs OpenTelemetry: pip install 'tocsin[otel]', or remove it")
        raise ConfigError([problem]) from error
    provider = TracerProvider(resource=Resource.create({"service.name": _SERVICE}), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=_TIMEOUT_SECONDS)
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=1_000))
    return provider
