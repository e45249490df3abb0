"""What each part of an expression was at one instant, for one alert: why it fired, step by step. Reads the store.

Not here: the text of an expression (`rules.expression_text`), how the tree is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import rules
from rules.compile import is_pointwise
from rules.expression_text import text_of
from rules.syntax import Binary, Expression, Negation, Number, Range, Selector, Text, is_comparison, operands
from sinks.store import Store
from telemetry import SeriesTable, format_duration
from tocsin.words import number

MOST_PARTS = 40
_MOST_ELEMENTS = 5
_Samples = dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-expression, with what it gave."""

    text: str
    depth: int
    elements: tuple[tuple[str, float], ...]
    """Labels as text, and value; those that the alert can come from, at most five."""
    more: int
    """How many elements more there are: further ones, and those of other alerts."""
    remark: str
    """Why there are none; of a range, what is in it."""


@dataclass(frozen=True, slots=True)
class Question:
    """Whose values are asked for, and of when."""

    labels: Mapping[str, str]
    """Of the alert."""
    own_labels: frozenset[str]
    """Those that the rule has put on, which no series has."""
    at: int
    """ns since the epoch (UTC)"""
    recorded: Collection[str] = ()
    """Metrics that recording rules make."""
    substep: int = 15 * 10**9
    """ns, of subqueries that name no step"""


class Values:
    """Evaluates parts of expressions over one store."""

    def __init__(self, table: SeriesTable, store: Store, own_staleness: Mapping[int, int]) -> None:
        self._table, self._store, self._own_staleness = table, store, own_staleness

    def of(self, expression: Expression, question: Question) -> list[Part]:
        """The parts, each before those below it; at most MOST_PARTS."""
        narrow = is_pointwise(expression, question.recorded) and "device" in question.labels
        device = question.labels["device"] if narrow else None
        parts: list[Part] = []
        for node, depth in _nodes(expression, 0):
            if len(parts) >= MOST_PARTS:
                break
            parts.append(self._part(node, depth, device, question))
        return parts

    def _part(self, node: Expression, depth: int, device: str | None, question: Question) -> Part:
        text = text_of(node)
        if isinstance(node, Range):
            return Part(text, depth, (), 0, self._range(node, device, question))
        try:
            found = rules.query_range(
                text,
                self._table,
                lambda ids, t0, t1: self._read(ids, t0, t1, device),
                question.at,
                question.at,
                10**9,
                own_staleness=self._own_staleness,
                substep=question.substep,
            )
        except rules.ExpressionError as error:
            return Part(text, depth, (), 0, str(error))
        own = [(labels, float(value[0])) for labels, _, value in found if _belongs(labels, question)]
        shown = tuple((_labels(labels), value) for labels, value in own[:_MOST_ELEMENTS])
        return Part(text, depth, shown, len(found) - len(shown), "" if shown else _absence(node))

    def _range(self, node: Range, device: str | None, question: Question) -> str:
        instant = node.selector.instant
        end = (instant.at if isinstance(instant.at, int) else question.at) - instant.offset
        ids = rules.looked_at(text_of(node.selector), self._table).tolist()
        ids = [id_ for id_ in ids if _belongs(dict(self._table[id_].labels), question)]
        found = self._read(ids, end - node.duration + 1, end + 1, device)
        values = np.concatenate([np.empty(0), *(value for _, value in found.values())])
        if not len(values):
            return f"no samples within {format_duration(node.duration)}"
        samples = f"{len(values)} sample{'' if len(values) == 1 else 's'}"
        finite = values[np.isfinite(values)]
        return samples + (f", {number(finite.min())} to {number(finite.max())}" if len(finite) else "")

    def _read(self, ids: list[int], t0: int, t1: int, device: str | None) -> _Samples:
        """Of a pointwise expression only the alert's device matters: the others are left out."""
        wanted = ids if device is None else [id_ for id_ in ids if self._table[id_].device == device]
        nothing = np.empty(0, np.int64), np.empty(0)
        return {id_: nothing for id_ in ids} | (self._store.read_many(wanted, t0, t1) if wanted else {})


def thresholds(expression: Expression) -> list[float]:
    """The numbers that the expression compares values with, wherever it does; for lines in a chart."""
    found = []
    for node, _ in _nodes(expression, 0):
        if isinstance(node, Binary) and is_comparison(node):
            found += [side.value for side in (node.lhs, node.rhs) if isinstance(side, Number)]
    return list(dict.fromkeys(found))


def compared(expression: Expression) -> list[str]:
    """The expressions that are compared with a number, as texts, with what to draw beside its line; else all of it."""
    found = []
    for node, _ in _nodes(expression, 0):
        if isinstance(node, Binary) and is_comparison(node):
            sides = (node.lhs, node.rhs)
            if any(isinstance(side, Number) for side in sides):
                found += [text_of(side) for side in sides if not isinstance(side, Number)]
    return list(dict.fromkeys(found)) or [text_of(expression)]


def _nodes(node: Expression, depth: int) -> Iterator[tuple[Expression, int]]:
    """The expression and those within it, without plain numbers and strings."""
    yield node, depth
    if isinstance(node, Range):
        return
    for operand in operands(node):
        if not isinstance(operand, Number | Text):
            yield from _nodes(operand, depth + 1)


def _belongs(labels: Mapping[str, str], question: Question) -> bool:
    """Whether an element can be one that the alert comes from: no label that both have says otherwise."""
    return all(
        question.labels.get(name, value) == value
        for name, value in labels.items()
        if name != "__name__" and name not in question.own_labels
    )


def _labels(labels: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in sorted(labels.items()) if name != "__name__")


def _absence(node: Expression) -> str:
    if isinstance(node, Selector):
        return "no sample then"
    if isinstance(node, Binary) and is_comparison(node):
        return "not so"
    return "nothing" if isinstance(node, Negation | Binary) else "no element"
