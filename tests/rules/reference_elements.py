"""The elements that a pointwise expression can ever have, whatever the values and the time, and their series."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from rules.syntax import COMPARISON, SET, Binary, Call, Expression, Labels, Negation, Range, Selector, Text, is_scalar
from rules.syntax import operands as operands_of
from tests.rules.promql_reference import Track
from tests.rules.promql_reference_functions import label_join, label_replace, nameless
from tests.rules.promql_reference_operators import result_labels
from tests.rules.promql_reference_windows import KEEP_NAME

SAME_LABELS = KEEP_NAME | {"sort", "sort_desc", "sort_by_label", "sort_by_label_desc"}
OFF_READINGS = frozenset({"absent", "absent_over_time", "scalar", "vector", "time", "histogram_quantile"})


def is_pointwise(node: Expression, recorded: Collection[str] = ()) -> bool:
    """Whether the expression is evaluated at every reading, not on the grid of its group. recorded: metric names.

    Every element must depend on the series of one device, and change only where a sample comes or goes.
    """
    match node:
        case Selector():
            names = [m for m in node.matchers if m.name == "__name__"]
            reads_recorded = any(all(m.matches(Track((("__name__", r),), ())) for m in names) for r in recorded)
            return node.instant.at is None and node.instant.offset >= 0 and not reads_recorded
        case Binary() if not is_scalar(node.lhs) and not is_scalar(node.rhs) and not node.matching.keeps_device:
            return False
        case Call(function="timestamp", arguments=(vector,)) if not isinstance(vector, Selector):
            return False
        case Call(function="label_replace" | "label_join", arguments=(_, Text(value="device"), *_)):
            return False
        case Call() if node.function in OFF_READINGS or (not node.arguments and node.function != "pi"):
            return False
        case Selector() | Range() | Binary() | Negation() | Call():
            return all(is_pointwise(operand, recorded) for operand in operands_of(node)) and has_selector(node)
    return is_scalar(node) or isinstance(node, Text)


def has_selector(node: Expression) -> bool:
    return is_scalar(node) or isinstance(node, Selector) or any(has_selector(o) for o in operands_of(node))


@dataclass(frozen=True)
class Potential:
    labels: Labels
    series: frozenset[int]
    """Numbers of the series that it depends on"""


def potential(node: Expression, tracks: Mapping[int, Track]) -> list[Potential]:
    """tracks: the series seen so far, by number, in the order in which they appeared."""
    match node:
        case Selector():
            return [Potential(track.labels, frozenset({i})) for i, track in tracks.items() if node.matches(track)]
        case Range():
            return potential(node.selector, tracks)
        case Negation():
            return [unnamed(p) for p in potential(node.operand, tracks)]
        case Call():
            (vector,) = (a for a in node.arguments if not is_scalar(a) and not isinstance(a, Text))
            return [of_function(node, p) for p in potential(vector, tracks)]
        case Binary(lhs=lhs, rhs=rhs) if is_scalar(lhs) or is_scalar(rhs):
            found = potential(rhs if is_scalar(lhs) else lhs, tracks)
            return found if node.op in COMPARISON and not node.return_bool else [unnamed(p) for p in found]
        case Binary(op=op) if op in SET:
            return of_set(node, potential(node.lhs, tracks), potential(node.rhs, tracks))
        case Binary():
            return of_match(node, potential(node.lhs, tracks), potential(node.rhs, tracks))
    raise AssertionError(node)


def unnamed(p: Potential) -> Potential:
    return replace(p, labels=nameless(p.labels))


def of_function(node: Call, p: Potential) -> Potential:
    texts = [a.value for a in node.arguments if isinstance(a, Text)]
    match node.function:
        case "label_replace":
            return replace(p, labels=label_replace(p.labels, *texts))
        case "label_join":
            return replace(p, labels=label_join(p.labels, *texts))
    return p if node.function in SAME_LABELS else unnamed(p)


def of_set(node: Binary, lhs: list[Potential], rhs: list[Potential]) -> list[Potential]:
    """The left side's elements depend on the right side's of their key; those that `or` adds, the other way round."""
    if node.op == "or":
        return lhs + [also(node, p, lhs) for p in rhs]
    return [also(node, p, rhs) for p in lhs]


def also(node: Binary, p: Potential, others: list[Potential]) -> Potential:
    key = node.matching.key
    return replace(p, series=p.series.union(*(o.series for o in others if key(o.labels) == key(p.labels))))


def of_match(node: Binary, lhs: list[Potential], rhs: list[Potential]) -> list[Potential]:
    """All pairs with the same key; they depend on all of the one side, and one to one on all of both sides."""
    many, one = (rhs, lhs) if node.matching.many == "right" else (lhs, rhs)
    key, found = node.matching.key, []
    for m in many:
        for o in one:
            if key(m.labels) == key(o.labels):
                pair = also(node, Potential(result_labels(node, m.labels, o.labels), m.series), [])
                rivals = one if node.matching.many else many + one
                series = pair.series.union(*(r.series for r in rivals if key(r.labels) == key(m.labels)))
                found.append(replace(pair, series=series))
    return found
