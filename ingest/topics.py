"""Topic patterns: MQTT filters whose levels may have names. Here: syntax and matching. Not here: what a match means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_NAMED = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
REST = "#"
"""Key of the levels that a final `#` stands for, in the result of `match`."""


@dataclass(frozen=True, slots=True)
class TopicPattern:
    """`sensors/{site}/{device}/telemetry`: named levels `{site}`, any level `+`, any rest (also none) `#` at the end.

    Source for `+` and `#`: MQTT 5.0, 4.7.1. A topic that begins with `$` never matches.
    """

    text: str
    levels: tuple[str, ...]
    names: tuple[str, ...]
    """Names of the named levels, in order."""

    @classmethod
    @lru_cache(maxsize=1_000)
    def parse(cls, text: str) -> TopicPattern:
        """Raises ValueError saying what is wrong with the pattern, and what would be right."""
        if not text or "\0" in text or len(text.encode()) > 65_535:
            raise ValueError("a topic pattern has 1 to 65535 bytes, for example sensors/{site}/{device}/telemetry")
        if text.startswith("$"):
            raise ValueError(f"{text!r}: topics that begin with $ belong to the broker and are always ignored")
        levels = tuple(text.split("/"))
        names: list[str] = []
        for i, level in enumerate(levels):
            if level == "#" and i + 1 < len(levels):
                raise ValueError(f"{text!r}: # may only be the last level")
            if level in ("+", "#"):
                continue
            named = _NAMED.fullmatch(level)
            if named:
                names.append(named[1])
            elif any(c in level for c in "+#{}"):
                raise ValueError(f"{text!r}: the level {level!r} must be plain text, +, # or a name such as {{device}}")
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{text!r} has the level {{{name}}} twice")
        return cls(text, levels, tuple(names))

    @property
    def filter(self) -> str:
        """The MQTT topic filter to subscribe to."""
        return "/".join("+" if _NAMED.fullmatch(level) else level for level in self.levels)

    def match(self, topic: Sequence[str]) -> dict[str, str] | None:
        """What each named level stands for (and `REST`, if the pattern ends in `#`); None if it does not match.

        `topic` is given as its levels.
        """
        open_ended = self.levels[-1] == "#"
        fixed = len(self.levels) - open_ended
        if topic[0].startswith("$") or len(topic) < fixed or (len(topic) > fixed and not open_ended):
            return None
        found: dict[str, str] = {}
        for level, actual in zip(self.levels[:fixed], topic, strict=False):
            if level[:1] == "{":
                found[level[1:-1]] = actual
            elif level not in ("+", actual):
                return None
        if open_ended:
            found[REST] = "/".join(topic[fixed:])
        return found
