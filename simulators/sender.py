"""The publisher's loop: waits for each message's time, hands it to its device's connection, serves the sockets.

One thread for all connections: a device always uses the same one, so its messages stay in order.
Here: pacing, back-pressure, reconnect storms, counting. Not here: MQTT itself (publisher.py).
"""

from __future__ import annotations

import selectors
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulators.faults import storms
from simulators.fleet import Publication, publications
from simulators.scenario import SECOND, Scenario
from telemetry import Clock, TocsinError

if TYPE_CHECKING:
    from simulators.publisher import Connection

CONNECT_TIMEOUT = 5.0
"""s"""
_ENDLESS = 10**18
_BURST = 64
"""Messages that are handed to the sockets together while the publisher is behind."""
_PROGRESS_EVERY = 0.25
_LONGEST_WAIT = 0.05


@dataclass(frozen=True, slots=True)
class PublisherStats:
    messages: int = 0
    """Handed to a connection, at any QoS."""
    readings: int = 0
    """Values in them, copies included, malformed messages not."""
    acked: int = 0
    """QoS 1 messages with a PUBACK."""
    unacknowledged: int = 0
    """QoS 1 messages without one."""
    kinds: tuple[tuple[str, int], ...] = ()
    """Messages by kind (see Publication.kind), sorted."""
    connections: int = 0
    """Connections that are up."""
    reconnects: int = 0
    lag_ns: int = 0
    """How far behind its planned time the last message was sent."""
    worst_lag_ns: int = 0
    elapsed_ns: int = 0
    """Since the start, by the clock."""


class Sender:
    """The loop: wait for the next message's time, send it, and serve the sockets meanwhile."""

    def __init__(
        self,
        scenario: Scenario,
        clock: Clock,
        stop: threading.Event,
        progress: Callable[[PublisherStats], None] | None,
        epoch_ns: int,
    ) -> None:
        self.selector = selectors.DefaultSelector()
        self.epoch_ns = epoch_ns
        self.finished = False
        self._scenario, self._clock, self._stop, self._progress = scenario, clock, stop, progress
        self._connections: list[Connection] = []
        self._route: dict[str, Connection] = {}
        self._kinds: Counter[str] = Counter()
        self._messages = self._readings = self._lag = self._worst_lag = self._unserved = 0
        self._next_progress = 0.0

    def add(self, connection: Connection) -> None:
        self._connections.append(connection)

    def connect(self) -> None:
        """Returns when every connection is up; raises TocsinError when one is refused or nobody answers."""
        for connection in self._connections:
            connection.open()
        deadline = time.monotonic() + CONNECT_TIMEOUT
        while not all(connection.connected for connection in self._connections) and not self._stop.is_set():
            self._serve(_LONGEST_WAIT)
            for connection in self._connections:
                if connection.refused:
                    raise TocsinError(connection.refused)
            if time.monotonic() > deadline:
                raise TocsinError("the broker does not answer the connection attempt: is it an MQTT broker?")

    def send_all(self) -> None:
        """Returns when the scenario is over (then `finished` is true) or `stop` is set."""
        storms_to_come = storms(self._scenario, self._scenario.duration or _ENDLESS)
        storm = next(storms_to_come, None)
        for publication in publications(self._scenario, epoch_ns=self.epoch_ns):
            while storm is not None and storm[0] <= publication.at_ns:
                if not self._wait_until(storm[0]):
                    return
                for connection in self._connections:
                    connection.drop((storm[1] - storm[0]) / SECOND)
                storm = next(storms_to_come, None)
            if not self._wait_until(publication.at_ns) or not self._send(publication):
                return
        self.finished = True

    def drain(self, seconds: float) -> None:
        """Wait for the acknowledgements that are still to come; not long when the user is waiting for us to stop."""
        deadline = time.monotonic() + (min(seconds, 2.0) if self._stop.is_set() else seconds)
        self._serve(0)
        while any(c.busy for c in self._connections) and time.monotonic() < deadline:
            self._serve(_LONGEST_WAIT)
        self._tell()

    def close(self) -> None:
        for connection in self._connections:
            connection.close()
        self.selector.close()

    def stats(self) -> PublisherStats:
        return PublisherStats(
            messages=self._messages,
            readings=self._readings,
            acked=sum(c.acked for c in self._connections),
            unacknowledged=sum(c.unacknowledged for c in self._connections),
            kinds=tuple(sorted(self._kinds.items())),
            connections=sum(c.connected for c in self._connections),
            reconnects=sum(max(0, c.connects - 1) for c in self._connections),
            lag_ns=self._lag,
            worst_lag_ns=self._worst_lag,
            elapsed_ns=self._clock.now() - self.epoch_ns,
        )

    def _wait_until(self, at_ns: int) -> bool:
        """Serve the sockets until it is time; False when `stop` was set."""
        due = self.epoch_ns + at_ns
        while True:
            left = due - self._clock.now()
            if left <= 0 and self._unserved < _BURST:
                self._unserved += 1
                return not self._stop.is_set()
            self._serve(min(max(0, left) / SECOND, _LONGEST_WAIT))
            if self._stop.is_set():
                return False

    def _send(self, publication: Publication) -> bool:
        """Publish as soon as the device's connection can take it; False when `stop` was set."""
        connection = self._route.get(publication.device)
        if connection is None:
            chosen = zlib.crc32(publication.device.encode()) % len(self._connections)
            connection = self._route[publication.device] = self._connections[chosen]
        while not connection.ready:
            self._serve(_LONGEST_WAIT)
            if self._stop.is_set():
                return False
        connection.publish(publication)
        self._messages += 1
        self._readings += publication.readings
        self._kinds[publication.kind] += 1
        self._lag = max(0, self._clock.now() - self.epoch_ns - publication.at_ns)
        self._worst_lag = max(self._worst_lag, self._lag)
        return True

    def _serve(self, seconds: float) -> None:
        """Write what is waiting, read what has come within that time, keep the connections alive."""
        self._unserved = 0
        for connection in self._connections:
            connection.flush()
        for key, _ in self.selector.select(seconds):
            key.data.receive()
        for connection in self._connections:
            connection.tend()
        if time.monotonic() >= self._next_progress:
            self._tell()

    def _tell(self) -> None:
        self._next_progress = time.monotonic() + _PROGRESS_EVERY
        if self._progress is not None:
            self._progress(self.stats())
