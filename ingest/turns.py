"""The turns of the network thread: wait for the socket, read, write; let more arrive while the line is busy.

Here: what paho leaves to an event loop of one's own (its `loop_read`, `loop_write` and `loop_misc`), and when to read.
Not here: connections and what follows from their end (`mqtt`), what is read (`shortcut`).
"""

from __future__ import annotations

import array
import fcntl
import select
import socket
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

from ingest.shortcut import Tap

LINGER_SECONDS = 0.003
_STEP_SECONDS = 0.001
_ENOUGH_BYTES = 64 << 10
"""Reading less often saves nothing more."""
_MOST_PASSES = 31


class Linger:
    """When to read a socket that can be read.

    Each read costs wake-ups of every thread from here to the alert, and an fsync, however few messages it brings. So
    while bytes keep coming, the socket is read at most every `LINGER_SECONDS`. What comes on a line that was silent is
    read at once, and what is there when it falls silent soon: a broker may be waiting for our acknowledgements. Where
    that happens time and again, we linger only after every second, fourth, eighth … read.
    """

    def __init__(
        self, *, now: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self._now, self._pause = now, pause
        self._last = 0.0
        self._passes = self._to_pass = 0

    def wait(self, waiting: Callable[[], int]) -> None:
        """Returns when it is time to read; `waiting`: how many bytes could be read now."""
        due = self._last + LINGER_SECONDS
        if self._now() < due:
            if self._to_pass:
                self._to_pass -= 1
            else:
                silent = self._let_come(due, waiting)
                self._passes = self._to_pass = min(2 * self._passes + 1, _MOST_PASSES) if silent else 0
        self._last = self._now()

    def _let_come(self, due: float, waiting: Callable[[], int]) -> bool:
        """Whether nothing came any more."""
        size = waiting()
        while size < _ENOUGH_BYTES and (rest := due - self._now()) > 0:
            self._pause(min(rest, _STEP_SECONDS))
            before, size = size, waiting()
            if size == before:
                return True
        return False


class Turns:
    """Drives a client that has been told to connect, until its connection ends. `turn` belongs to one thread."""

    def __init__(self, client: paho.Client) -> None:
        self._client = client
        self._linger = Linger()
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._waking = threading.Lock()
        client.on_socket_register_write = self._on_queued

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._waking:
            self._woken.close()
            self._wake.close()

    def turn(self, seconds: float) -> MQTTErrorCode:
        """Waits up to so many seconds for something to read or write, and does it; what others queue ends the wait.

        Returns what `paho.Client.loop` returns.
        """
        client = self._client
        wire: Any = client.socket()
        if wire is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        hidden = hasattr(wire, "pending") and wire.pending() > 0
        readable = hidden or self._is_readable(wire, seconds)
        if readable and not hidden and isinstance(wire, Tap):
            self._linger.wait(lambda: _bytes_waiting(wire))
        if client.want_write():  # first: while we read, the broker can go on
            result = client.loop_write()
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or client.socket() is None:
                return result
        if readable:
            result = client.loop_read()
            if result != MQTTErrorCode.MQTT_ERR_SUCCESS or client.socket() is None:
                return result
        return client.loop_misc()

    def _is_readable(self, wire: Any, seconds: float) -> bool:
        """Waits; False if there is only something to write, or nothing."""
        poll, fd = select.poll(), wire.fileno()
        poll.register(fd, select.POLLIN | (select.POLLOUT if self._client.want_write() else 0))
        poll.register(self._woken, select.POLLIN)
        events = dict(poll.poll(seconds * 1e3))
        if self._woken.fileno() in events:
            with suppress(BlockingIOError):
                self._woken.recv(1 << 10)
        return events.get(fd, 0) & ~select.POLLOUT != 0

    def _on_queued(self, _client: paho.Client, _userdata: object, _socket: object) -> None:
        """paho calls this when there is something to write where there was nothing."""
        with self._waking, suppress(OSError):  # closed, or so full that it wakes anyway
            self._wake.send(b"\0")


def _bytes_waiting(wire: Any) -> int:
    size = array.array("i", [0])
    fcntl.ioctl(wire.fileno(), termios.FIONREAD, size)
    return size[0]
