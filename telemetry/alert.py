"""AlertEvent: an alert began to fire, or was resolved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3


class AlertState(StrEnum):
    """What an AlertEvent tells."""

    FIRING = "firing"
    RESOLVED = "resolved"


def fingerprint(labels: Mapping[str, str]) -> str:
    """Prometheus' label fingerprint: FNV-1a 64 over `name 0xff value 0xff`, names sorted bytewise, as %016x.

    Source: prometheus/common model/signature.go (LabelSet fingerprint); the same alert has the same fingerprint in
    Alertmanager, so silences and links match.
    """
    h = _FNV_OFFSET
    for name, value in sorted((n.encode(), v.encode()) for n, v in labels.items()):
        for byte in name + b"\xff" + value + b"\xff":
            h = ((h ^ byte) * _FNV_PRIME) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One transition of one alert. A pure function of the journal and the rules: replaying gives equal events."""

    rule: str
    """Id of the rule: `<group>/<alert name>`, with `#2` … for later rules of the same name in the group."""
    labels: tuple[tuple[str, str], ...]
    """Sorted; with `alertname`; identify the alert."""
    state: AlertState
    value: float
    """Value of the expression when the alert fired (resolved: the last value that held)."""
    starts_at: int
    """Event time at which the alert began to fire, ns since the epoch (UTC)."""
    ends_at: int
    """Event time at which it was resolved; 0 while it fires."""
    detected_at: int
    """Our clock (from the journal) of the reading or tick that showed it, ns since the epoch (UTC)."""
    annotations: tuple[tuple[str, str], ...] = ()
    """Sorted; expanded; never identify."""
    id: str = field(default="")
    """Hash of rule, labels, state and event time: the same after any replay."""

    def __post_init__(self) -> None:
        if not self.id:
            at = self.ends_at if self.state is AlertState.RESOLVED else self.starts_at
            text = "\0".join((self.rule, *(f"{n}\1{v}" for n, v in self.labels), self.state, str(at)))
            object.__setattr__(self, "id", hashlib.blake2b(text.encode(), digest_size=16).hexdigest())

    @property
    def fingerprint(self) -> str:
        return fingerprint(dict(self.labels))
