"""The messages of the benches of the whole pipeline: what devices say, and the same as MQTT frames.

Every process builds the same from the same arguments, so that nothing has to be carried from one to another. All frames
of a traffic have one length: a counter of frames need not look into them. MQTT 3.1.1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from telemetry import SystemClock

METRICS = ("temperature", "humidity", "vibration")
MS = 10**6
S = 10**9
FILTER = "plant/+"
STREAM = {"name": "plant", "topic": "plant/{device}", "format": "json", "time": {"field": "ts", "unit": "ms"}}
WARM_ROUNDS = 3
"""Not measured: the first messages of a device teach what its others look like"""
_MIDS = 60_000
"""Packet identifiers go from 1 to this, and again from 1."""
_EXCURSION = 5
"""Rounds"""


class Traffic(NamedTuple):
    """Every device speaks once in a round, in turn; rounds are a second of event time apart, and end now."""

    devices: int
    rounds: int
    begin_ms: int
    """Event time of the first round, since the epoch."""
    seed: int = 1

    @classmethod
    def until_now(cls, devices: int, rounds: int) -> Traffic:
        return cls(devices, rounds, SystemClock().now() // MS - rounds * 1_000)

    @property
    def messages(self) -> int:
        return self.devices * self.rounds

    @property
    def times(self) -> NDArray[np.int64]:
        """(rounds,) ns"""
        return (self.begin_ms + np.arange(self.rounds, dtype=np.int64) * 1_000) * MS

    @property
    def values(self) -> tuple[NDArray[np.float64], ...]:
        """Of each metric: (rounds, devices), what is read from the text."""
        return tuple(whole / 10**places for whole, places in self._digits())

    def _digits(self) -> list[tuple[NDArray[np.int64], int]]:
        """Of each metric: its values as whole numbers, and how many of their digits are decimals."""
        random, shape = np.random.default_rng(self.seed), (self.rounds, self.devices)
        begins = random.random((self.rounds // _EXCURSION + 1, self.devices)) < 0.0005
        high = np.repeat(begins, _EXCURSION, axis=0)[: self.rounds]
        temperature = random.integers(1_800, 2_200, shape) + 1_000 * high
        humidity = random.integers(4_000, 5_000, shape) + 2_500 * high
        return [(temperature, 2), (humidity, 2), (random.integers(100, 900, shape) + 5_000 * high, 3)]

    def frames(self, qos: int, rounds: slice = slice(None)) -> tuple[bytes, int]:
        """PUBLISH packets of these rounds, one behind the other, and the length of each."""
        heads = [publish_head(topic(device), qos) for device in range(self.devices)]
        parts, mid, length = [], 0, 0
        for payloads in self.payloads(rounds):
            for head, said in zip(heads, payloads, strict=True):
                mid = mid % _MIDS + 1
                frame = publish(head, said, mid if qos else 0)
                length = length or len(frame)
                parts.append(frame)
        together = b"".join(parts)
        assert len(together) == length * len(parts), "all frames have one length"
        return together, length

    def payloads(self, rounds: slice = slice(None)) -> Iterator[list[bytes]]:
        """Of each of these rounds: what the devices say, in turn."""
        (temperature, _), (humidity, _), (vibration, _) = self._digits()
        for i in range(self.rounds)[rounds]:
            at = b'{"ts":%d,"temperature":' % (self.begin_ms + i * 1_000)
            rows = zip(temperature[i].tolist(), humidity[i].tolist(), vibration[i].tolist(), strict=True)
            yield [
                b'%s%d.%02d,"humidity":%d.%02d,"vibration":%d.%03d}'
                % (at, t // 100, t % 100, h // 100, h % 100, v // 1_000, v % 1_000)
                for t, h, v in rows
            ]


def topic(device: int) -> bytes:
    return b"plant/d%06d" % device


def text(said: bytes) -> bytes:
    """A string of MQTT (1.5.3)."""
    return len(said).to_bytes(2, "big") + said


def packet(kind: int, body: bytes) -> bytes:
    """Up to 16,383 bytes."""
    n = len(body)
    assert n < 1 << 14
    return bytes([kind, n] if n < 128 else [kind, n & 127 | 128, n >> 7]) + body


def publish_head(name: bytes, qos: int) -> tuple[int, bytes]:
    """First byte and topic, for `publish`."""
    return 0x30 | qos << 1, text(name)


def publish(head: tuple[int, bytes], payload: bytes, mid: int = 0) -> bytes:
    kind, name = head
    return packet(kind, name + mid.to_bytes(2, "big") + payload if mid else name + payload)


def connect(client_id: bytes) -> bytes:
    """A session that ends with the connection, without keepalive."""
    return packet(0x10, text(b"MQTT") + b"\x04\x02\x00\x00" + text(client_id))


def subscribe(name: bytes, qos: int) -> bytes:
    return packet(0x82, b"\x00\x01" + text(name) + bytes([qos]))


def rules() -> list[dict[str, str]]:
    """Twenty: thresholds that must be exceeded for two seconds, and four over windows."""
    said = [f"temperature > {24 + i / 2}" for i in range(8)]
    said += [f"humidity > {55 + i}" for i in range(4)] + [f"vibration > {2 + i / 2}" for i in range(4)]
    said += [f"avg_over_time(temperature[{seconds}s]) > 23" for seconds in (10, 30)]
    said += [f"max_over_time(humidity[{seconds}s]) > 60" for seconds in (10, 30)]
    return [{"alert": f"A{i}", "expr": expression, "for": "2s"} for i, expression in enumerate(said)]
