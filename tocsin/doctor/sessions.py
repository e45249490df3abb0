"""What the broker keeps while a session is away: the session itself, its messages and how many, and for how long."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tocsin.doctor.advice import settings
from tocsin.doctor.client import NO_ANSWER, Client
from tocsin.doctor.finding import CannotTell, Finding
from tocsin.doctor.target import Target

_ARRIVE_SECONDS = 5.0
_QUIET_SECONDS = 1.5
_QUEUE_SECONDS = 60.0
_EXPIRES_SECONDS = 1
_FEW = 3


def reconnect(target: Target) -> Iterator[Finding]:
    """Whether the session outlives its connection, cut or closed, with what was not acknowledged."""
    topic = target.topic("again")
    first = target.lasting("again")
    with first, target.client("again-p") as sender:
        target.subscribe(first, "again")
        first.acknowledging = False
        sender.publish_all(topic, [b"%d" % i for i in range(_FEW)])
        if len(first.collect(_FEW, quiet=_ARRIVE_SECONDS, seconds=_ARRIVE_SECONDS)) < _FEW:
            raise CannotTell("messages to a lasting session did not arrive")
        first.cut()
    with target.lasting("again") as second:
        present = second.session_present
        again = second.collect(_FEW, quiet=_QUIET_SECONDS, seconds=_ARRIVE_SECONDS)
    if not present:
        yield Finding(
            check="session",
            severity="problem",
            summary="the broker forgets a session when its connection breaks",
            meaning="Everything that is published while tocsin is away, or restarts, is lost.",
            change=settings(target.software, "sessions", expiry="24h"),
            figures={"present": False},
        )
        return
    figures = {"present": True, "redelivered": len(again), "dup": all(m.dup for m in again)}
    if [m.payload for m in again] != [b"%d" % i for i in range(_FEW)]:
        yield Finding(
            check="session",
            severity="problem",
            summary=f"of {_FEW} unacknowledged messages, {len(again)} came again after a reconnect, or not in order",
            meaning="What is on its way when a connection breaks can be lost.",
            change=("broker: its documentation on redelivery of QoS 1",),
            figures=figures,
        )
        return
    flag = "" if figures["dup"] else ", without the flag DUP"
    yield Finding(
        check="session",
        severity="ok",
        summary=f"a session outlives its connection, and what was not acknowledged comes again{flag}",
        figures=figures,
    )


def queue(target: Target) -> Iterator[Finding]:
    """How many messages wait for a session that is away."""
    sent, topic = target.scope.messages, target.topic("queue")
    payloads = [b"%d" % i for i in range(sent)]
    with target.lasting("queue") as subscriber:
        target.subscribe(subscriber, "queue")
    with target.client("queue-p") as sender:
        codes = sender.publish_all(topic, payloads, seconds=_QUEUE_SECONDS)
    with target.lasting("queue") as subscriber:
        came = subscriber.collect(sent, quiet=_QUIET_SECONDS, seconds=_QUEUE_SECONDS)
    taken = sum(code in (0, 0x10) for code in codes)
    kept = len({message.payload for message in came})
    figures = {"sent": sent, "acknowledged": taken, "kept": kept}
    if NO_ANSWER in codes:
        raise CannotTell(
            f"{codes.count(NO_ANSWER):,} of {sent:,} messages were not acknowledged in {_QUEUE_SECONDS:.0f} s"
        )
    if kept >= sent:
        yield Finding(
            check="queue",
            severity="ok",
            summary=f"all of {sent:,} messages waited for a session that was away (more were not tried: --messages)",
            figures=figures,
        )
    elif kept >= taken:
        yield Finding(
            check="queue",
            severity="warning",
            summary=f"{kept:,} of {sent:,} messages waited for a session that was away; the broker refused the others",
            meaning="Publishers are told, and can send again what they keep.",
            change=settings(target.software, "queue"),
            figures=figures,
        )
    else:
        which = "the newest" if came and came[0].payload == payloads[0] else "the oldest"
        yield Finding(
            check="queue",
            severity="problem",
            summary=f"{kept:,} of {sent:,} messages waited for a session that was away; {which} were dropped",
            meaning=f"Publishers were told that {taken:,} had been taken. While tocsin is away for longer than "
            f"{kept:,} messages last, the rest is lost without a word.",
            change=settings(target.software, "queue"),
            figures=figures,
        )


def expiry(target: Target) -> Iterator[Finding]:
    """Whether messages that name their own end are dropped then (MQTT 5)."""
    if target.protocol != "5":
        return
    topic = target.topic("expiry")
    with target.lasting("expiry") as subscriber:
        target.subscribe(subscriber, "expiry")
    with target.client("expiry-p") as sender:
        sender.publish(topic, b"short-lived", expires_after=_EXPIRES_SECONDS)
        sender.publish(topic, b"lasting")
        _pass(sender, _EXPIRES_SECONDS + 1.2)
    with target.lasting("expiry") as subscriber:
        came = [m.payload for m in subscriber.collect(2, quiet=_QUIET_SECONDS, seconds=_ARRIVE_SECONDS)]
    if b"lasting" not in came:
        raise CannotTell("a message to a session that was away did not arrive")
    honoured = b"short-lived" not in came
    yield Finding(
        check="expiry",
        severity="ok",
        summary="messages end when their publisher says so (message expiry)"
        if honoured
        else "messages outlive the end that their publisher set (message expiry)",
        meaning="Devices that set an expiry lose what waits for longer than that." if honoured else "",
        figures={"honoured": honoured},
    )


def disk(target: Target) -> Iterator[Finding]:
    """What cannot be seen without stopping the broker."""
    yield Finding(
        check="disk",
        severity="note",
        summary="whether sessions and their messages are on disk cannot be seen from outside",
        meaning="If they are not, a restart of the broker loses what waits for tocsin.",
        change=settings(target.software, "disk"),
    )


def _pass(client: Client, seconds: float) -> None:
    """Lets time pass for the broker, which has no clock that we could move."""
    end = time.monotonic() + seconds
    client.wait(lambda: time.monotonic() >= end, seconds)
