"""Compiled expressions: a tree of operators over numbered elements, evaluated on columns.

Every operator numbers the elements of its result (0, 1, 2 …): one for each label set that it may ever yield. New series
append elements; nothing moves. `evaluate` computes any elements at any instants at once. The operators do not know
who drives them: a Frame gives them the samples as of each instant (streaming, range query, rule tests).

Beside Prometheus' "the element is there or not" each result says whether an element is missing only because data
*vanished* (`unknown`), so that a firing alert is not resolved by a lost sensor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Columns, Ints
from rules.history import Window
from rules.syntax import Labelled, Labels, Selector

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
    """A selector's series, numbered as its members are."""

    def __init__(self, members: Members, *, timed: bool = False) -> None:
        super().__init__(injective=members.selector.metric is not None, timed=timed)
        self.members = members

    def __len__(self) -> int:
        return len(self.members)

    def labels(self, element: int) -> Labels:
        series = self.members.series(int(self.members.ids[element]))
        return tuple(sorted((("__name__", series.metric), *series.labels)))

    def child_added(self, side: int, element: int, born: int) -> None:
        raise NotImplementedError("a selector has no operands")


class InstantLeaf(Leaf):
    """An instant selector."""

    def __init__(self, members: Members, ago: Ago) -> None:
        super().__init__(members)
        self.ago = ago

    def identity(self) -> Hashable:
        return type(self), self.members, self.ago

    def look(self, frame: Frame, element: Ints, row: Ints) -> Samples:
        """What each row sees of the element."""
        if self.ago.is_zero:
            return frame.sample(self.members.ids[element], row)
        return frame.past(self.members.ids[element], row, self.ago.of(frame, row))

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        sample = self.look(frame, element, row)
        fresh = sample.seen & (sample.now < sample.expires)
        expires = sample.expires if self.ago.is_zero else sample.expires + self.ago.of(frame, row)
        if fresh.all():
            frame.expect(row, expires)
            return Vector(sample.value, fresh, ~fresh)
        frame.expect(row[fresh], expires[fresh])
        return Vector(sample.value, fresh, sample.seen & ~fresh)


class TimestampLeaf(InstantLeaf):
    """`timestamp(x)`: the event time of the sample that an instant selector sees, in seconds."""

    def labels(self, element: int) -> Labels:
        return self.members.series(int(self.members.ids[element])).labels

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        _, present, unknown = super().evaluate(frame, element, row)
        return Vector(self.look(frame, element, row).time / 1e9, present, unknown)


class AgeLeaf(Leaf):
    """`age(x)`: seconds since the newest sample, however old it is."""

    def __init__(self, members: Members) -> None:
        super().__init__(members, timed=True)

    def identity(self) -> Hashable:
        return AgeLeaf, self.members

    def labels(self, element: int) -> Labels:
        return self.members.series(int(self.members.ids[element])).labels

    def newest(self, frame: Frame, element: Ints, row: Ints) -> Ints:
        """The event time of each element's newest sample, ns."""
        return frame.sample(self.members.ids[element], row).time

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        sample = frame.sample(self.members.ids[element], row)
        age = np.where(sample.seen, (sample.now - sample.time) / 1e9, np.nan)
        return Vector(age, sample.seen, np.zeros(len(row), bool))


class Ago(NamedTuple):
    """How far back an `offset` and an `@` look."""

    offset: int
    """ns"""
    at: int | None
    """ns since the epoch, or None: seen from each row"""

    @property
    def is_zero(self) -> bool:
        return self.offset == 0 and self.at is None

    def of(self, frame: Frame, row: Ints) -> Ints:
        """(n,) ns before each row"""
        if self.at is None:
            return np.full(len(row), self.offset)
        return frame.time[row] - self.at + self.offset


class LabelsOf(Protocol):
    """Series by id."""

    def __call__(self, series: int, /) -> Identity: ...


class Identity(Labelled, Protocol):
    """Metric and labels."""

    @property
    def metric(self) -> str: ...

    @property
    def labels(self) -> Labels: ...


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

    @abstractmethod
    def of(self, frame: Frame, row: Ints, operand: Any) -> Vector:
        """The result where the operand's is known: a Vector, or of ranges what RangeOperator.window gives."""

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        return self.of(frame, row, self.child.evaluate(frame, element, row))


class Transform(ElementWise):
    """value → f(value, parameters)."""

    def __init__(
        self,
        child: Operator,
        function: Function,
        parameters: Sequence[Scalar] = (),
        empty: Function | None = None,
    ) -> None:
        """empty: of the parameters, where there is no result at all."""
        super().__init__(child)
        self._function, self._parameters, self._empty = function, parameters, empty

    def identity(self) -> Hashable:
        parameters = tuple(parameter.identity() for parameter in self._parameters)
        return type(self), self._function, parameters, self._empty, self.child.identity()

    def discover(self, frame: Frame, row: Ints) -> None:
        super().discover(frame, row)
        for parameter in self._parameters:
            parameter.discover(frame, row)

    def of(self, frame: Frame, row: Ints, operand: Vector) -> Vector:
        value, present, unknown = operand
        columns = [parameter.column(frame, row) for parameter in self._parameters]
        if self._empty is not None:
            some = ~np.asarray(self._empty(*columns))
            present, unknown = present & some, unknown & some
        return Vector(np.asarray(self._function(value, *columns), np.float64), present, unknown)


class Filter(Transform):
    """A comparison with a number: keeps the elements for which it holds, with their value."""

    def labels(self, element: int) -> Labels:
        return self.child.labels(element)

    @property
    def limit(self) -> tuple[Function, np.float64] | None:
        """The comparison and the number, if it is one."""
        number = self._parameters[0]
        return (self._function, number.value) if isinstance(number, Constant) else None

    def of(self, frame: Frame, row: Ints, operand: Vector) -> Vector:
        value, present, unknown = operand
        columns = [parameter.column(frame, row) for parameter in self._parameters]
        return Vector(value, present & self._function(value, *columns), unknown)


class AgeFilter(Filter):
    """`age(x) > 60` and the like: the instants at which its outcome changes are known beforehand."""

    def __init__(self, leaf: AgeLeaf, holds: Function, limit: Constant) -> None:
        super().__init__(leaf, holds, [limit])
        self.timed = False
        self._leaf = leaf
        self._changes = _change_points(holds, limit.value)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        for age in self._changes:
            instant = self._leaf.newest(frame, element, row) + age
            ahead = instant > frame.time[row]
            frame.expect(row[ahead], instant[ahead])
        return super().evaluate(frame, element, row)


def _change_points(holds: Function, limit: np.float64) -> list[int]:
    """The ages, in ns, at which `holds` gives another answer than 1 ns before."""
    if not abs(limit) < 1e9:
        return []
    near = np.arange(round(float(limit) * 1e9) - 3, round(float(limit) * 1e9) + 4)
    answer = np.asarray(holds(near / 1e9, limit), bool)
    return [int(age) for age in near[1:][answer[1:] != answer[:-1]] if age > 0]
