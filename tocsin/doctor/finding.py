"""What the examination of a broker found: one Finding for each thing that was looked at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from telemetry import TocsinError

Severity = Literal["ok", "note", "warning", "problem"]
"""note: nothing to judge, or it cannot be seen from outside; problem: messages can be lost, or nothing works."""

Figure = int | float | str | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    check: str
    """Its short name: queue, window …"""
    severity: Severity
    summary: str
    """What was found, in one line."""
    meaning: str = ""
    """What that means for messages."""
    change: tuple[str, ...] = ()
    """What to change, one line each; settings as they are written in the file that they belong to."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """What was measured; units in the names."""


class Interrupted(TocsinError):
    """Somebody wants the examination to end now."""


class CannotTell(TocsinError):
    """A check could not be made; the text says why. The others go on."""
