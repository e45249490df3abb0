"""What each part of an expression was at one instant, for one alert: why it fired, step by step. Reads the store.

Not here: the text of an expression (`rules.expression_text`), how the tree is shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

import rules
from rules.compile import is_pointwise
from rules.expression_text import text_of
from rules.syntax import (
    COMPARISON,
    Aggregation,
    Binary,
    Call,
    Expression,
    Matcher,
    Negation,
    Number,
    Range,
    Selector,
    Subquery,
    Text,
    is_comparison,
    operands,
)
from sinks.store import Store
from telemetry import SeriesTable, format_duration
from tocsin.words import number

MOST_PARTS = 40
_MOST_ELEMENTS = 5


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
        only = narrowing(expression, question.labels, question.recorded)
        stored = rules.Stored(
            self._table, self._store.read_many, own_staleness=self._own_staleness, substep=question.substep
        )
        nodes = islice(_nodes(expression, 0), MOST_PARTS)
        return [self._part(node, depth, only, question, stored) for node, depth in nodes]

    def _part(
        self, node: Expression, depth: int, only: Matcher | None, question: Question, stored: rules.Stored
    ) -> Part:
        text, narrow = text_of(node), narrowed(node, only)
        if isinstance(narrow, Range):
            return Part(text, depth, (), 0, self._range(narrow, question))
        if isinstance(node, Subquery):
            return Part(text, depth, (), 0, "")
        try:
            found = rules.on_grid(narrow, stored, question.at, question.at, 10**9)
        except rules.ExpressionError as error:
            return Part(text, depth, (), 0, str(error))
        own = [(labels, float(value[0])) for labels, _, value in found if belongs(labels, question)]
        shown = tuple((_labels(labels), value) for labels, value in own[:_MOST_ELEMENTS])
        return Part(text, depth, shown, len(found) - len(shown), "" if shown else _absence(node))

    def _range(self, node: Range, question: Question) -> str:
        instant = node.selector.instant
        end = (instant.at if isinstance(instant.at, int) else question.at) - instant.offset
        ids = rules.looked_at(text_of(node.selector), self._table).tolist()
        ids = [id_ for id_ in ids if belongs(dict(self._table[id_].labels), question)]
        found = self._store.read_many(ids, end - node.duration + 1, end + 1)
        values = np.concatenate([np.empty(0), *(value for _, value in found.values())])
        if not len(values):
            return f"no samples within {format_duration(node.duration)}"
        samples = f"{len(values)} sample{'' if len(values) == 1 else 's'}"
        finite = values[np.isfinite(values)]
        return samples + (f", {number(finite.min())} to {number(finite.max())}" if len(finite) else "")


@dataclass(frozen=True, slots=True)
class Comparison:
    """`side op level`: what an expression compares with a number."""

    side: Expression
    op: str
    level: float


def comparisons(expression: Expression) -> list[Comparison]:
    """Wherever the expression compares something with a number, in the order of the text."""
    found = []
    for node, _ in _nodes(expression, 0):
        if isinstance(node, Binary) and node.op in COMPARISON:
            if isinstance(node.rhs, Number):
                found.append(Comparison(node.lhs, node.op, node.rhs.value))
            elif isinstance(node.lhs, Number):
                found.append(Comparison(node.rhs, _MIRRORED.get(node.op, node.op), node.lhs.value))
    return found


_MIRRORED = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}


def narrowing(expression: Expression, labels: Mapping[str, str], recorded: Collection[str]) -> Matcher | None:
    """What restricts an expression to the device of an alert without changing its value; None: nothing does."""
    if "device" in labels and is_pointwise(expression, recorded):
        return Matcher("device", "=", labels["device"], None)
    return None


def narrowed(node: Expression, only: Matcher | None) -> Expression:
    """The expression over those series only that satisfy the matcher."""
    if only is None:
        return node
    match node:
        case Selector():
            return replace(node, matchers=(*node.matchers, only))
        case Range():
            return replace(node, selector=replace(node.selector, matchers=(*node.selector.matchers, only)))
        case Subquery() | Aggregation():
            return replace(node, expression=narrowed(node.expression, only))
        case Binary():
            return replace(node, lhs=narrowed(node.lhs, only), rhs=narrowed(node.rhs, only))
        case Negation():
            return replace(node, operand=narrowed(node.operand, only))
        case Call():
            return replace(node, arguments=tuple(narrowed(argument, only) for argument in node.arguments))
    return node


def _nodes(node: Expression, depth: int) -> Iterator[tuple[Expression, int]]:
    """The expression and those within it, without plain numbers and strings."""
    yield node, depth
    if isinstance(node, Range):
        return
    for operand in operands(node):
        if not isinstance(operand, Number | Text):
            yield from _nodes(operand, depth + 1)


def belongs(labels: Mapping[str, str], question: Question) -> bool:
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
