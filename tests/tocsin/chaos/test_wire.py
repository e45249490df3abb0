"""Laws of the tap: it sees the same packets however the bytes are cut."""

from hypothesis import given
from hypothesis import strategies as st

from tocsin.chaos.wire import PUBACK, PUBLISH, Packet, Packets, acknowledged, delivered


def varint(n: int) -> bytes:
    out = bytearray()
    while True:
        n, low = divmod(n, 128)
        out.append(low | (128 if n else 0))
        if not n:
            return bytes(out)


def packet(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind << 4 | flags]) + varint(len(body)) + body


def publish(packet_id: int, topic: str, payload: bytes, *, qos: int = 1, properties: bytes = b"") -> bytes:
    name = topic.encode()
    body = len(name).to_bytes(2, "big") + name + (packet_id.to_bytes(2, "big") if qos else b"")
    return packet(PUBLISH, qos << 1, body + varint(len(properties)) + properties + payload)


messages = st.tuples(
    st.integers(1, 65_535), st.text("abc/é", min_size=1), st.binary(max_size=300), st.binary(max_size=200)
)


@given(st.lists(messages), st.lists(st.integers(1, 400)))
def test_what_is_delivered_does_not_depend_on_how_it_is_cut(sent: list, cuts: list[int]):
    stream = b"".join(publish(n, topic, payload, properties=p) for n, topic, payload, p in sent)
    packets, found, at = Packets(), [], 0
    for length in [*cuts, len(stream)]:
        found += [delivered(p) for p in packets.feed(stream[at : at + length])]
        at += length
    assert found == [(n, topic, payload) for n, topic, payload, _ in sent]


def test_qos_0_promises_nothing():
    [found] = Packets().feed(publish(0, "a", b"x", qos=0))
    assert delivered(found) is None


def test_a_puback_takes_responsibility_unless_it_refuses():
    stream = (
        packet(PUBACK, 0, b"\x01\x02") + packet(PUBACK, 0, b"\x01\x03\x10\x00") + packet(PUBACK, 0, b"\x01\x04\x97\x00")
    )
    assert [acknowledged(p) for p in Packets().feed(stream)] == [0x0102, 0x0103, None]
    assert next(iter(Packets().feed(stream))) == Packet(PUBACK, 0, b"\x01\x02")
