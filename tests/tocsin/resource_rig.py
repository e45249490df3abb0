"""A small tocsin with good and hostile data, for tests of what is answered over HTTP."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from ingest.arrivals import Arrivals
from telemetry import Message
from tests.tocsin.fake_backend import FakeBackend
from tests.tocsin.pipeline_rig import prepare, receive, running, settle, until
from tocsin.backend import Backend, RunningBackend
from tocsin.http.app import make_app
from tocsin.pipeline import Pipeline
from tocsin.pipeline_status import PipelineStatus

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a successor of httpx
    from starlette.testclient import TestClient

HOSTILE = (
    "<script>alert(1)</script>",
    'quo"te',
    "back\\slash",
    "a/b?c=d&e#f%2F",
    "..",
    "ü ☃ \u202e",
)
"""Names that devices give themselves."""
STREAMS = [
    {"name": "named", "topic": "named/{batch}", "device": {"field": "id"}},
    {"name": "picky", "topic": "picky/{device}/x", "fields": {"include": ["wanted"]}},
    {"name": "strict", "topic": "strict/{device}/x", "format": "json"},
    {"name": "silent", "topic": "silent/{device}/x"},
    {"name": "plain", "topic": "{device}/{metric}"},
]


def fill(pipeline: Pipeline) -> None:
    """What it has received: two devices with plain values, hostile names, what is refused or not wanted."""
    receive(pipeline, 40, 60, 70, 45)
    receive(pipeline, 20, topic="d2/humidity")
    receive(pipeline, 20, 21, topic="nobody/takes/this")
    for device in HOSTILE:
        publish(pipeline, "named/1", json.dumps({"id": device, "temperature": 90.5}).encode())
    publish(pipeline, "picky/p1/x", b'{"other": 1}')
    publish(pipeline, "strict/s1/x", b"\xff<script>")
    settle(pipeline)


def publish(pipeline: Pipeline, topic: str, payload: bytes) -> None:
    """As the session does, with QoS 0; waits until it has gone through."""
    message = Message(topic, payload, received=pipeline.clock.now())
    pipeline.counters.add("ingest.arrived")
    assert pipeline.receiver._inbox.put(Arrivals.of(message, 1), timeout=10)
    until(lambda: pipeline.receiver.waiting == 0)


@contextmanager
def filled(directory: Path) -> Iterator[tuple[Pipeline, RunningBackend]]:
    """A pipeline that runs."""
    with running(prepare(directory, streams=STREAMS)) as pipeline:
        fill(pipeline)
        yield pipeline, RunningBackend(pipeline, PipelineStatus(pipeline, title="rig"))


def stored(directory: Path) -> FakeBackend:
    """The files of one that has run, and what it said of itself at the end."""
    with filled(directory) as (_, backend):
        said, groups, active = backend.snapshot(), backend.groups, list(backend.alerts())
    assert said.session is not None
    snapshot = replace(said, session=replace(said.session, state="connected", last_error=""))
    backend_of_files = FakeBackend(directory / "tocsin-data", lambda: snapshot, groups=groups)
    backend_of_files.active = active
    return backend_of_files


def client(backend: Backend) -> TestClient:
    """Raises what the server would log as a mistake."""
    return TestClient(make_app(backend), base_url="http://127.0.0.1")


def pages(asking: TestClient, path: str, key: str, **parameters: Any) -> list[list[Any]]:
    """All pages of a list."""
    found = []
    while True:
        answer = asking.get(path, params=parameters)
        assert answer.status_code == 200, answer.text
        found.append(answer.json()[key])
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return found
        parameters["cursor"] = cursor
