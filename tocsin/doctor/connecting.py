"""Coming in: which protocol versions, whether encrypted, who is let in, and what the broker says of itself."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

from ingest.credentials import tls_context
from telemetry import format_duration
from tocsin.doctor.advice import settings
from tocsin.doctor.client import Client, Refused
from tocsin.doctor.finding import CannotTell, Finding
from tocsin.doctor.target import Protocol, Target

_DAY = 86_400 * 10**9
_SOON_DAYS = 30
_VERSION_SECONDS = 2.0
_VERSION_TOPICS = ("$SYS/broker/version", "$SYS/brokers/+/version")
"""Of mosquitto and those that imitate it; of EMQX."""
_MOST_AHEAD = 100


def protocols(target: Target) -> Iterator[Finding]:
    """Which versions of MQTT work. Raises Refused when none does."""
    wanted = target.scope.mqtt.protocol
    other: Protocol = "3.1.1" if wanted == "5" else "5"
    answers: dict[Protocol, Refused | None] = {}
    for protocol in (wanted, other):
        try:
            with target.client(f"in{protocol[0]}", protocol) as client:
                target.ahead = min(_MOST_AHEAD, client.announced.receive_maximum)
                answers[protocol] = None
        except Refused as error:
            answers[protocol] = error
    working = tuple(protocol for protocol, error in answers.items() if error is None)
    refusal = answers[wanted]
    if not working and refusal is not None:
        raise refusal
    target.protocols = working
    if refusal is not None:
        yield Finding(
            check="protocol",
            severity="problem",
            summary=f"MQTT {wanted} does not work here, and {other} does",
            meaning=f"tocsin cannot connect as configured: {refusal}",
            change=(f"tocsin.yaml: mqtt.protocol: {other!r}".replace("'", '"'),),
        )
    elif wanted == "3.1.1":
        both = len(working) == 2
        yield Finding(
            check="protocol",
            severity="note",
            summary="MQTT 3.1.1 works" + (", and so does 5" if both else "; 5 does not"),
            meaning="With 3.1.1, the broker alone decides how long it keeps the session and how much it sends ahead.",
            change=('tocsin.yaml: mqtt.protocol: "5"',) if both else settings(target.software, "version"),
        )
    else:
        yield Finding(check="protocol", severity="ok", summary=f"MQTT {' and '.join(working)} work here")


def software(target: Target) -> Iterator[Finding]:
    """What the broker says that it is, if it does."""
    with target.client("version") as client, suppress(CannotTell):
        client.subscribe(_VERSION_TOPICS)
        client.wait(lambda: bool(client.received), _VERSION_SECONDS)
        if client.received:
            target.software = client.received[0].payload.decode(errors="replace")[:100]
    if target.software:
        yield Finding(check="software", severity="ok", summary=target.software)
    else:
        summary = "the broker does not tell its name and version: settings are named in general terms"
        yield Finding(check="software", severity="note", summary=summary)


def encryption(target: Target) -> Iterator[Finding]:
    """Whether others can read along, and for how long the certificate is good."""
    mqtt = target.scope.mqtt
    if not mqtt.tls and _is_here(mqtt.host):
        yield Finding(check="encryption", severity="ok", summary="not encrypted, but the broker is on this machine")
    elif not mqtt.tls:
        yield Finding(
            check="encryption",
            severity="warning",
            summary="the connection is not encrypted",
            meaning="Whoever is on the way can read and forge messages, and read the password.",
            change=settings(target.software, "tls", host=mqtt.host),
        )
    elif mqtt.insecure:
        yield Finding(
            check="encryption",
            severity="warning",
            summary="encrypted, but the broker's certificate is not verified",
            meaning="Whoever is on the way can pretend to be the broker.",
            change=("tocsin.yaml: mqtt.ca_file: that of the broker's authority; and no mqtt.insecure",),
        )
    else:
        yield _certificate(target)


def _certificate(target: Target) -> Finding:
    mqtt = target.scope.mqtt
    context = tls_context(mqtt)
    assert context is not None, "only asked with TLS"  # noqa: S101  # for the type checker
    try:
        with (
            socket.create_connection((mqtt.host, mqtt.port), timeout=mqtt.connect_timeout / 1e9) as wire,
            context.wrap_socket(wire, server_hostname=mqtt.host) as secured,
        ):
            version, certificate = secured.version() or "TLS", secured.getpeercert() or {}
    except OSError as error:
        raise Refused(f"the TLS connection could not be looked at ({error})") from error
    ends = certificate.get("notAfter")
    days = (ssl.cert_time_to_seconds(str(ends)) * 10**9 - target.clock.now()) // _DAY
    soon = days < _SOON_DAYS
    return Finding(
        check="encryption",
        severity="warning" if soon else "ok",
        summary=f"{version}, verified; the broker's certificate is good for {days} more days",
        meaning="Without a new one, tocsin will refuse the broker then." if soon else "",
        change=("broker: renew its certificate",) if soon else (),
        figures={"certificate_days": days},
    )


def strangers(target: Target) -> Iterator[Finding]:
    """Whether the broker lets anyone in."""
    mqtt = target.scope.mqtt
    nobody = mqtt.model_copy(
        update={"username": None, "password": None, "password_file": None, "cert_file": None, "key_file": None}
    )
    config = nobody.model_copy(update={"client_id": target.config("nobody").client_id, "protocol": target.protocol})
    try:
        with Client(config.model_copy(update={"session_expiry": 0})):
            pass
    except Refused:
        yield Finding(check="strangers", severity="ok", summary="without a name, the broker lets nobody in")
        return
    here = _is_here(mqtt.host)
    yield Finding(
        check="strangers",
        severity="note" if here else "warning",
        summary="the broker lets anyone in without a name",
        meaning="Anyone who reaches it can read and forge messages.",
        change=settings(target.software, "users"),
    )


def announcement(target: Target) -> Iterator[Finding]:
    """What the broker promises and forbids when it lets us in (MQTT 5)."""
    mqtt = target.scope.mqtt
    if target.protocol != "5":
        return
    # Nothing is left behind at the broker: it is asked for the real expiry, and the session is then ended.
    with target.lasting("asks", expiry=max(mqtt.session_expiry, 10**9)) as client:
        said = client.announced
    kept = mqtt.session_expiry if said.session_expiry is None else said.session_expiry
    figures = {
        "session_expiry_seconds": kept // 10**9,
        "receive_maximum": said.receive_maximum,
        "maximum_qos": said.maximum_qos,
        "retain_available": said.retain_available,
        "max_packet_bytes": said.max_packet_bytes,
    }
    if said.maximum_qos == 0:
        yield Finding(
            check="announcement",
            severity="problem",
            summary="the broker takes no messages with QoS 1",
            meaning="Messages can be lost on their way to it and from it.",
            change=("mosquitto.conf: max_qos 2, or no such line",),
            figures=figures,
        )
    elif kept < mqtt.session_expiry:
        asked = format_duration(mqtt.session_expiry)
        yield Finding(
            check="announcement",
            severity="warning",
            summary=f"the broker keeps a session for {format_duration(kept)}, and tocsin asks for {asked}",
            meaning="If tocsin is down for longer, everything that waits for it is lost.",
            change=settings(target.software, "sessions", expiry=asked),
            figures=figures,
        )
    else:
        largest = "of any size" if said.max_packet_bytes is None else f"up to {said.max_packet_bytes:,} bytes"
        yield Finding(
            check="announcement",
            severity="ok",
            summary=f"the broker keeps a session for {format_duration(kept)} and takes packets {largest}",
            figures=figures,
        )


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
