"""Which settings to change, for the broker that it is; for one that we do not know, what to look for."""

from __future__ import annotations

from typing import Literal

Need = Literal["queue", "window", "sessions", "disk", "size", "retained", "users", "tls", "access", "version"]

_MOSQUITTO: dict[Need, tuple[str, ...]] = {
    "queue": ("mosquitto.conf: max_queued_messages 1000000", "mosquitto.conf: max_queued_bytes 1000000000"),
    "window": ("mosquitto.conf: max_inflight_messages 1000",),
    "sessions": ("mosquitto.conf: persistent_client_expiration 7d, or no such line",),
    "disk": (
        "mosquitto.conf: persistence true",
        "mosquitto.conf: persistence_location /var/lib/mosquitto/",
        "mosquitto.conf: autosave_interval 30",
    ),
    "size": ("mosquitto.conf: message_size_limit {bytes}, or no such line",),
    "retained": ("mosquitto.conf: retain_available true, or no such line",),
    "users": ("mosquitto.conf: allow_anonymous false", "mosquitto.conf: password_file /etc/mosquitto/passwords"),
    "tls": (
        "mosquitto.conf: listener 8883, with cafile, certfile and keyfile",
        "tocsin.yaml: mqtt.url: mqtts://{host}:8883",
    ),
    "access": ("the file of acl_file: user {user}", "the file of acl_file: topic readwrite {topics}"),
    "version": ("a mosquitto of version 2 speaks MQTT 5: update it",),
}
_ANY: dict[Need, tuple[str, ...]] = {
    "queue": (
        "broker: the most messages that it queues for a session that is away: as many as tocsin may be down for",
    ),
    "window": ("broker: the most unacknowledged messages in flight to a client: 1000 (tocsin.yaml: mqtt.protocol: 5)",),
    "sessions": ("broker: allow lasting sessions, and a session expiry of at least {expiry}",),
    "disk": ("broker: keep sessions and queued messages on disk",),
    "size": ("broker: the largest message: at least {bytes} bytes",),
    "retained": ("broker: allow retained messages",),
    "users": ("broker: ask every client for a name and password, or a certificate",),
    "tls": ("broker: a listener with TLS", "tocsin.yaml: mqtt.url: mqtts://{host}:8883"),
    "access": ("broker: let the user {user} publish and subscribe to {topics}",),
    "version": ("a broker that speaks MQTT 5",),
}


def settings(software: str, need: Need, **values: object) -> tuple[str, ...]:
    """One line each: where, and what to write there. `software`: what the broker says that it is."""
    lines = (_MOSQUITTO if "mosquitto" in software.lower() else _ANY)[need]
    return tuple(line.format(**values) for line in lines)
