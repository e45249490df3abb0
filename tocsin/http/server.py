"""The HTTP server: its socket, its thread, and http.json, by which other commands find it.

Here: uvicorn. Not here: what is answered (`app`).
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from telemetry import TocsinError
from tocsin.http.config import HttpConfig

if TYPE_CHECKING:
    import uvicorn

    from tocsin.backend import Backend

_log = logging.getLogger("tocsin.http")
_STOP_SECONDS = 5.0
_MOST_CONNECTIONS = 100
_HEAD_BYTES = 16 << 10


@dataclass(frozen=True, slots=True)
class Instance:
    """A tocsin that says it runs."""

    url: str
    pid: int


@contextmanager
def listening(config: HttpConfig, file: Path, *, any_port: bool = False) -> Iterator[HttpServer | None]:
    """A server that is to be started, and that is stopped at the end; None if there shall be none."""
    server = HttpServer(config, file, any_port=any_port) if config.enabled else None
    try:
        yield server
    finally:
        if server is not None:
            server.stop()


class HttpServer:
    """Listens from `__init__` on, answers from `start` to `stop`. The heavy imports are done in its own thread."""

    def __init__(self, config: HttpConfig, file: Path, *, any_port: bool = False) -> None:
        """`file`: http.json. `any_port`: if the port is taken, take another. Raises TocsinError."""
        self._file = file
        self._socket = _listen(config, any_port=any_port)
        host, port = self._socket.getsockname()[:2]
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self._server: uvicorn.Server | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, backend: Backend) -> None:
        """Returns at once. `backend` is what is shown; it must work until `stop` has returned."""
        self._thread = threading.Thread(target=self._run, args=(backend,), name="tocsin-http", daemon=True)
        self._thread.start()
        try:
            write_instance(self._file, Instance(self.url, os.getpid()))
        except OSError as error:
            _log.warning("cannot write %s (%s): `tocsin status` will not find this tocsin", self._file, error)

    def stop(self) -> None:
        """Answers what has been asked, then closes; nothing happens if it has not been started."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            if read_instance(self._file) == Instance(self.url, os.getpid()):
                self._file.unlink(missing_ok=True)
        self._socket.close()

    def _run(self, backend: Backend) -> None:
        try:
            import uvicorn  # noqa: PLC0415  # takes long, and nobody waits for it here

            from tocsin.http.app import make_app  # noqa: PLC0415  # as above

            config = uvicorn.Config(
                make_app(backend),
                http="h11",
                ws="none",
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                timeout_graceful_shutdown=1,
            )
            self._server = uvicorn.Server(config)
            if not self._stopping.is_set():
                self._server.run(sockets=[self._socket])
        except Exception:  # noqa: BLE001  # nobody would notice a dead thread
            _log.exception("the HTTP server has stopped; everything else goes on")


def _listen(config: HttpConfig, *, any_port: bool) -> socket.socket:
    host, port = config.address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not any_port:
                raise
            listening.bind((host, 0))
        listening.listen()
    except OSError as error:
        listening.close()
        busy = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
        raise TocsinError(
            f"cannot listen on {config.listen}: {busy}; choose another port with http.listen (port 0: any that is "
            "free), or switch it off with http.enabled: false"
        ) from error
    return listening


def write_instance(file: Path, instance: Instance) -> None:
    """For the owner only; whole or not at all. Raises OSError."""
    new = file.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump({"url": instance.url, "pid": instance.pid}, out)
    new.replace(file)


def read_instance(file: Path) -> Instance | None:
    """What http.json says; None if there is none. It may be left over from a crash: then nobody answers there."""
    try:
        said = json.loads(file.read_bytes())
        return Instance(str(said["url"]), int(said["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
