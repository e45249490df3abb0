"""A broker that does only what the test tells it to, packet by packet; MQTT 3.1.1 unless the test sends other bytes."""

import socket
from typing import NamedTuple, Self

SECONDS = 20


class Packet(NamedTuple):
    kind: int  # the first byte
    body: bytes


class Connection:
    """The broker's end of one connection."""

    def __init__(self, wire: socket.socket) -> None:
        wire.settimeout(SECONDS)
        self.wire = wire

    def read(self) -> Packet:
        kind = self._exactly(1)[0]
        length = shift = 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return Packet(kind, self._exactly(length))

    def send(self, kind: int, body: bytes) -> None:
        assert len(body) < 1 << 14
        length = bytes([len(body)]) if len(body) < 128 else bytes([len(body) & 127 | 128, len(body) >> 7])
        self.wire.sendall(bytes([kind]) + length + body)

    def accept(self, *codes: int, session_present: bool = False) -> Packet:
        """CONNACK and SUBACK with these codes; returns the CONNECT."""
        connect = self.read()
        assert connect.kind == 0x10, "the first packet of a connection is CONNECT"
        self.send(0x20, bytes([session_present, 0]))
        subscribe = self.read()
        assert subscribe.kind == 0x82
        self.send(0x90, subscribe.body[:2] + bytes(codes or (1,)))
        return connect

    def publish(self, topic: bytes, payload: bytes, mid: int = 0, *, dup: bool = False) -> None:
        """QoS 1 if there is an identifier."""
        head = len(topic).to_bytes(2, "big") + topic + (mid.to_bytes(2, "big") if mid else b"")
        self.send(0x30 | (2 if mid else 0) | (8 if dup else 0), head + payload)

    def close(self) -> None:
        self.wire.close()

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.wire.recv(count - len(data))
            assert more, "the client closed the connection"
            data += more
        return data


class FakeBroker:
    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(SECONDS)
        self.url = f"mqtt://127.0.0.1:{self._server.getsockname()[1]}"
        self._connections: list[Connection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()
        self._server.close()

    def connection(self) -> Connection:
        """The next connection."""
        self._connections.append(Connection(self._server.accept()[0]))
        return self._connections[-1]
