"""Range vectors: the windows of a selector or a subquery, and the functions over them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence

import numpy as np

from rules.columns import Ints
from rules.element_wise import ElementWise
from rules.grid_frame import SubFrame
from rules.history import History, Window
from rules.leaves import Ago, Leaf, Members
from rules.operators import Bools, Frame, Operator, Scalar, Vector
from rules.syntax import Labels
from rules.window_functions import WindowFunction

MAX_SUBQUERY_CELLS = 20_000_000
"""Inner evaluations of one subquery at once"""
_NO_LIMIT = 1 << MAX_SUBQUERY_CELLS.bit_length()
"""Of the points of one window: more than there can be"""

_ENOUGH = 2
"""Samples with which every function of a window gives a result"""

KEEP_NAME = frozenset({"last_over_time", "first_over_time"})
"""Functions whose result is a sample of the series, and has its name"""
MEANS = KEEP_NAME | {"avg_over_time", "min_over_time", "max_over_time"}
"""Functions whose result lies between the lowest and the highest sample"""


class RangeOperator(Operator):
    """A range vector: each element has a window, not a value."""

    @abstractmethod
    def window(self, frame: Frame, element: Ints, row: Ints) -> tuple[Window, Bools]:
        """The window of each element at each row, and whether the element was ever seen."""

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        raise NotImplementedError("a range vector has no value")


class RangeLeaf(Leaf, RangeOperator):
    """`x[5m]`"""

    def __init__(self, members: Members, ago: Ago, duration: int) -> None:
        super().__init__(members)
        self.ago, self.duration = ago, duration

    def identity(self) -> Hashable:
        return RangeLeaf, self.members, self.ago, self.duration

    def window(self, frame: Frame, element: Ints, row: Ints) -> tuple[Window, Bools]:
        series = self.members.ids[element]
        found = frame.window(series, row, self.ago.of(frame, row), self.duration)
        was_seen = found.hi > 0
        few = np.flatnonzero(was_seen & (found.hi - found.lo < _ENOUGH))
        was_seen[few] &= ~frame.ended(series[few])
        return found, was_seen


class SubqueryRange(RangeOperator):
    """`expr[10m:1m]`: the inner expression at multiples of the step."""

    def __init__(self, child: Operator, ago: Ago, duration: int, step: int, channels: frozenset[str]) -> None:
        super().__init__(injective=child.injective, timed=False)
        self._child, self._ago, self._duration, self._step = child, ago, duration, step
        self._channels = channels
        self.adopt(0, child)

    @property
    def child(self) -> Operator:
        """What is evaluated at each of its instants."""
        return self._child

    def __len__(self) -> int:
        return len(self._child)

    def labels(self, element: int) -> Labels:
        return self._child.labels(element)

    def child_added(self, side: int, element: int, born: int) -> None:
        del side
        self.announce(element, born)

    def discover(self, frame: Frame, row: Ints) -> None:
        inner, _, _, _ = self._grid(frame, np.unique(row))
        self._child.discover(inner, inner.all_rows)

    def window(self, frame: Frame, element: Ints, row: Ints) -> tuple[Window, Bools]:
        rows, which = np.unique(row, return_inverse=True)
        inner, first, count, end = self._grid(frame, rows)
        cells = count[which]
        if (points := int(cells.sum())) > MAX_SUBQUERY_CELLS:
            frame.fail(row, f"a subquery of {points} points is too large: use a larger step or a shorter range")
            cells = np.zeros_like(cells)
        pair = np.repeat(np.arange(len(row)), cells)
        history = History(self._channels, limit=_NO_LIMIT)
        start, now = (end - self._duration)[which], frame.time[row]
        step = np.arange(len(pair)) - np.repeat(np.cumsum(cells) - cells, cells)
        at = first[which][pair] + step
        value, present, unknown = self._child.evaluate(inner, element[pair], at)
        history.append(pair[present], inner.time[at[present]], value[present])
        hi = np.bincount(pair[present], minlength=len(row))
        vanished = np.bincount(pair[unknown], minlength=len(row)) > 0
        lo = np.zeros(len(row), np.int64)
        return Window(history, np.arange(len(row)), lo, hi, start, end[which], now), vanished | (hi > 0)

    def _grid(self, frame: Frame, rows: Ints) -> tuple[SubFrame, Ints, Ints, Ints]:
        """The inner instants of each row: the frame of all, the first and number of each row's, the windows' ends."""
        end = frame.time[rows] - self._ago.of(frame, rows)
        lowest = (end - self._duration) // self._step + 1
        count = end // self._step - lowest + 1
        first = np.cumsum(count) - count
        owner = np.repeat(np.arange(len(rows)), count)
        instant = (lowest[owner] + np.arange(len(owner)) - first[owner]) * self._step
        return SubFrame(frame, rows[owner], instant), first, count, end


class OverTime(ElementWise):
    """A function of windows: `avg_over_time(x[5m])`, `rate(x[5m])`."""

    def __init__(
        self, child: RangeOperator, name: str, function: WindowFunction, parameters: Sequence[Scalar] = ()
    ) -> None:
        super().__init__(child)
        self._range, self._function, self._parameters = child, function, parameters
        self._keeps_name, self.is_mean = name in KEEP_NAME, name in MEANS

    def identity(self) -> Hashable:
        return OverTime, self._function, tuple(p.identity() for p in self._parameters), self.child.identity()

    def labels(self, element: int) -> Labels:
        return self.child.labels(element) if self._keeps_name else super().labels(element)

    def discover(self, frame: Frame, row: Ints) -> None:
        super().discover(frame, row)
        for parameter in self._parameters:
            parameter.discover(frame, row)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        return self.of(frame, row, self._range.window(frame, element, row))

    def of(self, frame: Frame, row: Ints, operand: tuple[Window, Bools]) -> Vector:
        window, was_seen = operand
        columns = [parameter.at(frame, row) for parameter in self._parameters]
        if self._function.check is not None:
            wrong, message = self._function.check(*columns)
            frame.fail(np.unique(row[wrong & (window.hi > window.lo)]), message)
        value, present = self._function.evaluate(window, *columns)
        return Vector(value, present, was_seen & ~present)
