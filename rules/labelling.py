"""Operators that make labels: label_replace, label_join, and absent, which makes an element out of none."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from rules.columns import Ints, Links
from rules.grouping import parts
from rules.operators import BEFORE, Frame, Operator, Vector
from rules.syntax import Labels, Selector

NewLabels = Callable[[Labels], Labels]


class MapLabels(Operator):
    """Elements with other labels. Those that get the same share one element; two of them at once are an error."""

    def __init__(self, child: Operator, function: NewLabels) -> None:
        # Which names the child's elements have is not known here, so what differs in labels may do so by name only.
        super().__init__(injective=False, timed=child.timed)
        self._child, self._function = child, function
        self._labels: list[Labels] = []
        self._number: dict[Labels, int] = {}
        self._up, self._down = Links(), Links()
        self.adopt(0, child)

    def __len__(self) -> int:
        return len(self._labels)

    def labels(self, element: int) -> Labels:
        return self._labels[element]

    def child_added(self, side: int, element: int, born: int) -> None:
        del side
        labels = self._function(self._child.labels(element))
        own = self._number.setdefault(labels, len(self._labels))
        self._up.add(element, own)
        self._down.add(own, element)
        if own == len(self._labels):
            self._labels.append(labels)
            self.announce(own, born)

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        del side
        return self._up.expand(element)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        which, children = self._down.expand(element)
        if which is None:
            return self._child.evaluate(frame, children, row)
        value, present, unknown = self._child.evaluate(frame, children, row[which])
        n = len(row)
        count = np.bincount(which[present], minlength=n)
        if (count > 1).any():
            frame.fail(
                np.unique(row[count > 1]),
                "several elements have the same labels: what told them apart, a label or the name, is gone",
            )
        single = np.full(n, np.nan)
        single[which[present]] = value[present]
        vanished = np.bincount(which[unknown], minlength=n) > 0
        return Vector(single, count == 1, vanished & (count == 0))


class GroupPattern(Protocol):
    """A compiled regular expression in which a dot matches a line's end, too."""

    def fullmatch(self, text: str, /) -> re.Match[str] | None: ...


def label_replace(destination: str, replacement: str, source: str, pattern: GroupPattern) -> NewLabels:
    """Where the whole of label `source` matches, `destination` becomes the replacement, or goes if that is empty.

    The replacement is a template of Go's Regexp.Expand: `$1`, `${1}`, `$name`, `${name}` and `$$`. The name is as long
    as can be, so `$1x` is the group `1x`; a group that is not there, or did not match, is empty.
    """
    template = _template(replacement)

    def new(labels: Labels) -> Labels:
        match = pattern.fullmatch(dict(labels).get(source, ""))
        if match is None:
            return labels
        return _with(labels, destination, "".join(text + _group(match, name) for text, name in template))

    return new


def label_join(destination: str, separator: str, sources: Sequence[str]) -> NewLabels:
    """`destination` becomes the values of the labels `sources`, joined, or goes if that is empty."""

    def new(labels: Labels) -> Labels:
        values = dict(labels)
        return _with(labels, destination, separator.join(values.get(name, "") for name in sources))

    return new


def _with(labels: Labels, name: str, value: str) -> Labels:
    others = (pair for pair in labels if pair[0] != name)
    return tuple(sorted((*others, (name, value)))) if value else tuple(others)


def _template(replacement: str) -> list[tuple[str, str]]:
    """Each text with the group that follows it; the last one has none."""
    out: list[tuple[str, str]] = []
    start = 0
    for found in re.finditer(r"\$(?:(?P<dollar>\$)|\{(\w+)\}|(\w+))", replacement):
        text = replacement[start : found.start()]
        out.append((text + "$", "") if found["dollar"] else (text, found[2] or found[3]))
        start = found.end()
    return [*out, (replacement[start:], "")]


def _group(match: re.Match[str], name: str) -> str:
    """What the group of that number or name matched; nothing if there is no such group."""
    if re.fullmatch(r"0|[1-9][0-9]{0,8}", name):
        every = (match.group(), *match.groups())
        return every[int(name)] or "" if int(name) < len(every) else ""
    return match.groupdict().get(name) or ""


class Absent(Operator):
    """`absent(v)`: one element, of value 1, where no element of v is there. Vanished data is what it looks for."""

    def __init__(self, child: Operator, labels: Labels) -> None:
        super().__init__(injective=True, timed=child.timed)
        self._child, self._labels = child, labels
        self.adopt(0, child)

    def __len__(self) -> int:
        return 1

    def start(self) -> None:
        """Tell the operators above of the element, once the tree is whole."""
        self.announce(0, BEFORE)

    def labels(self, element: int) -> Labels:
        del element
        return self._labels

    def child_added(self, side: int, element: int, born: int) -> None:
        """The element is there from the start."""

    def dependents(self, side: int, element: Ints) -> tuple[Ints | None, Ints]:
        del side
        return None, np.zeros(len(element), np.int64)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        del element
        rows, which = np.unique(row, return_inverse=True)
        there, n = np.zeros(len(rows), bool), len(self._child)
        for part in parts(np.full(len(rows), n)):
            k = len(rows[part])
            children, at = np.repeat(np.arange(n), k), np.tile(rows[part], n)
            there[part] = self._child.evaluate(frame, children, at).present.reshape(n, k).any(axis=0)
        there = there[which]
        return Vector(np.ones(len(row)), ~there, np.zeros(len(row), bool))


def absent_labels(selector: Selector) -> Labels:
    """The labels of `absent(selector)`: what its matchers demand by equality, each label named but once.

    As upstream (promql/functions.go, createLabelsForAbsentFunction): a matcher that follows another one of its label,
    or is none of equality, takes the label away, but an equality after others than equality gives it.
    """
    labels: dict[str, str] = {}
    given: set[str] = set()
    for matcher in selector.matchers:
        if matcher.name == "__name__":
            continue
        if matcher.op == "=" and matcher.name not in given:
            given.add(matcher.name)
            labels[matcher.name] = matcher.value
        else:
            labels.pop(matcher.name, None)
    return tuple(sorted((name, value) for name, value in labels.items() if value))
