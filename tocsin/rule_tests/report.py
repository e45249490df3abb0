"""Outcomes of tests for people: a readable difference; and for machines. Not here: what is compared (cases)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import click

from telemetry import Problem
from tocsin.rule_tests.outcome import Element, Failure, FileOutcome, TestOutcome
from tocsin.words import printable

_AT_MOST = 20
"""Elements that are shown of one case."""
_STYLE: dict[str, dict[str, Any]] = {"expected": {"fg": "green"}, "got": {"fg": "red"}, "both": {"dim": True}}
Row = tuple[str, Element]
"""`expected`, `got` or `both`, and the element"""


def file_lines(outcome: FileOutcome, *, verbose: bool = False) -> Iterator[str]:
    """The report of one file; with `verbose`, of the tests that are as expected, too."""
    tests, cases = _counted(len(outcome.tests), "test"), _counted(outcome.cases, "case")
    if outcome.problems:
        yield f"{outcome.path}: {click.style('BROKEN', fg='red', bold=True)}"
        yield from (f"  {problem}" for problem in outcome.problems)
        return
    if outcome.ok:
        yield f"{outcome.path}: {click.style('SUCCESS', fg='green')} ({tests}, {cases})"
    else:
        failed = f"{outcome.failed} of {cases}"
        yield f"{outcome.path}: {click.style('FAILED', fg='red', bold=True)} ({failed})"
    for test in outcome.tests:
        if verbose and test.ok:
            yield f"  {outcome.path}:{test.line}:{test.column}: {printable(test.name)}: {click.style('ok', fg='green')}"
        for failure in test.failures:
            yield from _failure_lines(outcome, test, failure)


def summary_line(outcomes: Sequence[FileOutcome]) -> str:
    """How many files and cases, and how many of them failed."""
    cases = sum(outcome.cases for outcome in outcomes)
    failed = sum(outcome.failed for outcome in outcomes)
    broken = sum(bool(outcome.problems) for outcome in outcomes)
    text = f"{_counted(len(outcomes), 'file')}, {_counted(cases, 'case')}: "
    parts = [f"{failed} failed"] * bool(failed) + [f"{_counted(broken, 'file')} broken"] * bool(broken)
    return text + (", ".join(parts) if parts else "all as expected")


def as_object(outcomes: Sequence[FileOutcome]) -> dict[str, Any]:
    """Everything that the report says."""
    return {
        "ok": all(outcome.ok for outcome in outcomes),
        "cases": sum(outcome.cases for outcome in outcomes),
        "failed": sum(outcome.failed for outcome in outcomes),
        "files": [
            {
                "file": str(outcome.path),
                "ok": outcome.ok,
                "problems": [_problem(problem) for problem in outcome.problems],
                "warnings": [_problem(problem) for problem in outcome.warnings],
                "tests": [
                    {
                        "name": test.name,
                        "line": test.line,
                        "ok": test.ok,
                        "cases": test.cases,
                        "failures": [_failure(failure) for failure in test.failures],
                    }
                    for test in outcome.tests
                ],
            }
            for outcome in outcomes
        ],
    }


def _problem(problem: Problem) -> dict[str, Any]:
    return {"file": problem.file, "line": problem.line, "column": problem.column, "message": problem.message}


def _failure(failure: Failure) -> dict[str, Any]:
    return {
        "case": failure.what,
        "line": failure.line,
        "column": failure.column,
        "problem": failure.problem or None,
        "expected": [_element(element) for element in failure.expected],
        "got": [_element(element) for element in failure.got],
        "notes": list(failure.notes),
    }


def _element(element: Element) -> dict[str, Any]:
    found: dict[str, Any] = {"labels": dict(element.labels), "annotations": dict(element.annotations)}
    return found | ({"value": element.text} if element.text else {})


def _failure_lines(outcome: FileOutcome, test: TestOutcome, failure: Failure) -> Iterator[str]:
    place = click.style(f"{outcome.path}:{failure.line}:{failure.column}", bold=True)
    yield f"  {place}: {printable(failure.what)}  (test: {printable(test.name)})"
    if failure.problem:
        yield f"      error: {printable(failure.problem)}"
    else:
        yield from (f"      {line}" for line in _difference(failure.expected, failure.got))
    yield from (f"      note: {printable(note)}" for note in failure.notes)


def _difference(expected: Sequence[Element], got: Sequence[Element]) -> Iterator[str]:
    """What is expected above what there is, with equal labels below one another."""
    if not expected:
        yield "expected  nothing"
    rows = list(_paired(expected, got))
    names = sorted({name for _, element in rows for name in element.labels}, key=lambda n: (n != "__name__", n))
    widths = {name: max(len(_label(element, name)) for _, element in rows) for name in names}
    for i, (side, element) in enumerate(rows[:_AT_MOST]):
        cells = [_label(element, name).ljust(widths[name]) for name in names]
        written = "  ".join([*cells, element.text]).rstrip() or "{}"
        yield click.style(f"{side:<10}{written}", **_STYLE[side])
        for name in _annotations_to_show(rows, i):
            text = json.dumps(element.annotations[name], ensure_ascii=False)
            yield click.style(f"{'':<10}{printable(name)}: {text}", **_STYLE[side])
    if len(rows) > _AT_MOST:
        yield f"… and {len(rows) - _AT_MOST} more"
    if not got:
        yield "got       nothing"


def _paired(expected: Iterable[Element], got: Iterable[Element]) -> Iterator[Row]:
    """Equal ones once; then each expected one with the one there is that is most like it; then the rest."""
    left = sorted(got, key=_order)
    missing = []
    both = []
    for element in sorted(expected, key=_order):
        if element in left:
            left.remove(element)
            both.append(element)
        else:
            missing.append(element)
    for element in missing:
        yield "expected", element
        likest = max(left, key=lambda other: _likeness(element, other), default=None)
        if likest is not None and _likeness(element, likest) > 0:
            left.remove(likest)
            yield "got", likest
    yield from (("got", element) for element in left)
    yield from (("both", element) for element in both)


def _likeness(a: Element, b: Element) -> float:
    """How many labels are the same, and a little for the value."""
    same = sum(b.labels.get(name) == value for name, value in a.labels.items())
    return same + 0.5 * (a.labels == b.labels) + 0.25 * (a.text == b.text)


def _order(element: Element) -> tuple[list[tuple[str, str]], str]:
    return sorted(element.labels.items()), element.text


def _label(element: Element, name: str) -> str:
    if name not in element.labels:
        return ""
    value = element.labels[name]
    return printable(value) if name == "__name__" else f"{printable(name)}={json.dumps(value, ensure_ascii=False)}"


def _annotations_to_show(rows: Sequence[Row], i: int) -> list[str]:
    """All, but of a pair only those that differ."""
    side, element = rows[i]
    if side == "both":
        return []
    other = rows[i + 1 : i + 2] if side == "expected" else rows[max(0, i - 1) : i]
    pair = next((row[1] for row in other if {side, row[0]} == {"expected", "got"}), Element({}))
    return [name for name, text in sorted(element.annotations.items()) if pair.annotations.get(name) != text]


def _counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
