"""Laws of spans: they tell a collector of batches and deliveries, cost nothing when off, and never hold anything up."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from telemetry import ConfigError
from tests.integration.servers import free_port, wait_until
from tests.sinks.far_side import FarSide, far_side
from tests.tocsin.pipeline_rig import prepare, receive, running, settle
from tocsin.tracing import Tracing, TracingConfig


def spans(far: FarSide) -> list[tuple[str, dict[str, Any]]]:
    """Name and attributes of all that came."""
    found = []
    for request in far.taken:
        assert request.path == "/v1/traces"
        message = ExportTraceServiceRequest.FromString(request.body)
        for resource in message.resource_spans:
            for span in (span for scope in resource.scope_spans for span in scope.spans):
                assert span.end_time_unix_nano >= span.start_time_unix_nano > 0
                found.append((span.name, {pair.key: pair.value for pair in span.attributes}))
    return found


def test_a_collector_is_told_of_batches_and_deliveries(tmp_path: Path):
    with far_side() as far:
        with running(prepare(tmp_path, tracing={"endpoint": far.url})) as pipeline:
            receive(pipeline, 60)
            wait_until(lambda: bool(pipeline.outbox.recent(limit=10)), what="the alert is published")
            settle(pipeline)
            [event] = pipeline.outbox.recent(limit=10)
        told = spans(far)

    writes = [said for name, said in told if name == "sink.write"]
    assert [(said["sink"].string_value, said["readings"].int_value) for said in writes] == [("store", 1)]
    assert any(name == "rules.evaluate" and said["readings"].int_value == 1 for name, said in told)
    [sent] = [said for name, said in told if name == "alerts.send"]
    assert sent["receiver"].string_value == "log"
    assert [value.string_value for value in sent["alert_ids"].array_value.values] == [event.id]


def test_a_collector_that_is_down_holds_nothing_up(tmp_path: Path):
    with running(prepare(tmp_path, tracing={"endpoint": f"http://127.0.0.1:{free_port()}"})) as pipeline:
        receive(pipeline, 60)
        settle(pipeline)
        begin = time.monotonic()
    assert time.monotonic() - begin < 30


def test_nothing_of_opentelemetry_is_imported_while_it_is_off():
    code = "import sys, tocsin.pipeline; sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_without_the_extra_the_setting_is_a_problem_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)

    with pytest.raises(ConfigError, match=r"pip install 'tocsin\[otel\]'"):
        Tracing(TracingConfig.model_validate({"endpoint": "http://localhost:4318"}))
