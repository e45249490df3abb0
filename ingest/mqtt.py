"""The MQTT session: connects, stays connected, subscribes, receives into the inbox, acknowledges; owns paho.

Not here: how a client is made (`mqtt_client`), what becomes of a message (`receiver`), how errors are worded
(`refusals`), what is promised and what may be lost (`session_watch`).

Every connection is a paho client of its own and is numbered: its epoch. An acknowledgement goes to the client of its
own epoch or nowhere, so that it can never reach another connection, where the same packet identifier means another
message; the broker redelivers what was not acknowledged. The loop that drives the client is ours: it pauses with jitter
between attempts, knows why one failed, and outlives any exception.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ingest import refusals, shortcut
from ingest.arrivals import Arrivals
from ingest.config import MqttConfig
from ingest.credentials import password, tls_context
from ingest.guarantee import Guarantee, SessionLoss, Wanted
from ingest.inbox import Inbox
from ingest.mqtt_client import announced, connect, new_client, subscriptions
from ingest.session_watch import SessionWatch
from ingest.shortcut import TappedClient, Tapping
from ingest.turns import Turns
from telemetry import Clock, Counters, Message

_log = logging.getLogger("tocsin.ingest")
_LOOP_SECONDS = 1.0
_HANG_UP_SECONDS = 2.0
_SHORT_LIFE_SECONDS = 10.0
_STALL_SECONDS = 0.2
_FIRST_PAUSE_SECONDS = 1.0

_INVALID_TOPIC_BYTES = 16_000
"""Escaped, it becomes four times as long, and must still fit into the journal's 65,535."""

_MISSING = shortcut.missing()
if _MISSING:
    _log.warning("%s: messages are received one by one, which is slower", _MISSING)

State = Literal["connecting", "connected", "disconnected", "refused", "stopped"]


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """How the session is doing."""

    state: State
    since: int
    """Our clock when it came into this state, ns."""
    last_error: str = ""
    """One line that says what to do; empty when there is nothing to do."""
    session_present: bool | None = None
    """Whether the broker still had our session at the last connect; None before the first."""
    granted: dict[str, int] = field(default_factory=dict)
    """Topic filter → QoS granted, or a reason code from 128 when refused; empty until the broker has answered."""
    last_message: int = 0
    """Our clock at the last message, ns; 0 before the first. Connected but silent: this stands still."""
    reconnects: int = 0
    """Connections after the first."""


class Session:
    """A lasting MQTT session that receives the messages of some topic filters.

    Raises ConfigError when files that the configuration names cannot be used.
    """

    def __init__(
        self,
        config: MqttConfig,
        filters: Sequence[str],
        inbox: Inbox,
        *,
        clock: Clock,
        counters: Counters,
        former: Sequence[str] = (),
        wanted: Mapping[str, Wanted] | None = None,
        record: Path | None = None,
    ) -> None:
        """`former`: filters of earlier configurations, which a session that the broker has kept may still have.

        `wanted`, by filter: what is worth a word in `guarantees`. `record`: file in which to note that the broker has
        our session, so that it cannot forget it unnoticed while tocsin is stopped.
        """
        self._config, self._filters, self._inbox = config, tuple(dict.fromkeys(filters)), inbox
        self._former = [name for name in dict.fromkeys(former) if name not in self._filters]
        self._clock, self._counters = clock, counters
        self._tls = tls_context(config)
        password(config)  # to refuse an unreadable file now and not in the network thread
        self._changed = threading.Condition()
        self._status = SessionStatus("stopped", clock.now())
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._link: _Link | None = None
        self._epoch = 0
        self._connections = 0
        self._connected_at = 0.0
        self._watch = SessionWatch(config, self._filters, wanted or {}, record, clock=clock, counters=counters)
        self._short_lives = 0
        self._logged = ""
        self._jitter = random.Random(config.client_id)  # noqa: S311  # spreads attempts, protects nothing

    @property
    def status(self) -> SessionStatus:
        return replace(self._status, last_message=self._watch.last_message)

    @property
    def losses(self) -> tuple[SessionLoss, ...]:
        """When the broker had forgotten our session, oldest first; the last hundred."""
        return self._watch.losses

    def guarantees(self) -> tuple[Guarantee, ...]:
        """What is promised now, one for each topic filter, in their order; about a second old at most."""
        return self._watch.guarantees

    def start(self) -> None:
        """Begins to connect, and returns at once."""
        if self._thread is not None:
            return
        if self._config.insecure:
            _log.warning(
                "mqtt.insecure is on: the broker's certificate is not verified; anyone in between can forge messages"
            )
        self._stopping = threading.Event()  # a new one: a thread that hangs in a connect sees its own, still set
        self._thread = threading.Thread(target=self._run, args=(self._stopping,), name="tocsin-mqtt", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Sends the acknowledgements that are on their way and disconnects; the broker keeps the session."""
        thread, link = self._thread, self._link
        if thread is None:
            return
        self._stopping.set()
        if link is not None:
            link.client.disconnect()
        thread.join(self._config.connect_timeout / 1e9 + 2 * _HANG_UP_SECONDS)
        self._thread = None
        self._set(state="stopped")

    def wait_connected(self, timeout: float) -> bool:
        """Waits up to `timeout` seconds until the broker has let us in and answered the subscriptions."""
        with self._changed:
            return self._changed.wait_for(self._is_ready, timeout)

    def acknowledge(self, arrived: Sequence[Arrivals]) -> None:
        """Sends the PUBACKs in this order and in one piece; those of another connection are dropped and counted."""
        link = self._link
        current = [each for each in arrived if link is not None and each.epoch == link.epoch]
        wanted, sent = sum(each.confirmable for each in arrived), sum(each.confirmable for each in current)
        self._counters.add("ingest.unacknowledged", sum(map(len, arrived)) - wanted)
        self._counters.add("ingest.stale_acks", wanted - sent)
        self._counters.add("ingest.acknowledged", sent)
        frames = b"".join([each.acknowledgements() for each in current])
        if link is not None and frames:
            link.client._packet_queue(paho.PUBACK, frames, 0, 1)  # noqa: SLF001  # ack() each: 12 µs and a wake-up

    # --- the network thread ---

    def _run(self, stopping: threading.Event) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not stopping.is_set():
            connections = self._connections
            try:
                self._connect_once(stopping)
            except Exception as error:  # noqa: BLE001  # nobody would notice that this thread is gone
                self._counters.add("ingest.session_errors")
                self._set(state="disconnected", last_error=f"the MQTT session broke off ({error!r}): reconnecting")
                _log.exception("the MQTT session broke off; reconnecting")
            finally:
                self._link = None
            if self._connections > connections:
                pause = _FIRST_PAUSE_SECONDS
            stopping.wait(pause * self._jitter.uniform(0.5, 1.0))
            pause = min(2 * pause, max(_FIRST_PAUSE_SECONDS, self._config.reconnect_delay_max / 1e9))

    def _connect_once(self, stopping: threading.Event) -> None:
        """One connection from beginning to end."""
        try:
            self._converse(stopping)
        finally:
            self._close()
            self._watch.left()

    def _close(self) -> None:
        """After an exception, the connection still stands: the broker would go on sending, to nobody."""
        wire = None if self._link is None else self._link.client.socket()
        if wire is not None:
            wire.close()

    def _converse(self, stopping: threading.Event) -> None:
        self._set(state="connecting")
        self._epoch += 1
        client = self._new_client(self._epoch, stopping)
        self._link = _Link(client, self._epoch)
        deadline = time.monotonic() + self._config.connect_timeout / 1e9
        try:
            connect(client, self._config)
        except OSError as error:
            self._fail("disconnected", refusals.unreachable(self._config, error))
            return
        result = MQTTErrorCode.MQTT_ERR_SUCCESS
        with Turns(client) as turns:
            while result == MQTTErrorCode.MQTT_ERR_SUCCESS and not stopping.is_set():
                result = turns.turn(_LOOP_SECONDS)
                self._watch.tend()
                if self._status.state == "connecting" and time.monotonic() > deadline:
                    break
            _hang_up(client, turns)
        if stopping.is_set():
            return
        if self._status.state == "connecting":
            closed = result != MQTTErrorCode.MQTT_ERR_SUCCESS
            self._fail("disconnected", refusals.no_answer(self._config, closed=closed))
        else:
            self._lost(0, "connection lost")

    def _new_client(self, epoch: int, stopping: threading.Event) -> paho.Client:
        client = new_client(self._config, self._tls, TappedClient if _MISSING == "" else paho.Client)
        if isinstance(client, TappedClient):
            client.tap = Tapping(lambda arrivals: self._take(arrivals, stopping), self._topic, self._clock.now, epoch)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_disconnect = self._on_disconnect
        client.on_message = lambda _client, _userdata, message: self._on_message(message, epoch, stopping)
        return client

    def _on_connect(
        self,
        client: paho.Client,
        _userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._fail("refused", refusals.refused(self._config, reason.value, str(reason)))
            return
        self._connections += 1
        self._connected_at = time.monotonic()
        self._watch.connected(announced(properties), session_present=flags.session_present)
        self._set(
            state="connected",
            last_error="",
            session_present=flags.session_present,
            granted={},
            reconnects=self._connections - 1,
        )
        if self._former and flags.session_present:
            client.unsubscribe(self._former)
        if self._filters:
            client.subscribe(subscriptions(self._config, self._filters))

    def _on_subscribe(
        self, _client: paho.Client, _userdata: object, _mid: int, reasons: list[ReasonCode], _props: object
    ) -> None:
        granted = {name: reason.value for name, reason in zip(self._filters, reasons, strict=False)}
        problems = [
            problem
            for name, reason in zip(self._filters, reasons, strict=False)
            if (problem := refusals.subscription(name, reason.value, str(reason))) is not None
        ]
        if not problems:
            where, filters = self._config.address, ", ".join(self._filters)
            _log.info("connected to %s as %r, subscribed to %s", where, self._config.client_id, filters)
        self._watch.subscribed(granted)
        self._set(granted=granted, last_error=problems[0] if problems else "")

    def _on_disconnect(
        self,
        _client: paho.Client,
        _userdata: object,
        _flags: paho.DisconnectFlags,
        reason: ReasonCode,
        _props: object,
    ) -> None:
        if not self._stopping.is_set():
            self._lost(reason.value, str(reason))

    def _on_message(self, message: paho.MQTTMessage, epoch: int, stopping: threading.Event) -> None:
        """What the short cut has left to paho."""
        topic = self._topic(message._topic)  # noqa: SLF001  # its public form raises on what is not UTF-8
        received = self._clock.now()
        said = Message(
            topic, bytes(message.payload), message.qos, message.retain, message.dup, received, mid=message.mid
        )
        self._take(Arrivals.of(said, epoch), stopping)

    def _topic(self, name: bytes) -> str:
        try:
            return name.decode()
        except UnicodeDecodeError:  # it goes on as an unknown topic, to the dead letters
            self._counters.add("ingest.invalid_topics")
            return name[:_INVALID_TOPIC_BYTES].decode("utf-8", "backslashreplace")

    def _take(self, arrivals: Arrivals, stopping: threading.Event) -> None:
        """Waits for room: the network thread stops reading, and TCP makes the broker wait."""
        self._counters.add("ingest.arrived", len(arrivals))
        self._watch.messages(arrivals)
        while not self._inbox.put(arrivals, _STALL_SECONDS):
            if stopping.is_set():  # unacknowledged: QoS 1 comes again
                lost = len(arrivals.of_qos_0())
                self._counters.add("ingest.dropped", lost, "stopping_qos0")
                self._counters.add("ingest.dropped", len(arrivals) - lost, "stopping_resent")
                return

    # --- status ---

    def _is_ready(self) -> bool:
        return self._status.state == "connected" and len(self._status.granted) == len(self._filters)

    def _lost(self, code: int, name: str) -> None:
        if self._status.state == "connected":
            short = time.monotonic() - self._connected_at < _SHORT_LIFE_SECONDS
            self._short_lives = self._short_lives + 1 if short else 0
            self._fail("disconnected", refusals.lost(self._config, code, name, again=self._short_lives > 1))

    def _fail(self, state: State, error: str) -> None:
        if error != self._logged:
            _log.warning("%s", error)  # once, and not at every attempt
        self._logged = error
        self._set(state=state, last_error=error)

    def _set(self, **changes: Any) -> None:
        with self._changed:
            if changes.get("state", self._status.state) != self._status.state:
                changes["since"] = self._clock.now()
            self._status = replace(self._status, **changes)
            self._changed.notify_all()


class _Link(NamedTuple):
    """A connection and its number, replaced together."""

    client: paho.Client
    epoch: int


def _hang_up(client: paho.Client, turns: Turns) -> None:
    """Sends what is queued and then DISCONNECT, if the connection still stands, and closes it."""
    if client.socket() is not None:
        client.disconnect()
    deadline = time.monotonic() + _HANG_UP_SECONDS
    while client.socket() is not None and time.monotonic() < deadline:
        turns.turn(_STALL_SECONDS)
