"""`and`, `or`, `unless`: which elements of two vectors stay, by the keys that the other side has.

Source: Prometheus' documentation of logical/set binary operators, and promql/engine.go (VectorAnd, VectorOr,
VectorUnless). Arithmetic and comparisons are in rules.matching.
"""

from __future__ import annotations

import numpy as np

from rules.columns import Columns, Ints
from rules.matching import Keyed
from rules.operators import Frame, Operator, Vector
from rules.syntax import Binary, Labels


class AndUnless(Keyed):
    """`and`, `unless`: the elements of the left side, by whether the right side has any with the same key."""

    def __init__(self, lhs: Operator, rhs: Operator, node: Binary) -> None:
        super().__init__(lhs, rhs, node.matching, injective=lhs.injective)
        self._negated = node.op == "unless"
        self._left_of: dict[Labels, list[int]] = {}
        self._right_of: dict[Labels, list[int]] = {}

    def __len__(self) -> int:
        return len(self.sides[0])

    def labels(self, element: int) -> Labels:
        return self.sides[0].labels(element)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        return (None, element) if side == 0 else super().dependents(side, element)

    def child_added(self, side: int, element: int, born: int) -> None:
        key = self.matching.key(self.sides[side].labels(element))
        (self._left_of, self._right_of)[side].setdefault(key, []).append(element)
        if side == 0:
            for other in self._right_of.get(key, ()):
                self._link(1, other, element)
            self._births.append(born)
            self.announce(element, born)
        else:
            for own in self._left_of.get(key, ()):
                self._link(1, element, own)

    def _result(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        left = self.sides[0].evaluate(frame, element, row)
        there, vanished = self._any(1, frame, element, row)
        if self._negated:
            return Vector(left.value, left.present & ~there, left.unknown & ~there)
        present = left.present & there
        return Vector(left.value, present, (left.present | left.unknown) & (there | vanished) & ~present)


class Or(Keyed):
    """`or`: all elements of the left side, and those of the right side whose key the left side does not have."""

    def __init__(self, lhs: Operator, rhs: Operator, node: Binary) -> None:
        super().__init__(lhs, rhs, node.matching, injective=False)
        self._shows = Columns(side=("i1", 0), element=("i8", 0))
        self._left_of: dict[Labels, list[int]] = {}
        self._right_of: dict[Labels, list[int]] = {}

    def __len__(self) -> int:
        return len(self._shows)

    def labels(self, element: int) -> Labels:
        return self.sides[int(self._shows.side[element])].labels(int(self._shows.element[element]))

    def child_added(self, side: int, element: int, born: int) -> None:
        key = self.matching.key(self.sides[side].labels(element))
        own = len(self._shows)
        self._shows.grow(own + 1)
        self._shows.side[own], self._shows.element[own] = side, element
        self._up[side].add(element, own)
        if side == 0:  # it hides the right elements of its key
            self._left_of.setdefault(key, []).append(element)
            for hidden in self._right_of.get(key, ()):
                self._link(0, element, hidden)
        else:
            self._right_of.setdefault(key, []).append(own)
            for left in self._left_of.get(key, ()):
                self._link(0, left, own)
        self._births.append(born)
        self.announce(own, born)

    def _result(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        n = len(element)
        result = Vector(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool))
        for side in (0, 1):
            at = np.flatnonzero(self._shows.side[element] == side)
            if len(at):
                part = self.sides[side].evaluate(frame, self._shows.element[element[at]], row[at])
                hidden = self._any(0, frame, element[at], row[at])[0] if side else np.zeros(len(at), bool)
                result.value[at] = part.value
                result.present[at] = part.present & ~hidden
                result.unknown[at] = part.unknown & ~hidden
        return result
