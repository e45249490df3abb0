"""Which series the rules have met, under numbers of the engine's own, and which selectors match them.

Series of devices come from the series table, recorded series from recording rules; the rules see no difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.columns import Columns, Ints, Links, where
from rules.compile import Reach
from rules.leaves import Members
from rules.operators import BEFORE
from rules.ranking import CountValues
from rules.samples import STALENESS, Memory
from rules.syntax import Labels, Selector
from telemetry import Series, SeriesTable

TICK_LAG = 10 * 10**9
"""ns; how much later than an instant of a grid the tick may be that evaluates it: what was then is kept so long"""


class Binding:
    """Numbers series in the order in which they appear, and tells the selectors."""

    def __init__(self, table: SeriesTable, staleness: Callable[[int], int]) -> None:
        self._table, self._staleness = table, staleness
        self.members: list[Members] = []
        """One for each different selector"""
        self._of: dict[Selector, Members] = {}
        self._by_metric: dict[str, list[int]] = {}
        self._any_metric: list[int] = []
        self._series: list[Series] = []
        self._order: list[Any] = []
        self._counted: dict[tuple[int, int], int] = {}
        self._local = Columns(number=("i4", -1))
        self._recorded: dict[Labels, int] = {}
        self._links = Links()  # series → selector << 32 | element of the selector
        self._memory = Memory()
        self._reaches: list[Reach] = []

    def members_of(self, selector: Selector) -> Members:
        """The series that the selector matches."""
        found = self._of.get(selector)
        if found is None:
            found = self._of[selector] = Members(selector, self._series.__getitem__)
            metric = selector.metric
            (self._any_metric if metric is None else self._by_metric.setdefault(metric, [])).append(len(self.members))
            self.members.append(found)
        return found

    def look_back(self, memory: Memory, reaches: Iterable[Reach], at_ticks: Iterable[Reach]) -> None:
        """Where the samples are kept, and how far back; before anything is bound.

        at_ticks: of rules that a tick evaluates as of an instant before it.
        """
        self._memory = memory
        self._reaches = [
            *reaches,
            *(replace(reach, ranges=reach.ranges + TICK_LAG) for reach in at_ticks if reach.ranges >= 0),
        ]

    def local(self, series: NDArray[np.int32]) -> NDArray[np.int32]:
        """The engine's numbers of bound series of the table."""
        numbers: NDArray[np.int32] = self._local.number[series]
        return numbers

    def bind(self, series: NDArray[np.int32], position: Ints) -> bool:
        """Make the series known that appear for the first time, in the order in which they do → whether any did."""
        if len(series) and (newest := int(series.max())) >= len(self._local):
            self._local.grow(max(len(self._table), newest + 1))
        new = where(self._local.number[series] < 0)
        if not len(new):
            return False
        first = np.sort(new[np.unique(series[new], return_index=True)[1]])
        for id_, born in zip(series[first].tolist(), position[first].tolist(), strict=True):
            self._local.number[id_] = len(self._series)
            self._order.append(id_)
            self._add(self._table[id_], self._staleness(id_), born)
        return True

    def bind_recorded(self, labels: Sequence[Labels]) -> NDArray[np.int32]:
        """The numbers of recorded series, which are made known if they are new."""
        return np.array([self._number_of(own) for own in labels], np.int32)

    def elements(self, series: NDArray[np.int32]) -> Iterator[tuple[int, Ints, Ints]]:
        """Selector by selector, the rows whose series it matches, and their elements."""
        which, code = self._links.expand(series)
        selector = code >> 32
        element = code & 0xFFFFFFFF
        order = selector.astype(np.uint16 if len(self.members) < 1 << 16 else np.int64).argsort(kind="stable")
        selector = selector[order]
        rows = order if which is None else which[order]
        element = element[order]
        ends = [*(where(selector[1:] != selector[:-1]) + 1).tolist(), len(selector)] if len(selector) else []
        for begin, end in pairwise([0, *ends]):
            yield int(selector[begin]), rows[begin:end], element[begin:end]

    def note_dynamic(self, rule: int, operators: Sequence[CountValues]) -> None:
        """The rule was evaluated: its operators may have new elements."""
        for i, operator in enumerate(operators):
            known = self._counted.get((rule, i), 0)
            if len(operator) > known:
                self._order.append({"rule": rule, "operator": i, "elements": operator.dynamic()[known:]})
                self._counted[rule, i] = len(operator)

    def order(self) -> list[Any]:
        """What came to be known, in its order: ids of the table, labels of recorded series, and the elements that
        operators have made of values; JSON-able.
        """
        return self._order

    def restore(self, order: list[Any], operators: Sequence[Sequence[CountValues]]) -> None:
        """Make known again what `order` gave; operators: by rule, those that make elements of values."""
        for one in order:
            if isinstance(one, int):
                self.bind(np.array([one], np.int32), np.array([BEFORE]))
            elif isinstance(one, list):
                self._number_of(tuple((name, value) for name, value in one))
            else:
                own = operators[one["rule"]]
                own[one["operator"]].restore_dynamic(one["elements"])
                self.note_dynamic(one["rule"], own)

    def _number_of(self, labels: Labels) -> int:
        labels = tuple(sorted(labels))
        number = self._recorded.get(labels)
        if number is None:
            number = self._recorded[labels] = len(self._series)
            self._order.append(labels)
            given = dict(labels)
            self._add(Series(given.pop("__name__"), tuple(sorted(given.items()))), STALENESS, BEFORE)
        return number

    def _add(self, series: Series, staleness: int, born: int) -> None:
        number = len(self._series)
        self._series.append(series)
        newest = self._memory.newest
        newest.grow(number + 1)
        newest.staleness[number] = staleness
        matching = {
            k
            for k in (*self._by_metric.get(series.metric, ()), *self._any_metric)
            if self.members[k].selector.matches(series)
        }
        for reach in self._reaches:
            if self._of[reach.members.selector] is reach.members and reach.members.selector.matches(series):
                newest.ranges[number] = max(newest.ranges[number], reach.ranges)
                if reach.instants >= 0:
                    newest.instants[number] = max(newest.instants[number], reach.instants + TICK_LAG)
        for k in sorted(matching):
            self._links.add(number, k << 32 | self.members[k].add(number, born))
