"""How long it takes from PUBLISH to the alert, and to the webhook, while a fleet reports at a steady rate.

Here: a publisher that keeps to a rate (QoS 1, through mosquitto) and now and then sends a reading that is too low, of
a device that has not had one; what came of it, and when. The clock is the machine's, which all processes share.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np

from telemetry import AlertEvent, SystemClock
from tests.bench.measuring import Effort, Figure, Floats, Report
from tests.bench.processes import SECONDS, far_side, pipeline_in, wait_stored
from tests.bench.publisher import connected, flood, warming
from tests.bench.traffic import METRICS, MS, WARM_ROUNDS, Traffic
from tests.integration.brokers import Mosquitto, MosquittoOptions

RATES = (1_000, 10_000, 50_000)
"""Messages a second"""
DEVICES = 1_000
DURATION_SECONDS = 5
_REACHED = 0.95
_RULE = {"alert": "Marked", "expr": "temperature < 0"}


def bench_latency(effort: Effort, report: Report) -> None:
    """From PUBLISH to the alert in the outbox, and to the webhook, of about 40 alerts a second."""
    for rate in RATES:
        devices = effort.of(DEVICES)
        rounds = WARM_ROUNDS + max(4, rate * DURATION_SECONDS * effort.longer // effort.share // devices)
        reached, alert, webhook = latencies(Traffic.until_now(devices, rounds), rate)
        name = f"{rate:,} messages/s"
        if reached < _REACHED * rate:
            name += f" (not reached: {reached:,.0f})"
        report(f"{name}, sent", Figure.of(reached, "messages/s"))
        for what, spent in (("alert", alert), ("webhook", webhook)):
            for share, word in ((0.5, "p50"), (0.99, "p99"), (1.0, "max")):
                report(f"{name}, {what} {word}", Figure.of(float(np.quantile(spent, share)) / MS, "ms"))


def latencies(traffic: Traffic, rate: float) -> tuple[float, Floats, Floats]:
    """The rate that was reached; ns from PUBLISH to each alert, and to its arrival at the webhook."""
    alerted: dict[str, int] = {}

    def published(events: Sequence[AlertEvent], now: int) -> None:
        alerted.update((dict(e.labels)["device"], now) for e in events if e.rule.endswith("/Marked"))

    with tempfile.TemporaryDirectory() as directory, webhook() as (port, heard):
        receiver = {"type": "webhook", "url": f"http://127.0.0.1:{port}/", "allow_private": ["127.0.0.0/8"]}
        broker = Mosquitto(Path(directory), MosquittoOptions(lines=["log_type none", "max_inflight_messages 1000"]))
        broker.start()
        pipeline = pipeline_in(Path(directory), broker.port, published=published, more=[_RULE], receivers=[receiver])
        try:
            pipeline.start()
            assert pipeline.session.wait_connected(SECONDS)
            warm = warming(traffic, rate)
            with connected(broker.port, b"bench-warm") as wire:
                flood(wire, *warm, 1)
            wait_stored(pipeline.store, len(METRICS) * (len(warm[0]) // warm[1]))
            with far_side("rate", traffic, port=broker.port, rate=rate) as publisher:
                assert publisher.hear() == "ready"
                publisher.go()
                said = json.loads(publisher.hear())
            sent: dict[str, int] = said["sent"]
            _until(lambda: sent.keys() <= heard.keys() & alerted.keys())
        finally:
            pipeline.stop()
            pipeline.close()
            broker.kill()
    count = traffic.messages - WARM_ROUNDS * traffic.devices + len(sent)
    reached = count / (said["ended"] - said["began"])
    return (
        reached,
        np.array([alerted[name] - at for name, at in sent.items()], np.float64),
        np.array([heard[name] - at for name, at in sent.items()], np.float64),
    )


@contextmanager
def webhook() -> Iterator[tuple[int, dict[str, int]]]:
    """Its port; when it first heard of each device, ns."""
    heard: dict[str, int] = {}
    clock = SystemClock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"  # connections are kept, as by any receiver

        def do_POST(self) -> None:
            body, now = self.rfile.read(int(self.headers["Content-Length"])), clock.now()
            for alert in json.loads(body)["alerts"]:
                if alert["labels"]["alertname"] == "Marked":
                    heard.setdefault(alert["labels"]["device"], now)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1], heard
        finally:
            server.shutdown()
            thread.join()


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, "alerts are missing"
        time.sleep(0.02)
