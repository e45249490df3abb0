"""A whole pipeline in a directory, without a broker: messages are put where the session would put them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ingest.arrivals import Arrivals
from telemetry import Message
from tocsin.config import load_config
from tocsin.pipeline import Pipeline
from tocsin.status import AccountRow

RULES = {"groups": [{"name": "g", "rules": [{"alert": "Hot", "expr": "temperature > 50"}]}]}
NOBODY = "mqtt://127.0.0.1:1"


def prepare(directory: Path, **config: Any) -> Pipeline:
    """Not started yet."""
    (directory / "rules.yml").write_text(yaml.safe_dump(RULES))
    whole = {
        "mqtt": {"url": NOBODY},
        "streams": [{"name": "plain", "topic": "{device}/{metric}"}],
        "rules": ["rules.yml"],
        "receivers": [{"type": "log"}],
        **config,
    }
    (directory / "tocsin.yaml").write_text(yaml.safe_dump(whole))
    return Pipeline(load_config(directory / "tocsin.yaml"))


@contextmanager
def running(pipeline: Pipeline) -> Iterator[Pipeline]:
    pipeline.start()
    try:
        yield pipeline
    finally:
        pipeline.stop()
        pipeline.close()


def receive(pipeline: Pipeline, *values: float, topic: str = "d1/temperature") -> None:
    """As the session does, with QoS 0; waits until all has gone through."""
    for value in values:
        message = Message(topic, f"{value:g}".encode(), received=pipeline.clock.now())
        pipeline.counters.add("ingest.arrived")
        assert pipeline.receiver._inbox.put(Arrivals.of(message, 1), timeout=10)
    until(lambda: pipeline.receiver.waiting == 0)


def settle(pipeline: Pipeline) -> None:
    until(lambda: pipeline.receiver.waiting == 0 and pipeline.drain())
    until(lambda: all(pipeline.outbox.pending(delivery.receiver.name) == 0 for delivery in pipeline.deliveries))


def unbalanced(pipeline: Pipeline, *, looks: int = 20) -> dict[str, AccountRow]:
    """Stages that balance in none of some looks."""
    rows = {row.stage: row for row in pipeline.accounts.rows()}
    for _ in range(looks):
        rows |= {row.stage: row for row in pipeline.accounts.rows() if not rows[row.stage].is_balanced}
        time.sleep(0.005)
    return {stage: row for stage, row in rows.items() if not row.is_balanced}


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
