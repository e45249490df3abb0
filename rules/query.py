"""Expressions over stored series: selecting, and evaluating on a grid of instants, with the operators of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.compile import Compiled
from rules.engine import STALENESS
from rules.frames import RangeFrame
from rules.operators import BEFORE, Members, Operator
from rules.promql import ExpressionError, Labels, Number, Selector, parse
from telemetry import SeriesTable

Read = Callable[[list[int], int, int], dict[int, tuple[Ints, Floats]]]
"""(series ids, t0, t1) → (time, value) by series, t0 <= time < t1, ascending."""

MAX_STEPS = 1_000_000
MAX_CELLS = 50_000_000
"""Steps × elements of one query."""


def is_selector(text: str) -> bool:
    """Whether the expression is a plain selector, so that it can be answered with raw samples."""
    return isinstance(parse(text), Selector)


def select(text: str, table: SeriesTable) -> Ints:
    """(n,) ascending ids of the series that a selector matches. Raises ExpressionError."""
    selector = parse(text)
    if not isinstance(selector, Selector):
        raise ExpressionError(f'{text!r} is not a selector: write for example temperature{{site="ams"}}')
    return _matching(selector, table)


def query_range(
    text: str,
    table: SeriesTable,
    read: Read,
    start: int,
    end: int,
    step: int,
    *,
    staleness: int = STALENESS,
    own_staleness: Mapping[int, int] | None = None,
) -> list[tuple[dict[str, str], Ints, Floats]]:
    """Evaluate at start, start + step … ≤ end (ns) → (labels, times, values) of each element that is ever there.

    As Prometheus' query_range, for the expressions that rules support. `own_staleness`: ns by series id, where it is
    not `staleness`. Raises ExpressionError.
    """
    if step <= 0 or end < start:
        raise ExpressionError("a query needs start <= end and a step above 0")
    expression = parse(text)
    if (end - start) // step >= MAX_STEPS:
        raise ExpressionError(f"more than {MAX_STEPS} steps are too many: use a larger step")
    steps = np.arange(start, end + 1, step, dtype=np.int64)
    if isinstance(expression, Number):
        return [({}, steps, np.full(len(steps), expression.value))]
    compiled = Compiled(expression, lambda selector: Members(selector, table.__getitem__))
    ids: set[int] = set()
    for leaf in compiled.leaves:
        leaf.members.follow(leaf)
        for series in _matching(leaf.members.selector, table).tolist():
            ids.add(series)
            leaf.members.add(series, BEFORE)
    for operator in compiled.keyed:
        operator.settle()
    elements = len(compiled.top)
    if elements * len(steps) > MAX_CELLS:
        raise ExpressionError(
            f"{elements} elements × {len(steps)} steps are too many: use a larger step or fewer series"
        )
    seen_for = np.full(len(table), staleness)
    for series, its_own in (own_staleness or {}).items():
        seen_for[series] = its_own
    reach = 0 if _uses_age(compiled) else int(seen_for.max(initial=staleness))
    samples = read(sorted(ids), start - reach if reach else -(1 << 62), end + 1)
    frame = RangeFrame(steps, samples, seen_for)
    element = np.repeat(np.arange(elements), len(steps))
    value, present, _ = compiled.top.evaluate(frame, element, np.tile(np.arange(len(steps)), elements))
    return _by_labels(compiled.top, steps, value, present)


def _by_labels(
    top: Operator, steps: Ints, value: Floats, present: NDArray[np.bool_]
) -> list[tuple[dict[str, str], Ints, Floats]]:
    """One result for each label set; refuses two elements with the same labels at the same instant."""
    found: dict[Labels, tuple[NDArray[np.bool_], Floats]] = {}
    for i in range(len(top)):
        rows = slice(i * len(steps), (i + 1) * len(steps))
        labels, there, values = top.labels(i), present[rows], value[rows]
        if labels in found:
            before, already = found[labels]
            if (before & there).any():
                raise ExpressionError(f"two elements have the same labels {dict(labels)}: keep more of them apart")
            there, values = before | there, np.where(before, already, values)
        if there.any():
            found[labels] = (there, values)
    return [(dict(labels), steps[there], values[there]) for labels, (there, values) in found.items()]


def _uses_age(compiled: Compiled) -> bool:
    """Whether a leaf looks further back than samples are fresh: age() does."""
    return any(leaf.timed for leaf in compiled.leaves)


def _matching(selector: Selector, table: SeriesTable) -> Ints:
    metric = selector.metric
    candidates = range(len(table)) if metric is None else table.with_label("__name__", metric).tolist()
    return np.array([i for i in candidates if selector.matches(table[i])], np.int64)
