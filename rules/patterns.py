"""Regular expressions as Prometheus has them: RE2's, anchored, in bounded memory. Here: compiling. Not here: matchers.

RE2 matches in time linear in the text: a pattern from a rule file cannot stall the engine.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

import re2

MAX_PATTERN = 5_000
"""characters"""
MAX_MEMORY = 1 << 20
"""Bytes of one compiled pattern with what it remembers of matching; larger ones are refused, or forget."""

_ANY_BYTE = re.compile(r"(?>\\\\|\\Q.*?(?:\\E|$)|\\[^C]|[^\\])*+\\C", re.DOTALL)


class PatternError(ValueError):
    """The text is no pattern."""


@dataclass(frozen=True, slots=True)
class Regexp:
    """A compiled pattern; equal if its text is."""

    text: str
    _compiled: Any = field(repr=False, compare=False)

    def fullmatch(self, text: str, /) -> re.Match[str] | None:
        """The match of the whole text; a dot matches line ends, too."""
        found: re.Match[str] | None = self._compiled.fullmatch(text)
        return found


@functools.cache
def _options() -> Any:
    options = re2.Options()
    options.dot_nl = True
    options.log_errors = False
    options.max_mem = MAX_MEMORY
    return options


@functools.lru_cache(maxsize=256)
def compile_pattern(text: str) -> Regexp:
    """Raises PatternError, which says what is wrong."""
    if len(text) > MAX_PATTERN:
        raise PatternError(f"it is longer than {MAX_PATTERN} characters")
    if _ANY_BYTE.match(text):
        raise PatternError(r"invalid escape sequence: \C")  # RE2 in C++ knows it, Prometheus' in Go does not
    try:
        return Regexp(text, re2.compile(text, _options()))
    except re2.error as error:
        [reason] = error.args
        raise PatternError(reason.decode() if isinstance(reason, bytes) else str(reason)) from None
