"""What came of tests: plain data, for the report. Not here: how it was found (runner), how it is shown (report)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from telemetry import Problem


@dataclass(frozen=True)
class Element:
    """An alert or a sample, expected or got."""

    labels: Mapping[str, str]
    text: str = ""
    """Its value, or its state where that is compared"""
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A case that is not as expected."""

    what: str
    """The case: `alert Hot at 5m`"""
    line: int
    column: int
    expected: tuple[Element, ...] = ()
    got: tuple[Element, ...] = ()
    problem: str = ""
    """Why nothing could be compared"""
    notes: tuple[str, ...] = ()
    """What explains it"""


@dataclass(frozen=True)
class TestOutcome:
    """One test of a file."""

    __test__ = False  # it is no test of pytest's

    name: str
    line: int
    column: int
    cases: int
    failures: tuple[Failure, ...]

    @property
    def ok(self) -> bool:
        return not self.failures


@dataclass
class FileOutcome:
    """One test file."""

    path: Path
    tests: list[TestOutcome] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    """Why it could not be run"""
    warnings: list[Problem] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.problems and all(test.ok for test in self.tests)

    @property
    def cases(self) -> int:
        return sum(test.cases for test in self.tests)

    @property
    def failed(self) -> int:
        """Cases that are not as expected."""
        return sum(len(test.failures) for test in self.tests)
