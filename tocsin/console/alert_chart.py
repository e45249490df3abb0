"""The chart around an alert: what its rule compares, the level it compares with, the time that it fired. Blocking.

Not here: drawing (`chart`), finding curves (`curves`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import rules
from rules.expression_text import text_of
from tocsin.backend import Backend
from tocsin.console.alert_story import Story
from tocsin.console.chart import ChartCurve, Span, Threshold, chart_options
from tocsin.console.curves import find
from tocsin.console.expression_values import (
    Comparison,
    Part,
    Question,
    Values,
    belongs,
    comparisons,
    narrowed,
    narrowing,
)
from tocsin.words import number

_LEAST_MARGIN, _MOST_MARGIN, _LONGEST = 2 * 60 * 10**9, 6 * 3_600 * 10**9, 7 * 86_400 * 10**9
_POINTS = 600
_MOST_CURVES = 8


@dataclass(frozen=True, slots=True)
class Drawing:
    """What is drawn, and how to go on with it in Explore."""

    options: dict[str, Any]
    queries: tuple[str, ...]
    start: int
    end: int
    curves: tuple[ChartCurve, ...]
    """None: there is nothing to draw."""


def window(story: Story, now: int) -> tuple[int, int]:
    """From when to when the chart goes, ns: the alert, and as much again before and after it."""
    begin = story.starts_at - (story.rule.hold if story.rule is not None and story.event is not None else 0)
    end = story.ends_at or max(now, story.starts_at)
    margin = min(max(end - begin, _LEAST_MARGIN), _MOST_MARGIN)
    return begin - margin, min(end + margin, begin + _LONGEST, max(now, end) + 1)


def draw(backend: Backend, story: Story, rule: rules.Rule, question: Question) -> Drawing:
    """The chart of an alert of this rule."""
    start, end = window(story, backend.clock.now())
    expression = rule.expression
    only = narrowing(expression, question.labels, question.recorded)
    found: list[ChartCurve] = []
    levels: list[Threshold] = []
    queries: list[str] = []
    for comparison in comparisons(expression)[:_MOST_CURVES] or [Comparison(expression, "", float("nan"))]:
        text = text_of(narrowed(comparison.side, only))
        if text not in queries:
            queries.append(text)
            answer = find(backend, text, start, end, _POINTS, most=4 * _MOST_CURVES)
            own = [c for c, labels in zip(answer.curves, answer.labels, strict=True) if belongs(labels, question)]
            found += own[: _MOST_CURVES - len(found)]
        axis = next((c.axis for c in reversed(found)), "")
        if comparison.op and found:
            levels.append(Threshold(f"{comparison.op} {number(comparison.level)}", comparison.level, axis))
    spans = [] if story.event is None else [Span("firing", story.starts_at, min(story.ends_at or end, end))]
    options = chart_options(found, start, end, thresholds=levels, spans=spans)
    return Drawing(options, tuple(queries), start, end, tuple(found))


def question_of(backend: Backend, story: Story) -> Question:
    """Of which labels the rule's parts are to be seen, and when."""
    rule = story.rule
    recorded = {r.record for group in backend.groups for r in group.rules if isinstance(r, rules.Record)}
    own = {"alertname", *(name for name, _ in rule.labels)} if rule is not None else {"alertname"}
    return Question(
        labels=dict(story.item.labels),
        own_labels=frozenset(own),
        at=story.at,
        recorded=recorded,
        substep=rule.interval if rule is not None else 15 * 10**9,
    )


def parts_of(backend: Backend, rule: rules.Rule, question: Question) -> list[Part]:
    """The values of the parts of a rule."""
    values = Values(backend.table, backend.store, backend.own_staleness())
    return values.of(rule.expression, question)
