"""Far sides: an HTTP sink and a receiver of alerts that tell the witness what they took, and make trouble when asked.

Here: what each trouble is on the wire. Not here: when it begins and ends (`troubles`).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from zlib import crc32

from telemetry import Series
from tocsin.chaos.witness import Told, Witness

SINK_TROUBLES = ("401", "413", "422", "429", "503", "slow", "half-open", "lost-answer", "refused")
"""What may happen to writes. 422: one point in eight is poison, the others of that request are written."""
RECEIVER_TROUBLES = ("429", "500", "503", "slow", "half-open", "lost-answer", "refused")
"""What may happen to posts of alerts."""
_SLOW_SECONDS = 0.7
_LONGEST_SECONDS = 30.0
_LINES_AT_ONCE = 50
_POISONED = 8


class Answer(NamedTuple):
    status: int
    body: bytes = b"{}"
    retry_after: str = ""


class FarSide:
    """An HTTP server on a port of its own, from `start` to `stop`."""

    def __init__(self) -> None:
        self.port = 0
        self.trouble = ""
        self._over = threading.Event()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), self._handler())
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="chaos-far-side", daemon=True).start()

    def stop(self) -> None:
        """Nobody is there any more; requests under way end without an answer."""
        self._over.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def begin(self, trouble: str) -> None:
        """Until `mend`."""
        self._over = threading.Event()
        self.trouble = trouble
        if trouble == "refused":
            self.stop()

    def mend(self) -> None:
        self.trouble = ""
        self._over.set()
        if self._server is None:
            self.start()

    def answer(self, trouble: str, headers: dict[str, str], body: bytes) -> Answer:
        """Take the request, or refuse it, as the trouble says."""
        raise NotImplementedError

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        far_side = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                trouble, over = far_side.trouble, far_side._over
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answer = far_side.answer(trouble, dict(self.headers.items()), body)
                self.close_connection = True
                if trouble == "half-open":
                    over.wait(_LONGEST_SECONDS)
                elif trouble == "slow":
                    over.wait(_SLOW_SECONDS)
                if trouble in ("half-open", "lost-answer"):
                    return
                self.send_response(answer.status)
                if answer.retry_after:
                    self.send_header("Retry-After", answer.retry_after)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that was killed."""


class AlertReceiver(FarSide):
    """Takes posts of alerts. `half-open` takes nothing, `lost-answer` takes it and does not say so."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness

    def answer(self, trouble: str, headers: dict[str, str], body: bytes) -> Answer:
        ids = tuple(alert["x_id"] for alert in json.loads(body)["alerts"])
        told = Told(headers.get("Idempotency-Key", ""), headers.get("X-Tocsin-Repeat") == "true", ids)
        status = int(trouble) if trouble.isdigit() else 200
        self._witness.note_told(told, taken=status == 200 and trouble != "half-open")
        return Answer(status, retry_after="1" if status == 429 else "")


class LineSink(FarSide):
    """Takes line protocol as InfluxDB does, without compression."""

    def __init__(self, witness: Witness) -> None:
        super().__init__()
        self._witness = witness

    def answer(self, trouble: str, headers: dict[str, str], body: bytes) -> Answer:
        del headers
        lines = body.splitlines()
        match trouble:
            case "401" | "503":
                return Answer(int(trouble), b'{"message": "chaos"}')
            case "429":
                return Answer(429, b'{"message": "slow down"}', retry_after="1")
            case "413" if len(lines) > _LINES_AT_ONCE:
                return Answer(413, b'{"message": "too large"}')
            case "422":
                return self._partly(lines)
            case "half-open":
                return Answer(204)
        self._witness.note_points(list(_points(lines)))
        return Answer(204, b"")

    def _partly(self, lines: list[bytes]) -> Answer:
        """A partial write: the good points are kept, and the whole is refused all the same."""
        bad = [line for line in lines if crc32(line) % _POISONED == 0]
        self._witness.note_points(list(_points([line for line in lines if line not in bad])))
        if not bad:
            return Answer(204, b"")
        if len(lines) == 1:
            self._witness.note_poison([(series, time) for series, time, _ in _points(bad)])
        words = {"message": f"partial write: field type conflict dropped={len(bad)}"}
        return Answer(422, json.dumps(words).encode())


def _points(lines: list[bytes]) -> Iterator[tuple[str, int, float]]:
    """Series as text, time in ns, value. Names and labels here need no escapes."""
    for line in lines:
        head, field, at = line.decode().rsplit(" ", 2)
        metric, *tags = head.split(",")
        labels = dict(tag.split("=", 1) for tag in tags)
        yield str(Series.recorded(metric, labels)), int(at), float(field.removeprefix("value="))
