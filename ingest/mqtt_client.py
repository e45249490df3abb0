"""paho clients as a configuration wants them, and what the broker says of itself when it lets one in.

Not here: what is done with a client (`mqtt`: the session; the application's probes of a broker).
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from ingest.config import MqttConfig
from ingest.credentials import password
from ingest.guarantee import Announced

_FOR_EVER = 0xFFFFFFFF
"""A session expiry interval without end (MQTT 5.0, 3.1.2.11.2)."""


def new_client(config: MqttConfig, tls: ssl.SSLContext | None, kind: type[paho.Client] = paho.Client) -> paho.Client:
    """Not connected yet; acknowledges nothing by itself. `tls`: that of `credentials.tls_context`."""
    v5 = config.protocol == "5"
    client = kind(
        CallbackAPIVersion.VERSION2,
        client_id=config.client_id,
        clean_session=None if v5 else not config.lasting,
        protocol=MQTTProtocolVersion.MQTTv5 if v5 else MQTTProtocolVersion.MQTTv311,
        transport="websockets" if config.scheme in ("ws", "wss") else "tcp",
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = config.connect_timeout / 1e9
    if config.username is not None:
        client.username_pw_set(config.username, password(config))
    if tls is not None:
        client.tls_set_context(tls)
        client.tls_insecure_set(config.insecure)
    if config.scheme in ("ws", "wss"):
        client.ws_set_options(config.path)
    return client


def connect(client: paho.Client, config: MqttConfig) -> None:
    """Sends CONNECT: goes on with the session that the broker has, unless none shall last. Raises OSError."""
    client.connect(
        config.host,
        config.port,
        keepalive=config.keepalive // 10**9,
        clean_start=not config.lasting if config.protocol == "5" else paho.MQTT_CLEAN_START_FIRST_ONLY,
        properties=_connect_properties(config),
    )


def subscriptions(
    config: MqttConfig, filters: Sequence[str], retained: int = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
) -> Any:
    """QoS 1: with QoS 2, the broker hands responsibility over before we can have written anything.

    `retained`: the retain handling of MQTT 5.
    """
    if config.protocol != "5":
        return [(name, 1) for name in filters]
    return [(name, SubscribeOptions(qos=1, retainHandling=retained)) for name in filters]


def announced(properties: Properties | None) -> Announced:
    """What the properties of a CONNACK say; those of MQTT 3.1.1 are None."""
    said = vars(properties) if properties is not None else {}
    expiry, keepalive = said.get("SessionExpiryInterval"), said.get("ServerKeepAlive")
    return Announced(
        session_expiry=None if expiry in (None, _FOR_EVER) else expiry * 10**9,
        receive_maximum=said.get("ReceiveMaximum", 65_535),
        maximum_qos=said.get("MaximumQoS", 2),
        retain_available=bool(said.get("RetainAvailable", 1)),
        max_packet_bytes=said.get("MaximumPacketSize"),
        client_id=said.get("AssignedClientIdentifier"),
        keepalive=None if keepalive is None else keepalive * 10**9,
    )


def _connect_properties(config: MqttConfig) -> Properties | None:
    if config.protocol != "5":
        return None
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]  # paho types it in part
    properties.SessionExpiryInterval = min(config.session_expiry // 10**9, _FOR_EVER)
    properties.ReceiveMaximum = config.receive_maximum
    properties.MaximumPacketSize = int(config.max_packet_bytes)
    return properties
