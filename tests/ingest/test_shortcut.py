"""The law of the short cut: whatever a broker sends, in whatever pieces, everybody sees what stock paho would show.

Both are fed the same bytes over a socket pair; messages, callbacks, errors and what they send back are compared.
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Callable
from typing import Any

import paho.mqtt.client as paho
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from ingest import shortcut
from ingest.arrivals import Arrivals
from ingest.block import DUP, QOS_SHIFT, RETAIN
from ingest.shortcut import Tap, TappedClient, Tapping
from tests.ingest.deliveries import mids_of

Event = tuple[Any, ...]

# ---- frames


def length(n: int) -> bytes:
    """Variable byte integer."""
    found = b""
    while True:
        n, digit = divmod(n, 128)
        found += bytes([digit | (128 if n else 0)])
        if not n:
            return found


def frame(head: int, body: bytes) -> bytes:
    return bytes([head]) + length(len(body)) + body


def publish(
    topic: bytes = b"t/a",
    payload: bytes = b"{}",
    qos: int = 0,
    mid: int = 7,
    flags: int = 0,
    properties: bytes | None = None,
) -> bytes:
    """`properties`: None in MQTT 3.1.1."""
    said = b"" if properties is None else length(len(properties)) + properties
    name = struct.pack("!H", len(topic)) + topic
    return frame(0x30 | flags | qos << 1, name + (struct.pack("!H", mid) if qos else b"") + said + payload)


def controls(v5: bool) -> list[bytes]:
    none = b"\0" if v5 else b""
    return [
        b"\xd0\0",  # PINGRESP
        b"\x40\x02\0\x01",  # PUBACK of something
        b"\x90" + length(3 + len(none)) + b"\0\x09" + none + b"\x01",  # SUBACK
        b"\x62\x02\0\x07",  # PUBREL
        b"\xe0\x02\x8b\0" if v5 else b"\xe0\0",  # DISCONNECT
    ]


TOPICS = st.sampled_from([b"t/a", b"t/" + b"long" * 60, "grün/ß".encode(), b"bad\xff", b"", b"+/#", b"nul\0"])
PAYLOADS = st.one_of(
    st.binary(max_size=8),
    st.sampled_from([b'{"v": 21.5}', b"x" * 119, b"x" * 120, b"x" * 127, b"x" * 300, b"x" * 20_000]),
)
PROPERTIES = st.sampled_from(
    [
        b"",
        b"\x01\x01",
        b"\x02\0\0\0\x3c",
        b"\x26\0\x01a\0\x01b" * 3,
        b"\x03\0\x04json",
        b"\x23\0\x01",  # a topic alias
        b"\x0b\x05\x0b\x06",
        b"\x01\x01\x01\x01",  # twice
        b"\x7f\0",  # unknown
        b"\x03\0\xffjs",  # longer than it is
        b"\x26\0\x01a\0\x01b" * 40,
    ]
)


@st.composite
def publishes(draw: st.DrawFn, v5: bool) -> bytes:
    properties = draw(PROPERTIES) if v5 else None
    return publish(
        draw(TOPICS),
        draw(PAYLOADS),
        draw(st.sampled_from([0, 0, 1, 1, 1, 2, 3])),
        draw(st.integers(0, 3) | st.just(65_535)),
        draw(st.sampled_from([0, 0, 1, 8, 9])),
        properties,
    )


@st.composite
def streams(draw: st.DrawFn) -> tuple[bool, list[bytes]]:
    """Whether it is MQTT 5, and bytes in pieces."""
    v5 = draw(st.booleans())
    frames = draw(st.lists(st.one_of(publishes(v5), publishes(v5), st.sampled_from(controls(v5))), max_size=25))
    data = bytearray((b"\x20\x03\0\0\0" if v5 else b"\x20\x02\0\0") + b"".join(frames))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
        data[draw(st.integers(5, max(5, len(data) - 1)) if len(data) > 5 else st.just(0))] = draw(st.integers(0, 255))
    cuts = sorted(draw(st.lists(st.integers(0, len(data)), max_size=12)))
    return v5, [bytes(data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if b > a]


# ---- clients


class Seen:
    """What a client shows: messages, callbacks, errors."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def message(self, topic: bytes, payload: bytes, flags: int, mid: int) -> None:
        self.events.append(("message", topic, payload, flags, mid))

    def stock(self, _client: paho.Client, _userdata: object, m: paho.MQTTMessage) -> None:
        flags = m.retain * RETAIN | m.dup * DUP | m.qos << QOS_SHIFT
        self.message(m._topic, bytes(m.payload), flags, m.mid)

    def take(self, arrivals: Arrivals) -> None:
        columns = arrivals.topics, arrivals.payloads, arrivals.flags, mids_of(arrivals)
        for topic, payload, flags, mid in zip(*columns, strict=True):
            self.message(topic.encode(errors="surrogateescape"), payload, flags, mid)
        assert arrivals.size >= sum(map(len, arrivals.payloads)) + sum(map(len, arrivals.topics))


class _Stock(paho.Client):
    end: socket.socket

    def _create_socket_connection(self) -> socket.socket:
        return self.end


class _Tapped(TappedClient):
    end: socket.socket

    def _create_socket_connection(self) -> socket.socket:
        return self.end


class _ByColumn(_Tapped):
    """Takes the frames of every read column by column, and not only those of large ones."""

    def _create_socket(self) -> Tap:
        tap: Tap = super()._create_socket()
        tap.MANY_BYTES = 1
        return tap


def tapping(take: Callable[[Arrivals], None]) -> Tapping:
    return Tapping(take, lambda topic: topic.decode(errors="surrogateescape"), lambda: 0, 1)


def client_of(kind: type[Any], v5: bool, seen: Seen) -> tuple[Any, socket.socket]:
    version = MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311
    client = kind(CallbackAPIVersion.VERSION2, client_id="c", protocol=version, manual_ack=True,
                  reconnect_on_failure=False)  # fmt: skip
    client.end, far = socket.socketpair()
    client.on_message = seen.stock
    client.on_connect = lambda *_: seen.events.append(("connect",))
    client.on_subscribe = lambda _c, _u, mid, *_: seen.events.append(("subscribe", mid))
    client.on_publish = lambda _c, _u, mid, *_: seen.events.append(("publish", mid))
    client.on_disconnect = lambda _c, _u, _f, reason, _p: seen.events.append(("disconnect", str(reason)))
    if issubclass(kind, _Tapped):
        client.tap = tapping(seen.take)
    client.connect("x", 1)
    far.setblocking(False)
    return client, far


def behave(kind: type[Any], v5: bool, pieces: list[bytes]) -> tuple[list[Event], bytes]:
    """What is seen of the pieces, each read before the next is sent, and all that the client sends."""
    seen, answer = Seen(), b""
    client, far = client_of(kind, v5, seen)
    try:
        for piece in pieces:
            far.setblocking(True)
            far.sendall(piece)
            far.setblocking(False)
            while client.socket() is not None and _has_more(client):
                result = client.loop(0)
                if result:
                    seen.events.append(("result", int(result)))
            if client.socket() is None:
                break
            client.loop(0)
            answer += _received(far)
    except Exception as error:  # noqa: BLE001  # what paho raises, whatever it is, must be raised by both
        seen.events.append(("raised", type(error)))
    answer += _received(far)
    far.close()
    if client.socket() is not None:
        client.socket().close()
    return seen.events, answer


def _has_more(client: Any) -> bool:
    pending = getattr(client.socket(), "pending", None)
    return bool(select.select([client.socket()], [], [], 0)[0]) or bool(pending and pending())


def _received(far: socket.socket) -> bytes:
    try:
        return far.recv(1 << 20)
    except OSError:
        return b""


# ---- laws


@given(streams())
@settings(deadline=None, max_examples=300)
@example((False, [b"\x20\x02\0\0", b"\0", publish(), publish()]))
@example((True, [b"\x20\x03\0\0\0", publish(qos=1, properties=b""), publish(b"", qos=1, properties=b"\x23\0\x01")]))
@example((False, [b"\x20\x02\0\0" + publish() + b"\x30\xff\xff\xff\xff\x01", publish()]))
@example((False, [b"\x20\x02\0\0" + publish(qos=2) + publish(qos=1, mid=9), b"\x62\x02\0\x07"]))
def test_the_short_cut_shows_what_stock_paho_shows(stream: tuple[bool, list[bytes]]):
    v5, pieces = stream

    assert behave(_Tapped, v5, pieces) == behave(_Stock, v5, pieces)


@given(streams())
@settings(deadline=None, max_examples=300)
@example((False, [b"\x20\x02\0\0", publish() + b"\x30\0" + publish()]))
@example((False, [b"\x20\x02\0\0", publish() + b"\x30\x02\0\0" + publish()]))
@example((False, [b"\x20\x02\0\0", publish(payload=b"") + b"\x32\x03\0\x01a"]))
@example((False, [b"\x20\x02\0\0", publish() + b"\x30\x05\0\x04a" + publish()]))
@example((False, [b"\x20\x02\0\0", publish(payload=b"x" * 20_000) + publish() + publish()[:-1]]))
@example((True, [b"\x20\x03\0\0\0", publish(properties=b"") + publish(qos=1, properties=b"\x01\x01") + publish()]))
@example((True, [b"\x20\x03\0\0\0", publish(payload=b"", qos=1, mid=256)]))
def test_column_by_column_it_shows_the_same(stream: tuple[bool, list[bytes]]):
    v5, pieces = stream
    whole = b"".join(pieces)
    hello = 5 if v5 else 4  # alone: what follows a frame of paho's in the same read is taken frame by frame
    pieces = [whole[:hello], *([whole[hello:]] if len(pieces) < 6 else pieces_behind(pieces, hello))]

    assert behave(_ByColumn, v5, pieces) == behave(_Stock, v5, pieces)


def pieces_behind(pieces: list[bytes], size: int) -> list[bytes]:
    """Without the first bytes of all."""
    found = []
    for piece in pieces:
        found.append(piece[size:])
        size = max(0, size - len(piece))
    return [piece for piece in found if piece]


@pytest.mark.parametrize("v5", [False, True])
def test_ordinary_frames_are_all_taken_column_by_column(v5: bool, monkeypatch: pytest.MonkeyPatch):
    """Otherwise the law above would hold of a short cut that never does so."""
    left = []
    one_by_one = Tap._take_frames
    monkeypatch.setattr(Tap, "_take_frames", lambda tap, *columns: left.append(tap._at) or one_by_one(tap, *columns))
    properties = b"" if v5 else None
    frames = [
        publish(b"t/%d" % i, b"x" * size, qos, i, flags, properties)
        for i, size in enumerate([0, 1, 50, 119, 127, 128, 1_000, 16_000])
        for qos in (0, 1)
        for flags in (0, 1, 8, 9)
    ]
    taken: list[Arrivals] = []
    tap = Tap(_Records([b"".join(frames)], _would_block), tapping(taken.append), v5=v5)

    with pytest.raises(BlockingIOError):
        tap.recv(1)

    assert left == [sum(map(len, frames))]
    assert len(taken[0]) == len(frames)


def test_who_mixes_in_other_packets_does_not_make_us_look_at_the_same_frames_time_and_again(
    monkeypatch: pytest.MonkeyPatch,
):
    looks = []
    look = shortcut._starts
    monkeypatch.setattr(shortcut, "_starts", lambda *at: looks.append(at) or look(*at))
    tap = Tap(_Records([(publish() + controls(v5=False)[0]) * 5_000], _would_block), tapping(lambda _: None), v5=False)

    for_paho = b"".join(iter(lambda: tap.recv(2) if tap.pending() else b"", b""))

    assert for_paho == controls(v5=False)[0] * 5_000
    assert len(looks) == 1


@pytest.mark.parametrize("kind", [_Tapped, _ByColumn])
@pytest.mark.parametrize("step", [1, 2, 3, 7, 4_096])
@pytest.mark.parametrize("v5", [False, True])
def test_every_cut_of_a_stream_shows_the_same(step: int, v5: bool, kind: type[Any]):
    said: bytes | None = b"\x26\0\x01a\0\x01b" if v5 else None
    data = (b"\x20\x03\0\0\0" if v5 else b"\x20\x02\0\0") + b"".join(
        publish(b"t/%d" % i, b"x" * (i * 37 % 400), i % 3, i + 1, properties=said) for i in range(40)
    )
    pieces = [data[i : i + step] for i in range(0, len(data), step)]

    assert behave(kind, v5, pieces) == behave(_Stock, v5, pieces)


@pytest.mark.parametrize("v5", [False, True])
def test_ordinary_messages_take_the_short_cut(v5: bool, monkeypatch: pytest.MonkeyPatch):
    """Otherwise the laws above would hold of a client that has none."""
    monkeypatch.setattr(paho.Client, "_handle_publish", lambda _self: pytest.fail("paho has read a message"))
    properties = [b"", b"\x02\0\0\0\x3c", b"\x26\0\x01a\0\x01b"] if v5 else [None]
    frames = [publish(qos=qos, flags=flags, properties=p) for qos in (0, 1) for flags in (0, 1) for p in properties]

    events, _ = behave(_Tapped, v5, [(b"\x20\x03\0\0\0" if v5 else b"\x20\x02\0\0") + b"".join(frames)])

    assert len([event for event in events if event[0] == "message"]) == len(frames)


def test_a_frame_larger_than_we_hold_goes_through_paho_in_pieces(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shortcut, "_MAX_FRAME_BYTES", 50_000)
    large = publish(payload=b"x" * 60_000, qos=1)
    pieces = [b"\x20\x02\0\0" + large[:30_000], large[30_000:] + publish()]

    assert behave(_Tapped, False, pieces) == behave(_Stock, False, pieces)


class _Records:
    """A socket of TLS or WebSockets: gives a record at a time, and knows how much it still holds."""

    def __init__(self, records: list[bytes], then: Callable[[], bytes]) -> None:
        self.records, self._then = records, then

    def pending(self) -> int:
        return sum(map(len, self.records))

    def recv(self, size: int) -> bytes:
        if not self.records:
            return self._then()
        given, self.records[0] = self.records[0][:size], self.records[0][size:]
        self.records = [r for r in self.records if r]
        return given


def _would_block() -> bytes:
    raise BlockingIOError


def test_all_records_that_have_come_are_read_at_once():
    """`select` sees nothing of what TLS has decrypted already."""
    taken: list[Arrivals] = []
    data = publish(payload=b"x" * 1_000) * 3
    tap = Tap(_Records([data[:500], data[500:700], data[700:]], _would_block), tapping(taken.append), v5=False)

    with pytest.raises(BlockingIOError):
        tap.recv(1)

    assert [len(a) for a in taken] == [3]
    assert tap.pending() == 0


def test_the_end_behind_the_last_record_is_seen():
    taken: list[Arrivals] = []
    tap = Tap(_Records([publish()], lambda: b""), tapping(taken.append), v5=False)

    with pytest.raises(BlockingIOError):
        tap.recv(1)

    assert tap.recv(1) == b""
    assert len(taken) == 1


def test_a_paho_that_has_changed_is_noticed(monkeypatch: pytest.MonkeyPatch):
    assert shortcut.missing() == ""

    monkeypatch.setattr(paho.Client, "_create_socket", lambda self, more: (self, more))

    assert "_create_socket" in shortcut.missing()
