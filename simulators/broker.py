"""EmbeddedBroker: an MQTT broker (rumqttd, from the package iotcore) as a child process on this machine's loopback.

For demos and tests. It keeps everything in memory: sessions and queued messages end with it. What it does and does not
do, measured with iotcore 0.4.0 (rumqttd 0.20.0), both protocol versions unless said otherwise:

- one port speaks one version: `url` is MQTT 5, `url_v311` is MQTT 3.1.1;
- a session with clean start off survives a dropped connection and a DISCONNECT; unacknowledged QoS 1 messages come
  again, in order, but with new packet ids and *without* the DUP flag; the session expiry interval is ignored;
- the subscription's QoS is used as it is (a QoS 0 publication reaches a QoS 1 subscriber as QoS 1);
- receive maximum and retain handling of MQTT 5 are ignored: the window is `MAX_INFLIGHT`, fixed; retained messages come
  with the first subscription of a session, and not again when it subscribes anew;
- a client that sends DISCONNECT and closes at once may take with it a connection that another client makes in that very
  moment (rumqttd ends the connection number twice); and a connection that fails between CONNECT and CONNACK, made again
  with the same client id, stops the listener for good (bytebeamio/rumqtt issue 1062). Both are rare; clients here close
  without DISCONNECT to avoid them;
- a subscriber that lags by more than `backlog_bytes` silently loses the oldest messages.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from telemetry import TocsinError

MAX_PAYLOAD = 256 * 1024
MAX_INFLIGHT = 100
"""Messages that a subscriber may leave unacknowledged; rumqttd ignores higher settings."""
MAX_CONNECTIONS = 20_000
"""rumqttd breaks for good when they are exceeded, so this is far beyond what one machine is asked for."""
_SEGMENTS = 16
_CHILD = """
import logging, os, sys, threading
logging.disable()  # rumqttd logs every packet as an error
sys.path[:] = [p for p in sys.path if p not in ("", ".")]
def exit_with_parent():
    sys.stdin.buffer.read()
    os._exit(0)
threading.Thread(target=exit_with_parent, daemon=True).start()
from iotcore.iotcore import IotCoreBroker
IotCoreBroker(config_path=sys.argv[1]).run_forever()
"""


class EmbeddedBroker:
    """Starts on entering the context (or `start()`), stops on leaving it; dies with this process, however that ends.

    `port` is the MQTT 5 port and `port_v311` the MQTT 3.1.1 port; 0 takes a free one. `backlog_bytes` bounds what is
    kept for each subscription. Raises TocsinError when a port is taken or the broker does not come up.
    """

    def __init__(
        self, port: int = 0, *, port_v311: int = 0, host: str = "127.0.0.1", backlog_bytes: int = 128 << 20
    ) -> None:
        self.host, self.port, self.port_v311 = host, port, port_v311
        self._backlog_bytes = backlog_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None

    @property
    def url(self) -> str:
        """MQTT 5."""
        return f"mqtt://{self.host}:{self.port}"

    @property
    def url_v311(self) -> str:
        """MQTT 3.1.1."""
        return f"mqtt://{self.host}:{self.port_v311}"

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, timeout: float = 10.0) -> Self:
        """Returns when both ports accept connections."""
        if self.running:
            return self
        self.port = _free_port(self.host, self.port)
        self.port_v311 = _free_port(self.host, self.port_v311, taken=self.port)
        self._directory = tempfile.TemporaryDirectory(prefix="tocsin-broker-")
        folder = Path(self._directory.name)
        config, errors = folder / "rumqttd.toml", folder / "stderr"
        config.write_text(self._config())
        with errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _CHILD, str(config)],
                stdin=subprocess.PIPE,  # the child exits when this pipe closes, which no crash of ours can prevent
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env={**os.environ, "RUST_BACKTRACE": "0"},
                start_new_session=True,  # Ctrl-C in the terminal stops us first, and we stop the broker last
            )
        atexit.register(self.stop)
        deadline = time.monotonic() + timeout
        while not (_accepts(self.host, self.port) and _accepts(self.host, self.port_v311)):
            if not self.running or time.monotonic() > deadline:
                said = errors.read_text(errors="replace").strip().splitlines()[-1:]
                self.stop()
                raise TocsinError(f"the embedded broker did not start{': ' + said[0] if said else ''}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """Surely ends the child and frees the ports. May be called twice."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # nothing in it outlives it, so there is nothing to end in an orderly way
            process.wait()
            if process.stdin is not None:
                process.stdin.close()
            atexit.unregister(self.stop)
        if self._directory is not None:
            self._directory.cleanup()
            self._directory = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _config(self) -> str:
        listeners = "\n".join(
            f'[{version}.1]\nname = "{version}"\nlisten = "{self.host}:{port}"\nnext_connection_delay_ms = 0\n'
            f"[{version}.1.connections]\nconnection_timeout_ms = 10000\nmax_payload_size = {MAX_PAYLOAD + 1024}\n"
            f"max_inflight_count = {MAX_INFLIGHT}\ndynamic_filters = false\n"
            for version, port in (("v4", self.port_v311), ("v5", self.port))
        )
        return (
            f"id = 0\n[router]\nid = 0\nmax_connections = {MAX_CONNECTIONS}\nmax_outgoing_packet_count = 200\n"
            f"max_segment_size = {max(1024, self._backlog_bytes // _SEGMENTS)}\nmax_segment_count = {_SEGMENTS}\n"
            + listeners
        )


def _free_port(host: str, port: int, *, taken: int = 0) -> int:
    """`port` if nobody listens there, or any free one for 0."""
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise TocsinError(
                    f"port {port} is in use: choose another with --port or stop the other broker"
                ) from error
            found: int = probe.getsockname()[1]
        if port or found != taken:
            return found


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=0.2):
            return True
    except OSError:
        return False
