"""Functions of one vector: arithmetic and comparison with numbers, mathematical functions."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from rules.columns import Ints
from rules.leaves import AgeLeaf
from rules.operators import Constant, Frame, Function, Operator, Scalar, Vector
from rules.syntax import Labels


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
