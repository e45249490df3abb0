"""Selectors: the leaves of operator trees, and the series that they match."""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rules.columns import Columns, Ints, all_of
from rules.operators import Frame, Operator, Samples, Vector
from rules.syntax import Labelled, Labels, Selector


class Members:
    """The series that a selector matches, numbered in the order in which they appeared; all rules share them."""

    def __init__(self, selector: Selector, series: LabelsOf) -> None:
        self.selector, self.series = selector, series
        self.label_names: set[str] = set()
        """Of all members."""
        self._ids = Columns(id=("i4", 0))
        self._leaves: list[Leaf] = []

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.int32]:
        """(n,) series id of each element."""
        return self._ids.id

    def add(self, series: int, born: int) -> int:
        """Number the series, which matches and was first seen at `born`; tell the operators above."""
        element = len(self._ids)
        self._ids.grow(element + 1)
        self._ids.id[element] = series
        self.label_names.update(name for name, _ in self.series(series).labels)
        for leaf in self._leaves:
            leaf.announce(element, born)
        return element

    def follow(self, leaf: Leaf) -> None:
        """Announce to `leaf` all elements that come."""
        self._leaves.append(leaf)


class Leaf(Operator):
    """A selector's series, numbered as its members are."""

    def __init__(self, members: Members, *, timed: bool = False) -> None:
        super().__init__(injective=members.selector.metric is not None, timed=timed)
        self.members = members

    def __len__(self) -> int:
        return len(self.members)

    def labels(self, element: int) -> Labels:
        series = self.members.series(int(self.members.ids[element]))
        return tuple(sorted((("__name__", series.metric), *series.labels)))

    def child_added(self, side: int, element: int, born: int) -> None:
        raise NotImplementedError("a selector has no operands")


class InstantLeaf(Leaf):
    """An instant selector."""

    def __init__(self, members: Members, ago: Ago) -> None:
        super().__init__(members)
        self.ago = ago

    def identity(self) -> Hashable:
        return type(self), self.members, self.ago

    @property
    def is_plain(self) -> bool:
        """Whether the result at a reading is the reading."""
        return self.ago.is_zero

    def look(self, frame: Frame, element: Ints, row: Ints) -> Samples:
        """What each row sees of the element."""
        if self.ago.is_zero:
            return frame.sample(self.members.ids[element], row)
        return frame.past(self.members.ids[element], row, self.ago.of(frame, row))

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        sample = self.look(frame, element, row)
        fresh = sample.seen & (sample.now < sample.expires)
        expires = sample.expires if self.ago.is_zero else sample.expires + self.ago.of(frame, row)
        if all_of(fresh):
            frame.expect(row, expires)
            return Vector(sample.value, fresh, ~fresh)
        frame.expect(row[fresh], expires[fresh])
        return Vector(sample.value, fresh, sample.seen & ~fresh)


class TimestampLeaf(InstantLeaf):
    """`timestamp(x)`: the event time of the sample that an instant selector sees, in seconds."""

    is_plain = False

    def labels(self, element: int) -> Labels:
        return self.members.series(int(self.members.ids[element])).labels

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        _, present, unknown = super().evaluate(frame, element, row)
        return Vector(self.look(frame, element, row).time / 1e9, present, unknown)


class AgeLeaf(Leaf):
    """`age(x)`: seconds since the newest sample, however old it is."""

    def __init__(self, members: Members) -> None:
        super().__init__(members, timed=True)

    def identity(self) -> Hashable:
        return AgeLeaf, self.members

    def labels(self, element: int) -> Labels:
        return self.members.series(int(self.members.ids[element])).labels

    def newest(self, frame: Frame, element: Ints, row: Ints) -> Ints:
        """The event time of each element's newest sample, ns."""
        return frame.sample(self.members.ids[element], row).time

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        sample = frame.sample(self.members.ids[element], row)
        age = np.where(sample.seen, (sample.now - sample.time) / 1e9, np.nan)
        return Vector(age, sample.seen, np.zeros(len(row), bool))


class Ago(NamedTuple):
    """How far back an `offset` and an `@` look."""

    offset: int
    """ns"""
    at: int | None
    """ns since the epoch, or None: seen from each row"""

    @property
    def is_zero(self) -> bool:
        return self.offset == 0 and self.at is None

    def of(self, frame: Frame, row: Ints) -> Ints:
        """(n,) ns before each row"""
        if self.at is None:
            return np.full(len(row), self.offset)
        return frame.time[row] - self.at + self.offset


class LabelsOf(Protocol):
    """Series by id."""

    def __call__(self, series: int, /) -> Identity: ...


class Identity(Labelled, Protocol):
    """Metric and labels."""

    @property
    def metric(self) -> str: ...

    @property
    def labels(self) -> Labels: ...
