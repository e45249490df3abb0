"""The broker under examination: how to come in, what is known of it so far, and what must be cleaned up afterwards."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from ingest.config import MqttConfig
from ingest.streams import StreamConfig
from telemetry import Clock, TocsinError
from tocsin.doctor.client import Client
from tocsin.doctor.finding import CannotTell

_log = logging.getLogger("tocsin.doctor")
LASTING = 600 * 10**9
"""How long a broker keeps our sessions if we cannot clean up, ns (MQTT 5)."""

Protocol = Literal["5", "3.1.1"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What is examined, and how much."""

    mqtt: MqttConfig
    streams: tuple[StreamConfig, ...] = ()
    max_payload_bytes: int = 262_144
    """Payloads up to this size must arrive."""
    messages: int = 5_000
    """How many are left waiting at the broker."""
    prefix: str = "tocsin-doctor"
    """First level of our topics."""


class Target:
    """`clean_up` ends the sessions and deletes the retained messages that were made through this."""

    def __init__(self, scope: Scope, clock: Clock, *, stop: threading.Event | None = None) -> None:
        self._stop = stop
        self.scope, self.clock = scope, clock
        self._token = secrets.token_hex(4)
        self.protocols: tuple[Protocol, ...] = (scope.mqtt.protocol,)
        """Those that work, the preferred one first."""
        self.software = ""
        """What the broker says that it is, such as `mosquitto version 2.0.11`; empty when it does not."""
        self.round_trip: float | None = None
        """s, the median; None while it is not known."""
        self.ahead = 10
        """How many unacknowledged messages the broker takes from us."""
        self._sessions: dict[str, Protocol] = {}
        self._retained: set[str] = set()

    @property
    def protocol(self) -> Protocol:
        return self.protocols[0]

    def topic(self, name: str) -> str:
        return f"{self.scope.prefix}/{self._token}/{name}"

    def config(self, name: str, protocol: Protocol | None = None, **changes: Any) -> MqttConfig:
        """As configured, but with a name of our own: the configured one may belong to a running tocsin."""
        base = {"protocol": protocol or self.protocol, "client_id": f"tocsin-dr-{self._token}-{name}"}
        return self.scope.mqtt.model_copy(update={**base, "session_expiry": 0, **changes})

    def client(self, name: str, protocol: Protocol | None = None, **changes: Any) -> Client:
        """A connection whose session ends with it."""
        return Client(self.config(name, protocol, **changes), ahead=self.ahead, stop=self._stop)

    def lasting(self, name: str, *, expiry: int = LASTING) -> Client:
        """A connection whose session the broker shall keep for `expiry` ns; cleaned up later."""
        config = self.config(name, session_expiry=expiry)
        self._sessions[config.client_id] = self.protocol
        return Client(config, ahead=self.ahead, stop=self._stop)

    @contextmanager
    def pair(self, name: str, protocol: Protocol | None = None, **changes: Any) -> Iterator[tuple[Client, Client]]:
        """A subscriber of the topic `name`, and a publisher. Raises CannotTell when it may not subscribe."""
        with self.client(f"{name}-s", protocol, **changes) as subscriber, self.client(f"{name}-p", protocol) as sender:
            self.subscribe(subscriber, name)
            yield subscriber, sender

    def subscribe(self, client: Client, name: str) -> None:
        """To the topic `name`. Raises CannotTell when the broker does not grant QoS 1."""
        [granted] = client.subscribe([self.topic(name)])
        if granted != 1:
            what = "only QoS 0" if granted == 0 else "no subscription"
            raise CannotTell(f"the broker grants {what} to {self.topic(name)}")

    def retain(self, client: Client, name: str, payload: bytes) -> int:
        """Publishes a retained message; deleted later. The reason code of its PUBACK."""
        self._retained.add(self.topic(name))
        return client.publish(self.topic(name), payload, retain=True)

    def clean_up(self, tell: Callable[[str], object] = _log.warning) -> None:
        """What cannot be cleaned up is told, each in one line."""
        self._stop = None  # it was heard
        while self._sessions:
            client_id, protocol = self._sessions.popitem()
            try:
                with Client(self.config("", protocol, client_id=client_id)):
                    pass  # a session that begins clean and does not last replaces the old one
            except TocsinError as error:
                tell(f"cannot end the session {client_id!r} at the broker: {error}")
        if self._retained:
            try:
                with self.client("clean") as client:
                    while self._retained:
                        client.publish(self._retained.pop(), b"", retain=True)
            except TocsinError as error:
                tell(f"cannot delete retained messages in {self.scope.prefix}/{self._token}: {error}")
