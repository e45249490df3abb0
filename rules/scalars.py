"""Numbers without labels, and the way from them to vectors and back: `time()`, `scalar(v)`, `vector(s)`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.operators import BEFORE, Frame, Function, Operator, Scalar, Vector
from rules.syntax import Labels


class EvaluationTime(Scalar):
    """`time()`: the instant of evaluation, in seconds."""

    def at(self, frame: Frame, row: Ints) -> Floats:
        return frame.time[row] / 1e9


class Computed(Scalar):
    """A function of scalars."""

    def __init__(self, function: Function, parameters: Sequence[Scalar]) -> None:
        self._function, self._parameters = function, parameters

    def at(self, frame: Frame, row: Ints) -> Floats:
        columns = [parameter.at(frame, row) for parameter in self._parameters]
        return np.asarray(self._function(*columns), np.float64)

    def discover(self, frame: Frame, row: Ints) -> None:
        for parameter in self._parameters:
            parameter.discover(frame, row)


class Root(Operator):
    """The top of a tree inside another one: its elements are its child's."""

    def __init__(self, child: Operator) -> None:
        super().__init__(injective=child.injective, timed=child.timed)
        self.child = child
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self.child)

    def labels(self, element: int) -> Labels:
        return self.child.labels(element)

    def child_added(self, side: int, element: int, born: int) -> None:
        """Nobody above needs to know."""

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        return self.child.evaluate(frame, element, row)


class ScalarOf(Scalar):
    """`scalar(v)`: the value of the only element that is there, or NaN."""

    def __init__(self, vector: Operator) -> None:
        self._vector = Root(vector)

    def discover(self, frame: Frame, row: Ints) -> None:
        self._vector.discover(frame, row)

    def at(self, frame: Frame, row: Ints) -> Floats:
        rows, which = np.unique(row, return_inverse=True)
        n, k = len(self._vector), len(rows)
        value, present, _ = self._vector.evaluate(frame, np.repeat(np.arange(n), k), np.tile(rows, n))
        there = present.reshape(n, k)
        values = np.where(there, value.reshape(n, k), 0.0)
        only = values[np.argmax(there, axis=0), np.arange(k)] if n else np.full(k, np.nan)
        found: Floats = np.where(there.sum(axis=0) == 1, only, np.nan)[which]
        return found


class VectorOf(Operator):
    """`vector(s)`: one element without labels."""

    def __init__(self, scalar: Scalar) -> None:
        super().__init__(injective=True, timed=False)
        self._scalar = scalar

    def __len__(self) -> int:
        return 1

    def start(self) -> None:
        """Tell the operators above of the element, once the tree is whole."""
        self.announce(0, BEFORE)

    def labels(self, element: int) -> Labels:
        del element
        return ()

    def child_added(self, side: int, element: int, born: int) -> None:
        raise NotImplementedError("a scalar has no elements")

    def discover(self, frame: Frame, row: Ints) -> None:
        self._scalar.discover(frame, row)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        del element
        n = len(row)
        return Vector(self._scalar.at(frame, row), np.ones(n, bool), np.zeros(n, bool))
