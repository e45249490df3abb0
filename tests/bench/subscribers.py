"""What tocsin is compared with end to end, each a process of its own: a counter of frames on a socket, paho that only
counts, and a pipeline as it is usually written: message by message.

`python -m tests.bench.subscribers …` says `ready` once it is subscribed, and the monotonic time whenever it is through
with as many messages as asked for. Then it waits to be killed.
"""

from __future__ import annotations

import argparse
import json
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import BaseModel, ConfigDict

from telemetry import AlertEvent
from tests.bench.objects import Average, Maximum, Threshold
from tests.bench.publisher import connected
from tests.bench.traffic import FILTER, METRICS, MS, S, Traffic, rules, subscribe

_HOLD = 2 * S
_COMMIT_MESSAGES = 1_000


class Marks:
    """Says when so many messages are through."""

    def __init__(self, at: list[int]) -> None:
        self._at, self.count = at, 0
        self.next = at[0]

    def reached(self) -> None:
        print(time.monotonic(), flush=True)  # noqa: T201
        self.next = next((mark for mark in self._at if mark > self.next), 1 << 62)


def count_frames(port: int, qos: int, marks: Marks, length: int) -> None:
    """The least that a subscriber can do. Acknowledges what one read brought in one write."""
    wire = connected(port, b"bench-raw")
    wire.sendall(subscribe(FILTER.encode(), qos))
    assert wire.recv(5, socket.MSG_WAITALL)[0] == 0x90
    wire.settimeout(None)
    print("ready", flush=True)  # noqa: T201
    held, kind = b"", 0x30 | qos << 1
    mid_at = length - MID_FROM_END
    while data := wire.recv(256 << 10):
        held += data
        n = len(held) // length
        frames = np.frombuffer(held, np.uint8, n * length).reshape(n, length)
        assert (frames[:, 0] == kind).all()
        if qos and n:
            acks = np.empty((n, 4), np.uint8)
            acks[:, 0], acks[:, 1], acks[:, 2:] = 0x40, 2, frames[:, mid_at : mid_at + 2]
            wire.sendall(acks.tobytes())
        held = held[n * length :]
        marks.count += n
        if marks.count >= marks.next:
            marks.reached()


PAYLOAD_BYTES = 75
MID_FROM_END = PAYLOAD_BYTES + 2


def paho_loop(port: int, qos: int, on_message: Callable[[paho.Client, object, paho.MQTTMessage], None]) -> None:
    """Stock paho; it acknowledges by itself."""

    def on_connect(*_: object) -> None:
        client.subscribe(FILTER, qos)

    def on_subscribe(*_: object) -> None:
        print("ready", flush=True)  # noqa: T201

    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="bench-paho")
    client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
    client.connect("127.0.0.1", port)
    client.loop_forever()


def count_messages(port: int, qos: int, marks: Marks) -> None:
    def on_message(client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        marks.count += 1
        if marks.count == marks.next:
            marks.reached()

    paho_loop(port, qos, on_message)


class Report(BaseModel):
    """One message."""

    model_config = ConfigDict(extra="forbid")

    ts: int
    temperature: float
    humidity: float
    vibration: float


def evaluators(device: str, events: list[AlertEvent]) -> dict[str, list[Threshold]]:
    """The rules of `traffic.rules` as objects for one device, by metric."""
    found: dict[str, list[Threshold]] = {metric: [] for metric in METRICS}
    for rule in rules():
        name, (metric, limit) = rule["alert"], rule["expr"].split(" > ")
        if "(" not in metric:
            found[metric].append(Threshold(name, device, float(limit), _HOLD, events))
            continue
        function, _, inner = metric.rstrip("])s").partition("(")
        metric, _, seconds = inner.partition("[")
        kind = Average if function == "avg_over_time" else Maximum
        found[metric].append(kind(name, device, float(limit), _HOLD, events, int(seconds) * S))
    return found


def straightforward(port: int, qos: int, marks: Marks, directory: Path) -> None:
    """paho's callback, a pydantic model, a Python object for each rule and device, a row in SQLite for each reading."""
    db = sqlite3.connect(directory / "readings.db")
    db.execute("pragma journal_mode = wal")
    db.execute("create table reading (device text, metric text, time integer, value real)")
    db.execute("create index reading_by_series on reading (device, metric, time)")
    devices: dict[str, dict[str, list[Threshold]]] = {}
    events: list[AlertEvent] = []

    def on_message(client: paho.Client, data: object, message: paho.MQTTMessage) -> None:
        report = Report.model_validate_json(message.payload)
        device, received, at = message.topic.split("/")[1], time.monotonic_ns(), report.ts * MS
        if device not in devices:
            devices[device] = evaluators(device, events)
        for metric, objects in devices[device].items():
            value = getattr(report, metric)
            for one in objects:
                one.reading(at, value, received)
            db.execute("insert into reading values (?, ?, ?, ?)", (device, metric, report.ts, value))
        marks.count += 1
        if marks.count % _COMMIT_MESSAGES == 0 or marks.count == marks.next:
            db.commit()
        if marks.count == marks.next:
            marks.reached()

    paho_loop(port, qos, on_message)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["raw", "paho", "straightforward"])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--qos", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--marks", type=json.loads, required=True)
    options = parser.parse_args()
    port, qos, marks = options.port, options.qos, Marks(options.marks)
    if options.way == "raw":
        _, length = Traffic(1, 1, 1_700_000_000_000).frames(qos)
        count_frames(port, qos, marks, length)
    elif options.way == "paho":
        count_messages(port, qos, marks)
    else:
        straightforward(port, qos, marks, options.directory)


if __name__ == "__main__":
    main()
