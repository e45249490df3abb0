"""Queries at one instant: what any expression gives then, ranges and strings included, in the order it asks for.

Here: the four types of results. Not here: evaluation (query.py).

Source: https://prometheus.io/docs/prometheus/latest/querying/api, "Instant queries".
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from rules.promql import parse_any
from rules.query import Element, Stored, matching, on_grid
from rules.samples import is_marker
from rules.syntax import Aggregation, Call, Expression, Instant, Range, Subquery, Text, is_scalar

Kind = Literal["vector", "matrix", "scalar", "string"]
_SPLIT = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What an expression gives at an instant."""

    kind: Kind
    elements: list[Element] = field(default_factory=list)
    """Of a vector, and of a scalar, each has one time: the instant."""
    text: str = ""
    """Of a string."""


def query_instant(text: str, stored: Stored, at: int) -> Answer:
    """Evaluate at `at`, ns. Of a range, the samples as they are stored. Raises ExpressionError."""
    expression = parse_any(text)
    match expression:
        case Text(value=value):
            return Answer("string", text=value)
        case Range():
            return Answer("matrix", _samples(expression, stored, at))
        case Subquery():
            return Answer("matrix", _evaluations(expression, stored, at))
    found = on_grid(expression, stored, at, at, 1)
    return Answer("scalar", found) if is_scalar(expression) else Answer("vector", _in_order(expression, found))


def _samples(range_: Range, stored: Stored, at: int) -> list[Element]:
    """Left-open, as windows are."""
    ids = matching(range_.selector, stored.table).tolist()
    end = _end(range_.selector.instant, at)
    rows = stored.read(ids, end - range_.duration + 1, end + 1)
    elements: list[Element] = []
    for id_ in ids:
        time, value = rows[id_]
        kept = ~is_marker(value)
        if kept.any():
            series = stored.table[id_]
            elements.append(({"__name__": series.metric, **dict(series.labels)}, time[kept], value[kept]))
    return elements


def _evaluations(subquery: Subquery, stored: Stored, at: int) -> list[Element]:
    """At the multiples of the step."""
    step = subquery.step or stored.substep
    end = _end(subquery.instant, at)
    first = (end - subquery.duration) // step * step + step
    if first > end:
        return []
    return on_grid(subquery.expression, stored, first, end, step, span=(at, at))


def _end(instant: Instant, at: int) -> int:
    return (instant.at if isinstance(instant.at, int) else at) - instant.offset


def _in_order(expression: Expression, found: list[Element]) -> list[Element]:
    """As the function at the top of the expression orders its elements; else by their labels."""
    found = sorted(found, key=lambda element: sorted(element[0].items()))
    match expression:
        case Call(function="sort") | Aggregation(op="bottomk"):
            return sorted(found, key=lambda element: _value(element, falling=False))
        case Call(function="sort_desc") | Aggregation(op="topk"):
            return sorted(found, key=lambda element: _value(element, falling=True))
        case Call(function="sort_by_label", arguments=arguments):
            return sorted(found, key=_by(arguments))
        case Call(function="sort_by_label_desc", arguments=arguments):
            return sorted(found, key=_by(arguments), reverse=True)
    return found


def _value(element: Element, *, falling: bool) -> tuple[bool, float]:
    """NaN comes last either way."""
    value = float(element[2][0])
    return math.isnan(value), 0.0 if math.isnan(value) else -value if falling else value


def _by(arguments: tuple[Expression, ...]) -> Callable[[Element], list[list[tuple[int, str]]]]:
    """By these labels, the numbers within their values as numbers."""
    names = [argument.value for argument in arguments[1:] if isinstance(argument, Text)]
    return lambda element: [_natural(element[0].get(name, "")) for name in names]


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part) if part.isdecimal() and len(part) < 20 else -1, part) for part in _SPLIT.split(text)]
