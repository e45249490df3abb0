# ruff: noqa: T201  # a program: it tells what it finds
"""`make soak`: ten million readings through the whole pipeline while one sink is down; memory must stay as it is.

Then the sink comes back and must be given every reading, exactly. Exits with 1 if memory grew by more than a
twentieth, or if a reading is missing, doubled or different. Takes minutes: it is not part of `make test`.
"""

from __future__ import annotations

import argparse
import gzip
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from ingest.arrivals import Arrivals
from tests.integration.servers import free_port
from tests.tocsin.pipeline_rig import prepare, running, settle
from tocsin.pipeline import Pipeline

_DEVICES = 1_000
_TOGETHER = 2_000
"""Messages of one read of the socket."""
_FIELDS = 3
_FLAT = 1.05
_WARM = 0.4
"""Part of the readings after which all buffers have been filled once, so that memory must stay as it is."""
_MASK = (1 << 64) - 1


def _reading(message: int) -> tuple[int, tuple[float, float, float]]:
    """Milliseconds after the beginning, and the values."""
    return message // _DEVICES * 1_000 + message % _DEVICES, (message % 97 / 4, message % 89 / 8, message % 83 / 2)


def _digest(device: int, at_ms: int, field: int, value: float) -> int:
    return hash((device, at_ms, field, value)) & _MASK


class _Database(BaseHTTPRequestHandler):
    """Takes line protocol, and adds up digests of its points: the sum does not depend on the order."""

    total, points = 0, 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        for line in body.decode().splitlines():
            series, field, stamp = line.split(" ")
            metric, labels = series.split(",", 1)
            device = int(labels.partition("device=d")[2].partition(",")[0])
            digest = _digest(device, int(stamp), "abc".index(metric), float(field.partition("=")[2]))
            type(self).total = (self.total + digest) & _MASK
            type(self).points += 1
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


def _serve(port: int, asked: Connection) -> None:
    server = HTTPServer(("127.0.0.1", port), _Database)
    server.timeout = 0.2
    while not asked.poll():
        server.handle_request()
    asked.send((_Database.points, _Database.total))


def _reads(messages: int, begin_ms: int) -> Iterator[Arrivals]:
    for first in range(0, messages, _TOGETHER):
        arrivals = Arrivals(1, time.time_ns())
        for message in range(first, min(first + _TOGETHER, messages)):
            at, (a, b, c) = _reading(message)
            arrivals.topics.append(f"soak/d{message % _DEVICES}")
            arrivals.payloads.append(b'{"ts":%d,"a":%g,"b":%g,"c":%g}' % (begin_ms + at, a, b, c))
        arrivals.flags += bytes(len(arrivals))
        arrivals.mids += bytes(2 * len(arrivals))
        arrivals.size = sum(map(len, arrivals.payloads))
        yield arrivals


def _resident_mb() -> float:
    """Memory of this process, MB (proc(5))."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4_096 / 1e6


def _flood(pipeline: Pipeline, messages: int, begin_ms: int) -> tuple[float, float]:
    """Memory when all buffers are full, and at most after that."""
    warm = most = 0.0
    done = shown = 0
    for arrivals in _reads(messages, begin_ms):
        pipeline.counters.add("ingest.arrived", len(arrivals))
        pipeline.receiver._inbox.put(arrivals)
        done += len(arrivals)
        while pipeline.journal.end - pipeline.feed.offset > 20 * _TOGETHER:
            time.sleep(0.005)
        now = _resident_mb()
        if done >= _WARM * messages:
            warm, most = warm or now, max(most, now)
        if done * 20 // messages > shown:
            shown = done * 20 // messages
            pipeline.tend()
            print(f"\r{done * _FIELDS:,} readings, {now:.0f} MB ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return warm, most


def soak(readings: int) -> list[str]:
    """What is wrong."""
    messages, port = readings // _FIELDS, free_port()
    begin_ms = time.time_ns() // 10**6 - messages // _DEVICES * 1_000 - 1_000
    sink = {"type": "influx", "name": "down", "url": f"http://127.0.0.1:{port}", "bucket": "b", "precision": "ms"}
    wrong = []
    with tempfile.TemporaryDirectory(prefix="tocsin-soak-") as directory:
        pipeline = prepare(
            Path(directory),
            streams=[{"name": "soak", "topic": "soak/{device}"}],
            sinks=[sink],
            limits={"max_past": "0s"},
            journal={"retention_bytes": "16GiB"},
        )
        with running(pipeline):
            warm, most = _flood(pipeline, messages, begin_ms)
            print(f"memory: {warm:.0f} MB when warm, {most:.0f} MB at most after that ({most / warm - 1:+.1%})")
            if most > _FLAT * warm:
                wrong.append("memory grew")
            down = pipeline.consumers[1]
            print(f"the sink that was down lags by {down.status.lag:,} messages: {down.status.last_error}")
            points, total = _catch_up(pipeline, port)
    expected = _expected(messages, begin_ms)
    print(f"caught up: {points:,} points of {messages * _FIELDS:,}, after that {_resident_mb():.0f} MB")
    if (points, total) != (messages * _FIELDS, expected):
        wrong.append("the sink was not given exactly the readings")
    return wrong


def _catch_up(pipeline: Pipeline, port: int) -> tuple[int, int]:
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("fork").Process(target=_serve, args=(port, there), daemon=True)
    server.start()
    settle_until = time.monotonic() + 3_600
    while not pipeline.drain() and time.monotonic() < settle_until:
        print(f"\r{pipeline.consumers[1].status.lag:,} to go ", end="", file=sys.stderr, flush=True)
        time.sleep(0.5)
    settle(pipeline)
    print(file=sys.stderr)
    here.send("what have you got?")
    points, total = here.recv()
    server.join()
    return int(points), int(total)


def _expected(messages: int, begin_ms: int) -> int:
    total = 0
    for message in range(messages):
        at, values = _reading(message)
        for field, value in enumerate(values):
            total += _digest(message % _DEVICES, begin_ms + at, field, value)
    return total & _MASK


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description=__doc__)
    parser.add_argument("--readings", type=int, default=10_000_000, help="how many")
    wrong = soak(parser.parse_args().readings)
    print("\n".join(wrong) or "all is well")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
