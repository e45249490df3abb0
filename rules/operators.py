"""Compiled expressions: a tree of operators over numbered elements, evaluated on columns.

Every operator numbers the elements of its result (0, 1, 2 …): one for each label set that it may ever yield. New series
append elements; nothing moves. `evaluate` computes any elements at any instants at once. The operators do not know
who drives them: a Frame gives them the samples as of each instant (streaming, range query, rule tests).

Beside Prometheus' "the element is there or not" each result says whether an element is missing only because data
*vanished* (`unknown`), so that a firing alert is not resolved by a lost sensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Columns, Ints
from rules.promql import Labels, Selector
from telemetry import Series

Bools = NDArray[np.bool_]

BEFORE = -1
"""Position before the first instant of a batch."""


class Samples(NamedTuple):
    """What an instant sees of a series."""

    value: Floats
    time: Ints
    """ns; event time of that sample"""
    seen: Bools
    """False where the series has no sample yet"""
    expires: Ints
    """ns; from this instant on the sample is stale"""


class Frame(Protocol):
    """Instants, and the samples as of them."""

    time: Ints
    """(rows,) ns: the instant of each row"""
    position: Ints
    """(rows,) up to where in the batch each row sees"""
    all_rows: Ints
    """0, 1, 2 … : the very array tells that all rows are meant, in order"""

    def sample(self, series: NDArray[np.int32], row: Ints) -> Samples:
        """The newest sample of series[i] at the instant of row[i]."""
        ...

    def expect(self, row: Ints, instant: Ints) -> None:
        """Note that the outcome of row[i] may change at instant[i] although no reading comes."""
        ...


class Vector(NamedTuple):
    """n results."""

    value: Floats
    present: Bools
    """The element is there, as Prometheus means it."""
    unknown: Bools
    """It is not there, but might be if no data had vanished. Never true where `present` is."""


class Operator(ABC):
    """A node of the compiled tree."""

    def __init__(self, *, injective: bool, timed: bool) -> None:
        self.injective = injective
        """No two elements can have the same labels apart from `__name__`."""
        self.timed = timed
        """The value changes with time alone."""
        self._parent: Operator | None = None
        self._side = 0

    @abstractmethod
    def __len__(self) -> int:
        """Number of elements so far."""

    @abstractmethod
    def labels(self, element: int) -> Labels:
        """The labels of an element, sorted by name."""

    @abstractmethod
    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        """The result for element[i] at row[i], (n,)."""

    @abstractmethod
    def child_added(self, side: int, element: int, born: int) -> None:
        """Operand `side` has a new element, since the position `born` in the current batch."""

    def born(self, element: Ints) -> Ints | None:
        """The positions in the current batch at which elements came to be, if that matters: see Keyed."""
        del element
        return None

    def parents(self, element: Ints) -> tuple[Ints | None, Ints]:
        """The elements of the operator above that depend on element[i] → (i or None, parent's element)."""
        return self.parent.dependents(self._side, element)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        """Own elements that depend on the operand's element[i] → (i or None, own element)."""
        del side
        return None, element

    @property
    def parent(self) -> Operator:
        if self._parent is None:
            raise ValueError("the top operator has no parent")
        return self._parent

    def adopt(self, side: int, child: Operator) -> None:
        child._parent, child._side = self, side

    def announce(self, element: int, born: int) -> None:
        if self._parent is not None:
            self._parent.child_added(self._side, element, born)


class Members:
    """The series that a selector matches, numbered in the order in which they appeared; all rules share them."""

    def __init__(self, selector: Selector, series: LabelsOf) -> None:
        self.selector, self.series = selector, series
        self.label_names: set[str] = set()
        """Of all members."""
        self._ids = Columns(id=("i4", 0))
        self._leaves: list[Leaf] = []

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.int32]:
        """(n,) series id of each element."""
        return self._ids.id

    def add(self, series: int, born: int) -> int:
        """Number the series, which matches and was first seen at `born`; tell the operators above."""
        element = len(self._ids)
        self._ids.grow(element + 1)
        self._ids.id[element] = series
        self.label_names.update(name for name, _ in self.series(series).labels)
        for leaf in self._leaves:
            leaf.announce(element, born)
        return element

    def follow(self, leaf: Leaf) -> None:
        """Announce to `leaf` all elements that come."""
        self._leaves.append(leaf)


class Leaf(Operator):
    """An instant selector, or `age()` of one: its elements are the selector's series."""

    def __init__(self, members: Members, *, age: bool = False) -> None:
        super().__init__(injective=members.selector.metric is not None, timed=age)
        self.members = members

    def __len__(self) -> int:
        return len(self.members)

    def labels(self, element: int) -> Labels:
        series = self.members.series(int(self.members.ids[element]))
        if self.timed:
            return series.labels
        return tuple(sorted((("__name__", series.metric), *series.labels)))

    def child_added(self, side: int, element: int, born: int) -> None:
        raise NotImplementedError("a selector has no operands")

    def newest(self, frame: Frame, element: Ints, row: Ints) -> Ints:
        """The event time of each element's newest sample, ns."""
        return frame.sample(self.members.ids[element], row).time

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        sample = frame.sample(self.members.ids[element], row)
        now = frame.time if row is frame.all_rows else frame.time[row]
        if self.timed:
            age = np.where(sample.seen, (now - sample.time) / 1e9, np.nan)
            return Vector(age, sample.seen, np.zeros(len(row), bool))
        fresh = sample.seen & (now < sample.expires)
        if fresh.all():
            frame.expect(row, sample.expires)
            return Vector(sample.value, fresh, ~fresh)
        frame.expect(row[fresh], sample.expires[fresh])
        return Vector(sample.value, fresh, sample.seen & ~fresh)


class LabelsOf(Protocol):
    """Series by id."""

    def __call__(self, series: int, /) -> Series: ...


class ElementWise(Operator):
    """A function of one vector: arithmetic with a constant, a comparison with one, a mathematical function."""

    def __init__(self, child: Operator) -> None:
        super().__init__(injective=child.injective, timed=child.timed)
        self.child = child
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self.child)

    def child_added(self, side: int, element: int, born: int) -> None:
        del side
        self.announce(element, born)

    def labels(self, element: int) -> Labels:
        return tuple(pair for pair in self.child.labels(element) if pair[0] != "__name__")


class Transform(ElementWise):
    """value → f(value)."""

    def __init__(self, child: Operator, function: Function) -> None:
        super().__init__(child)
        self._function = function

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        value, present, unknown = self.child.evaluate(frame, element, row)
        return Vector(np.asarray(self._function(value), np.float64), present, unknown)


class Function(Protocol):
    """Column → column."""

    def __call__(self, value: Floats, /) -> Floats: ...


class Filter(ElementWise):
    """A comparison with a constant: keeps the elements for which it holds, with their value."""

    def __init__(self, child: Operator, holds: Function) -> None:
        super().__init__(child)
        self._holds = holds

    def labels(self, element: int) -> Labels:
        return self.child.labels(element)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        value, present, unknown = self.child.evaluate(frame, element, row)
        return Vector(value, present & self._holds(value).astype(bool), unknown)


class AgeFilter(Filter):
    """`age(x) > 60` and the like: the instants at which its outcome changes are known beforehand."""

    def __init__(self, leaf: Leaf, holds: Function, limit: float) -> None:
        super().__init__(leaf, holds)
        self.timed = False
        self._leaf = leaf
        self._changes = _change_points(holds, limit)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        for age in self._changes:
            instant = self._leaf.newest(frame, element, row) + age
            ahead = instant > frame.time[row]
            frame.expect(row[ahead], instant[ahead])
        return super().evaluate(frame, element, row)


def _change_points(holds: Function, limit: float) -> list[int]:
    """The ages, in ns, at which `holds` gives another answer than 1 ns before."""
    if not abs(limit) < 1e9:
        return []
    near = np.arange(round(limit * 1e9) - 3, round(limit * 1e9) + 4)
    answer = np.asarray(holds(near / 1e9), bool)
    return [int(age) for age in near[1:][answer[1:] != answer[:-1]] if age > 0]


class Nothing(ElementWise):
    """clamp() with min > max: the empty vector."""

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        del frame, element
        n = len(row)
        return Vector(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool))
