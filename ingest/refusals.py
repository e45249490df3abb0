"""What goes wrong between us and the broker, told in one line that says what to do. Knows no MQTT library."""

from __future__ import annotations

import socket
import ssl
from datetime import UTC, datetime

from ingest.config import MqttConfig
from telemetry import format_duration

_UNKNOWN_ISSUER = {2, 18, 19, 20, 21}
"""X509_V_ERR_… of OpenSSL: the chain does not end at an authority that we trust."""
_WRONG_HOST = {62, 64}
_DATES = {9, 10}


def unreachable(config: MqttConfig, error: Exception) -> str:
    """Why no connection came about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _bad_certificate(config, error)
    if isinstance(error, ssl.SSLError):
        return _tls_trouble(config, (error.reason or str(error)).replace("_", " ").lower())
    prefix = f"cannot reach {config.address}"
    if isinstance(error, socket.gaierror):
        return f"{prefix} (no address for {config.host!r}): check the host in mqtt.url"
    if isinstance(error, ConnectionRefusedError):
        return f"{prefix} (connection refused): is the broker running? check mqtt.url"
    if isinstance(error, TimeoutError):
        return f"{prefix} (no answer): is the host right, or a firewall in between? check mqtt.url"
    if isinstance(error, ConnectionResetError) and config.tls:
        return _tls_trouble(config, "connection reset")
    if isinstance(error, ConnectionError) and config.scheme in ("ws", "wss"):
        return f"{prefix} ({error}): does the broker offer MQTT over WebSockets there, at {config.path}? check mqtt.url"
    reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return f"{prefix} ({reason}): check mqtt.url and the network"


def refused(config: MqttConfig, code: int, name: str) -> str:
    """Why the broker did not let us in: a CONNACK reason code of MQTT 5 (3.2.2.2), and its name."""
    who = f"user {config.username!r}" if config.username is not None else "us without a username"
    match code:
        case 0x86 | 0x87 if config.username is None and config.cert_file is None:
            return "the broker wants to know who we are: set mqtt.username and mqtt.password (or password_file)"
        case 0x86 | 0x87:
            return f"the broker refused {who}: check mqtt.username and mqtt.password"
        case 0x84 if config.protocol == "5":
            return "the broker does not speak MQTT 5: set mqtt.protocol to 3.1.1"
        case 0x84:
            return "the broker does not speak MQTT 3.1.1: set mqtt.protocol to 5"
        case 0x85:
            return f"the broker refused the client id {config.client_id!r}: set another mqtt.client_id"
        case 0x88 | 0x89:
            return f"the broker is not ready for us ({name.lower()}): trying again"
        case _:
            return f"the broker refused {who} ({name.lower()}): its log may say why"


def no_answer(config: MqttConfig, *, closed: bool) -> str:
    """The connection came about, but MQTT did not."""
    how = "closed the connection" if closed else "did not answer"
    other = (
        "is that the port of an MQTT broker?"
        if config.tls
        else f"is that the port of an MQTT broker, and without TLS? (with TLS: {config.scheme}s:// in mqtt.url)"
    )
    return f"{config.address} {how} when asked for an MQTT {config.protocol} session: {other}"


def lost(config: MqttConfig, code: int, name: str, *, again: bool = False) -> str:
    """Why an established connection ended: a DISCONNECT reason code of MQTT 5 (3.14.2.1), and its name.

    `again`: it has ended soon after its beginning more than once.
    """
    twice = f"{config.client_id!r} is used twice; give every tocsin its own mqtt.client_id"
    match code:
        case 0x8E:
            return f"another client took over our session: {twice}"
        case 0x95:
            return "the broker says that we sent too large a packet"
        case 0x87:
            return "the broker does not allow what we ask for: check its access list for our user"
        case _ if again:
            return f"the broker closes the connection again and again ({name.lower()}); perhaps {twice}"
        case _:
            return f"lost the connection to {config.address} ({name.lower()}): reconnecting"


def forgotten(config: MqttConfig, since: int, until: int) -> str:
    """The broker had our session at `since` and no more when we came back, and has a new one from `until` on, ns."""
    span = f"what it had not delivered by {instant(since)}, and what came until {instant(until)}, may be lost"
    if config.protocol == "5" and until - since > config.session_expiry:
        away = f"we were away for longer than mqtt.session_expiry ({format_duration(config.session_expiry)})"
        return f"the broker has forgotten our session {config.client_id!r}, since {away}: {span}; set it higher"
    advice = "let it keep sessions, and store them on disk"
    return f"the broker has forgotten our session {config.client_id!r}: {span}; {advice}"


def instant(ns: int) -> str:
    """RFC 3339 in UTC, to the second."""
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"


def subscription(topic_filter: str, code: int, name: str) -> str | None:
    """What is wrong with the answer to a subscription with QoS 1: a SUBACK reason code (3.9.3); None if nothing."""
    if code >= 0x80:
        return (
            f"the broker refuses the subscription to {topic_filter!r} ({name.lower()}): "
            "check its access list for our user, and the topics of the streams"
        )
    if code == 0:
        return (
            f"the broker granted only QoS 0 for {topic_filter!r}: messages can be lost on the way; "
            "allow QoS 1 at the broker"
        )
    return None


def _bad_certificate(config: MqttConfig, error: ssl.SSLCertVerificationError) -> str:
    prefix = f"cannot trust {config.address}: "
    if error.verify_code in _UNKNOWN_ISSUER:
        advice = "check that mqtt.ca_file is that of" if config.ca_file is not None else "set mqtt.ca_file to that of"
        reason = f"signed by an unknown authority ({error.verify_message})"
        return f"{prefix}its certificate is {reason}; {advice} its authority"
    if error.verify_code in _WRONG_HOST:
        return (
            f"{prefix}its certificate is not for {config.host!r} ({error.verify_message}); check the host in mqtt.url"
        )
    if error.verify_code in _DATES:
        return f"{prefix}{error.verify_message}; renew it, or check the clocks"
    return f"{prefix}{error.verify_message}"


def _tls_trouble(config: MqttConfig, reason: str) -> str:
    if "certificate required" in reason or "handshake failure" in reason:
        advice = "does the broker ask for a client certificate? set mqtt.cert_file and mqtt.key_file"
    else:
        advice = "does that port speak TLS? without it, the URL begins with mqtt:// or ws://"
    return f"no TLS with {config.address} ({reason}): {advice}"
