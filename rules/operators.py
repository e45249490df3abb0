"""Compiled expressions: a tree of operators over numbered elements, evaluated on columns.

Every operator numbers the elements of its result (0, 1, 2 …): one for each label set that it may ever yield. New series
append elements; nothing moves. `evaluate` computes any elements at any instants at once. The operators do not know
who drives them: a Frame gives them the samples as of each instant (streaming, range query, rule tests).

Beside Prometheus' "the element is there or not" each result says whether an element is missing only because data
*vanished* (`unknown`), so that a firing alert is not resolved by a lost sensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.history import Window
from rules.syntax import Labels

Bools = NDArray[np.bool_]

Function = Callable[..., Any]
"""Columns → column."""

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
    now: Ints
    """ns; the instant by the series' own clock"""


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

    def past(self, series: NDArray[np.int32], row: Ints, ago: Ints) -> Samples:
        """As `sample`, but `ago[i]` ns before (`now` is that instant)."""
        ...

    def window(self, series: NDArray[np.int32], row: Ints, ago: Ints, duration: int) -> Window:
        """The samples of series[i] in the `duration` ns up to `ago[i]` ns before row[i]; its start is outside."""
        ...

    def ended(self, series: NDArray[np.int32]) -> Bools:
        """Whether a recorded series is no longer there, and not because data is missing."""
        ...

    def expect(self, row: Ints, instant: Ints) -> None:
        """Note that the outcome of row[i] may change at instant[i] although no reading comes."""
        ...

    def fail(self, row: Ints, message: str) -> None:
        """Note that the expression cannot be evaluated at those rows, as Prometheus defines it."""
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
        self._children: list[Operator] = []

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

    def identity(self) -> Hashable:
        """Equal for operators of different rules that give the same result, wherever that is easily seen."""
        return self

    def discover(self, frame: Frame, row: Ints) -> None:
        """Number the elements that depend on values (count_values), before `evaluate` at those rows."""
        for child in self._children:
            child.discover(frame, row)

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
        self._children.append(child)

    def announce(self, element: int, born: int) -> None:
        if self._parent is not None:
            self._parent.child_added(self._side, element, born)


class Scalar(ABC):
    """A number for each row, without labels."""

    @abstractmethod
    def at(self, frame: Frame, row: Ints) -> Floats:
        """The value at each row, (n,)."""

    def column(self, frame: Frame, row: Ints) -> Floats | np.float64:
        """As `at`, but one number where it is the same for all rows."""
        return self.at(frame, row)

    def identity(self) -> Hashable:
        """As Operator.identity."""
        return self

    def discover(self, frame: Frame, row: Ints) -> None:  # noqa: B027  # most have nothing to discover
        """As Operator.discover."""


class Constant(Scalar):
    """A number of the text."""

    def __init__(self, value: float) -> None:
        self.value = np.float64(value)

    def identity(self) -> Hashable:
        return self.value.tobytes()

    def at(self, frame: Frame, row: Ints) -> Floats:
        del frame
        return np.full(len(row), self.value)

    def column(self, frame: Frame, row: Ints) -> Floats | np.float64:
        del frame, row
        return self.value
