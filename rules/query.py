"""Expressions over stored series: selecting, and evaluating on a grid of instants, with the operators of the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.compile import Compiled
from rules.element_wise import ElementWise
from rules.grid_frame import InstantFrame, RangeFrame
from rules.leaves import Leaf, Members
from rules.operators import BEFORE, Operator
from rules.promql import ExpressionError, parse
from rules.rule_file import DEFAULT_INTERVAL
from rules.samples import STALENESS
from rules.syntax import Expression, Labels, Selector, Subquery, operands
from rules.windows import MAX_SUBQUERY_CELLS, SubqueryRange
from telemetry import SeriesTable

Read = Callable[[list[int], int, int], dict[int, tuple[Ints, Floats]]]
"""(series ids, t0, t1) → (time, value) by series, t0 <= time < t1, ascending."""

Element = tuple[dict[str, str], Ints, Floats]
"""Labels; times (ns) and values, where it is there"""

ReadAt = Callable[[list[int], Ints, int], tuple[Ints, Floats]]
"""(series ids, ascending instants, reach) → (times, values) of the newest sample of each series at or before each
instant, less than `reach` before: (series, instants) each; -2**63 and NaN where there is none. All in ns."""

MAX_STEPS = 1_000_000
MAX_CELLS = 50_000_000
"""Steps × elements of one query."""
_MOST_AT_ONCE = 1 << 23
"""Series × steps whose newest samples are held together: 16 bytes each."""
_READ_TOGETHER = 250
"""Series"""
_CELLS_AT_ONCE = 1 << 16
"""About as many as are evaluated at once: what comes between then fits into the processor's cache."""

_INSTANTS_AT_ONCE = 1 << 20
"""Of subqueries of one element"""


def is_selector(text: str) -> bool:
    """Whether the expression is a plain selector, so that it can be answered with raw samples."""
    return isinstance(parse(text), Selector)


def select(text: str, table: SeriesTable) -> Ints:
    """(n,) ascending ids of the series that a selector matches. Raises ExpressionError."""
    selector = parse(text)
    if not isinstance(selector, Selector):
        raise ExpressionError(f'{text!r} is not a selector: write for example temperature{{site="ams"}}')
    return matching(selector, table)


def looked_at(text: str, table: SeriesTable) -> Ints:
    """(n,) ascending ids of the series that any selector of an expression matches. Raises ExpressionError."""
    compiled = Compiled(parse(text), lambda selector: Members(selector, table.__getitem__))
    found = [matching(leaf.members.selector, table) for leaf in compiled.leaves]
    return np.unique(np.concatenate([np.empty(0, np.int32), *found]))


@dataclass(frozen=True, slots=True)
class Stored:
    """What queries look at, and how much of it they may."""

    table: SeriesTable
    read: Read
    staleness: int = STALENESS
    """ns that a sample is seen"""
    own_staleness: Mapping[int, int] = field(default_factory=dict)
    """ns by series id, where it is not `staleness`"""
    substep: int = DEFAULT_INTERVAL
    """ns, of subqueries that name no step"""
    most_cells: int = MAX_CELLS
    """Steps × elements of one query"""
    pause: Callable[[], object] = lambda: None
    """Called between parts of the work, some milliseconds apart; what it raises ends the query."""
    read_at: ReadAt | None = None
    """Used instead of `read`, if given, where only the newest samples are looked at."""


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
    substep: int = DEFAULT_INTERVAL,
    read_at: ReadAt | None = None,
) -> list[Element]:
    """Evaluate at start, start + step … ≤ end (ns) → (labels, times, values) of each element that is ever there.

    As Prometheus' query_range. `own_staleness`: ns by series id, where it is not `staleness`; `substep`: ns, of
    subqueries that name no step; `read_at`: as in `Stored`. Raises ExpressionError.
    """
    stored = Stored(table, read, staleness, own_staleness or {}, substep, read_at=read_at)
    return on_grid(parse(text), stored, start, end, step)


def on_grid(
    expression: Expression, stored: Stored, start: int, end: int, step: int, span: tuple[int, int] | None = None
) -> list[Element]:
    """As `query_range`. `span`: what `@ start()` and `@ end()` mean, if not `start` and `end`."""
    if step <= 0 or end < start:
        raise ExpressionError("a query needs start <= end and a step above 0")
    if (end - start) // step >= MAX_STEPS:
        raise ExpressionError(f"more than {MAX_STEPS} steps are too many: use a larger step")
    inner = _inner(expression, stored.substep)
    _check_subqueries(inner * ((end - start) // step + 1), inner)
    table, staleness = stored.table, stored.staleness
    steps = np.arange(start, end + 1, step, dtype=np.int64)
    compiled = Compiled(
        expression,
        lambda selector: Members(selector, table.__getitem__),
        step=stored.substep,
        span=span or (start, end),
    )
    ids = _bound(compiled, table)
    seen_for = np.full(len(table), staleness)
    for series, its_own in stored.own_staleness.items():
        seen_for[series] = its_own
    _check_size(len(compiled.top), len(steps), stored.most_cells)
    frame = _frame(compiled, stored, ids, steps, seen_for)
    return _by_labels(compiled.top, steps, *_evaluated(compiled.top, frame, stored, inner))


def _frame(compiled: Compiled, stored: Stored, ids: list[int], steps: Ints, staleness: Ints) -> RangeFrame:
    """The samples that the expression looks at. staleness: ns by series."""
    reach = int(staleness[ids].max(initial=1))
    newest = not (compiled.reaches or compiled.fixed or compiled.ahead or any(leaf.timed for leaf in compiled.leaves))
    if newest and stored.read_at and len(ids) * len(steps) <= _MOST_AT_ONCE:
        return InstantFrame(steps, ids, _newest(stored.read_at, stored.pause, ids, steps, reach), staleness)
    first = _first_needed(compiled, int(steps[0]), max(reach, stored.staleness))
    last = max([int(steps[-1]), *compiled.fixed]) + compiled.ahead
    return RangeFrame(steps, stored.read(ids, first, last + 1), staleness, compiled.channels)


def _newest(
    read_at: ReadAt, pause: Callable[[], object], ids: list[int], steps: Ints, reach: int
) -> tuple[Ints, Floats]:
    time, value = np.empty((len(ids), len(steps)), np.int64), np.empty((len(ids), len(steps)))
    for a in range(0, len(ids), _READ_TOGETHER):
        pause()
        some = slice(a, a + _READ_TOGETHER)
        time[some], value[some] = read_at(ids[some], steps, reach)
    return time, value


def _inner(node: Expression, substep: int) -> int:
    """At how many instants its innermost subquery is evaluated for each of its own; 1 without any."""
    inside = max((_inner(operand, substep) for operand in operands(node)), default=1)
    return inside * (node.duration // (node.step or substep) + 1) if isinstance(node, Subquery) else inside


def _check_subqueries(instants: int, inner: int) -> None:
    """Refuses subqueries that are evaluated at too many instants, before anything is made that long."""
    if inner > 1 and instants > MAX_SUBQUERY_CELLS:
        raise ExpressionError(f"a subquery of {instants} points is too large: use a larger step or a shorter range")


def _bound(compiled: Compiled, table: SeriesTable) -> list[int]:
    """Make all series of the table known to the expression's selectors → the ids of those that match, ascending."""
    ids: set[int] = set()
    for leaf in compiled.leaves:
        leaf.members.follow(leaf)
        for series in matching(leaf.members.selector, table).tolist():
            ids.add(series)
            leaf.members.add(series, BEFORE)
    compiled.start()
    compiled.settle()
    return sorted(ids)


def _first_needed(compiled: Compiled, start: int, staleness: int) -> int:
    """The oldest instant of samples that any step can see, ns."""
    if any(leaf.timed for leaf in compiled.leaves):  # age() sees the newest sample however old it is
        return -(1 << 62)
    reach = max([0, *(max(r.ranges, r.instants) for r in compiled.reaches)])
    return min([start, *compiled.fixed]) - reach - staleness


def _evaluated(top: Operator, frame: RangeFrame, stored: Stored, inner: int) -> tuple[Floats, NDArray[np.bool_]]:
    """Values and presence, (elements, steps), some at a time. Raises ExpressionError.

    inner: evaluations of subqueries for each.
    """
    n = len(frame.time)
    top.discover(frame, frame.all_rows)
    elements = len(top)
    _check_size(elements, n, stored.most_cells)
    value, present = np.full((elements, n), np.nan), np.zeros((elements, n), bool)
    for some, rows in _portions(elements, n, inner, by_element=_are_on_their_own(top)):
        stored.pause()
        element, row = np.arange(elements)[some], frame.all_rows[rows]
        found = top.evaluate(frame, np.repeat(element, len(row)), np.tile(row, len(element)))
        value[some, rows] = found.value.reshape(len(element), len(row))
        present[some, rows] = found.present.reshape(len(element), len(row))
    if frame.failure:
        raise ExpressionError(frame.failure)
    return value, present


def _check_size(elements: int, steps: int, most: int) -> None:
    if elements * steps > most:
        raise ExpressionError(f"{elements} elements × {steps} steps are too many: use a larger step or fewer series")


def _are_on_their_own(top: Operator) -> bool:
    """Whether nothing is gained by evaluating elements together."""
    while isinstance(top, ElementWise | SubqueryRange):
        top = top.child
    return isinstance(top, Leaf)


def _portions(elements: int, steps: int, inner: int, *, by_element: bool) -> Iterator[tuple[slice, slice]]:
    """Parts of elements × steps that are evaluated at once: whole elements where each is on its own, else whole steps.

    Elements of aggregations are better evaluated together, since they may share their operands.
    """
    if by_element:
        across = max(1, _INSTANTS_AT_ONCE // inner)
        portion = max(1, _CELLS_AT_ONCE // max(min(steps, across) * inner, 1))
        for a in range(0, elements, portion):
            yield from ((slice(a, a + portion), slice(b, b + across)) for b in range(0, steps, across))
    else:
        portion = max(1, 16 * _CELLS_AT_ONCE // max(elements * inner, 1))
        yield from ((slice(None), slice(a, a + portion)) for a in range(0, steps, portion))


def _by_labels(top: Operator, steps: Ints, value: Floats, present: NDArray[np.bool_]) -> list[Element]:
    """One result for each label set; refuses two elements with the same labels at the same instant."""
    found: dict[Labels, tuple[NDArray[np.bool_], Floats]] = {}
    for i in range(len(top)):
        labels, there, values = top.labels(i), present[i], value[i]
        if labels in found:
            before, already = found[labels]
            if (before & there).any():
                raise ExpressionError(f"two elements have the same labels {dict(labels)}: keep more of them apart")
            there, values = before | there, np.where(before, already, values)
        if there.any():
            found[labels] = (there, values)
    return [(dict(labels), steps[there], values[there]) for labels, (there, values) in found.items()]


def matching(selector: Selector, table: SeriesTable) -> Ints:
    """(n,) ascending ids of the series that a selector matches."""
    metric = selector.metric
    candidates = range(len(table)) if metric is None else table.with_label("__name__", metric).tolist()
    return np.array([i for i in candidates if selector.matches(table[i])], np.int64)
