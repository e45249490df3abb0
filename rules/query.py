"""Expressions over stored series: selecting, and evaluating on a grid of instants, with the operators of the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.compile import Compiled
from rules.grid_frame import RangeFrame
from rules.operators import BEFORE, InstantLeaf, Members, Operator
from rules.promql import ExpressionError, parse
from rules.rule_file import DEFAULT_INTERVAL
from rules.samples import STALENESS
from rules.syntax import Labels, Selector
from rules.windows import RangeLeaf
from telemetry import SeriesTable

Read = Callable[[list[int], int, int], dict[int, tuple[Ints, Floats]]]
"""(series ids, t0, t1) → (time, value) by series, t0 <= time < t1, ascending."""

MAX_STEPS = 1_000_000
MAX_CELLS = 50_000_000
"""Steps × elements of one query."""
_CELLS_AT_ONCE = 1 << 20
"""As many as are evaluated at once, which bounds the memory for what comes between."""


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
    substep: int = DEFAULT_INTERVAL,
) -> list[tuple[dict[str, str], Ints, Floats]]:
    """Evaluate at start, start + step … ≤ end (ns) → (labels, times, values) of each element that is ever there.

    As Prometheus' query_range. `own_staleness`: ns by series id, where it is not `staleness`; `substep`: ns, of
    subqueries that name no step. Raises ExpressionError.
    """
    if step <= 0 or end < start:
        raise ExpressionError("a query needs start <= end and a step above 0")
    expression = parse(text)
    if (end - start) // step >= MAX_STEPS:
        raise ExpressionError(f"more than {MAX_STEPS} steps are too many: use a larger step")
    steps = np.arange(start, end + 1, step, dtype=np.int64)
    compiled = Compiled(
        expression, lambda selector: Members(selector, table.__getitem__), step=substep, span=(start, end)
    )
    ids = _bound(compiled, table)
    seen_for = np.full(len(table), staleness)
    for series, its_own in (own_staleness or {}).items():
        seen_for[series] = its_own
    first = _first_needed(compiled, start, int(seen_for.max(initial=staleness)))
    samples = read(ids, first, max([end, *compiled.earliest]) + _ahead(compiled) + 1)
    frame = RangeFrame(steps, samples, seen_for, compiled.channels)
    return _by_labels(compiled.top, steps, *_evaluated(compiled.top, frame))


def _bound(compiled: Compiled, table: SeriesTable) -> list[int]:
    """Make all series of the table known to the expression's selectors → the ids of those that match, ascending."""
    ids: set[int] = set()
    for leaf in compiled.leaves:
        leaf.members.follow(leaf)
        for series in _matching(leaf.members.selector, table).tolist():
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
    return min([start, *compiled.earliest]) - reach - staleness


def _ahead(compiled: Compiled) -> int:
    """How far beyond the last step negative offsets look, ns."""
    return max([0, *(-leaf.ago.offset for leaf in compiled.leaves if isinstance(leaf, InstantLeaf | RangeLeaf))])


def _evaluated(top: Operator, frame: RangeFrame) -> tuple[Floats, NDArray[np.bool_]]:
    """Values and presence, (elements, steps), some steps at a time. Raises ExpressionError."""
    n = len(frame.time)
    top.discover(frame, frame.all_rows)
    elements = len(top)
    if elements * n > MAX_CELLS:
        raise ExpressionError(f"{elements} elements × {n} steps are too many: use a larger step or fewer series")
    value, present = np.full((elements, n), np.nan), np.zeros((elements, n), bool)
    portion = max(1, _CELLS_AT_ONCE // max(elements, 1))
    for a in range(0, n, portion):
        rows = frame.all_rows[a : a + portion]
        found = top.evaluate(frame, np.repeat(np.arange(elements), len(rows)), np.tile(rows, elements))
        value[:, a : a + portion] = found.value.reshape(elements, -1)
        present[:, a : a + portion] = found.present.reshape(elements, -1)
    if frame.failure:
        raise ExpressionError(frame.failure)
    return value, present


def _by_labels(
    top: Operator, steps: Ints, value: Floats, present: NDArray[np.bool_]
) -> list[tuple[dict[str, str], Ints, Floats]]:
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


def _matching(selector: Selector, table: SeriesTable) -> Ints:
    metric = selector.metric
    candidates = range(len(table)) if metric is None else table.with_label("__name__", metric).tolist()
    return np.array([i for i in candidates if selector.matches(table[i])], np.int64)
