"""Growable numpy columns and the links between two numberings. Nothing here knows what the numbers mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Rows = NDArray[np.int64] | NDArray[np.int32]


def where(column: NDArray[Any]) -> Ints:
    """As numpy.flatnonzero of one dimension; of the few rows of most batches these cost a fraction of numpy's own."""
    return column.nonzero()[0]


def any_of(mask: NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(mask))


def all_of(mask: NDArray[np.bool_]) -> bool:
    return bool(np.count_nonzero(mask) == mask.size)


class Columns:
    """Arrays of one common length that grow together; capacity doubles, so that adding rows one by one stays cheap.

    Columns are read as attributes: `columns.value[rows]`. The arrays are views that end at the current length.
    """

    def __init__(self, **fill: tuple[str, Any]) -> None:
        """`fill` gives each column's dtype and the value that new rows have."""
        self._fill = {name: (np.dtype(dtype), value) for name, (dtype, value) in fill.items()}
        self._store: dict[str, NDArray[Any]] = {n: np.full(16, v, d) for n, (d, v) in self._fill.items()}
        self._length = 0
        self._view()

    def __len__(self) -> int:
        return self._length

    def __getattr__(self, name: str) -> NDArray[Any]:
        raise AttributeError(name)  # columns are instance attributes, set by _view

    def grow(self, length: int) -> None:
        """Make it at least `length` rows long."""
        if length <= self._length:
            return
        for name, (dtype, value) in self._fill.items():
            old = self._store[name]
            if length > len(old):
                new = np.full(max(length, 2 * len(old)), value, dtype)
                new[: self._length] = old[: self._length]
                self._store[name] = new
        self._length = length
        self._view()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies of all columns, for a snapshot."""
        return {name: self._store[name][: self._length].copy() for name in self._fill}

    def take(self, rows: Rows) -> Columns:
        """Copies of some rows, as columns of their own."""
        taken = Columns.__new__(Columns)
        store = {name: array.take(rows) for name, array in self._store.items()}
        taken.__dict__ |= {"_fill": self._fill, "_store": store, "_length": len(rows), **store}
        return taken

    def put(self, rows: Rows, columns: Columns) -> None:
        """Write back what `take` gave."""
        for name, array in self._store.items():
            array[rows] = getattr(columns, name)

    def load(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Take back what `arrays` gave."""
        length = len(next(iter(arrays.values())))
        self.grow(length)
        for name in self._fill:
            self._store[name][:length] = arrays[name]

    def _view(self) -> None:
        for name, array in self._store.items():
            setattr(self, name, array[: self._length])


class Links:
    """Pairs (a, b), both numbered from 0, looked up by a: each a may have any number of b, in order of adding."""

    def __init__(self) -> None:
        self._a: list[int] = []
        self._b: list[int] = []
        self._built = -1
        self._single = True
        self._first: Ints = np.zeros(1, np.int64)
        self._to: Ints = np.zeros(0, np.int64)

    def __len__(self) -> int:
        return len(self._a)

    def add(self, a: int, b: int) -> None:
        self._a.append(a)
        self._b.append(b)

    def expand(self, a: Rows) -> tuple[Ints | None, Ints]:
        """All b of each a[i] → (i, b), both (m,), ordered by i.

        The first is None when every a[i] has exactly one b (the common case): then m = n and row i belongs to a[i].
        """
        if self._built != len(self._a):
            self._build()
        if self._single and (not len(a) or a.max() < len(self._to)):
            return None, self._to.take(a)
        inside = np.minimum(a, len(self._first) - 2)
        start, stop = self._first[inside], self._first[inside + 1]
        stop = np.where(a == inside, stop, start)  # an a beyond all pairs has none
        count = stop - start
        which = np.repeat(np.arange(len(a)), count)
        within = np.arange(len(which)) - np.repeat(np.cumsum(count) - count, count)
        return which, self._to[np.repeat(start, count) + within]

    def _build(self) -> None:
        a, b = np.array(self._a, np.int64), np.array(self._b, np.int64)
        order = np.argsort(a, kind="stable")
        count = np.bincount(a) if len(a) else np.zeros(1, np.int64)
        self._first = np.concatenate([np.zeros(1, np.int64), np.cumsum(count)])
        self._to = b[order]
        self._single = bool(len(a)) and bool((count == 1).all())
        self._built = len(self._a)
