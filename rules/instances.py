"""From the elements of an expression to the alert instances of a rule: one for each final label set."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rules.columns import Ints, Links
from rules.operators import Frame, Operator, Vector
from rules.rule_file import Rule
from rules.syntax import Labels


class Instances(Operator):
    """The top of a rule's operator tree: its elements are the rule's alert instances.

    Identity is that of Prometheus: the element's labels without `__name__`, the rule's labels over them, `alertname`.
    As long as no two elements can share those, instance i is element i, and no label set is kept in memory.
    """

    def __init__(self, child: Operator, rule: Rule) -> None:
        super().__init__(injective=True, timed=child.timed)
        self._child, self._rule = child, rule
        self._names = {name for name, _ in rule.labels} | {"alertname"}
        self._merging = not child.injective
        self._instance_of: dict[Labels, int] = {}
        self._up, self._down = Links(), Links()
        self._first: list[int] = []
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self._first) if self._merging else len(self._child)

    def labels(self, element: int) -> Labels:
        """The final labels of an instance. Annotations see these, too, so `$labels` has the rule's own labels."""
        return self._final(self._first[element] if self._merging else element)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        del side
        return self._up.expand(element) if self._merging else (None, element)

    @property
    def are_elements(self) -> bool:
        """Whether instance i is element i."""
        return not self._merging

    def meet(self, names: Iterable[str]) -> None:
        """Elements may have these label names from now on: where the rule has one of its own, it replaces theirs."""
        if not self._merging and not self._names.isdisjoint(names):
            self._merging = True
            for element in range(len(self._child)):
                self._merge(element)

    def child_added(self, side: int, element: int, born: int) -> None:
        del side, born
        if self._merging:
            self._merge(element)
        else:
            self.meet([name for name, _ in self._child.labels(element)])

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        if not self._merging:
            return self._child.evaluate(frame, element, row)
        which, children = self._down.expand(element)
        if which is None:
            return self._child.evaluate(frame, children, row)
        value, present, unknown = self._child.evaluate(frame, children, row[which])
        n = len(element)
        count = np.bincount(which[present], minlength=n)
        twice = np.flatnonzero(count > 1)
        if len(twice):
            labels = dict(self.labels(int(element[twice[0]])))
            frame.fail(row[twice], f"two elements would be one alert {labels}: let the rule's labels keep them apart")
        single = np.full(n, np.nan)
        single[which[present]] = value[present]
        missing = np.bincount(which[unknown], minlength=n) > 0
        return Vector(single, count == 1, missing & (count != 1))

    def _final(self, element: int) -> Labels:
        given = {name: value for name, value in self._child.labels(element) if name != "__name__"}
        own = {name: template.expand(given, np.nan) for name, template in self._rule.labels}
        merged = given | own | {"alertname": self._rule.alert}
        return tuple(sorted((name, value) for name, value in merged.items() if value))

    def _merge(self, element: int) -> None:
        labels = self._final(element)
        instance = self._instance_of.get(labels)
        if instance is None:
            instance = self._instance_of[labels] = len(self._first)
            self._first.append(element)
        self._up.add(element, instance)
        self._down.add(instance, element)
