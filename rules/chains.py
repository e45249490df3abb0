"""The expressions of many rules over the elements of one selector, evaluated together: what is common only once."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.element_wise import AgeFilter, ElementWise, Filter
from rules.frames import PointFrame
from rules.operators import Frame, Function, Operator, Vector
from rules.windows import RangeLeaf

Step = tuple[int, Callable[[Frame, Ints, Any], Any]]
"""The key of a result, and how it follows from the one before."""


class Limits(NamedTuple):
    """Rules that compare the same with numbers, or a rule that does something else."""

    columns: Ints
    chain: list[Step]
    compare: Function | None
    numbers: Floats
    """One for each rule"""


class Chains:
    """Each expression is a chain of operators, from a selector up; equal beginnings are evaluated once a frame."""

    def __init__(self) -> None:
        self._keys: dict[Hashable, int] = {}

    def chain(self, top: Operator) -> list[Step]:
        """`top` is direct (see compile.is_direct)."""
        steps: list[Step] = []
        node = top
        while isinstance(node, ElementWise) and not isinstance(node, AgeFilter):
            steps.append((self._key(node), node.of))
            node = node.child
        begin = node.window if isinstance(node, RangeLeaf) else node.evaluate
        steps.append((self._key(node), lambda frame, element, _: begin(frame, element, frame.all_rows)))
        return steps[::-1]

    def limits(self, tops: Sequence[Operator]) -> list[Limits]:
        """The expressions of rules, those together that differ in a limit only."""
        found: dict[Hashable, list[tuple[int, float]]] = {}
        chains: dict[Hashable, tuple[list[Step], Function | None]] = {}
        for column, top in enumerate(tops):
            limit = top.limit if isinstance(top, Filter) and not isinstance(top, AgeFilter) else None
            chain = self.chain(top)
            if limit is None:
                key: Hashable = column
                chains[key] = chain, None
            else:
                key = chain[-2][0], limit[0]
                chains[key] = chain[:-1], limit[0]
            found.setdefault(key, []).append((column, np.nan if limit is None else float(limit[1])))
        return [
            Limits(np.array([c for c, _ in own]), *chains[key], np.array([number for _, number in own]))
            for key, own in found.items()
        ]

    def _key(self, node: Operator) -> int:
        return self._keys.setdefault(node.identity(), len(self._keys))


def evaluate(chain: list[Step], frame: PointFrame, element: Ints) -> Vector:
    """The result for element[i] at row i."""
    key, begin = chain[0]
    found = frame.results.get(key)
    if found is None:
        found = frame.results[key] = begin(frame, element, None)
    for key, of in chain[1:]:
        operand, found = found, frame.results.get(key)
        if found is None:
            found = of(frame, frame.all_rows, operand)
            if not frame.failure:  # each rule has to hear of it
                frame.results[key] = found
    vector: Vector = found
    return vector


def horizon_of(top: Operator) -> Hashable:
    """Equal for direct expressions over one selector that may change at the same instants by themselves."""
    node = top
    while isinstance(node, ElementWise) and not isinstance(node, AgeFilter):
        node = node.child
    return node.identity()
