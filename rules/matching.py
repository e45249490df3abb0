"""Operators of two vectors: their elements find each other by a key of labels. Here: one to one.

Not here: `group_left` and `group_right` (rules.many_matching), `and`, `or`, `unless` (rules.set_operators).

Source: Prometheus' documentation of vector matching, and promql/engine.go (VectorBinop). Which elements can meet is
settled once, when a series is new; whether they are there, at each instant.
"""

from __future__ import annotations

from abc import abstractmethod

import numpy as np

from rules.arithmetic import OPERATORS
from rules.columns import Ints, Links
from rules.operators import BEFORE, Bools, Frame, Operator, Vector
from rules.syntax import COMPARISON, Binary, Labels, Matching


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


class Paired(Keyed):
    """Arithmetic or comparison of two vectors. Side `one` may have but one element of a key at an instant.

    Two at once are an error (`Frame.fail`), and count as none.
    """

    def __init__(self, lhs: Operator, rhs: Operator, node: Binary, *, one: int, injective: bool) -> None:
        super().__init__(lhs, rhs, node.matching, injective=injective)
        self._function = OPERATORS[node.op]
        self._filters = node.op in COMPARISON and not node.return_bool
        self._one = one
        self._rivals: dict[Labels, list[int]] = {}
        """Elements of side `one` that share their key with another one, by key."""
        self._rival_columns: tuple[Ints, Ints] | None = None

    def discover(self, frame: Frame, row: Ints) -> None:
        """Fail the rows at which two elements of side `one` share a key that no element of the other side has, too.

        Upstream refuses them as soon as the other side has any element at all. It takes an evaluation of all rivals at
        all rows, so it is for ticks and queries; an expression evaluated at each reading does without.
        """
        super().discover(frame, row)
        if not self._rivals or not len(row):
            return
        if self._rival_columns is None:
            key = np.repeat(np.arange(len(self._rivals)), [len(rivals) for rivals in self._rivals.values()])
            self._rival_columns = np.concatenate([np.array(r, np.int64) for r in self._rivals.values()]), key
        element, key = self._rival_columns
        present = _grid(self.sides[self._one], frame, element, row)
        twice = np.add.reduceat(present, np.flatnonzero(np.diff(key, prepend=-1)), axis=0, dtype=np.int64) > 1
        failing = np.flatnonzero(twice.any(axis=0))
        if len(failing):
            other = self.sides[1 - self._one]
            failing = failing[_grid(other, frame, np.arange(len(other)), row[failing]).any(axis=0)]
        if len(failing):
            first = int(twice[:, failing[0]].argmax())
            self._refuse(frame, row[failing], self._one, element[key == first])

    def _rival(self, key: Labels, first: int, element: int) -> None:
        """Another element of side `one` shares the key of the first."""
        self._rivals.setdefault(key, [first]).append(element)
        self._rival_columns = None

    def _combine(self, left: Vector, right: Vector) -> Vector:
        result = np.asarray(self._function(left.value, right.value))
        both = left.present & right.present
        possible = (left.present | left.unknown) & (right.present | right.unknown)
        if self._filters:
            return Vector(left.value, both & result.astype(bool), possible & ~both)
        return Vector(result.astype(np.float64), both, possible & ~both)

    def _refuse(self, frame: Frame, row: Ints, side: int, children: Ints) -> None:
        """Fail the rows; at row[0], at least two of `children` are there, which share a key."""
        operand = self.sides[side]
        there = children[operand.evaluate(frame, children, np.full(len(children), row[0]))[1]]
        first, second = operand.labels(int(there[0])), operand.labels(int(there[1]))
        where = ("left", "right")[side]
        frame.fail(
            row,
            f"two elements of the match group {written(self.matching.key(first))} on the {where} side: "
            f"{written(first)} and {written(second)}; match by labels that tell them apart"
            + ("" if self.matching.many else f", or say group_{where} if the other side has but one"),
        )


class Match(Paired):
    """One to one: an element for each key that both sides have."""

    def __init__(self, lhs: Operator, rhs: Operator, node: Binary) -> None:
        on = node.matching.on
        super().__init__(lhs, rhs, node, one=1, injective=on is None or "__name__" not in on)
        self._keys: list[Labels] = []
        self._names: list[Labels] = []
        self._right: list[int] = []  # the first element of the right side
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
            if side == 1:
                self._rival(key, self._right[own], element)
            return
        waiting = self._waiting.setdefault(key, ([], []))
        waiting[side].append(element)
        if side == 1 and len(waiting[1]) > 1:
            self._rival(key, waiting[1][0], element)
        if all(waiting):
            self._create(key, self._waiting.pop(key), born)

    def _create(self, key: Labels, operands: tuple[list[int], list[int]], born: int) -> None:
        own = self._element_of[key] = len(self._keys)
        self._keys.append(key)
        self._right.append(operands[1][0])
        left = self.sides[0].labels(operands[0][0])
        keeps_name = self._filters and self.matching.on is None and "__name__" not in self.matching.ignoring
        self._names.append(tuple(pair for pair in left if pair[0] == "__name__") if keeps_name else ())
        for side, children in enumerate(operands):
            for child in children:
                self._link(side, child, own)
        self._births.append(born)
        self.announce(own, born)

    def _result(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        left, left_twice = self._operand(0, frame, element, row)
        right, right_twice = self._operand(1, frame, element, row)
        for side, twice, other, other_twice in (
            (1, right_twice, left, left_twice),
            (0, left_twice, right, right_twice),
        ):
            if twice is not None:
                failing = np.flatnonzero(
                    twice & (other.present if other_twice is None else other.present | other_twice)
                )
                if len(failing):
                    failing = failing[np.argsort(row[failing], kind="stable")]
                    children = self._down[side].expand(element[failing[:1]])[1]
                    self._refuse(frame, row[failing], side, children)
        return self._combine(left, right)

    def _operand(self, side: int, frame: Frame, element: Ints, row: Ints) -> tuple[Vector, Bools | None]:
        """The operand's element that is there, for each own element; and where two are (then it counts as none)."""
        which, children = self._down[side].expand(element)
        if which is None:
            return self.sides[side].evaluate(frame, children, row), None
        value, present, unknown = self.sides[side].evaluate(frame, children, row[which])
        n = len(element)
        count = np.bincount(which[present], minlength=n)
        missing = np.bincount(which[unknown], minlength=n) > 0
        first = np.full(n, np.nan)
        at = np.flatnonzero(present)
        first[which[at]] = value[at]
        twice = count > 1
        return Vector(first, count == 1, (missing & (count == 0)) | twice), twice


def written(labels: Labels) -> str:
    """Labels as PromQL writes them: `up{job="a"}`."""
    name = "".join(value for label, value in labels if label == "__name__")
    escaped = {
        label: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        for label, value in labels
        if label != "__name__"
    }
    return name + "{" + ", ".join(f'{label}="{value}"' for label, value in escaped.items()) + "}"


def _grid(operand: Operator, frame: Frame, element: Ints, row: Ints) -> Bools:
    """(elements, rows) whether each is there."""
    asked = np.repeat(element, len(row)), np.tile(row, len(element))
    return operand.evaluate(frame, *asked).present.reshape(len(element), len(row))
