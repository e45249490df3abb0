"""Strands: what a bank evaluates. Each is one element, at its readings in a batch and wherever its outcome may change
between them: where data goes stale, where a sample leaves a window, where `age()` passes its limit.

Here: which instants those are, and what all rules say there. Not here: what follows from it (bank).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.between import stacked
from rules.chains import Chains, evaluate
from rules.columns import Ints, all_of, where
from rules.frames import PointFrame
from rules.leaves import Members
from rules.lifecycle import FALSE, FOREVER, TRUE, UNKNOWN
from rules.operators import Bools
from rules.reading_rule import ReadingRule
from rules.rings import ragged
from rules.rule_file import NoData
from rules.samples import Memory

Codes = NDArray[np.uint8]
Failures = dict[int, Bools]
"""By rule: (points,) where it is in error"""


class Points(NamedTuple):
    """Instants of strands, and what is seen there."""

    strand: Ints
    time: Ints
    """ns"""
    value: Floats
    """Of the newest sample"""
    sampled: Ints
    """ns; its time"""
    position: Ints
    """In the batch: when the instant becomes known"""
    end: Ints
    """ns; until where the outcome may change by itself"""
    reveal: Ints
    """Position at which that becomes known"""
    final: Bools
    """No reading of the strand follows"""

    def select(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Points:
        columns: list[Any] = [column[which] for column in self]
        return Points(*columns)


_NONE = np.zeros(0, np.int64)
NO_POINTS = Points(_NONE, _NONE, np.zeros(0), _NONE, _NONE, _NONE, _NONE, np.zeros(0, bool))


def of_readings(element: Ints, position: Ints, time: Ints, value: Floats) -> tuple[Points, Ints, Ints]:
    """Readings, grouped by element and in order → points, and the element and the last point of each strand."""
    final = np.ones(len(element), bool)
    np.not_equal(element[1:], element[:-1], out=final[:-1])
    last = where(final)
    touched = element[last]
    if len(last) == len(element):
        return Points(np.arange(len(last)), time, value, time, position, time, position, final), touched, last
    strand = np.cumsum(final) - final
    following = np.minimum(np.arange(1, len(final) + 1), last[strand])
    return Points(strand, time, value, time, position, time[following], position[following], final), touched, last


def joined(points: Points, source: Ints, last: Ints, clock: Ints) -> tuple[Points, Ints]:
    """More strands: each with the points of source[i], but none before clock[i] → points, and the last one of each."""
    first = np.append(0, last[:-1] + 1)[source]
    count = last[source] + 1 - first
    copies = points.select(ragged(first, count))
    strand = np.repeat(len(last) + np.arange(len(source)), count)
    least = clock.repeat(count)
    copies = copies._replace(strand=strand, time=np.maximum(copies.time, least), end=np.maximum(copies.end, least))
    return Points(*stacked(points, copies)), np.append(last, len(points.time) + np.cumsum(count) - 1)


def by_strand_and_time(strand: Ints, time: Ints) -> Ints:
    """The order that sorts by strand and then by time, and leaves equals as they are."""
    if not len(strand):
        return strand
    begin, end = int(time.min()), int(time.max())
    if (int(strand.max()) + 1) * (end - begin + 1) >= FOREVER:
        return np.lexsort((time, strand))
    # a few sorted runs, one after the other, are merged many times faster by one key
    return np.argsort(strand * np.int64(end - begin + 1) + (time - begin), kind="stable")


@dataclass(frozen=True, slots=True)
class Said:
    """What all rules say at points, grouped by strand, in order of time."""

    strand: Ints
    time: Ints
    position: Ints
    condition: Codes
    """(points, rules) FALSE, TRUE or UNKNOWN"""
    horizon: Ints
    """(strands,) ns; when the outcome may change after the last point"""
    values: list[list[Floats]]
    """Part by part, those of each rule"""
    order: Ints | None
    """Where each point lies in the parts, one after the other"""
    start: Ints
    """(strands,) first point of each"""
    count: Ints
    """(strands,)"""

    def value(self, point: Ints, rule: Ints) -> Floats:
        """The value of rule[i] at point[i]; anything where it does not hold."""
        at = point if self.order is None else self.order[point]
        if len(self.values) == 1 and all(column is self.values[0][0] for column in self.values[0]):
            return self.values[0][0][at]
        found = np.empty(len(point))
        alike: dict[tuple[int, ...], list[int]] = {}
        for r in np.unique(rule).tolist():
            alike.setdefault(tuple(id(part[r]) for part in self.values), []).append(r)
        for rules in alike.values():  # thresholds of one expression have the very same values
            parts = [part[rules[0]] for part in self.values]
            column = parts[0] if len(parts) == 1 else np.concatenate(parts)
            if len(alike) == 1:
                return column[at]
            mine = where(np.isin(rule, rules))
            found[mine] = column[at[mine]]
        return found


class Panel:
    """The rules of a bank, side by side."""

    def __init__(self, members: Members, memory: Memory, rules: Sequence[ReadingRule]) -> None:
        self._members, self._memory, self._rules = members, memory, rules
        self._limits = Chains().limits([rule.compiled.top for rule in rules])
        self.gone: set[int] = set()
        """Rules that are evaluated elsewhere from now on"""
        self._in_error: set[int] = set()

    def say(self, element: Ints, horizon: Ints, points: Points | None, following: Points | None) -> Said:
        """element: (strands,); horizon: (strands,) as it was before, ns; points: grouped by strand, in order;
        following: others, at most one for each strand.
        """
        horizon = horizon.copy()
        given = [some for some in (points, following) if some is not None]
        some = given[0] if len(given) == 1 else Points(*stacked(*given)) if given else NO_POINTS
        parts: list[tuple[Ints, Ints, Ints]] = []
        conditions: list[Codes] = []
        values: list[list[Floats]] = []
        failures: list[Failures] = []
        while len(some.time) or not parts:
            condition, value, beyond, failed = self._look(element[some.strand], some)
            failures.append(failed)
            parts.append((some.strand, some.time, some.position))
            conditions.append(condition)
            values.append(value)
            horizon[some.strand[some.final]] = beyond[some.final]
            changes = where(beyond < some.end)
            some = some.select(changes)
            some = some._replace(time=beyond[changes], position=some.reveal)
        strand, time, position = stacked(*parts) if len(parts) > 1 else parts[0]
        condition = np.concatenate(conditions) if len(parts) > 1 else conditions[0]
        order = None
        if len(given) > 1 or len(parts) > 1:
            order = by_strand_and_time(strand, time)
            strand, time, position = strand[order], time[order], position[order]
            condition = condition.take(order, axis=0)
        count = np.bincount(strand, minlength=len(element))
        said = Said(strand, time, position, condition, horizon, values, order, np.cumsum(count) - count, count)
        if self._in_error:
            self._note_errors(element, said, [len(part[0]) for part in parts], failures)
        return said

    def _note_errors(self, element: Ints, said: Said, lengths: list[int], failures: list[Failures]) -> None:
        """Tell the rules in error how each element's newest point went; lengths, failures: by part."""
        seen = where(said.count)
        newest = said.start[seen] + said.count[seen] - 1
        newest = newest if said.order is None else said.order[newest]
        for column in tuple(self._in_error - self.gone):
            nowhere = [np.zeros(n, bool) for n in lengths]
            failed = np.concatenate([f.get(column, none) for f, none in zip(failures, nowhere, strict=True)])
            rule = self._rules[column]
            rule.note_errors(element[seen], failed[newest])
            if not rule.error:
                self._in_error.discard(column)

    def _look(self, element: Ints, points: Points) -> tuple[Codes, list[Floats], Ints, Failures]:
        """Condition (points, rules), value of each rule, horizon, and where rules failed."""
        series = self._members.ids[element]
        frame = PointFrame(self._memory, series, points.value, points.sampled, points.time)
        conditions = np.zeros((len(element), len(self._rules)), np.uint8)
        values, failures = [points.value] * len(self._rules), Failures()
        if not len(element):
            return conditions, values, points.end, failures
        for columns, chain, compare, numbers in self._limits:
            value, present, unknown = evaluate(chain, frame, element)
            failure, failed = frame.take_failure()
            holds = present[:, None]
            if compare is not None:
                holds = compare(value[:, None], numbers)
                if not all_of(present):
                    holds &= present[:, None]
            if len(columns) == conditions.shape[1]:
                conditions = holds.astype(np.uint8)
            else:
                conditions[:, columns] = holds
            vanished = where(unknown)
            for column in columns.tolist():
                values[column] = value
                if len(vanished):
                    values[column] = _vanished(self._rules[column], value, vanished, conditions[:, column])
                if failure:
                    self._rules[column].error = failure
                    self._in_error.add(column)
                    failures[column] = failed
                    conditions[failed, column] = UNKNOWN
        for column in self.gone:
            conditions[:, column] = FALSE
        return conditions, values, frame.horizon, failures


def _vanished(rule: ReadingRule, value: Floats, rows: Ints, condition: Codes) -> Floats:
    """Enter the rule's condition where data has vanished → its values."""
    no_data = rule.rule.no_data
    if no_data is NoData.RESOLVE:
        return value
    condition[rows] = TRUE if no_data is NoData.FIRE else UNKNOWN
    if no_data is NoData.FIRE:
        value = value.copy()
        value[rows] = np.nan
    return value
