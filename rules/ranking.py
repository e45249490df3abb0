"""Aggregations that look at each value of a group: topk, bottomk, count_values.

Source: promql/engine.go (aggregationK, aggregationCountValues) of Prometheus 3, for float samples. Where values are
equal, which ones topk keeps is undefined upstream; here it is the elements that came to be first.
"""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Columns, Ints
from rules.grouping import Block, Groups, Segments, parts, unique_pairs
from rules.operators import BEFORE, Bools, Frame, Operator, Scalar, Vector
from rules.syntax import Aggregation, Labels, Text

MAX_VALUES = 10_000
"""Elements of one count_values; they are never given up, as elements are numbered for good."""


class Rank(Operator):
    """`topk by (site) (3, x)`, `bottomk`: the k elements of each group with the largest or smallest values."""

    def __init__(self, child: Operator, node: Aggregation, parameter: Scalar) -> None:
        super().__init__(injective=child.injective, timed=child.timed)
        self._child, self._node, self._parameter = child, node, parameter
        self._sign = -1.0 if node.op == "topk" else 1.0
        self._groups = Groups()
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self._child)

    def labels(self, element: int) -> Labels:
        return self._child.labels(element)

    def child_added(self, side: int, element: int, born: int) -> None:
        del side
        self._groups.add(self._node.key(self._child.labels(element)), element)
        self.announce(element, born)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        del side
        return self._groups.members(self._groups.of[element])

    def discover(self, frame: Frame, row: Ints) -> None:
        super().discover(frame, row)
        self._parameter.discover(frame, row)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        """Whole groups are ranked, once at each row; then each element finds its place."""
        if not len(row):
            return self._child.evaluate(frame, element, row)
        group, rows, which = unique_pairs(self._groups.of[element], row)
        k = self._limits(frame, rows)
        size = self._groups.size[group]
        at = (np.cumsum(size) - size)[which] + self._groups.slot[element]
        found = [self._part(frame, group[part], rows[part], k[part]) for part in parts(size)]
        value, present, unknown = (np.concatenate(column)[at] for column in zip(*found, strict=True))
        return Vector(value, present, unknown)

    def _limits(self, frame: Frame, row: Ints) -> Floats:
        """k at each row; 0 where it is wrong."""
        k = np.trunc(self._parameter.at(frame, row))
        wrong = ~(np.abs(k) < 2.0**63)
        if wrong.any():
            at = np.flatnonzero(wrong)
            frame.fail(
                np.unique(row[at]), f"{self._node.op} needs a number of elements, not {go_float(float(k[at[0]]))}"
            )
        return np.where(wrong, 0.0, k)

    def _part(self, frame: Frame, group: Ints, row: Ints, k: Floats) -> Vector:
        """All elements of each group[i] at row[i], one after the other."""
        which, children = self._groups.members(group)
        value, present, unknown = self._child.evaluate(frame, children, row[which])
        there = np.flatnonzero(present)
        segments = Segments(which[there], value[there] * self._sign, len(row))
        kept = np.zeros(len(which), bool)
        for block in segments.blocks(np.nan):
            best = _best(block, k[block.segment])
            inside = segments.start[block.segment, None] + np.arange(best.shape[1])
            kept[there[inside[best]]] = True
        return Vector(value, kept, unknown)


def _best(block: Block, k: Floats) -> Bools:
    """(groups, width) the k smallest values of each row; NaN comes last, and of equals the first is taken."""
    width = block.value.shape[1]
    best = block.valid & (k >= block.size)[:, None]
    some = np.flatnonzero((k >= 1) & (k < block.size))
    if len(some):
        order = np.argsort(block.value[some], axis=1, kind="stable")
        chosen = np.zeros((len(some), width), bool)
        np.put_along_axis(chosen, order, np.arange(width) < k[some, None], axis=1)
        best[some] = chosen
    return best


class CountValues(Operator):
    """`count_values("version", x)`: an element for each value that a group ever had, with the value as a label."""

    def __init__(self, child: Operator, node: Aggregation) -> None:
        if not isinstance(node.parameter, Text):
            raise TypeError("the parameter of count_values is a text")
        self._label = node.parameter.value
        named = not node.without and "__name__" in (*node.labels, self._label)
        super().__init__(injective=not named, timed=child.timed)
        self._child, self._node = child, node
        self._drops_value = node.without and self._label in (*node.labels, "__name__")
        self._groups = Groups()
        self._elements = Columns(group=("i8", 0), bits=("i8", 0))
        self._texts: list[str] = []
        self._number: dict[tuple[int, int], int] = {}
        self._values: Ints = np.zeros(0, np.int64)
        self._of_group: dict[int, list[int]] = {}
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self._texts)

    def labels(self, element: int) -> Labels:
        key = self._groups.keys[int(self._elements.group[element])]
        if self._drops_value:
            return key
        return tuple(sorted((*key, (self._label, self._texts[element]))))

    def child_added(self, side: int, element: int, born: int) -> None:
        del side, born
        key = self._node.key(self._child.labels(element))
        self._groups.add(tuple(pair for pair in key if pair[0] != self._label), element)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        del side
        own = [self._of_group.get(group, []) for group in self._groups.of[element].tolist()]
        which = np.repeat(np.arange(len(own)), [len(elements) for elements in own])
        return which, np.array([e for elements in own for e in elements], np.int64)

    def discover(self, frame: Frame, row: Ints) -> None:
        super().discover(frame, row)
        rows, n = np.unique(row), len(self._child)
        for part in parts(np.full(len(rows), n)):
            element, at = np.tile(np.arange(n), len(rows[part])), np.repeat(rows[part], n)
            value, present, _ = self._child.evaluate(frame, element, at)
            group, bits, which = _unique_bits(self._groups.of[element[present]], self._bits(value[present]))
            pairs = zip(group.tolist(), bits.tolist(), strict=True)
            refused = np.array([self._element(*pair) is None for pair in pairs], bool)
            if refused.any():
                frame.fail(
                    np.unique(at[present][refused[which]]),
                    f"count_values has met more than {MAX_VALUES} values: round them, or count something else",
                )

    def dynamic(self) -> list[tuple[Labels, str]]:
        """The elements, in order: each group's labels and the value, as text; JSON keeps it."""
        groups = self._elements.group.tolist()
        return [(self._groups.keys[group], text) for group, text in zip(groups, self._texts, strict=True)]

    def restore_dynamic(self, elements: list[tuple[Labels, str]]) -> None:
        """Number the elements as they were, and announce them; lists in place of tuples will do."""
        for key, text in elements:
            bits = int(self._bits(np.array([float(text)]))[0])
            self._element(self._groups.number(tuple((name, value) for name, value in key)), bits)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        if not len(row):
            return Vector(np.zeros(0), np.zeros(0, bool), np.zeros(0, bool))
        group, rows, which = unique_pairs(self._elements.group[element], row)
        codes, counts, vanished = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], np.zeros(len(rows), bool)
        if len(self._values) != len(self):
            self._values = np.unique(self._elements.bits)
        known = self._values
        for part in self._groups.parts(group):
            pair, children = self._groups.members(group[part])
            pair += part.start
            value, present, unknown = self._child.evaluate(frame, children, rows[pair])
            vanished[pair[unknown]] = True
            bits = self._bits(value[present])
            at = np.minimum(np.searchsorted(known, bits), len(known) - 1)
            counted = known[at] == bits
            code, count = np.unique((pair[present] * len(known) + at)[counted], return_counts=True)
            codes.append(code)
            counts.append(count)
        every, number = np.append(np.concatenate(codes), -1), np.append(np.concatenate(counts), 0)
        asked = which * len(known) + np.searchsorted(known, self._elements.bits[element])
        at = np.searchsorted(every[:-1], asked)
        there = every[at] == asked
        return Vector(np.where(there, number[at], np.nan), there, vanished[which] & ~there)

    def _bits(self, value: Floats) -> Ints:
        """What tells values apart: any NaN is the same, 0 and -0 are not."""
        if self._drops_value:
            return np.zeros(len(value), np.int64)
        return np.where(np.isnan(value), np.nan, value).view(np.int64)

    def _element(self, group: int, bits: int) -> int | None:
        """The element of this value of the group, a new one if need be; None if there are too many."""
        known = self._number.get((group, bits))
        if known is not None or len(self) >= MAX_VALUES:
            return known
        own = self._number[group, bits] = len(self)
        self._elements.grow(own + 1)
        self._elements.group[own], self._elements.bits[own] = group, bits
        self._texts.append(go_float(float(np.int64(bits).view(np.float64))))
        self._of_group.setdefault(group, []).append(own)
        self.announce(own, BEFORE)
        return own


def _unique_bits(group: Ints, bits: Ints) -> tuple[Ints, Ints, Ints]:
    """The distinct (group, bits), sorted → (group, bits, which of them each pair is)."""
    values, place = np.unique(bits, return_inverse=True)
    groups, at, which = unique_pairs(group, place)
    return groups, values[at], which


def go_float(value: float) -> str:
    """As Go's strconv.FormatFloat(value, 'f', -1, 64): the shortest digits that give the number, no exponent."""
    if np.isfinite(value):
        digits = f"{Decimal(repr(value)):f}"
        return digits.removesuffix(".0")
    return "NaN" if np.isnan(value) else "+Inf" if value > 0 else "-Inf"
