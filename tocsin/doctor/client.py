"""A plain MQTT client for experiments: connects once, publishes, holds acknowledgements back, and counts what comes.

Not here: what an experiment means. For real reception there is ingest.mqtt, which reconnects and never holds back.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest import refusals
from ingest.config import MqttConfig
from ingest.credentials import tls_context
from ingest.guarantee import Announced
from ingest.mqtt_client import announced, connect, new_client, subscriptions
from tocsin.doctor.finding import CannotTell, Interrupted

ANSWER_SECONDS = 10.0
_STOP_SECONDS = 0.2
NO_ANSWER = -1
"""In place of the reason code of a PUBACK that did not come."""
RETAINED_IF_NEW = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
RETAINED_NEVER = SubscribeOptions.RETAIN_DO_NOT_SEND


class Refused(CannotTell):
    """The broker answered and does not let us in, or did not answer as a broker would."""


class Received(NamedTuple):
    """A message that came."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    mid: int
    at: float
    """Of the monotonic clock, s."""


class Client:
    """One connection, opened on entering the context and closed on leaving it. Raises Refused when it is not let in."""

    def __init__(self, config: MqttConfig, *, ahead: int = 10, stop: threading.Event | None = None) -> None:
        """`ahead`: how many of our messages the broker may have without having acknowledged them.

        Once `stop` is set, whatever waits raises Interrupted: an exception out of a signal handler could get lost.
        """
        self._stop = stop or threading.Event()
        self._config = config
        self._client = new_client(config, tls_context(config))
        self._client.max_inflight_messages_set(ahead)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_publish = self._on_publish
        self._client.on_message = self._on_message
        # With this, paho only queues what other threads send, and the loop below writes it.
        self._client.on_socket_register_write = lambda _client, _userdata, _socket: None
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="tocsin-doctor", daemon=True)
        self._connack: tuple[int, str] | None = None
        self._granted: list[int] | None = None
        self._acknowledged: dict[int, int] = {}
        self._ended = False
        self.acknowledging = True
        """Whether what comes is acknowledged at once."""
        self.received: list[Received] = []
        self.session_present = False
        self.announced = Announced()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Connects. Raises Refused."""
        try:
            connect(self._client, self._config)
        except OSError as error:
            raise Refused(refusals.unreachable(self._config, error)) from error
        self._thread.start()
        answered = self.wait(lambda: self._connack is not None, self._config.connect_timeout / 1e9)
        if self._connack is None:
            self.cut()
            raise Refused(refusals.no_answer(self._config, closed=not answered and self._ended))
        code, name = self._connack
        if code:
            self.cut()
            raise Refused(refusals.refused(self._config, code, name))

    def close(self) -> None:
        """Says goodbye; the broker keeps the session if it is to last."""
        if not self._ended:
            self._client.disconnect()
            self._thread.join(ANSWER_SECONDS)
        self.cut()

    def cut(self) -> None:
        """Ends the connection without a word."""
        wire = self._client.socket()
        if wire is not None:
            try:
                socket.socket.shutdown(wire, socket.SHUT_RDWR)  # type: ignore[arg-type]  # a WebSocket's is none
            except (OSError, TypeError):
                wire.close()
        if self._thread.is_alive():
            self._thread.join(ANSWER_SECONDS)
        wire = self._client.socket()
        if wire is not None:
            wire.close()

    @property
    def ended(self) -> bool:
        """Whether the connection is gone."""
        return self._ended

    def subscribe(self, filters: Sequence[str], retained: int = RETAINED_IF_NEW) -> list[int]:
        """The QoS granted to each filter, or a reason code from 128. Raises CannotTell without an answer."""
        self._granted = None
        self._client.subscribe(subscriptions(self._config, filters, retained))
        if not self.wait(lambda: self._granted is not None, ANSWER_SECONDS) or self._granted is None:
            raise CannotTell("the broker did not answer a subscription")
        return self._granted

    def publish(self, topic: str, payload: bytes, *, retain: bool = False, expires_after: int | None = None) -> int:
        """With QoS 1; the reason code of the PUBACK (MQTT 3.1.1: always 0), or NO_ANSWER. `expires_after`: s."""
        return self.publish_all(topic, [payload], retain=retain, expires_after=expires_after)[0]

    def publish_all(
        self,
        topic: str,
        payloads: Sequence[bytes],
        *,
        retain: bool = False,
        expires_after: int | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> list[int]:
        """As `publish`, for many: waits `seconds` for all of their PUBACKs."""
        properties = None
        if expires_after is not None and self._config.protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]  # paho types it in part
            properties.MessageExpiryInterval = expires_after
        self._acknowledged.clear()
        mids = []
        for payload in payloads:
            self._go_on()
            mids.append(self._client.publish(topic, payload, 1, retain, properties).mid)
        self.wait(lambda: len(self._acknowledged) >= len(mids), seconds)
        return [self._acknowledged.get(mid, NO_ANSWER) for mid in mids]

    def acknowledge_all(self) -> None:
        """What was held back, and from now on everything at once."""
        with self._changed:
            self.acknowledging = True
            held = [m for m in self.received if m.qos]
        for message in held:
            self._client.ack(message.mid, message.qos)

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Whether the condition comes true within the seconds, while the connection stands. Raises Interrupted."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while not (condition() or self._ended) and time.monotonic() < deadline:
                self._go_on()
                self._changed.wait(min(_STOP_SECONDS, max(0.0, deadline - time.monotonic())))
            return condition()

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise Interrupted("interrupted")

    def collect(self, count: int, *, quiet: float, seconds: float) -> list[Received]:
        """What has come, when there are `count`, or none came for `quiet` seconds, or `seconds` are over."""
        deadline = time.monotonic() + seconds
        while len(self.received) < count and time.monotonic() < deadline:
            before = len(self.received)
            if not self.wait(lambda n=before: len(self.received) > n, quiet):  # type: ignore[misc]  # bound now
                break
        return list(self.received)

    # --- the network thread ---

    def _run(self) -> None:
        try:
            while self._client.loop(0.5) == MQTTErrorCode.MQTT_ERR_SUCCESS:
                pass
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _on_connect(
        self,
        _client: paho.Client,
        _userdata: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        with self._changed:
            self.session_present, self.announced = flags.session_present, announced(properties)
            self._connack = (reason.value if reason.is_failure else 0, str(reason))
            self._changed.notify_all()

    def _on_subscribe(
        self, _client: paho.Client, _userdata: object, _mid: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        with self._changed:
            self._granted = [reason.value for reason in reasons]
            self._changed.notify_all()

    def _on_publish(
        self, _client: paho.Client, _userdata: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        with self._changed:
            self._acknowledged[mid] = reason.value
            self._changed.notify_all()

    def _on_message(self, client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        came = Received(
            topic, bytes(message.payload), message.qos, message.retain, message.dup, message.mid, time.monotonic()
        )
        with self._changed:
            self.received.append(came)
            at_once = self.acknowledging
            self._changed.notify_all()
        if at_once and message.qos:
            client.ack(message.mid, message.qos)
