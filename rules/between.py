"""Between readings: evaluations at the instants at which an outcome changes although no reading comes.

That is where data goes stale, where `age()` passes its limit, and, for other expressions that change with time alone,
where the outcome changes, which is found by bisection.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Columns, Ints
from rules.lifecycle import NEVER, UNKNOWN, Rows
from rules.operators import BEFORE


class Outcome(Protocol):
    """What an expression says of instances, with the samples up to positions, at instants."""

    def __call__(self, instance: Ints, position: Ints, time: Ints, /) -> tuple[NDArray[np.uint8], Floats, Ints]:
        """Condition, value, horizon."""
        ...


class Spans(NamedTuple):
    """Stretches of time between two evaluations of an instance."""

    instance: Ints
    position: Ints
    """What was known: the samples up to this position."""
    start: Ints
    condition: NDArray[np.uint8]
    """Outcome at the start."""
    horizon: Ints
    """Instant at which the outcome may change although no reading comes."""
    end: Ints
    reveal: Ints
    """Position of the reading that ends it."""

    def select(self, which: NDArray[Any]) -> Spans:
        return Spans(*[column[which] for column in self])


class Found(NamedTuple):
    """Evaluations between readings."""

    instance: Ints
    time: Ints
    condition: NDArray[np.uint8]
    value: Floats
    reveal: Ints


class Evaluated(NamedTuple):
    """Evaluations at readings, in order of instances and then of positions."""

    instance: Ints
    position: Ints
    time: Ints
    condition: NDArray[np.uint8]
    value: Floats
    horizon: Ints

    def select(self, rows: NDArray[Any]) -> Evaluated:
        return Evaluated(*[column[rows] for column in self])


def carried(table: Columns, ids: Ints, end: Ints, reveal: Ints) -> Spans:
    """The spans since the instances were last evaluated."""
    condition = np.where(table.unknown[ids], UNKNOWN, table.condition[ids]).astype(np.uint8)
    before = np.full(len(ids), BEFORE)
    return Spans(ids, before, table.clock[ids], condition, table.horizon[ids], end, reveal)


def between(table: Columns, rows: Evaluated, first: Ints, *, timed: bool) -> Spans:
    """The spans before each row that can hold a change: those that reach a horizon, or all when time matters."""
    old = first[table.clock[rows.instance[first]] != NEVER]
    since = carried(table, rows.instance[old], rows.time[old], rows.position[old])
    inner = np.ones(len(rows.instance), bool)
    inner[first] = False
    after = np.flatnonzero(inner)
    earlier = rows.select(after - 1)
    following = Spans(
        earlier.instance, earlier.position, earlier.time, earlier.condition, earlier.horizon,
        rows.time[after], rows.position[after],
    )  # fmt: skip
    spans = Spans(*stacked(since, following))
    return spans if timed else spans.select(spans.horizon < spans.end)


def fill(outcome: Outcome, spans: Spans, *, timed: bool) -> tuple[Found, Ints]:
    """Evaluate inside the spans wherever the outcome may change → those rows, and each span's last horizon."""
    found: list[Found] = []
    horizon, index = spans.horizon.copy(), np.arange(len(spans.instance))
    while len(index):
        if timed:
            found.append(_crossings(outcome, spans))
        stale = np.flatnonzero(spans.horizon < spans.end)
        spans, index = spans.select(stale), index[stale]
        if not len(index):
            break
        at = spans.horizon
        condition, value, beyond = outcome(spans.instance, spans.position, at)
        found.append(Found(spans.instance, at, condition, value, spans.reveal))
        horizon[index] = beyond
        spans = spans._replace(start=at, condition=condition, horizon=beyond)
    if not found:
        none = np.zeros(0, np.int64)
        return Found(none, none, np.zeros(0, np.uint8), np.zeros(0), none), horizon
    return Found(*stacked(*found)), horizon


def _crossings(outcome: Outcome, spans: Spans) -> Found:
    """Where the outcome changes inside a span by time alone: the first instant that has the outcome of its end.

    The end itself belongs to what ends the span, so the last instant looked at is 1 ns before it. A span in which
    the outcome changes and changes back is taken for one without a change.
    """
    low, high = spans.start.copy(), np.minimum(spans.horizon, spans.end) - 1
    open_ = np.flatnonzero(high > low)
    ends = outcome(spans.instance[open_], spans.position[open_], high[open_])[0]
    open_ = open_[ends != spans.condition[open_]]
    instance, position = spans.instance[open_], spans.position[open_]
    before, low, high = spans.condition[open_], low[open_], high[open_]
    while len(open_) and (high - low > 1).any():
        middle = low + (high - low) // 2
        same = outcome(instance, position, middle)[0] == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    condition, value, _ = outcome(instance, position, high)
    return Found(instance, high, condition, value, spans.reveal[open_])


def never_back(instance: Ints, time: Ints, clock: Ints) -> Ints:
    """The instants of each instance, none before an earlier one: what comes late is evaluated at the newest instant."""
    time = np.maximum(time, clock[instance])
    for i in np.unique(instance[1:][(np.diff(instance) == 0) & (np.diff(time) < 0)]).tolist():
        rows = slice(*np.searchsorted(instance, [i, i + 1]))
        time[rows] = np.maximum.accumulate(time[rows])
    return time


def merged(rows: Evaluated, found: Found) -> tuple[Rows, Ints]:
    """Rows at readings and rows between them, in order → rows, and the position that shows each."""
    if not len(found.instance):
        return Rows(rows.instance, rows.time, rows.condition, rows.value), rows.position
    both = stacked((rows.instance, rows.time, rows.condition, rows.value, rows.position), found)
    order = np.lexsort((both[1], both[0]))
    instance, time, condition, value, position = (column[order] for column in both)
    return Rows(instance, time, condition, value), position


def stacked(*parts: tuple[Any, ...]) -> list[Any]:
    """Column by column, the parts one after the other."""
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
