"""The HTTP server: its socket, its thread, and http.json, by which other commands find it.

Here: uvicorn. Not here: what is answered (`app`).
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from telemetry import TocsinError
from tocsin.http.config import LET_IN_NOBODY, HttpConfig, is_loopback
from tocsin.http.credentials import Credentials
from tocsin.http.instance import Instance, read_instance, write_instance
from tocsin.http.tls import Certificate
from tocsin.http.tokens import new_token

if TYPE_CHECKING:
    import uvicorn

    from tocsin.backend import Backend

_log = logging.getLogger("tocsin.http")
_STOP_SECONDS = 5.0
_MOST_CONNECTIONS = 100
_HEAD_BYTES = 16 << 10
_MESSAGE_BYTES = 1 << 20


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

    def __init__(self, config: HttpConfig, file: Path | None, *, any_port: bool = False) -> None:
        """`file`: http.json, if others shall find it. `any_port`: if the port is taken, take another.

        Raises TocsinError.
        """
        if not (config.asks_for_login or is_loopback(config.address[0])):
            raise TocsinError(f"cannot listen on {config.listen}: {LET_IN_NOBODY}")
        self._file, self._config = file, config
        token = new_token()
        self._credentials = Credentials.load(config, token)
        self._certificate = Certificate.load(config)
        self._socket = _listen(config, any_port=any_port)
        self.url = _url(self._socket, "http" if self._certificate is None else "https")
        fingerprint = "" if self._certificate is None else self._certificate.fingerprint
        self._instance = Instance(self.url, os.getpid(), token, fingerprint)
        self._server: uvicorn.Server | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, backend: Backend) -> None:
        """Returns at once. `backend` is what is shown; it must work until `stop` has returned."""
        if self._certificate is None and not is_loopback(self._config.address[0]):
            _log.warning(
                "%s is reachable from other machines without TLS: passwords, tokens and data travel in clear text; set "
                "http.cert_file and http.key_file, or listen on 127.0.0.1 behind a proxy that has TLS",
                self._config.listen,
            )
        self._thread = threading.Thread(target=self._run, args=(backend,), name="tocsin-http", daemon=True)
        self._thread.start()
        if self._file is None:
            return
        try:
            write_instance(self._file, self._instance)
        except OSError as error:
            _log.warning("cannot write %s (%s): `tocsin status` will not find this tocsin", self._file, error)

    @property
    def is_alive(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Answers what has been asked, then closes; nothing happens if it has not been started."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(_STOP_SECONDS)
            if self._file is not None and read_instance(self._file) == self._instance:
                self._file.unlink(missing_ok=True)
        self._socket.close()

    def _run(self, backend: Backend) -> None:
        try:
            import uvicorn  # noqa: PLC0415  # takes long, and nobody waits for it here

            from tocsin.http.app import make_app  # noqa: PLC0415  # as above

            tls = self._certificate
            app = make_app(backend, self._config, self._credentials)
            app.state.stopping = self._stopping  # so that streams of events end
            config = uvicorn.Config(
                app,
                http="h11",
                ws="websockets-sansio",
                ws_max_size=_MESSAGE_BYTES,
                loop="asyncio",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_MOST_CONNECTIONS,
                h11_max_incomplete_event_size=_HEAD_BYTES,
                timeout_graceful_shutdown=1,
                ssl_certfile=tls.cert_file if tls is not None else None,
                ssl_keyfile=tls.key_file if tls is not None else None,
            )
            config.load()  # NiceGUI looks at the application of every Server that there is, and fails without one
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


def _url(listening: socket.socket, scheme: str) -> str:
    """By which this machine reaches it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # all addresses are no address to go to
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
