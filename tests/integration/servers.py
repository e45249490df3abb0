"""Real servers as child processes on the loopback: start, wait until they answer, stop, kill, their log.

What a server is told (its configuration) is in brokers.py and databases.py.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

START_SECONDS = 30.0
STOP_SECONDS = 20.0


def program(name: str, package: str) -> Path:
    """The path of a program; without it the test is skipped, and fails where CI=true."""
    # Debian's daemons are in sbin, which is not on everyone's PATH.
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin")
    if found is not None:
        return Path(found)
    message = f"{name} is not installed (Debian package {package}); as root: sh tests/servers.sh"
    if os.environ.get("CI") == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def _ports() -> Iterator[int]:
    # Below the range from which the kernel takes ports for outgoing connections: one of those could otherwise sit on
    # the port of a server that is down for a moment, or a client could even connect to itself. By process, so that
    # test runs side by side stay apart.
    port = 10_000 + os.getpid() % 200 * 100
    while True:
        port = port + 1 if port < 31_999 else 10_000
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port


_free_ports = _ports()


def free_port() -> int:
    """A loopback port that nothing listens on, never the same twice in a run."""
    return next(_free_ports)


def wait_until(condition: Callable[[], bool], *, what: str, seconds: float = START_SECONDS) -> None:
    """Ask until the condition holds; the test fails with `what` when it does not within the seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:g} s: {what}")
        time.sleep(0.01)


class Server:
    """A child process that listens on `port`; its output goes to `log`. Data outlives stop, kill and start."""

    host = "127.0.0.1"

    def __init__(self, command: list[str | Path], *, directory: Path, port: int) -> None:
        self.command = command
        self.directory = directory
        self.port = port
        self.name = Path(command[0]).name
        self.log = directory / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert self.process is None, f"{self.name} runs already"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory
            )
        deadline = time.monotonic() + START_SECONDS
        while not self.answers():
            try:
                status = self.process.wait(timeout=0.01)
            except subprocess.TimeoutExpired:
                if time.monotonic() < deadline:
                    continue
                status = None
            self.kill()
            ended = "does not answer" if status is None else f"ended with status {status}"
            pytest.fail(f"{self.name} {ended}; its log:\n{self.log_tail()}", pytrace=False)

    def answers(self) -> bool:
        return is_listening(self.port)

    def stop(self) -> None:
        """SIGTERM: the clean end, with everything saved."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"{self.name} did not stop on SIGTERM; its log:\n{self.log_tail()}")
        self.process = None

    def kill(self) -> None:
        """SIGKILL: the crash."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Stop and start on the same port with the same data."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, until thaw()."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self.process is not None, f"{self.name} does not run"
        self.process.send_signal(number)

    def log_tail(self, lines: int = 60) -> str:
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class HttpServer(Server):
    """A server that speaks HTTP; it answers once `ready_path` gives a 2xx status."""

    ready_path = "/"

    def __init__(self, command: list[str | Path], *, directory: Path, port: int) -> None:
        super().__init__(command, directory=directory, port=port)
        self.url = f"http://{self.host}:{port}"
        self._http = urllib3.PoolManager(retries=False, timeout=urllib3.Timeout(30))

    def answers(self) -> bool:
        try:
            return 200 <= self._http.request("GET", self.url + self.ready_path).status < 300
        except urllib3.exceptions.HTTPError:
            return False

    def request(
        self, method: str, path: str, *, fields: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> bytes:
        """The body of the answer; `fields` go into the query string. Any status but 2xx fails the test."""
        query = "?" + urlencode(dict(fields)) if fields else ""
        answer = self._http.request(method, self.url + path + query, body=body)
        if not 200 <= answer.status < 300:
            pytest.fail(f"{self.name}: {method} {path}: {answer.status} {answer.data.decode(errors='replace')}")
        return answer.data

    def json(self, method: str, path: str, *, fields: Mapping[str, str] | None = None) -> Any:
        return json.loads(self.request(method, path, fields=fields))

    def stop(self) -> None:
        self._http.clear()
        super().stop()

    def kill(self) -> None:
        self._http.clear()
        super().kill()


def is_listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
