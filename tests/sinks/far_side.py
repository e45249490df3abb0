"""The far side of a sink or receiver: an HTTP server on the loopback that answers as a test says, or does worse."""

from __future__ import annotations

import contextlib
import gzip
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Answer:
    """What comes back; `raw`: these bytes instead of HTTP, and the end of the connection."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    raw: bytes | None = None


@dataclass(frozen=True)
class Request:
    """What came, decompressed."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


NO_ANSWER = Answer(raw=b"")
"""The request is heard, the connection ends."""


class FarSide(ThreadingHTTPServer):
    """Keeps every request; those that it took (2xx, or no answer in the end) also in `taken`."""

    daemon_threads = True

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.port = self.server_address[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.requests: list[Request] = []
        self.taken: list[Request] = []
        self.answer: Callable[[Request], Answer] = lambda request: Answer()

    def lines(self) -> list[bytes]:
        """Of line protocol, that were taken."""
        return [line for request in self.taken for line in request.body.splitlines()]

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that break off are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    server: FarSide

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        url = urlsplit(self.path)
        request = Request(self.path, parse_qs(url.query), dict(self.headers), body)
        self.server.requests.append(request)
        answer = self.server.answer(request)
        if answer.raw is not None or 200 <= answer.status < 300:
            self.server.taken.append(request)
        with contextlib.suppress(ConnectionError):
            self._say(answer)

    def _say(self, answer: Answer) -> None:
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def far_side(port: int = 0, *, tls: ssl.SSLContext | None = None) -> Iterator[FarSide]:
    """One that runs until the end of the block."""
    with FarSide(port, tls=tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
