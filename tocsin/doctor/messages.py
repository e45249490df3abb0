"""Messages while connected: do they come, how fast, how many ahead, how large; and retained ones."""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import median, quantiles

from tocsin.doctor.advice import settings
from tocsin.doctor.client import NO_ANSWER, RETAINED_IF_NEW, RETAINED_NEVER, Client
from tocsin.doctor.finding import CannotTell, Finding
from tocsin.doctor.target import Protocol, Target

_ARRIVE_SECONDS = 5.0
_QUIET_SECONDS = 1.0
_TRIPS = 200
_TRIPS_SECONDS = 5.0
_BURST = 2_000
_BURST_SECONDS = 20.0
_FEW_AHEAD = 100
_UNBOUNDED = 10_000.0
"""Messages/s from which on other things are slower."""
_MOST_AHEAD = 2_000


def access(target: Target) -> Iterator[Finding]:
    """Whether we may use topics of our own at all. Raises CannotTell when not: the other checks need it."""
    topics, user = f"{target.scope.prefix}/#", target.scope.mqtt.username or "(anonymous)"
    why = ""
    try:
        with target.pair("access") as (subscriber, sender):
            code = sender.publish(target.topic("access"), b"hello")
            if not subscriber.collect(1, quiet=_ARRIVE_SECONDS, seconds=_ARRIVE_SECONDS):
                said = {NO_ANSWER: " (no acknowledgement)", 0: " (although it was acknowledged)"}.get(code, "")
                why = f"a message published to {target.topic('access')} does not arrive{said}"
    except CannotTell as error:
        why = str(error)
    if not why:
        yield Finding(check="access", severity="ok", summary=f"messages pass through {topics}")
        return
    yield Finding(
        check="access",
        severity="warning",
        summary=f"messages cannot be tried out: {why}",
        meaning="Neither the queue nor the session nor the window of the broker can be measured.",
        change=(
            *settings(target.software, "access", user=user, topics=topics),
            "tocsin doctor: --username of a user who may, or --prefix of topics that are allowed",
        ),
    )
    raise CannotTell("")


def round_trip(target: Target) -> Iterator[Finding]:
    """How long a message takes from publisher to subscriber, and how many pass in a second."""
    topic = target.topic("trip")
    trips: list[float] = []
    with target.pair("trip") as (subscriber, sender):
        deadline = time.monotonic() + _TRIPS_SECONDS
        while len(trips) < _TRIPS and time.monotonic() < deadline:
            began = time.monotonic()
            sender.publish(topic, b"%d" % len(trips))
            came = subscriber.collect(len(trips) + 1, quiet=_ARRIVE_SECONDS, seconds=_ARRIVE_SECONDS)
            if len(came) <= len(trips):
                raise CannotTell(f"message {len(trips) + 1} of a few did not arrive within {_ARRIVE_SECONDS:.0f} s")
            trips.append(came[-1].at - began)
        began = time.monotonic()
        sender.publish_all(topic, [b"burst"] * _BURST, seconds=_BURST_SECONDS)
        came = subscriber.collect(len(trips) + _BURST, quiet=_QUIET_SECONDS, seconds=_BURST_SECONDS)
    burst = came[len(trips) :]
    rate = len(burst) / max(burst[-1].at - began, 1e-6) if burst else 0.0
    target.round_trip = median(trips)
    p99 = quantiles(trips, n=100)[98] if len(trips) > 1 else trips[0]
    figures = {
        "p50_ms": round(target.round_trip * 1e3, 3),
        "p99_ms": round(p99 * 1e3, 3),
        "messages_per_second": round(rate),
    }
    if len(burst) < _BURST:
        yield Finding(
            check="round trip",
            severity="problem",
            summary=f"{_BURST - len(burst):,} of {_BURST:,} messages sent at once did not come",
            meaning="A burst of a fleet loses messages.",
            change=settings(target.software, "queue"),
            figures=figures,
        )
        return
    trip = f"{figures['p50_ms']:.1f} ms there and back (p99 {figures['p99_ms']:.1f} ms)"
    summary = f"{trip}, {rate:,.0f} messages/s of QoS 1"
    yield Finding(check="round trip", severity="ok", summary=summary, figures=figures)


def window(target: Target) -> Iterator[Finding]:
    """How many messages the broker sends ahead of their acknowledgements."""
    for protocol in target.protocols:
        yield _window(target, protocol)


def _window(target: Target, protocol: Protocol) -> Finding:
    asked = min(target.scope.mqtt.receive_maximum, _MOST_AHEAD)
    name = f"window{protocol[0]}"
    with target.pair(name, protocol) as (subscriber, sender):
        subscriber.acknowledging = False
        sender.publish_all(target.topic(name), [b"x"] * (asked + 100), seconds=_BURST_SECONDS)
        ahead = len(subscriber.collect(asked + 100, quiet=_QUIET_SECONDS, seconds=_BURST_SECONDS))
        subscriber.acknowledge_all()
    few = ahead < min(asked, _FEW_AHEAD)
    most = ahead / target.round_trip if target.round_trip else _UNBOUNDED
    rate = f", to about {most:,.0f} messages/s" if most < _UNBOUNDED else ""
    used = protocol == target.scope.mqtt.protocol
    more = "more than " if ahead >= asked + 100 else ""
    return Finding(
        check=f"window ({protocol})",
        severity=("warning" if used else "note") if few else "ok",
        summary=f"with MQTT {protocol}, the broker sends {more}{ahead:,} messages ahead of their acknowledgements",
        meaning=f"That bounds the rate{rate}; what comes faster waits in the broker's queue." if few else "",
        change=settings(target.software, "window") if few and used else (),
        figures={"ahead": ahead},
    )


def payload_size(target: Target) -> Iterator[Finding]:
    """Whether payloads pass that are as large as tocsin takes them; if not, how large they may be."""
    wanted = target.scope.max_payload_bytes
    if _passes(target, wanted):
        yield Finding(
            check="payload size",
            severity="ok",
            summary=f"payloads of {wanted:,} bytes pass",
            figures={"passes_bytes": wanted},
        )
        return
    good, bad = 0, wanted
    while bad - good > max(1, good // 8):  # to an eighth is close enough
        middle = (good + bad) // 2 if good else bad // 4
        if _passes(target, middle):
            good = middle
        else:
            bad = middle
    yield Finding(
        check="payload size",
        severity="warning",
        summary=f"payloads of {wanted:,} bytes do not pass; those of {good:,} bytes do",
        meaning="Larger ones are lost before they reach tocsin, and the broker may cut off the device that sends one.",
        change=(
            *settings(target.software, "size", bytes=wanted),
            f"or, if no device sends more, tocsin.yaml: limits.max_payload_bytes: {good}",
        ),
        figures={"passes_bytes": good},
    )


def _passes(target: Target, size: int) -> bool:
    with target.pair("size") as (subscriber, sender):
        sender.publish(target.topic("size"), b"x" * size)
        if sender.ended:
            return False
        came = subscriber.collect(1, quiet=_QUIET_SECONDS, seconds=_ARRIVE_SECONDS)
        return [len(message.payload) for message in came] == [size]


def retained(target: Target) -> Iterator[Finding]:
    """Whether last values are kept for new subscribers, and stay away when we subscribe again."""
    with target.client("keep-p") as sender:
        code = target.retain(sender, "keep", b"last value")
    with target.client("keep-s") as subscriber:
        subscriber.subscribe([target.topic("keep")])
        kept = bool(subscriber.collect(1, quiet=_QUIET_SECONDS, seconds=_ARRIVE_SECONDS))
        again = kept and target.protocol == "5" and _comes_again(subscriber, target.topic("keep"))
    if not kept:
        refused = code not in (0, NO_ANSWER)
        yield Finding(
            check="retained",
            severity="note",
            summary="the broker keeps no retained messages" + (", and refuses them" if refused else ""),
            meaning="A new subscription begins without last values. tocsin does not need them.",
            change=settings(target.software, "retained"),
            figures={"kept": False},
        )
        return
    yield Finding(
        check="retained",
        severity="ok",
        summary="retained messages are kept" + (", and come again at every connect" if again else ""),
        meaning="tocsin stores them, flagged, and never alerts on them." if again else "",
        figures={"kept": True, "come_again": again},
    )


def _comes_again(subscriber: Client, topic: str) -> bool:
    before = len(subscriber.received)
    subscriber.subscribe([topic], RETAINED_IF_NEW)
    return len(subscriber.collect(before + 1, quiet=_QUIET_SECONDS, seconds=_QUIET_SECONDS)) > before


def streams(target: Target) -> Iterator[Finding]:
    """Whether tocsin gets the topics of its streams. Disturbs nobody: asks with a session of its own, for a moment."""
    for stream in target.scope.streams:
        with target.client("stream") as client:
            [granted] = client.subscribe([stream.filter], RETAINED_NEVER)
            heard = client.wait(lambda c=client: bool(c.received), _QUIET_SECONDS)  # type: ignore[misc]  # bound now
        check, topic = f"stream {stream.name}", stream.filter
        if granted >= 0x80:
            yield Finding(
                check=check,
                severity="problem",
                summary=f"the broker refuses the subscription to {topic}",
                meaning="Nothing of this stream arrives.",
                change=("broker: let this user read it (access list)", "tocsin.yaml: look at the stream's topic"),
            )
        elif granted == 0:
            yield Finding(
                check=check,
                severity="problem",
                summary=f"the broker grants only QoS 0 to {topic}",
                meaning="Messages can be lost on the way to tocsin.",
                change=("broker: allow QoS 1",),
            )
        elif heard:
            low = all(message.qos == 0 for message in client.received)
            yield Finding(
                check=check,
                severity="warning" if low else "ok",
                summary=f"{topic}: granted, and messages come" + (", but with QoS 0" if low else ""),
                meaning="What is published with QoS 0 can be lost before it reaches tocsin." if low else "",
                change=("devices: publish with QoS 1",) if low else (),
            )
        else:
            yield Finding(
                check=check,
                severity="note",
                summary=f"{topic}: granted; nothing was published meanwhile",
                meaning="Some brokers (mosquitto) grant every subscription and check at each message.",
            )
