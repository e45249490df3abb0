"""`group_left` and `group_right`: many elements of one side meet the same element of the other.

Source: Prometheus' documentation of vector matching, and promql/engine.go (VectorBinop, resultMetric).
"""

from __future__ import annotations

import numpy as np

from rules.columns import Columns, Ints, Links
from rules.matching import Paired, written
from rules.operators import Bools, Frame, Operator, Vector
from rules.syntax import Binary, Labels


class ManyMatch(Paired):
    """Arithmetic or comparison, many to one.

    An element is an element of the many side with the values that the include labels have in an element of the one
    side with the same key, its *variant*: so it stays the same when another series of the one side takes over with the
    same values. The one side is evaluated once for each key and instant, however many elements share it.
    """

    def __init__(self, lhs: Operator, rhs: Operator, node: Binary) -> None:
        self._many = 0 if node.matching.many == "left" else 1
        # Without include labels the labels are the many side's, so they differ if those do.
        injective = (lhs, rhs)[self._many].injective and not node.matching.include
        super().__init__(lhs, rhs, node, one=1 - self._many, injective=injective)
        self._name_last = node.return_bool  # upstream drops the name before including labels, but then, too
        self._key_of: dict[Labels, int] = {}
        self._manys: list[list[int]] = []  # by key
        self._ones: list[list[int]] = []  # by key
        self._variants: list[dict[tuple[str, ...], int]] = []  # by key: values of the include labels → variant
        self._values: list[tuple[str, ...]] = []  # by variant
        self._own = Columns(many=("i8", 0), key=("i8", 0), variant=("i8", 0), twin=("i8", 0))
        self._single = Columns(key=("i8", 0), variant=("i8", 0))  # by element of the one side
        self._own_of, self._ones_of = Links(), Links()  # key → own elements, elements of the one side
        self._twin_of: dict[Labels, int] = {}
        self._ambiguous = False

    def __len__(self) -> int:
        return len(self._own)

    def labels(self, element: int) -> Labels:
        labels = dict(self.sides[self._many].labels(int(self._own.many[element])))
        if not self._filters:
            labels.pop("__name__", None)
        labels |= zip(self.matching.include, self._values[self._own.variant[element]], strict=True)
        if self._name_last:
            labels.pop("__name__", None)
        return tuple(sorted((name, value) for name, value in labels.items() if value))

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        if side == self._many:
            return super().dependents(side, element)
        return self._own_of.expand(self._single.key[element])

    def child_added(self, side: int, element: int, born: int) -> None:
        labels = self.sides[side].labels(element)
        match_group = self.matching.key(labels)
        key = self._key_of.setdefault(match_group, len(self._ones))
        if key == len(self._ones):
            self._manys.append([])
            self._ones.append([])
            self._variants.append({})
        if side == self._many:
            self._manys[key].append(element)
            for variant in self._variants[key].values():
                self._create(element, key, variant, born)
            return
        self._ones[key].append(element)
        self._ones_of.add(key, element)
        if len(self._ones[key]) > 1:
            self._rival(match_group, self._ones[key][0], element)
        given = dict(labels)
        values = tuple(given.get(name, "") for name in self.matching.include)
        variant = self._variants[key].setdefault(values, len(self._values))
        self._single.grow(element + 1)
        self._single.key[element], self._single.variant[element] = key, variant
        if variant == len(self._values):
            self._values.append(values)
            for many in self._manys[key]:
                self._create(many, key, variant, born)

    def _create(self, many: int, key: int, variant: int, born: int) -> None:
        own = len(self._own)
        self._own.grow(own + 1)
        self._own.many[own], self._own.key[own], self._own.variant[own] = many, key, variant
        self._up[self._many].add(many, own)
        self._own_of.add(key, own)
        if not self.injective:
            twin = self._own.twin[own] = self._twin_of.setdefault(self.labels(own), own)
            self._ambiguous |= bool(twin != own)
        self._births.append(born)
        self.announce(own, born)

    def _result(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        many = self.sides[self._many].evaluate(frame, self._own.many[element], row)
        one, twice = self._one_side(frame, element, row)
        failing = np.flatnonzero(twice & many.present) if twice is not None else ()
        if len(failing):
            failing = failing[np.argsort(row[failing], kind="stable")]
            rivals = self._ones[int(self._own.key[element[failing[0]]])]
            self._refuse(frame, row[failing], self._one, np.array(rivals, np.int64))
        result = self._combine(many, one) if self._many == 0 else self._combine(one, many)
        if self._ambiguous:
            both = many.present & one.present
            result.present[self._twins(frame, element, row, both)] = False
        return result

    def _one_side(self, frame: Frame, element: Ints, row: Ints) -> tuple[Vector, Bools | None]:
        """The one side's element for each own element; and where two are there (then it counts as none)."""
        rows = int(row.max(initial=0)) + 1
        slot, at = _distinct(self._own.key[element] * rows + row, len(self._ones) * rows)
        which, ones = self._ones_of.expand(slot // rows)
        if which is None:
            value, present, unknown = self.sides[self._one].evaluate(frame, ones, slot % rows)
            return Vector(value[at], present[at], unknown[at]), None
        asked = (slot % rows)[which]
        value, present, unknown = self.sides[self._one].evaluate(frame, ones, asked)
        count = np.bincount(which[present], minlength=len(slot))
        found, variant = np.full(len(slot), np.nan), np.full(len(slot), -1)
        found[which[present]] = value[present]
        variant[which[present]] = self._single.variant[ones[present]]
        own = self._own.variant[element]
        missing = np.zeros(len(element), bool)
        if unknown.any():
            vanished = self._single.variant[ones[unknown]] * rows + asked[unknown]
            missing = np.isin(own * rows + row, vanished) & (count == 0)[at]
        return Vector(found[at], (count == 1)[at] & (variant[at] == own), missing), (count > 1)[at]

    def _twins(self, frame: Frame, element: Ints, row: Ints, both: Bools) -> Ints:
        """Fail the rows at which two elements would have the same labels → those elements, as places in `row`."""
        rows = int(row.max(initial=0)) + 1
        pairs = np.unique(element[both] * rows + row[both])
        codes, count = np.unique(self._own.twin[pairs // rows] * rows + pairs % rows, return_counts=True)
        failing = np.flatnonzero(both & np.isin(self._own.twin[element] * rows + row, codes[count > 1]))
        if len(failing):
            failing = failing[np.argsort(row[failing], kind="stable")]
            labels = written(self.labels(int(element[failing[0]])))
            frame.fail(
                row[failing],
                f"multiple matches for labels: two results would be {labels}; the grouping labels must tell them apart",
            )
        return failing


def _distinct(code: Ints, size: int) -> tuple[Ints, Ints]:
    """The different values of `code`, which are below `size`, ascending, and the place of each code[i] among them."""
    if len(code) == 1:
        return code, np.zeros(1, np.int64)
    if size > 8 * len(code):
        return np.unique(code, return_inverse=True)
    there = np.zeros(size, bool)
    there[code] = True
    values = np.flatnonzero(there)
    place = np.empty(size, np.int64)
    place[values] = np.arange(len(values))
    return values, place[code]
