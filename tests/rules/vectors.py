"""Vectors as tests write them: an operator with values planted by hand, its frame, and what operators make of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rules.arithmetic import Floats
from rules.columns import Ints
from rules.history import Window
from rules.operators import BEFORE, Bools, Operator, Samples, Scalar, Vector
from rules.syntax import Labels

NAN, INF = float("nan"), float("inf")
GONE = "gone"
"""In a row of values: the element vanished. None: it is not there."""


class Rows:
    """A frame that only counts its rows, and remembers what went wrong at which."""

    def __init__(self, rows: int) -> None:
        self.time = np.arange(rows) * 10**9
        self.position = np.zeros(rows, np.int64)
        self.all_rows = np.arange(rows)
        self.failures: dict[int, str] = {}

    def fail(self, row: Ints, message: str) -> None:
        assert len(row)
        self.failures |= dict.fromkeys(row.tolist(), message)

    def sample(self, series: Any, row: Ints) -> Samples:
        raise NotImplementedError

    def past(self, series: Any, row: Ints, ago: Ints) -> Samples:
        raise NotImplementedError

    def window(self, series: Any, row: Ints, ago: Ints, duration: int) -> Window:
        raise NotImplementedError

    def expect(self, row: Ints, instant: Ints) -> None:
        raise NotImplementedError


class Planted(Operator):
    """Elements with labels, and a value for each row."""

    def __init__(self, *, injective: bool = True) -> None:
        super().__init__(injective=injective, timed=False)
        self._labels: list[Labels] = []
        self._values: list[Sequence[float | str | None]] = []
        self._columns: tuple[Floats, Bools, Bools] | None = None
        self.asked = 0
        """The most (element, row) pairs at once"""

    def plant(self, name: str, *values: float | str | None, born: int = BEFORE) -> None:
        """A new element: `x{device="a"}`, and its value at each row."""
        self._labels.append(labels_of(name))
        self._values.append(values)
        self._columns = None
        self.announce(len(self._labels) - 1, born)

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self, element: int) -> Labels:
        return self._labels[element]

    def child_added(self, side: int, element: int, born: int) -> None:
        raise NotImplementedError

    def evaluate(self, frame: Any, element: Ints, row: Ints) -> Vector:
        self.asked = max(self.asked, len(row))
        if not len(row):
            return Vector(np.zeros(0), np.zeros(0, bool), np.zeros(0, bool))
        if self._columns is None:
            table = [[v if isinstance(v, float | int) else NAN for v in values] for values in self._values]
            there = [[isinstance(v, float | int) for v in values] for values in self._values]
            gone = [[v == GONE for v in values] for values in self._values]
            self._columns = np.array(table, float), np.array(there, bool), np.array(gone, bool)
        value, present, unknown = self._columns
        return Vector(value[element, row], present[element, row], unknown[element, row])


class Fixed(Scalar):
    """A number for each row."""

    def __init__(self, *values: float) -> None:
        self._values = np.array(values, float)

    def at(self, frame: Any, row: Ints) -> Floats:
        return self._values[row] if len(self._values) > 1 else np.full(len(row), self._values[0])


class Listener(Operator):
    """Stands above an operator and notes which elements it announces."""

    def __init__(self, child: Operator) -> None:
        super().__init__(injective=False, timed=False)
        self.heard: list[tuple[int, int]] = []
        self.adopt(0, child)

    def __len__(self) -> int:
        return 0

    def labels(self, element: int) -> Labels:
        return ()

    def child_added(self, side: int, element: int, born: int) -> None:
        self.heard.append((element, born))

    def evaluate(self, frame: Any, element: Ints, row: Ints) -> Vector:
        raise NotImplementedError


def labels_of(name: str) -> Labels:
    metric, _, rest = name.partition("{")
    pairs = re.findall(r'(\w+)="([^"]*)"', rest)
    return tuple(sorted(([("__name__", metric)] if metric else []) + pairs))


def plant(child: Planted, vector: Mapping[str, Any]) -> int:
    """Plant the elements; a single value stands for a single row → number of rows."""
    columns = {name: values if isinstance(values, list | tuple) else [values] for name, values in vector.items()}
    for name, values in columns.items():
        child.plant(name, *values)
    return len(next(iter(columns.values()))) if columns else 1


def everything(operator: Operator, frame: Rows) -> Vector:
    """All elements at all rows, (elements, rows); the same for any pairs in any order, which is looked at here."""
    n, k = len(operator), len(frame.time)
    operator.discover(frame, frame.all_rows)
    n = len(operator)
    element, row = np.repeat(np.arange(n), k), np.tile(np.arange(k), n)
    whole = operator.evaluate(frame, element, row)
    assert not (whole.present & whole.unknown).any()
    some = np.random.default_rng(n * k).integers(0, max(n * k, 1), 2 * n * k // 3)
    part = operator.evaluate(frame, element[some], row[some])
    for a, b in zip(whole, part, strict=True):
        np.testing.assert_array_equal(a[some], b)
    value, present, unknown = whole
    return Vector(value.reshape(n, k), present.reshape(n, k), unknown.reshape(n, k))


def there(operator: Operator, frame: Rows, row: int = 0) -> dict[str, float]:
    """The elements that are there at a row, as they are written, with their values."""
    vector = everything(operator, frame)
    names = [written(operator.labels(i)) for i in range(len(operator))]
    assert len(set(names)) == len(names), "two elements have the same labels"
    return {name: float(vector.value[i, row]) for i, name in enumerate(names) if vector.present[i, row]}


def vanished(operator: Operator, frame: Rows, row: int = 0) -> set[str]:
    """The elements that only vanished at a row."""
    vector = everything(operator, frame)
    return {written(operator.labels(i)) for i in np.flatnonzero(vector.unknown[:, row]).tolist()}


def pairs(operator: Operator, *elements: int) -> tuple[list[int], list[int]]:
    """Which of the operand's elements concern which own ones."""
    which, own = operator.dependents(0, np.array(elements))
    return list(range(len(own))) if which is None else which.tolist(), own.tolist()


def written(labels: Labels) -> str:
    """`x{device="a"}`"""
    assert list(labels) == sorted(labels)
    rest = ", ".join(f'{n}="{v}"' for n, v in labels if n != "__name__")
    return f"{dict(labels).get('__name__', '')}{{{rest}}}"


def same(a: float, b: float) -> bool:
    """Equal, NaN being equal to itself."""
    return bool(a == b or (np.isnan(a) and np.isnan(b)))


def same_elements(a: dict[str, float], b: dict[str, float]) -> bool:
    return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
