"""The far side of a connection, as a process of its own: a publisher that floods a broker or keeps to a rate, or a
server that floods its subscriber.

`python -m tests.bench.publisher …` says `ready`, waits for a line, does its work, and says when it began and ended
(JSON, by the monotonic clock, which all processes of a machine share).
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import sys
import time

from telemetry import SystemClock
from tests.bench.traffic import WARM_ROUNDS, Traffic, connect, publish, publish_head, topic

_CHUNK = 64 << 10
_PUBACK_BYTES = 4
WINDOW = 1_000
"""Messages of QoS 1 that wait for an acknowledgement"""
COLD = b'{"ts":%d,"temperature":-9.00,"humidity":50.00,"vibration":0.500}'
"""What a marked device says once: too cold for one rule, and harmless to the others"""
USUAL = COLD.replace(b"-9.00", b"20.00")
_MARKS_A_SECOND = 40
_MOST_AT_ONCE = 500


def connected(port: int, name: bytes) -> socket.socket:
    wire = socket.create_connection(("127.0.0.1", port), timeout=60)
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire.sendall(connect(name))
    assert wire.recv(4, socket.MSG_WAITALL) == b"\x20\x02\0\0", "the broker lets us in"
    return wire


def flood(wire: socket.socket, frames: bytes, length: int, qos: int) -> None:
    """As fast as the broker takes them; of QoS 1, until the last one is acknowledged."""
    sent = 0
    if qos == 0:
        wire.sendall(frames)
        return
    unacknowledged = half = 0
    data = memoryview(frames)
    while sent < len(frames) or unacknowledged:
        room = min((WINDOW - unacknowledged) * length, _CHUNK // length * length, len(frames) - sent)
        if room > 0:
            wire.sendall(data[sent : sent + room])
            sent += room
            unacknowledged += room // length
        if unacknowledged > WINDOW // 2 or sent == len(frames):
            came = wire.recv(1 << 16)
            assert came, "the broker closed the connection"
            half += len(came)
            unacknowledged -= half // _PUBACK_BYTES
            half %= _PUBACK_BYTES


def keep_to(
    wire: socket.socket, frames: bytes, length: int, rate: float, marks: dict[int, tuple[bytes, bytes]]
) -> tuple[dict[str, int], float]:
    """QoS 1, so many messages a second; by message number, what is sent before it: device and frame.

    Gives when each device was sent, ns by the system's clock; and when the last message had left, monotonic.
    """
    wire.setblocking(False)
    told: dict[str, int] = {}
    clock = SystemClock()
    count, sent, acknowledged, began = len(frames) // length, 0, 0, time.monotonic()
    while sent < count:
        due = min(count, int((time.monotonic() - began) * rate) + 1, sent + _MOST_AT_ONCE)
        if due > sent:
            mark, out = next((i for i in range(sent, due) if i in marks), None), b""
            if mark is not None:
                due = mark + 1
                device, out = marks[mark]
                told[device.decode().split("/")[1]] = clock.now()
            acknowledged += _send(wire, out + frames[sent * length : due * length])
            sent = due
        else:
            time.sleep(0.0005)
    ended = time.monotonic()
    wire.setblocking(True)
    while acknowledged < _PUBACK_BYTES * (count + len(told)):
        acknowledged += len(wire.recv(1 << 16))
    return told, ended


def _send(wire: socket.socket, data: bytes) -> int:
    """All of it; bytes of acknowledgements that came meanwhile: who does not read them is not read from."""
    came = 0
    while data:
        readable, writable, _ = select.select([wire], [wire], [], 1)
        if writable:
            data = data[wire.send(data) :]
        if readable:
            came += len(wire.recv(1 << 16))
    return came


def serve(server: socket.socket, warm: bytes, frames: bytes) -> tuple[float, float]:
    """Lets one subscriber in, gives it what warms it up, and on a word all others as fast as the socket takes them."""
    wire, _ = server.accept()
    wire.settimeout(60)
    came = wire.recv(1 << 16)
    assert came[:1] == b"\x10"
    wire.sendall(b"\x20\x02\0\0")
    came = wire.recv(1 << 16)
    assert came[:1] == b"\x82"
    wire.sendall(b"\x90\x03" + came[2:4] + b"\x01" + warm)
    sys.stdin.readline()
    began = time.monotonic()
    wire.setblocking(False)
    data, sent = memoryview(frames), 0
    while sent < len(frames):
        readable, writable, _ = select.select([wire], [wire], [], 60)
        if writable:
            sent += wire.send(data[sent : sent + (1 << 20)])
        if readable:
            assert wire.recv(1 << 20), "the subscriber closed the connection"
    ended = time.monotonic()
    wire.setblocking(True)
    while wire.recv(1 << 20):  # acknowledgements; until it leaves
        pass
    return began, ended


def marked(traffic: Traffic, rate: float) -> dict[int, tuple[bytes, bytes]]:
    """By message of the traffic: a device that it does not have, and what that says once, too high."""
    at = traffic.begin_ms + traffic.rounds * 1_000
    return {
        i: (name, publish(publish_head(name, 1), COLD % at, 60_001 + k % 5_000))
        for k, (i, name) in enumerate(_marks(traffic, rate))
    }


def warming(traffic: Traffic, rate: float) -> tuple[bytes, int]:
    """The first messages of the fleet, and one of each device that is `marked`: frames, and the length of each."""
    frames, length = traffic.frames(1, slice(WARM_ROUNDS))
    said = [
        publish(publish_head(name, 1), USUAL % traffic.begin_ms, 60_001 + k % 5_000)
        for k, (_, name) in enumerate(_marks(traffic, rate))
    ]
    return frames + b"".join(said), length


def _marks(traffic: Traffic, rate: float) -> list[tuple[int, bytes]]:
    step = max(1, int(rate / _MARKS_A_SECOND))
    numbers = range(step, traffic.messages - WARM_ROUNDS * traffic.devices, step)
    return [(i, topic(traffic.devices + k)) for k, i in enumerate(numbers)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=["flood", "rate", "serve"])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--qos", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--traffic", type=json.loads, required=True)
    options = parser.parse_args()
    traffic = Traffic(*options.traffic)
    frames, length = traffic.frames(options.qos, slice(WARM_ROUNDS, None))
    said: dict[str, object] = {}
    if options.way == "serve":
        warm, _ = traffic.frames(options.qos, slice(WARM_ROUNDS))
        with socket.create_server(("127.0.0.1", 0)) as server:
            print(server.getsockname()[1], flush=True)  # noqa: T201
            began, ended = serve(server, warm, frames)
    else:
        with connected(options.port, b"bench-publisher") as wire:
            print("ready", flush=True)  # noqa: T201
            sys.stdin.readline()
            began = time.monotonic()
            if options.way == "flood":
                flood(wire, frames, length, options.qos)
                ended = time.monotonic()
            else:
                said["sent"], ended = keep_to(wire, frames, length, options.rate, marked(traffic, options.rate))
    print(json.dumps({"began": began, "ended": ended, **said}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
