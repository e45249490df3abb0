"""Operators of two vectors: their elements find each other by a key of labels.

Source: Prometheus' documentation of vector matching, and promql/engine.go (VectorBinop, VectorAnd, VectorOr,
VectorUnless). Which elements can meet is settled once, when a series is new; whether they are there, at each instant.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from rules.arithmetic import OPERATORS
from rules.columns import Columns, Ints, Links
from rules.operators import BEFORE, Bools, Frame, Operator, Vector
from rules.promql import COMPARISON, Binary, Labels, Matching


class Keyed(Operator):
    """Two vectors whose elements find each other by a key of labels.

    All series that a batch brings are bound before it is evaluated. A reading that came before an element did must not
    touch that element, or else the cut into batches would show: hence `born`.
    """

    def __init__(self, lhs: Operator, rhs: Operator, matching: Matching, *, injective: bool) -> None:
        super().__init__(injective=injective, timed=lhs.timed or rhs.timed)
        self.sides = (lhs, rhs)
        self.matching = matching
        self._up = (Links(), Links())
        self._down = (Links(), Links())
        self._settled = 0
        self._births: list[int] = []
        for side, operand in enumerate(self.sides):
            self.adopt(side, operand)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        return self._up[side].expand(element)

    def born(self, element: Ints) -> Ints | None:
        if not self._births:
            return None
        births = np.append(np.array(self._births, np.int64), BEFORE)
        return births[np.where(element >= self._settled, element - self._settled, -1)]

    @abstractmethod
    def _result(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        """`evaluate`, for elements that exist at their rows."""

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        born = self.born(element)
        if born is None or (born <= frame.position[row]).all():
            return self._result(frame, element, row)
        n, alive = len(row), np.flatnonzero(born <= frame.position[row])
        result = Vector(np.full(n, np.nan), np.zeros(n, bool), np.zeros(n, bool))
        for column, part in zip(result, self._result(frame, element[alive], row[alive]), strict=True):
            column[alive] = part
        return result

    def settle(self) -> None:
        """The batch is over."""
        self._births.clear()
        self._settled = len(self)

    def _link(self, side: int, child: int, own: int) -> None:
        self._up[side].add(child, own)
        self._down[side].add(own, child)

    def _any(self, side: int, frame: Frame, element: Ints, row: Ints) -> tuple[Bools, Bools]:
        """Whether the operand has any element for each own element: there now; or none, but one that vanished."""
        which, children = self._down[side].expand(element)
        if which is None:
            return self.sides[side].evaluate(frame, children, row)[1:]
        _, present, unknown = self.sides[side].evaluate(frame, children, row[which])
        there = np.bincount(which[present], minlength=len(element)) > 0
        return there, (np.bincount(which[unknown], minlength=len(element)) > 0) & ~there

    def _operand(self, side: int, frame: Frame, element: Ints, row: Ints) -> Vector:
        """The operand's element that is there, for each own element; two at once are an error, and count as none."""
        which, children = self._down[side].expand(element)
        if which is None:
            return self.sides[side].evaluate(frame, children, row)
        value, present, unknown = self.sides[side].evaluate(frame, children, row[which])
        n = len(element)
        count = np.bincount(which[present], minlength=n)
        missing = np.bincount(which[unknown], minlength=n) > 0
        first = np.full(n, np.nan)
        at = np.flatnonzero(present)
        first[which[at]] = value[at]
        return Vector(first, count == 1, missing & (count == 0))


class Match(Keyed):
    """Arithmetic or comparison of two vectors, one to one: an element for each key that both sides have."""

    def __init__(self, lhs: Operator, rhs: Operator, node: Binary) -> None:
        super().__init__(lhs, rhs, node.matching, injective=True)
        self._function = OPERATORS[node.op]
        self._filters = node.op in COMPARISON and not node.return_bool
        self._keys: list[Labels] = []
        self._names: list[Labels] = []
        self._element_of: dict[Labels, int] = {}
        self._waiting: dict[Labels, tuple[list[int], list[int]]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def labels(self, element: int) -> Labels:
        key = self._keys[element]
        if not self._filters:
            key = tuple(pair for pair in key if pair[0] != "__name__")
        return tuple(sorted((*self._names[element], *key)))

    def child_added(self, side: int, element: int, born: int) -> None:
        labels = self.sides[side].labels(element)
        key = self.matching.key(labels)
        own = self._element_of.get(key)
        if own is not None:
            self._link(side, element, own)
            return
        waiting = self._waiting.setdefault(key, ([], []))
        waiting[side].append(element)
        if all(waiting):
            self._create(key, self._waiting.pop(key), born)

    def _create(self, key: Labels, operands: tuple[list[int], list[int]], born: int) -> None:
        own = self._element_of[key] = len(self._keys)
        self._keys.append(key)
        left = self.sides[0].labels(operands[0][0])
        keeps_name = self._filters and self.matching.on is None and "__name__" not in self.matching.ignoring
        self._names.append(tuple(pair for pair in left if pair[0] == "__name__") if keeps_name else ())
        for side, children in enumerate(operands):
            for child in children:
                self._link(side, child, own)
        self._births.append(born)
        self.announce(own, born)

    def _result(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        left = self._operand(0, frame, element, row)
        right = self._operand(1, frame, element, row)
        result = np.asarray(self._function(left.value, right.value))
        both = left.present & right.present
        possible = (left.present | left.unknown) & (right.present | right.unknown)
        if self._filters:
            return Vector(left.value, both & result.astype(bool), possible & ~both)
        return Vector(result.astype(np.float64), both, possible & ~both)


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
