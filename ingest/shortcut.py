"""The short cut: PUBLISH frames of QoS 0 and 1 are taken from the socket in bulk, every other byte goes to paho.

paho spends 17 to 40 µs on a message, most of it on reading a packet byte by byte. Here a socket-like wrapper stands
between it and its socket: it reads much at once, walks the frames, and lets paho read only what is left. Whatever is
odd about a frame (malformed, a topic alias, QoS 2) makes it paho's, so that paho alone judges it. MQTT 3.1.1 and 5.0,
section 3.3. Not here: what becomes of the messages (`mqtt`).

Of paho it uses two members that are not public, checked at import: `Client._create_socket`, which is overridden, and
`Client._packet_queue`, by which `mqtt` sends acknowledgements.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingest.arrivals import NO_MID, Arrivals
from ingest.block import DUP, QOS_SHIFT, RETAIN

_READ_BYTES = 256 << 10
_PUBLISH = 0x30
_FLAGS = bytes(
    (RETAIN if head & 1 else 0) | (DUP if head & 8 else 0) | (head >> 1 & 3) << QOS_SHIFT for head in range(16)
)
"""By the low half of a frame's first byte: the flags as in the journal."""
_FLAGS_OF = np.frombuffer(_FLAGS, np.uint8)
_MAX_FRAME_BYTES = 8 << 20
"""A frame that is larger and not whole yet is paho's: joining its pieces time and again would take for ever."""
_MAX_KNOWN_PROPERTIES = 1_000
_MAX_KNOWN_TOPICS = 1 << 20
_ALL = 1 << 62
"""Bytes for paho: nobody knows where the next frame begins, so that paho has the rest, and gives up."""
_LEAST_HEAD = 0x10
"""Of a frame's first byte: type 0 is forbidden (2.1.2)."""


class Tapping(NamedTuple):
    """What is done with messages."""

    take: Callable[[Arrivals], None]
    """Takes them over, in the network thread; it may block."""
    topic: Callable[[bytes], str]
    """A topic as text, also if it is none."""
    now: Callable[[], int]
    """Our clock, ns."""
    epoch: int
    """Number of the connection."""


def missing() -> str:
    """Empty if this version of paho has what is needed here; else what is missing."""
    for name, arguments in (("_create_socket", 1), ("_packet_queue", 5)):
        try:
            inspect.signature(getattr(paho.Client, name)).bind(*[None] * arguments)
        except (AttributeError, TypeError):
            return f"paho.mqtt.client.Client.{name} is not what it was in paho-mqtt 2.2"
    return ""


class Tap:
    """Stands for paho's socket: gives it all but the frames that are taken here."""

    MANY_BYTES = 32 << 10
    """Held, and from there on frames are taken column by column, which costs half as much for each."""

    def __init__(self, socket: Any, tapping: Tapping, *, v5: bool) -> None:
        """`socket`: as paho made it: plain, TLS or WebSocket."""
        self._socket, self._tapping, self._v5 = socket, tapping, v5
        self._topics: dict[bytes, str] = {}
        self._held, self._at = b"", 0
        """What was read, and up to where it has been walked."""
        self._walkable = False
        """Whether the rest of `_held` may contain whole frames."""
        self._many = False
        """Whether the front of `_held` may be taken column by column."""
        self._owed = 0
        """Bytes of a frame for paho that have yet to come."""
        self._for_paho = b""
        self._several_reads = hasattr(socket, "pending")
        self._known_properties: set[bytes] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def pending(self) -> int:
        """What `select` cannot see; paho asks for it before it sleeps."""
        behind = self._socket.pending() if self._several_reads else 0
        return len(self._for_paho) + self._walkable + int(behind)

    def recv(self, size: int) -> bytes:
        """What is paho's; raises BlockingIOError if nothing of that has come, OSError as the socket does."""
        if not self._for_paho:
            if not self._walkable:
                data = self._read()
                if not data:
                    return data
                self._held = self._held[self._at :] + data if self._at < len(self._held) else data
                self._at = 0
                self._many = len(self._held) >= self.MANY_BYTES
            self._walk()
            if not self._for_paho:
                raise BlockingIOError
        given, self._for_paho = self._for_paho[:size], self._for_paho[size:]
        return given

    def _read(self) -> bytes:
        data: bytes = self._socket.recv(_READ_BYTES)
        if not self._several_reads or not data:
            return data
        parts, size = [data], len(data)  # of TLS and WebSockets, one record comes at a time
        while size < _READ_BYTES:
            try:
                data = self._socket.recv(_READ_BYTES - size)
            except (BlockingIOError, ssl.SSLWantReadError):
                break
            if not data:
                break  # the end comes again at the next call
            parts.append(data)
            size += len(data)
        return b"".join(parts)

    def _walk(self) -> None:
        """Takes frames up to one that is paho's, or to the end."""
        self._walkable = False
        if self._owed:
            self._give(min(self._owed, len(self._held) - self._at))
            return
        arrivals = Arrivals(self._tapping.epoch, self._tapping.now())
        topics: list[bytes] = []
        begin = self._at
        if self._many:
            self._many = False  # once: a peer that mixes in other packets must not make us look at the same ones again
            self._take_ordinary(arrivals, topics)
        foreign = self._take_frames(arrivals, topics)
        if topics:
            arrivals.topics, arrivals.size = self._as_text(topics), self._at - begin
            self._tapping.take(arrivals)
        if foreign:
            self._owed = foreign
            self._give(min(foreign, len(self._held) - self._at))

    def _give(self, size: int) -> None:
        """The next bytes are paho's."""
        end = self._at + size
        self._for_paho, self._at = self._held[self._at : end], end
        self._owed -= size
        self._walkable = end < len(self._held)

    def _take_ordinary(self, arrivals: Arrivals, topics: list[bytes]) -> None:
        """As `_take_frames`, of all frames up to the first that has anything odd about it; column by column."""
        held, at = self._held, self._at
        starts, behind = _starts(held, at)
        edge = np.array([*starts, behind])
        if behind > len(held):
            edge = edge[:-1]
        start, end = edge[:-1], edge[1:]
        byte = np.frombuffer(held, np.uint8)
        head = byte[start]
        topic_at = start + 4 + (byte[start + 1] >> 7)
        topic_end = topic_at + (byte.take(topic_at - 2, mode="clip").astype(np.int64) << 8)
        topic_end += byte.take(topic_at - 1, mode="clip")
        body = topic_end + (head & 2)
        ordinary = (head & 0xF4 == _PUBLISH) & (topic_end > topic_at) & (body <= end)
        if self._v5:
            ordinary &= (body < end) & (byte.take(body, mode="clip") == 0)
        n = len(start) if ordinary.all() else int(ordinary.argmin())
        if n == 0:
            return
        mids = byte.take([topic_end[:n], topic_end[:n] + 1], mode="clip") * (head[:n] & 2 > 0)
        ends = end[:n].tolist()
        topics += [held[i:j] for i, j in zip(topic_at[:n].tolist(), topic_end[:n].tolist(), strict=True)]
        arrivals.payloads += [held[i:j] for i, j in zip((body[:n] + self._v5).tolist(), ends, strict=True)]
        arrivals.flags += _FLAGS_OF[head[:n] & 15].tobytes()
        arrivals.mids += mids.T.tobytes()
        self._at = ends[-1]

    def _take_frames(self, arrivals: Arrivals, topics: list[bytes]) -> int:  # noqa: C901  # one loop, since a call costs as much as a frame
        """Moves `_at` behind all whole frames that are ours; the length of the next one if it is paho's, else 0."""
        held, at, size, v5 = self._held, self._at, len(self._held), self._v5
        payloads, flags, mids = arrivals.payloads, arrivals.flags, arrivals.mids
        foreign = 0
        while at < size:
            head = held[at]
            if head < _LEAST_HEAD:
                foreign = _ALL
                break
            if at + 2 > size:
                break
            length, start = held[at + 1], at + 2
            if length & 128:
                length, start = _length(held, at + 1, size)
                if start == 0:
                    foreign = _ALL if length < 0 else 0
                    break
            end = start + length
            if head & 0xF0 != _PUBLISH or head & 4 or length < 3:
                foreign = end - at
                break
            if end > size:
                foreign = end - at if length > _MAX_FRAME_BYTES else 0
                break
            topic_end = start + 2 + (held[start] << 8 | held[start + 1])
            body = topic_end + (head & 2)
            if topic_end == start + 2 or body > end:
                foreign = end - at
                break
            mid = held[topic_end:body] if head & 2 else NO_MID
            if v5:
                if body < end and held[body] == 0:
                    body += 1
                else:
                    body = self._behind_properties(body, end)
                    if body == 0:
                        foreign = end - at
                        break
            topics.append(held[start + 2 : topic_end])
            payloads.append(held[body:end])
            flags.append(_FLAGS[head & 15])
            mids += mid
            at = end
        self._at = at
        return foreign

    def _as_text(self, topics: list[bytes]) -> list[str]:
        known = self._topics
        texts = list(map(known.get, topics))
        if None not in texts:
            return cast("list[str]", texts)
        if len(known) >= _MAX_KNOWN_TOPICS:
            known.clear()
        for topic in topics:
            if topic not in known:
                known[topic] = self._tapping.topic(topic)
        return [known[topic] for topic in topics]

    def _behind_properties(self, start: int, end: int) -> int:
        """Where the payload begins; 0 if paho shall look at the properties: they are wrong, or an alias for a topic."""
        length, behind = _length(self._held, start, end)
        if behind == 0 or behind + length > end:
            return 0
        behind += length
        block = self._held[start:behind]
        if block not in self._known_properties:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho types it in part
            try:
                properties.unpack(block)  # type: ignore[no-untyped-call]  # as above
            except Exception:  # noqa: BLE001  # of any kind: paho raises it again, where it belongs
                return 0
            if hasattr(properties, "TopicAlias"):
                return 0
            if len(self._known_properties) >= _MAX_KNOWN_PROPERTIES:
                self._known_properties.clear()
            self._known_properties.add(block)
        return behind


def _starts(held: bytes, at: int) -> tuple[list[int], int]:
    """Where frames of less than 16 KiB begin from `at` on, and the end of the last, which may not have come yet."""
    starts: list[int] = []
    add = starts.append
    last = len(held) - 4
    while at < last:
        length = held[at + 1]
        if length < 128:
            add(at)
            at += length + 2
        else:
            high = held[at + 2]
            if high > 127:
                break
            add(at)
            at += length + (high << 7) - 125
    return starts, at


def _length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """A variable byte integer (MQTT 5.0, 1.5.5) and where it ends; (0, 0) if it is not whole, (-1, 0) if it is none."""
    value = 0
    for i in range(4):
        if at + i >= end:
            return 0, 0
        byte = data[at + i]
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, at + i + 1
    return -1, 0


class TappedClient(paho.Client):
    """paho's client, whose messages of QoS 0 and 1 are taken in bulk instead of coming to `on_message`."""

    tap: Tapping

    def _create_socket(self) -> Any:
        return Tap(super()._create_socket(), self.tap, v5=self.protocol == MQTTProtocolVersion.MQTTv5)
