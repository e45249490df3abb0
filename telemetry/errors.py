"""Errors, typed by what the caller does next: mend the configuration, try again later, or park it."""

from __future__ import annotations

from dataclasses import dataclass


class TocsinError(Exception):
    """Any error that is shown to the user as one line, without a traceback."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a configuration, rule or scenario file, and what would be right."""

    message: str
    loc: tuple[str | int, ...] = ()
    """Path of keys and indices to the value, e.g. ("groups", 0, "rules", 2, "expr")."""
    offset: int = 0
    """Characters into the value's text, for expressions."""
    file: str = ""
    line: int = 0
    """From 1; 0 while it is not known."""
    column: int = 0
    """From 1; 0 while it is not known."""

    def __str__(self) -> str:
        place = self.file + (f":{self.line}:{self.column}" if self.line else "")
        return f"{place}: {self.message}" if place else self.message


class ConfigError(TocsinError):
    """The configuration must be mended. Carries every problem that was found, not only the first."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(map(str, problems)))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        """As it is made, since pickle would make it of its text."""
        return ConfigError, (self.problems,)


class RetryLater(TocsinError):
    """It may succeed later: the caller keeps the data and tries again."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds that the other side asked us to wait, if it did."""


class Rejected(TocsinError):
    """It will never succeed: the caller parks the data with this reason and goes on."""
