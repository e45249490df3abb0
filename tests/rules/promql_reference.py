"""PromQL, slow and obvious: one instant, one element at a time, with lists and dictionaries. The engine must equal it.

Here: which samples an expression sees, and how elements find each other. Semantics are Prometheus 3's: windows and the
look-back of selectors are left-open. Beside "the element is there or not" there is a third answer, *vanished*: it is
not there, but might be if no data had gone stale.

Functions of numbers and labels are in promql_reference_functions.py, of windows and groups in
promql_reference_windows.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from rules.syntax import (
    SET,
    Aggregation,
    Binary,
    Call,
    Expression,
    Instant,
    Labels,
    Negation,
    Number,
    Range,
    Selector,
    Subquery,
    Text,
    is_scalar,
)
from tests.rules.promql_reference_functions import (
    BINARY,
    CALENDAR,
    NUMBERS,
    calendar,
    label_join,
    label_replace,
    labels_of_absent,
    nameless,
)
from tests.rules.promql_reference_operators import (
    Element,
    aggregated,
    changed,
    combined,
    compared,
    histograms,
    matched,
    unique,
)
from tests.rules.promql_reference_windows import KEEP_NAME, WINDOWS, Window

S = 1e9


class Ending(Enum):
    """What a recorded series has instead of a sample, from the instant on at which its element is no longer there."""

    ABSENT = 1
    VANISHED = 2


@dataclass(frozen=True)
class Track:
    """One series: what is known of it."""

    labels: Labels
    """With `__name__`"""
    samples: Sequence[tuple[int, float | Ending]]
    """(ns, value), ascending"""
    staleness: int = 300 * 10**9
    """ns that a sample is seen"""
    shift: int = 0
    """ns by which its own clock is ahead of that of the evaluation"""

    def label(self, name: str) -> str:
        return dict(self.labels).get(name, "")

    def until(self, own: int) -> list[tuple[int, float | Ending]]:
        return [s for s in self.samples if s[0] <= own]


@dataclass(frozen=True)
class World:
    """All that an evaluation can see."""

    tracks: Sequence[Track]
    interval: int = 15 * 10**9
    """ns; the default step of subqueries"""
    start: int | None = None
    end: int | None = None
    """ns; of the range query, for `@ start()` and `@ end()`. None: the instant of evaluation"""


def evaluate(node: Expression, at: int, world: World) -> list[Element]:
    """The elements at an instant; those that are neither there nor vanished are left out. Raises EvaluationError."""
    if world.start is None or world.end is None:
        world = replace(world, start=at, end=at)
    if is_scalar(node):
        return [Element((), number(node, at, world))]
    return unique([e for e in elements(node, at, world) if e.possible])


def elements(node: Expression, at: int, world: World) -> Iterable[Element]:
    match node:
        case Selector():
            return selected(node, at, world)
        case Negation():
            return [changed(e, lambda v: -v) for e in evaluate(node.operand, at, world)]
        case Aggregation():
            plain = node.parameter is None or isinstance(node.parameter, Text)
            parameter = math.nan if plain else number(node.parameter, at, world)
            return aggregated(node, evaluate(node.expression, at, world), parameter)
        case Call():
            return called(node, at, world)
        case Binary(op=op) if op in SET:
            return combined(node, evaluate(node.lhs, at, world), evaluate(node.rhs, at, world))
        case Binary() if is_scalar(node.rhs):
            b = number(node.rhs, at, world)
            return [compared(node, e, lambda v: (v, b)) for e in evaluate(node.lhs, at, world)]
        case Binary() if is_scalar(node.lhs):
            a = number(node.lhs, at, world)
            return [compared(node, e, lambda v: (a, v)) for e in evaluate(node.rhs, at, world)]
        case Binary():
            return matched(node, evaluate(node.lhs, at, world), evaluate(node.rhs, at, world))
    raise AssertionError(node)


# ---- scalars


def number(node: Expression | None, at: int, world: World) -> float:
    match node:
        case Number():
            return node.value
        case Negation():
            return -number(node.operand, at, world)
        case Binary():
            return float(BINARY[node.op](number(node.lhs, at, world), number(node.rhs, at, world)))
        case Call(function="time"):
            return at / S
        case Call(function="pi"):
            return math.pi
        case Call(function="scalar", arguments=(vector,)):
            there = [e.value for e in evaluate(vector, at, world) if e.value is not None]
            return there[0] if len(there) == 1 else math.nan
    raise AssertionError(node)


# ---- samples


def looked_at(instant: Instant, at: int, world: World) -> int:
    """With `@` and `offset`."""
    fixed = {None: at, "start": world.start, "end": world.end}
    base = instant.at if isinstance(instant.at, int) else fixed[instant.at]
    assert base is not None
    return base - instant.offset


def selected(node: Selector, at: int, world: World) -> Iterator[Element]:
    """The newest sample of each series, unless it is stale."""
    for track in world.tracks:
        own = looked_at(node.instant, at, world) + track.shift
        seen = track.until(own)
        if not node.matches(track) or not seen:
            continue
        time, value = seen[-1]
        if isinstance(value, Ending):
            yield Element(track.labels, None, value is Ending.VANISHED)
        elif own < time + track.staleness:
            yield Element(track.labels, value, time=time)
        else:
            yield Element(track.labels, None, vanished=True)


def ages(node: Selector, at: int, world: World) -> Iterator[Element]:
    """Seconds since the newest sample, however old."""
    for track in world.tracks:
        own = looked_at(node.instant, at, world) + track.shift
        seen = track.until(own)
        if node.matches(track) and seen:
            yield Element(nameless(track.labels), (own - seen[-1][0]) / S)


def windows(node: Expression, at: int, world: World) -> Iterator[Window]:
    match node:
        case Range():
            for track in world.tracks:
                end = looked_at(node.selector.instant, at, world) + track.shift
                start = end - node.duration
                seen = track.until(end)
                if node.selector.matches(track) and seen:
                    samples = [(t, v) for t, v in seen if t > start and not isinstance(v, Ending)]
                    yield Window(
                        track.labels, samples, start, end, at + track.shift, lost=seen[-1][1] is not Ending.ABSENT
                    )
        case Subquery():
            end = looked_at(node.instant, at, world)
            start, step = end - node.duration, node.step or world.interval
            found: dict[Labels, list[tuple[int, float]]] = {}
            for instant in range(start // step * step + step, end + 1, step):
                for e in evaluate(node.expression, instant, world):
                    found.setdefault(e.labels, []).extend([(instant, e.value)] if e.value is not None else [])
            for labels, samples in found.items():
                yield Window(labels, samples, start, end, at, lost=True)


# ---- functions


def called(node: Call, at: int, world: World) -> Iterable[Element]:
    name, arguments = node.function, node.arguments
    numbers = [number(a, at, world) for a in arguments if is_scalar(a)]
    ranges = [a for a in arguments if isinstance(a, Range | Subquery)]
    if name == "absent_over_time":
        return absent(ranges[0], any(w.samples for w in windows(ranges[0], at, world)))
    if ranges:
        return [windowed(name, w, numbers) for w in windows(ranges[0], at, world)]
    if name == "vector":
        return [Element((), numbers[0])]
    if name in CALENDAR and not arguments:
        return [Element((), calendar(name, at // 10**9))]
    (vector,) = (a for a in arguments if not is_scalar(a) and not isinstance(a, Text))
    if name == "age":
        assert isinstance(vector, Selector)
        return ages(vector, at, world)
    operand = evaluate(vector, at, world)
    match name:
        case "absent":
            return absent(vector, any(e.value is not None for e in operand))
        case "timestamp":
            return [timestamped(e, e.time if isinstance(vector, Selector) else at) for e in operand]
        case "histogram_quantile":
            return histograms(numbers[0], operand)
        case "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc":
            return operand
    return [mapped(node, e, numbers) for e in operand if name != "clamp" or not numbers[0] > numbers[1]]


def mapped(node: Call, e: Element, numbers: list[float]) -> Element:
    """Each element for itself."""
    name, texts = node.function, [a.value for a in node.arguments if isinstance(a, Text)]
    match name:
        case "label_replace":
            return replace(e, labels=label_replace(e.labels, *texts))
        case "label_join":
            return replace(e, labels=label_join(e.labels, *texts))
    if name in CALENDAR:
        return changed(e, lambda v: calendar(name, v))
    return changed(e, lambda v: NUMBERS[name](v, *numbers))


def timestamped(e: Element, time: int) -> Element:
    return changed(e, lambda _: time / S)


def windowed(name: str, window: Window, numbers: list[float]) -> Element:
    result = WINDOWS[name](window, *numbers) if window.samples else None
    labels = window.labels if name in KEEP_NAME else nameless(window.labels)
    return Element(labels, result, result is None and window.lost)


def absent(node: Expression, there: bool) -> list[Element]:
    """An element where there is none; never vanished."""
    match node:
        case Selector(matchers) | Range(Selector(matchers)):
            labels = labels_of_absent(matchers)
        case _:
            labels = ()
    return [] if there else [Element(labels, 1.0)]
