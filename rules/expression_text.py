"""Syntax tree → PromQL text, one of those that parse to the same tree. Not here: the text as it was written."""

from __future__ import annotations

import json
import math

from rules.promql_tokens import KEYWORDS, is_label_name
from rules.syntax import (
    Aggregation,
    Binary,
    Call,
    Expression,
    Instant,
    Matcher,
    Matching,
    Negation,
    Number,
    Range,
    Selector,
    Subquery,
    Text,
)
from telemetry import format_duration
from telemetry.series import METRIC_NAME

_BINDS = {
    "or": 1, "and": 2, "unless": 2, "==": 3, "!=": 3, ">": 3, "<": 3, ">=": 3, "<=": 3, "+": 4, "-": 4,
    "*": 5, "/": 5, "%": 5, "atan2": 5, "^": 6,
}  # fmt: skip
"""How strongly an operator binds. Source: Prometheus' documentation, "Binary operator precedence"."""
_POWER = 6


def text_of(node: Expression) -> str:
    """PromQL that `parse` reads as this tree (but for numbers, which it computes beforehand)."""
    match node:
        case Number(value=value):
            return _number(value)
        case Text(value=value):
            return _quoted(value)
        case Selector():
            return _selector(node) + _instant(node.instant)
        case Range():
            return f"{_selector(node.selector)}[{format_duration(node.duration)}]{_instant(node.selector.instant)}"
        case Subquery():
            step = format_duration(node.step) if node.step else ""
            window = f"[{format_duration(node.duration)}:{step}]"
            return f"{_bound(node.expression, _POWER + 1)}{window}{_instant(node.instant)}"
        case Binary():
            return _binary(node)
        case Negation():
            return f"-{_bound(node.operand, _POWER)}"
        case Aggregation():
            return _aggregation(node)
        case Call():
            return f"{node.function}({', '.join(map(text_of, node.arguments))})"


def _binary(node: Binary) -> str:
    binds = _BINDS[node.op]
    to_the_right = node.op == "^"
    left = _bound(node.lhs, binds + to_the_right)
    right = _bound(node.rhs, binds + (not to_the_right))
    return " ".join(filter(None, (left, node.op, "bool" * node.return_bool, _matching(node.matching), right)))


def _matching(matching: Matching) -> str:
    if matching.on is not None:
        words = f"on ({_names(matching.on)})"
    elif matching.ignoring or matching.many:
        words = f"ignoring ({_names(matching.ignoring)})"
    else:
        return ""
    return words + (f" group_{matching.many} ({_names(matching.include)})" if matching.many else "")


def _aggregation(node: Aggregation) -> str:
    inner = ", ".join(text_of(part) for part in (node.parameter, node.expression) if part is not None)
    if not node.labels and not node.without:
        return f"{node.op}({inner})"
    return f"{node.op} {'without' if node.without else 'by'} ({_names(node.labels)}) ({inner})"


def _bound(node: Expression, at_least: int) -> str:
    """In parentheses, unless it binds so strongly by itself."""
    text = text_of(node)
    binds = _POWER + 2
    if isinstance(node, Binary):
        binds = _BINDS[node.op]
    elif isinstance(node, Negation) or (isinstance(node, Number) and text.startswith("-")):
        binds = _POWER - 1
    return text if binds >= at_least else f"({text})"


def _selector(node: Selector) -> str:
    metric, rest = "", list(node.matchers)
    first = rest[0] if rest else None
    if first is not None and first.name == "__name__" and first.op == "=" and _is_word(first.value):
        metric, rest = first.value, rest[1:]
    inner = ", ".join(map(_matcher, rest))
    return f"{metric}{{{inner}}}" if inner or not metric else metric


def _is_word(metric: str) -> bool:
    return METRIC_NAME.fullmatch(metric) is not None and metric.lower() not in KEYWORDS


def _matcher(matcher: Matcher) -> str:
    return f"{_names((matcher.name,))}{matcher.op}{_quoted(matcher.value)}"


def _names(labels: tuple[str, ...]) -> str:
    return ", ".join(name if is_label_name(name) else _quoted(name) for name in labels)


def _instant(instant: Instant) -> str:
    text = f" offset {format_duration(instant.offset)}" if instant.offset else ""
    if isinstance(instant.at, str):
        return f"{text} @ {instant.at}()"
    return text if instant.at is None else f"{text} @ {instant.at / 1e9:.3f}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else repr(value)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
