"""What is drawn over curves: the levels that rules compare them with, and the times at which alerts about them fired.

Blocking: for threads of their own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from rules import Rule, RuleGroup
from rules.syntax import Binary, Expression, Negation, Number, Selector, operands
from telemetry import AlertEvent, TocsinError
from tocsin.backend import Backend
from tocsin.console.chart import Span, Threshold
from tocsin.console.curves import Found

MOST_SPANS = 60
_LOOKED_AT = 2_000
_LEVELS = (">", ">=", "<", "<=")
Labels = Mapping[str, str]


class _Labelled:
    def __init__(self, labels: Labels) -> None:
        self._labels = labels

    def label(self, name: str) -> str:
        return self._labels.get(name, "")


def thresholds(groups: Sequence[RuleGroup], found: Sequence[Found]) -> list[Threshold]:
    """Of rules such as `temperature > 80`, where a curve of that selector is drawn."""
    drawn = [(labels, curve.axis) for one in found for labels, curve in zip(one.labels, one.curves, strict=True)]
    levels: dict[tuple[str, float, str], Threshold] = {}
    for rule in _alerting(groups):
        for selector, op, level in _levels(rule.expression):
            for labels, axis in drawn:
                if "__name__" in labels and selector.matches(_Labelled(labels)):
                    name = f"{rule.alert} {op} {level:g}"
                    levels[rule.alert, level, axis] = Threshold(name, level, axis)
    return list(levels.values())


def spans(backend: Backend, found: Sequence[Found], start: int, end: int, now: int) -> list[Span]:
    """Of alerts about drawn curves: of a curve's device, by a rule that looks at a drawn metric. The newest of them."""
    drawn = {(labels.get("__name__"), labels.get("device")) for one in found for labels in one.labels}
    about = {rule.id: set(_metrics(rule.expression)) for rule in _alerting(backend.groups)}
    devices = {device for metric, device in drawn if metric and device}
    try:
        events = backend.history.between(start, end, _LOOKED_AT) if about and devices else []
    except TocsinError:  # there were no alerts yet
        return []
    known = [e for e in events if any((m, dict(e.labels).get("device")) in drawn for m in about.get(e.rule, ()))]
    return [_span(event, len(devices), end=max(end, now)) for event in known[-MOST_SPANS:]]


def _span(event: AlertEvent, devices: int, *, end: int) -> Span:
    labels = dict(event.labels)
    name = labels.get("alertname", event.rule)
    return Span(f"{name} {labels.get('device', '')}" if devices > 1 else name, event.starts_at, event.ends_at or end)


def _alerting(groups: Sequence[RuleGroup]) -> Iterator[Rule]:
    return (rule for group in groups for rule in group.rules if isinstance(rule, Rule))


def _levels(node: Expression) -> Iterator[tuple[Selector, str, float]]:
    if isinstance(node, Binary):
        level = _number(node.rhs)
        if node.op in _LEVELS and isinstance(node.lhs, Selector) and math.isfinite(level):
            yield node.lhs, node.op, level
        elif node.op == "and":
            yield from _levels(node.lhs)
            yield from _levels(node.rhs)


def _number(node: Expression) -> float:
    if isinstance(node, Negation):
        return -_number(node.operand)
    return node.value if isinstance(node, Number) else math.nan


def _metrics(node: Expression) -> Iterator[str]:
    if isinstance(node, Selector) and node.metric:
        yield node.metric
    for operand in operands(node):
        yield from _metrics(operand)
