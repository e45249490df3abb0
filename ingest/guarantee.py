"""What is really promised for each stream now, and why; told in words, and in one line when it becomes less.

Here: pure judgement of what the session knows. Not here: the connection itself (`mqtt`).

    G2    in the journal before it is acknowledged: QoS 1 granted, and the broker keeps our session while we are away
    G0    from our socket on: what is lost before it, nobody sends again
    none  nothing arrives
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from ingest import refusals
from ingest.config import MqttConfig
from ingest.traffic import Heard
from telemetry import format_duration

_log = logging.getLogger("tocsin.ingest")
_HOUR = 3_600 * 10**9
_TOLD_FOR = 24 * _HOUR
"""How long a lost session is a caveat."""

Level = Literal["none", "G0", "G2"]
LEVELS: tuple[Level, ...] = ("none", "G0", "G2")
"""From nothing to the most."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What the broker said of itself in its CONNACK (MQTT 5.0, 3.2.2.3); by default, as if it said nothing."""

    session_expiry: int | None = None
    """How long it keeps our session, ns; None: as long as we asked for."""
    receive_maximum: int = 65_535
    """How many unacknowledged messages it takes from us."""
    maximum_qos: int = 2
    retain_available: bool = True
    max_packet_bytes: int | None = None
    """Of packets that it takes; None: no limit."""
    client_id: str | None = None
    """Another one than we gave."""
    keepalive: int | None = None
    """That we must use instead of ours, ns."""


@dataclass(frozen=True, slots=True)
class SessionLoss:
    """The broker had forgotten our session: messages may be lost."""

    since: int
    """Our clock when the broker still had the session, ns: what it had not delivered by then is lost."""
    until: int
    """Our clock when it had subscribed us anew, ns."""


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """All that the promise depends on, at one instant."""

    now: int
    """Our clock, ns."""
    granted: Mapping[str, int]
    """Topic filter → QoS granted, or a reason code from 128; empty before the broker's first answer."""
    announced: Announced
    away_since: int | None
    """Our clock when the connection ended, ns; None while there is one."""
    connected_since: int
    """Our clock when the present or last connection began, ns."""
    losses: Sequence[SessionLoss] = ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the streams of one topic filter would like."""

    silent_after: int | None = None
    """So long without a message, ns, is remarkable; None: never."""
    max_payload_bytes: int = 0
    """Payloads up to this size are welcome."""


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is promised for the messages of one topic filter."""

    filter: str
    level: Level
    reasons: tuple[str, ...]
    """Why it is this level; at least one."""
    caveats: tuple[str, ...]
    """What may be lost although it is this level, or deserves a look; may be empty."""
    since: int
    """Our clock when it came to this level, ns."""
    last_message: int = 0
    """Our clock at the newest message, ns; 0: none since the start."""
    silent: bool = False
    """Connected, and no message for longer than is usual for the stream."""

    @property
    def meaning(self) -> str:
        """The level in words."""
        return {
            "none": "nothing arrives",
            "G0": "from tocsin's socket on",
            "G2": "in the journal before it is acknowledged",
        }[self.level]


class Guarantees:
    """The guarantees of some topic filters over time; logs each step down once, and the way back up."""

    def __init__(self, config: MqttConfig, filters: Sequence[str], wanted: Mapping[str, Wanted], *, now: int) -> None:
        self._config, self._wanted = config, wanted
        self.current: tuple[Guarantee, ...] = tuple(
            Guarantee(name, "none", ("not connected yet",), (), now) for name in filters
        )

    def update(self, facts: SessionFacts, traffic: Mapping[str, Heard]) -> None:
        """From now on, `current` is what follows from the facts."""
        new = []
        for old in self.current:
            heard = traffic.get(old.filter, Heard())
            found = judge(self._config, old.filter, facts, heard, self._wanted.get(old.filter, Wanted()))
            found = replace(found, since=old.since if found.level == old.level else facts.now)
            if facts.granted:
                _tell(old, found)
            new.append(found)
        self.current = tuple(new)


def judge(config: MqttConfig, name: str, facts: SessionFacts, heard: Heard, wanted: Wanted) -> Guarantee:
    """The guarantee of the topic filter `name`; `since` is now."""
    silent = _is_silent(facts, heard, wanted)
    short = _shortcomings(config, name, facts, heard)
    level: Level = "G2"
    if short.nothing or short.weak:
        level = "none" if short.nothing else "G0"
        reasons = (*short.nothing, *short.weak)
        caveats: tuple[str, ...] = ()
    else:
        reasons = ("the broker granted QoS 1 and keeps our session while we are away",)
        caveats = _session_caveats(config, facts)
    if not short.nothing:
        caveats = (*caveats, *_caveats(facts, heard, wanted, silent=silent))
    return Guarantee(name, level, reasons, caveats, facts.now, heard.newest, silent)


@dataclass(slots=True)
class _Shortcomings:
    nothing: list[str] = field(default_factory=list)
    """Why nothing arrives."""
    weak: list[str] = field(default_factory=list)
    """Why it is G0."""


def _shortcomings(config: MqttConfig, name: str, facts: SessionFacts, heard: Heard) -> _Shortcomings:
    short = _Shortcomings()
    granted = facts.granted.get(name)
    if granted is None:
        short.nothing.append("not connected yet" if not facts.granted else "the broker has not answered yet")
        return short
    kept = _kept(config, facts.announced)
    if granted >= 0x80:
        short.nothing.append(refusals.subscription(name, granted, "refused") or "refused")
    elif facts.away_since is not None and kept is not None and facts.now - facts.away_since > kept:
        away = f"not connected since {refusals.instant(facts.away_since)}"
        short.nothing.append(f"{away}, and the broker keeps our session only for {format_duration(kept)}")
    elif granted == 0:
        short.weak.append(refusals.subscription(name, 0, "") or "")
    if facts.announced.maximum_qos == 0:
        short.weak.append("the broker takes no messages with QoS 1: allow it there (mosquitto: max_qos)")
    if not config.lasting:
        short.weak.append("mqtt.session_expiry is 0: the broker keeps nothing while we are away")
    elif kept == 0:
        short.weak.append("the broker keeps no session for us: allow it there (session expiry)")
    if heard.only_qos0:
        short.weak.append("its devices publish with QoS 0: let them publish with QoS 1")
    return short


def _session_caveats(config: MqttConfig, facts: SessionFacts) -> tuple[str, ...]:
    said = facts.announced
    found = []
    if config.protocol != "5":
        found.append(
            "MQTT 3.1.1: the broker does not say how long it keeps our session, nor how much it sends ahead; "
            "if it can, use mqtt.protocol 5"
        )
    if said.session_expiry is not None and 0 < said.session_expiry < config.session_expiry:
        kept, asked = format_duration(said.session_expiry), format_duration(config.session_expiry)
        found.append(f"the broker keeps our session for {kept}, not {asked}: allow it there (session expiry)")
    if said.client_id is not None and said.client_id != config.client_id:
        found.append(f"the broker calls us {said.client_id!r}, not {config.client_id!r}: our session may not be found")
    return tuple(found)


def _caveats(facts: SessionFacts, heard: Heard, wanted: Wanted, *, silent: bool) -> tuple[str, ...]:
    said = facts.announced
    found = []
    if facts.away_since is not None:
        found.append(
            f"not connected since {refusals.instant(facts.away_since)}: messages wait as far as the broker's queue goes"
        )
    if silent:
        last = max(heard.newest, facts.connected_since)
        found.append(
            f"connected, but no message since {refusals.instant(last)}: "
            "do its devices publish, and may we read what they publish (access list of the broker)?"
        )
    if heard.some_qos0 and not heard.only_qos0:
        found.append(
            f"some messages come with QoS 0 (the last at {refusals.instant(heard.qos0)}): let all devices use QoS 1"
        )
    found += [
        f"the broker had forgotten our session: what it had not delivered by {refusals.instant(loss.since)}, "
        f"and what came until {refusals.instant(loss.until)}, may be lost"
        for loss in facts.losses
        if facts.now - loss.until < _TOLD_FOR
    ]
    if said.max_packet_bytes is not None and said.max_packet_bytes < wanted.max_payload_bytes:
        found.append(
            f"the broker takes no packets above {said.max_packet_bytes:,} bytes, and limits.max_payload_bytes is "
            f"{wanted.max_payload_bytes:,}: larger payloads do not reach us"
        )
    if not said.retain_available:
        found.append("the broker keeps no retained messages: last values do not come to a new subscription")
    return tuple(found)


def _kept(config: MqttConfig, said: Announced) -> int | None:
    """How long the broker keeps the session, ns; None when it alone knows."""
    if config.protocol != "5":
        return None
    return config.session_expiry if said.session_expiry is None else min(said.session_expiry, config.session_expiry)


def _is_silent(facts: SessionFacts, heard: Heard, wanted: Wanted) -> bool:
    if wanted.silent_after is None or facts.away_since is not None:
        return False
    usual = max(wanted.silent_after, 2 * heard.longest_gap)
    return facts.now - max(heard.newest, facts.connected_since) > usual


def _tell(old: Guarantee, new: Guarantee) -> None:
    """In one line, and only what is new."""
    if new.silent and not old.silent:
        _log.warning("%s: %s", new.filter, next(c for c in new.caveats if c.startswith("connected, but")))
    fell = LEVELS.index(new.level) < LEVELS.index(old.level)
    begins_low = old.level == "none" and new.level != "G2" and new.reasons != old.reasons
    if fell or begins_low:
        level = new.meaning if new.level == "none" else f"only {new.level} now ({new.meaning})"
        _log.warning("%s: %s: %s", new.filter, level, "; ".join(new.reasons))
    elif new.level == "G2" and old.level == "G0":
        _log.info("%s: %s again (%s)", new.filter, new.level, new.meaning)
