"""The examination as a whole: which checks there are, in which order, and what happens when one cannot be made."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator

from telemetry import Clock
from tocsin.doctor import connecting, messages, sessions
from tocsin.doctor.finding import CannotTell, Finding
from tocsin.doctor.target import Scope, Target

Check = Callable[[Target], Iterator[Finding]]

_ALWAYS: tuple[tuple[str, Check], ...] = (
    ("software", connecting.software),
    ("encryption", connecting.encryption),
    ("strangers", connecting.strangers),
    ("announcement", connecting.announcement),
    ("streams", messages.streams),
)
_WITH_MESSAGES: tuple[tuple[str, Check], ...] = (
    ("round trip", messages.round_trip),
    ("window", messages.window),
    ("session", sessions.reconnect),
    ("queue", sessions.queue),
    ("expiry", sessions.expiry),
    ("retained", messages.retained),
    ("payload size", messages.payload_size),
    ("disk", sessions.disk),
)


def examine(
    scope: Scope, clock: Clock, *, beginning: Callable[[str], object] = str, stop: threading.Event | None = None
) -> Generator[Finding, None, None]:
    """One Finding after the other; `beginning` hears the name of each check before it.

    Nothing is left at the broker, however it ends: close the iterator (or let it run out). Raises Interrupted soon
    after `stop` was set.
    """
    target = Target(scope, clock, stop=stop)
    try:
        beginning("protocol")
        try:
            yield from connecting.protocols(target)
        except CannotTell as error:
            yield Finding(check="connection", severity="problem", summary=str(error), meaning="Nothing works.")
            return
        yield from _made(target, _ALWAYS, beginning)
        beginning("access")
        try:
            yield from messages.access(target)
        except CannotTell:
            return
        yield from _made(target, _WITH_MESSAGES, beginning)
    finally:
        target.clean_up()


def _made(
    target: Target, checks: tuple[tuple[str, Check], ...], beginning: Callable[[str], object]
) -> Iterator[Finding]:
    for name, check in checks:
        beginning(name)
        try:
            yield from check(target)
        except CannotTell as error:
            yield Finding(check=name, severity="warning", summary=f"could not be found out: {error}")
