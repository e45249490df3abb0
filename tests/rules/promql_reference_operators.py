"""The operators of PromQL on lists of elements: which elements find each other, and which they are grouped with.

Not here: samples and time, which are in promql_reference.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rules.syntax import COMPARISON, Aggregation, Binary, Labels, Matching, Text
from tests.rules.promql_reference_functions import BINARY, EvaluationError, nameless, with_label
from tests.rules.promql_reference_windows import GROUPS, histogram_quantile, quantile, written

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?[Ii]nf")


@dataclass(frozen=True)
class Element:
    labels: Labels
    value: float | None
    """None: not there"""
    vanished: bool = False
    """Not there, but might be if no data had vanished"""
    time: int = 0
    """ns; of the sample, where the element is one"""

    @property
    def possible(self) -> bool:
        return self.value is not None or self.vanished


# ---- one vector


def unique(found: list[Element]) -> list[Element]:
    """Two elements with the same labels are an error, unless one is only missing: then it does not count."""
    there = [e.labels for e in found if e.value is not None]
    if len(there) != len(set(there)):
        raise EvaluationError("several elements have the same labels")
    return [e for e in found if e.value is not None or e.labels not in there]


def changed(e: Element, function: Callable[[float], float]) -> Element:
    """The value is another quantity, so the name goes."""
    return Element(nameless(e.labels), None if e.value is None else float(function(e.value)), e.vanished)


def compared(node: Binary, e: Element, pair: Callable[[float], tuple[float, float]]) -> Element:
    """Arithmetic or comparison with a scalar."""
    function = BINARY[node.op]
    if node.op in COMPARISON and not node.return_bool:
        keep = e.value is not None and function(*pair(e.value))
        return Element(e.labels, e.value if keep else None, e.vanished)
    return changed(e, lambda v: function(*pair(v)))


def matched(node: Binary, lhs: list[Element], rhs: list[Element]) -> Iterator[Element]:
    """Arithmetic or comparison of two vectors; the many side may be either, or none."""
    many, one = (rhs, lhs) if node.matching.many == "right" else (lhs, rhs)
    key = node.matching.key
    if any(e.value is not None for e in many) and any(e.value is not None for e in one):
        check_unique(node.matching, many, one)
    if not node.matching.many:  # what is there stands for what vanished, on either side
        present = {key(m.labels) for m in many if m.value is not None}
        many = [m for m in many if m.value is not None or key(m.labels) not in present]
    results = set()
    for m in many:
        partners = [o for o in one if key(o.labels) == key(m.labels)]
        there = [o for o in partners if o.value is not None]
        for o in there or partners:
            labels = result_labels(node, m.labels, o.labels)
            a, b = (o, m) if node.matching.many == "right" else (m, o)
            if a.value is None or b.value is None:
                yield Element(labels, None, vanished=True)
                continue
            if labels in results:
                raise EvaluationError("grouping labels must ensure unique matches")
            results.add(labels)
            result = BINARY[node.op](a.value, b.value)
            filters = node.op in COMPARISON and not node.return_bool
            yield Element(labels, (a.value if result else None) if filters else float(result))


def check_unique(matching: Matching, many: list[Element], one: list[Element]) -> None:
    ones = [matching.key(e.labels) for e in one if e.value is not None]
    if len(ones) != len(set(ones)):
        raise EvaluationError("many-to-many matching: several elements of one side have the same matching labels")
    others = [k for e in many if e.value is not None and (k := matching.key(e.labels)) in ones]
    if not matching.many and len(others) != len(set(others)):
        raise EvaluationError("many-to-one matching must be explicit: group_left or group_right")


def result_labels(node: Binary, many: Labels, one: Labels) -> Labels:
    matching = node.matching
    if node.op not in COMPARISON or node.return_bool:
        many = nameless(many)
    if matching.on is not None and not matching.many:
        many = tuple(pair for pair in many if pair[0] in matching.on)
    elif not matching.many:
        many = tuple(pair for pair in many if pair[0] not in matching.ignoring)
    included = {name: dict(one).get(name, "") for name in matching.include}
    return tuple(sorted((n, v) for n, v in (dict(many) | included).items() if v))


def combined(node: Binary, lhs: list[Element], rhs: list[Element]) -> Iterator[Element]:
    """and, or, unless"""
    key = node.matching.key
    for e in lhs:
        others = [r for r in rhs if key(r.labels) == key(e.labels)]
        there = any(r.value is not None for r in others)
        if node.op == "and" and not there:
            yield Element(e.labels, None, bool(others))
        elif node.op != "unless" or not there:
            yield replace(e)
    if node.op == "or":
        hidden = {key(e.labels) for e in lhs if e.value is not None}
        yield from (e for e in rhs if key(e.labels) not in hidden)


# ---- groups


def aggregated(node: Aggregation, operand: list[Element], parameter: float) -> Iterator[Element]:
    """parameter: of topk, bottomk and quantile."""
    if node.op == "count_values":
        yield from counted(node, operand)
        return
    if node.op in ("topk", "bottomk") and not abs(parameter) < 2**63:
        raise EvaluationError(f"{node.op} of {parameter} elements")
    for labels, members in groups(operand, node.key).items():
        values = [e.value for e in members if e.value is not None]
        if node.op in ("topk", "bottomk"):
            yield from first(members, int(parameter), sign=-1 if node.op == "topk" else 1)
        elif not values:
            yield Element(labels, None, vanished=True)
        else:
            yield Element(labels, quantile(parameter, values) if node.op == "quantile" else GROUPS[node.op](values))


def groups(operand: list[Element], key: Callable[[Labels], Labels]) -> dict[Labels, list[Element]]:
    found: dict[Labels, list[Element]] = {}
    for e in operand:
        found.setdefault(key(e.labels), []).append(e)
    return found


def first(members: list[Element], k: int, sign: int) -> Iterator[Element]:
    """NaN comes last. Of equal values the one that stands first (upstream leaves that open)."""
    there = [(math.isnan(e.value), sign * e.value, e) for e in members if e.value is not None]
    there.sort(key=lambda t: (t[0], 0 if t[0] else t[1]))
    yield from (e for *_, e in there[: max(k, 0)])
    yield from (e for e in members if e.vanished)


def counted(node: Aggregation, operand: list[Element]) -> Iterator[Element]:
    """count_values: of what is there, since what vanished has no value that could be a label."""
    assert isinstance(node.parameter, Text)
    label = node.parameter.value
    by = replace(node, labels=node.labels if node.without else (*node.labels, label))
    valued = [replace(e, labels=with_label(e.labels, label, written(e.value))) for e in operand if e.value is not None]
    yield from (Element(labels, float(len(members))) for labels, members in groups(valued, by.key).items())


def histograms(q: float, operand: list[Element]) -> Iterator[Element]:
    """histogram_quantile: the buckets of each label set without `le`."""
    buckets = [e for e in operand if NUMBER.fullmatch(dict(e.labels).get("le", ""))]
    for labels, members in groups(buckets, lambda labels: tuple(p for p in nameless(labels) if p[0] != "le")).items():
        there = [(float(dict(e.labels)["le"]), e.value) for e in members if e.value is not None]
        if len({dict(e.labels).get("__name__") for e in members if e.value is not None}) > 1:
            raise EvaluationError("several elements have the same labels")
        yield Element(labels, histogram_quantile(q, there) if there else None, not there)
