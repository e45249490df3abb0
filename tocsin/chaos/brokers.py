"""The broker of a campaign: the embedded one, which forgets all when it is killed, or mosquitto, which keeps most.

Both are processes of their own that end with this one, however that ends.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal, Protocol

from simulators.broker import EmbeddedBroker
from telemetry import TocsinError

BrokerName = Literal["embedded", "mosquitto"]
_START_SECONDS = 20.0
_MOSQUITTO = """\
listener {port} 127.0.0.1
allow_anonymous true
log_dest stderr
persistence true
persistence_location {directory}/
autosave_interval 1
max_queued_messages 0
max_inflight_messages 200
"""


class Broker(Protocol):
    """`stop` is orderly, `kill` is not; `start` comes back at the same port."""

    port: int
    forgets_on_stop: bool
    """Whether an orderly stop loses sessions and queues, too."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class Embedded:
    """simulators.broker: everything in memory."""

    forgets_on_stop = True

    def __init__(self) -> None:
        self._broker = EmbeddedBroker()
        self.port = 0

    def start(self) -> None:
        self._broker.start()
        self.port = self._broker.port

    def stop(self) -> None:
        self._broker.stop()

    def kill(self) -> None:
        self._broker.stop()


class Mosquitto:
    """With persistence: an orderly stop loses nothing, a kill the last second."""

    forgets_on_stop = False

    def __init__(self, directory: Path) -> None:
        # Debian's daemons are in sbin, which is not on everyone's PATH.
        found = shutil.which("mosquitto", path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")
        if found is None:
            raise TocsinError("mosquitto is not installed: install it, or leave out --broker mosquitto")
        directory.mkdir(parents=True, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self._log, config = directory / "mosquitto.log", directory / "mosquitto.conf"
        text = _MOSQUITTO.format(port=self.port, directory=directory)
        config.write_text(text + ("user root\n" if os.geteuid() == 0 else ""))  # else it cannot read the directory
        self._command = [sys.executable, "-P", "-m", "tocsin.chaos.leash", found, "-c", str(config)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not _accepts(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise TocsinError(f"mosquitto does not start: see {self._log}")
            time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._end()

    def kill(self) -> None:
        """Close the leash."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            try:
                process.wait(_START_SECONDS)
            finally:
                process.kill()
                if process.stdin is not None:
                    process.stdin.close()


def broker_of(name: BrokerName, directory: Path) -> Broker:
    """Not started yet. Raises TocsinError if it is not installed."""
    return Embedded() if name == "embedded" else Mosquitto(directory)


def _accepts(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return True
    except OSError:
        return False
