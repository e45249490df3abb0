"""The publisher: sends a scenario to a broker in real time, and tells what it sent and what was acknowledged.

Here: `run` and its report; the MQTT connections, with paho, which is imported here only. Not here: when what is sent
(sender.py) and what it is (fleet.py).
"""

from __future__ import annotations

import logging
import random
import secrets
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from simulators.fleet import Publication
from simulators.scenario import Scenario
from simulators.sender import CONNECT_TIMEOUT, PublisherStats, Sender
from simulators.truth import Expected, expectations
from telemetry import Clock, TocsinError

log = logging.getLogger("tocsin.simulators")
_RETRY_FIRST, _RETRY_MOST = 0.2, 5.0
_KEEPALIVE = 30
_PATIENCE = 3
"""Connections that the broker may close before it has accepted one."""
_MAX_UNSENT = 64 * 1024
"""Bytes handed to paho and not yet taken by the socket, beyond which the connection counts as full."""

Watcher = Callable[[Publication], None]
"""Told of single messages, in the publisher's thread."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a run ended."""

    stats: PublisherStats
    epoch_ns: int
    end_ns: int
    """Wall time at which the last message was sent or given up."""
    stopped: bool
    """It was asked to stop before the scenario was over."""
    expected: tuple[Expected, ...]
    """The alerts that the faults must raise, up to the end."""

    @property
    def complete(self) -> bool:
        """Every QoS 1 message was acknowledged."""
        return self.stats.unacknowledged == 0


def run(
    scenario: Scenario,
    url: str,
    *,
    clock: Clock,
    stop: threading.Event,
    epoch_ns: int | None = None,
    progress: Callable[[PublisherStats], None] | None = None,
    username: str | None = None,
    password: str | None = None,
    ca_file: Path | None = None,
    protocol: Literal["5", "3.1.1"] = "5",
    connections: int = 4,
    inflight: int = 200,
    drain_seconds: float = 10.0,
    client_id: str = "",
    sent: Watcher | None = None,
    acknowledged: Watcher | None = None,
) -> Report:
    """Publish the scenario; returns when it is over and acknowledged, or soon after `stop` is set.

    `epoch_ns` (default: now) is the wall time of the start; what lies in the past by then is sent as fast as the broker
    takes it. `ca_file` (PEM) replaces the system's authorities for mqtts://. `inflight` bounds the unacknowledged
    QoS 1 messages of each connection. A lost connection is made anew for ever; raises TocsinError when the first
    attempt fails. `sent` is told of each message before it goes out, `acknowledged` of each PUBACK.
    """
    sender = Sender(scenario, clock, stop, progress, clock.now() if epoch_ns is None else epoch_ns)
    client_id = client_id or f"tocsin-simulator-{secrets.token_hex(4)}"
    try:
        for n in range(connections):
            sender.add(
                Connection(
                    Address.parse(url),
                    f"{client_id}-{n}",
                    protocol=protocol,
                    username=username,
                    password=password,
                    ca_file=ca_file,
                    inflight=inflight,
                    selector=sender.selector,
                    sent=sent,
                    acknowledged=acknowledged,
                )
            )
        sender.connect()
        sender.send_all()
        sender.drain(drain_seconds)
        stats = sender.stats()
    finally:
        sender.close()
    return Report(
        stats,
        sender.epoch_ns,
        clock.now(),
        stop.is_set() and not sender.finished,
        tuple(expectations(scenario, epoch_ns=sender.epoch_ns, until=scenario.duration or max(1, stats.elapsed_ns))),
    )


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is, from `mqtt://host[:port]`; `mqtts://` for TLS."""

    host: str
    port: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises TocsinError saying what is wrong with the URL."""
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in {"mqtt", "mqtts"} or not parts.hostname or port == -1 or parts.username is not None:
            raise TocsinError(
                "a broker URL looks like mqtt://host:1883 or mqtts://host:8883, with user and password given apart"
            )
        tls = parts.scheme == "mqtts"
        return cls(parts.hostname, port or (8883 if tls else 1883), tls)

    def __str__(self) -> str:
        return f"mqtt{'s' if self.tls else ''}://{self.host}:{self.port}"


class Connection:
    """One TCP connection, many devices. Called from one thread; nothing but `open` and `tend` blocks."""

    def __init__(
        self,
        address: Address,
        client_id: str,
        *,
        protocol: Literal["5", "3.1.1"],
        username: str | None,
        password: str | None,
        ca_file: Path | None,
        inflight: int,
        selector: selectors.BaseSelector,
        sent: Watcher | None = None,
        acknowledged: Watcher | None = None,
    ) -> None:
        self.acked = self.connects = self._closed_early = 0
        self.connected = self._opened = False
        self.refused = ""
        self._address, self._selector = address, selector
        self._inflight = self._most_inflight = inflight
        self._waiting: dict[int, Publication] = {}
        self._sent, self._acknowledged = sent, acknowledged
        self._unsent = 0
        self._random = random.Random(client_id)  # noqa: S311  # jitter, no secret
        self._retry_at, self._retry_delay, self._away_until = 0.0, _RETRY_FIRST, 0.0
        self._next_housekeeping = 0.0
        self._client = client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if protocol == "5" else True,
            protocol=paho.MQTTv5 if protocol == "5" else paho.MQTTv311,
        )
        self._connect_options: dict[str, Any] = {"clean_start": True} if protocol == "5" else {}
        client.connect_timeout = CONNECT_TIMEOUT
        client.max_inflight_messages_set(0)  # the window is ours; a second one in paho would only queue
        if username is not None:
            client.username_pw_set(username, password)
        if address.tls:
            client.tls_set_context(ssl.create_default_context(cafile=ca_file))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_socket_open = self._on_socket_open
        client.on_socket_close = self._on_socket_close
        client.on_socket_register_write = _leave_writing_to_flush

    @property
    def unacknowledged(self) -> int:
        """QoS 1 messages without a PUBACK."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """True while something is unwritten or unacknowledged."""
        return bool(self._waiting or self._unsent)

    @property
    def ready(self) -> bool:
        """True when one more message may be published."""
        return self.connected and len(self._waiting) < self._inflight and self._unsent < _MAX_UNSENT

    def open(self) -> None:
        """Begin to connect; `connected` (or `refused`) follows. Raises TocsinError when nobody answers."""
        try:
            self._client.connect(self._address.host, self._address.port, _KEEPALIVE, **self._connect_options)
        except (OSError, ValueError) as error:
            raise TocsinError(f"cannot reach the broker at {self._address} ({error}): is it running?") from error
        self._opened = True

    def publish(self, publication: Publication) -> None:
        """Hand it to paho, which sends it again after a lost connection; call only when `ready`, then `flush`."""
        if self._sent is not None:
            self._sent(publication)
        info = self._client.publish(publication.topic, publication.payload, publication.qos, retain=publication.retain)
        if publication.qos:
            self._waiting[info.mid] = publication
        self._unsent += len(publication.payload) + len(publication.topic) + 8

    def flush(self) -> None:
        """Write what the socket takes."""
        if self._client.want_write():
            self._client.loop_write()
            if not self._client.want_write():
                self._unsent = 0

    def receive(self) -> None:
        """Read what has come: acknowledgements, or the end of the connection."""
        self._client.loop_read()
        while isinstance(tls := self._client.socket(), ssl.SSLSocket) and tls.pending():
            self._client.loop_read()  # what TLS has buffered does not wake the selector

    def tend(self) -> None:
        """Keepalive, and reconnecting when it is due. Cheap; call often."""
        now = time.monotonic()
        if self._client.socket() is not None:
            if now >= self._next_housekeeping:
                self._next_housekeeping = now + 1
                self._client.loop_misc()
        elif self._opened and now >= max(self._retry_at, self._away_until):
            try:
                self._client.reconnect()
            except OSError:
                self._retry_later()

    def drop(self, back_after: float) -> None:
        """Cut the TCP connection without a DISCONNECT; reconnect after that many seconds."""
        self._away_until = time.monotonic() + back_after
        if (cut := self._client.socket()) is not None:
            with suppress(OSError):
                cast("socket.socket", cut).shutdown(socket.SHUT_RDWR)
        self.connected = False

    def close(self) -> None:
        """Close the TCP connection, without a DISCONNECT.

        rumqttd ends a connection once for the DISCONNECT and again for the closed socket, and the second time may hit
        another client that has been given the same number meanwhile. Without a will the outcome is the same.
        """
        self._opened = self.connected = False
        if (left := self._client.socket()) is not None:
            self._on_socket_close(self._client, None, left)
            left.close()

    def _retry_later(self) -> None:
        self._retry_at = time.monotonic() + self._retry_delay * self._random.uniform(0.5, 1.0)
        self._retry_delay = min(2 * self._retry_delay, _RETRY_MOST)

    def _on_connect(self, _client: Any, _data: Any, _flags: Any, reason: ReasonCode, props: Properties | None) -> None:
        if reason.is_failure:
            self.refused = (
                f"the broker at {self._address} refuses the connection ({reason}): check user, password and permissions"
            )
            return
        self.connected, self._retry_delay = True, _RETRY_FIRST
        self.connects += 1
        theirs = getattr(props, "ReceiveMaximum", None)
        self._inflight = min(self._most_inflight, theirs or self._most_inflight)

    def _on_disconnect(self, *_: Any) -> None:
        self._closed_early += not self.connects
        if self._closed_early >= _PATIENCE and not self.refused:
            self.refused = f"the broker at {self._address} closes the connection: does it speak this MQTT version?"
        if self.connected:
            log.warning("the broker at %s closed a connection of the simulator: reconnecting", self._address)
        self.connected = False
        self._unsent = 0
        self._retry_later()

    def _on_publish(self, _client: Any, _data: Any, mid: int, *_: Any) -> None:
        publication = self._waiting.pop(mid, None)
        if publication is not None:  # paho also reports QoS 0 messages, when they are written
            self.acked += 1
            if self._acknowledged is not None:
                self._acknowledged(publication)

    def _on_socket_open(self, _client: Any, _data: Any, opened: Any) -> None:
        self._selector.register(opened, selectors.EVENT_READ, self)

    def _on_socket_close(self, _client: Any, _data: Any, closed: Any) -> None:
        if closed.fileno() in (self._selector.get_map() or ()):
            self._selector.unregister(closed)


def _leave_writing_to_flush(*_: Any) -> None:
    """Registered so that paho leaves the writing to `flush`, many messages at once."""
