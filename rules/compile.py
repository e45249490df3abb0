"""Syntax tree → operator tree."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from rules.aggregation import Aggregate
from rules.arithmetic import EMPTY, FUNCTIONS, OPERATORS
from rules.buckets import HistogramQuantile
from rules.element_wise import AgeFilter, ElementWise, Filter, Transform
from rules.labelling import Absent, MapLabels, absent_labels, label_join, label_replace
from rules.leaves import AgeLeaf, Ago, InstantLeaf, Leaf, Members, TimestampLeaf
from rules.many_matching import ManyMatch
from rules.matching import Keyed, Match
from rules.operators import Constant, Operator, Scalar
from rules.patterns import compile_pattern
from rules.promql import ExpressionError
from rules.ranking import CountValues, Rank
from rules.scalars import Computed, EvaluationTime, ScalarOf, VectorOf
from rules.set_operators import AndUnless, Or
from rules.syntax import (
    COMPARISON,
    SET,
    Aggregation,
    Binary,
    Call,
    Expression,
    Instant,
    Labels,
    Matching,
    Negation,
    Number,
    Range,
    Selector,
    Subquery,
    Text,
    is_scalar,
    operands,
)
from rules.window_functions import WINDOW_FUNCTIONS
from rules.windows import KEEP_NAME, OverTime, RangeLeaf, RangeOperator, SubqueryRange
from telemetry import Series

DEFAULT_STEP = 60 * 10**9
"""ns; of subqueries that name none, where there is no rule group"""

_OF_TIME = frozenset({"minute", "hour", "day_of_week", "day_of_month", "day_of_year", "days_in_month", "month", "year"})
_AS_IT_IS = frozenset({"sort", "sort_desc", "sort_by_label", "sort_by_label_desc"})
"""Functions that only order the result; a rule's or a range query's result has no order."""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back the histories of a selector's series are looked at."""

    members: Members
    ranges: int = -1
    """ns; -1: not at all"""
    instants: int = -1


class Compiled:
    """The operator tree of one expression."""

    def __init__(
        self,
        expression: Expression,
        members_of: Callable[[Selector], Members],
        *,
        step: int = DEFAULT_STEP,
        span: tuple[int, int] | None = None,
        back: int | None = None,
    ) -> None:
        """step: of subqueries that name none; span: start and end of a range query; back: how far back an instant
        selector may have to look, None: its newest sample will do. All in ns.
        """
        self._members_of, self._step, self._span = members_of, step, span
        self.leaves: list[Leaf] = []
        """In the order of the text."""
        self.keyed: list[Keyed] = []
        self.dynamic: list[CountValues] = []
        self.reaches: list[Reach] = []
        self.channels: set[str] = set()
        """Running sums that the window functions need."""
        self.fixed: list[int] = []
        """Instants of `@`, ns; `reaches` and `ahead` count from them, too."""
        self._roots: list[VectorOf | Absent] = []
        self.ahead = 0
        """How far beyond its instants it looks, by negative offsets, ns"""
        self._back, self._forward = back or 0, 0
        self._looks_back = back is not None
        self.top = self._root(VectorOf(self._scalar(expression))) if is_scalar(expression) else self._vector(expression)

    def start(self) -> None:
        """Number the elements that are there without any series; once the tree has its top."""
        for root in self._roots:
            root.start()

    def settle(self) -> None:
        """The batch is over."""
        for operator in self.keyed:
            operator.settle()

    def _vector(self, node: Expression) -> Operator:
        match node:
            case Selector():
                return self._leaf(InstantLeaf, node)
            case Negation(operand=operand):
                return _nameless(Transform(self._vector(operand), np.negative))
            case Aggregation():
                return self._aggregation(node)
            case Call():
                return self._call(node)
            case Binary():
                return self._binary(node)
            case Text():
                raise ExpressionError("a string is not a condition: compare a series, e.g. temperature > 30")
        raise ExpressionError("a range is not a condition: use a function of it, e.g. avg_over_time(temperature[5m])")

    def _scalar(self, node: Expression) -> Scalar:
        match node:
            case Number():
                return Constant(node.value)
            case Call(function="time"):
                return EvaluationTime()
            case Call(function="pi"):
                return Constant(np.pi)
            case Call(function="scalar"):
                return ScalarOf(self._vector(node.arguments[0]))
            case Negation():
                return Computed(np.negative, [self._scalar(node.operand)])
            case Binary():
                return Computed(OPERATORS[node.op], [self._scalar(node.lhs), self._scalar(node.rhs)])
        raise ExpressionError("a number is wanted here, not a vector: use scalar(…)")

    def _leaf(self, kind: type[InstantLeaf], selector: Selector) -> InstantLeaf:
        members, ago = self._members(selector)
        leaf = kind(members, ago)
        if not ago.is_zero or self._looks_back:
            self.reaches.append(Reach(members, instants=self._back + max(ago.offset, 0)))
        self.leaves.append(leaf)
        return leaf

    def _members(self, selector: Selector) -> tuple[Members, Ago]:
        return self._members_of(Selector(selector.matchers)), self._ago(selector.instant)

    def _ago(self, instant: Instant) -> Ago:
        self.ahead = max(self.ahead, self._forward + max(-instant.offset, 0))
        if instant.at is None:
            return Ago(instant.offset, None)
        if isinstance(instant.at, str):
            if self._span is None:
                return Ago(instant.offset, None)
            at = self._span[0] if instant.at == "start" else self._span[1]
        else:
            at = instant.at
        self.fixed.append(at)
        return Ago(instant.offset, at)

    def _range(self, node: Expression, channels: frozenset[str]) -> RangeOperator:
        self.channels |= channels
        if isinstance(node, Subquery):
            return self._subquery(node, channels)
        if isinstance(node, Range):
            members, ago = self._members(node.selector)
            leaf = RangeLeaf(members, ago, node.duration)
            self.reaches.append(Reach(members, ranges=self._back + max(ago.offset, 0) + node.duration))
            self.leaves.append(leaf)
            return leaf
        raise ExpressionError("a range is wanted here, e.g. temperature[5m]")

    def _subquery(self, node: Subquery, channels: frozenset[str]) -> RangeOperator:
        ago = self._ago(node.instant)
        before = self._back, self._looks_back, self._forward
        self._back, self._looks_back = self._back + max(ago.offset, 0) + node.duration, True
        self._forward += max(-ago.offset, 0)
        child = self._vector(node.expression)
        self._back, self._looks_back, self._forward = before
        return SubqueryRange(child, ago, node.duration, node.step or self._step, channels)

    def _aggregation(self, node: Aggregation) -> Operator:
        child = self._vector(node.expression)
        if node.op == "count_values":
            values = CountValues(child, node)
            self.dynamic.append(values)
            return values
        if node.parameter is None:
            return Aggregate(child, node)
        return (Rank if node.op in ("topk", "bottomk") else Aggregate)(child, node, self._scalar(node.parameter))

    def _call(self, node: Call) -> Operator:
        name, arguments = node.function, node.arguments
        if name in WINDOW_FUNCTIONS:
            return self._over_time(name, arguments)
        if name in _AS_IT_IS:
            return self._vector(arguments[0])
        if name in _OF_TIME and not arguments:
            return Transform(self._root(VectorOf(EvaluationTime())), FUNCTIONS[name])
        if name in FUNCTIONS:
            return self._of_columns(name, arguments)
        return self._of_elements(name, arguments)

    def _of_elements(self, name: str, arguments: Sequence[Expression]) -> Operator:
        """The functions that are about labels, samples or the presence of elements, rather than values."""
        match name, arguments[0]:
            case "age", Selector() as selector:
                return self._age(selector)
            case "timestamp", Selector() as selector:
                return self._leaf(TimestampLeaf, selector)
            case "timestamp", inner:
                return _nameless(Transform(self._vector(inner), lambda _, now: now, [EvaluationTime()]))
            case "vector", inner:
                return self._root(VectorOf(self._scalar(inner)))
            case "absent", inner:
                return self._root(Absent(self._vector(inner), _labels_of_absent(inner)))
            case "absent_over_time", inner:
                return self._root(Absent(self._over_time("present_over_time", arguments), _labels_of_absent(inner)))
            case "histogram_quantile", quantile:
                return HistogramQuantile(self._vector(arguments[1]), self._scalar(quantile))
            case "label_join", inner:
                destination, separator, *sources = _texts(arguments[1:])
                return MapLabels(self._vector(inner), label_join(destination, separator, sources))
            case "label_replace", inner:
                destination, replacement, source, pattern = _texts(arguments[1:])
                new = label_replace(destination, replacement, source, compile_pattern(pattern))
                return MapLabels(self._vector(inner), new)
        raise ExpressionError(f"{name}() cannot be evaluated here")

    def _root(self, operator: VectorOf | Absent) -> Operator:
        self._roots.append(operator)
        return operator

    def _age(self, selector: Selector) -> Operator:
        leaf = AgeLeaf(self._members(selector)[0])
        if self._looks_back:
            self.reaches.append(Reach(leaf.members, instants=self._back))
        self.leaves.append(leaf)
        return leaf

    def _over_time(self, name: str, arguments: Sequence[Expression]) -> Operator:
        function = WINDOW_FUNCTIONS[name]
        at = next(i for i, a in enumerate(arguments) if isinstance(a, Range | Subquery))
        parameters = [self._scalar(a) for i, a in enumerate(arguments) if i != at]
        operator = OverTime(self._range(arguments[at], function.channels), name, function, parameters)
        return operator if name in KEEP_NAME else _nameless(operator)

    def _of_columns(self, name: str, arguments: Sequence[Expression]) -> Operator:
        parameters = [self._scalar(p) for p in arguments[1:]]
        return _nameless(Transform(self._vector(arguments[0]), FUNCTIONS[name], parameters, EMPTY.get(name)))

    def _binary(self, node: Binary) -> Operator:
        if not is_scalar(node.lhs) and not is_scalar(node.rhs):
            return self._of_two(node)
        function = OPERATORS[node.op]
        if is_scalar(node.rhs):
            child, scalar, of_both = self._vector(node.lhs), self._scalar(node.rhs), function
        else:
            scalar, child = self._scalar(node.lhs), self._vector(node.rhs)
            of_both = lambda value, number: function(number, value)  # noqa: E731  # the other way round
        if node.op not in COMPARISON or node.return_bool:
            return _nameless(Transform(child, of_both, [scalar]))
        if isinstance(child, AgeLeaf) and isinstance(scalar, Constant):
            return AgeFilter(child, of_both, scalar)
        return Filter(child, of_both, [scalar])

    def _of_two(self, node: Binary) -> Operator:
        lhs, rhs = self._vector(node.lhs), self._vector(node.rhs)
        kind: type[Or | AndUnless | ManyMatch | Match] = Match
        if node.op in SET:
            kind = Or if node.op == "or" else AndUnless
        elif node.matching.many:
            kind = ManyMatch
        operator = kind(lhs, rhs, node)
        self.keyed.append(operator)
        return operator


def _nameless(operator: Operator) -> Operator:
    """Elements that lose their metric name may become alike: two of them at once are an error."""
    return operator if operator.injective else MapLabels(operator, lambda labels: labels)


def _texts(arguments: Sequence[Expression]) -> list[str]:
    return [argument.value for argument in arguments if isinstance(argument, Text)]


def _labels_of_absent(argument: Expression) -> Labels:
    if isinstance(argument, Range):
        argument = argument.selector
    return absent_labels(argument) if isinstance(argument, Selector) else ()


def is_direct(top: Operator) -> bool:
    """Whether the elements are the series of one selector, in their order."""
    while isinstance(top, ElementWise):
        top = top.child
    return isinstance(top, Leaf)


def is_pointwise(node: Expression, recorded: Collection[str] = ()) -> bool:
    """Whether the elements depend on series of one device only, so that readings can drive the evaluation.

    recorded: the metrics that recording rules make; their samples come at ticks, and so do what reads them. Numbers
    count as pointwise; `@` and negative offsets, which look elsewhere than at the newest readings, do not.
    """
    match node:
        case Selector(instant=instant):
            return instant.at is None and instant.offset >= 0 and not _reads(node, recorded)
        case Subquery() | Aggregation():
            return False
        case Binary(matching=matching) if not (is_scalar(node.lhs) or is_scalar(node.rhs)):
            if not _keeps_devices_apart(matching):
                return False
        case Call(function="label_replace" | "label_join", arguments=(_, Text(value=label), *_)):
            if label == "device":
                return False
        case Call(function=name):
            if name in _NEVER_POINTWISE or (name in _OF_TIME and not node.arguments):
                return False
            if name == "timestamp" and not isinstance(node.arguments[0], Selector):
                return False
    return all(is_pointwise(child, recorded) for child in operands(node))


def _reads(selector: Selector, metrics: Collection[str]) -> bool:
    """Whether the selector can match a series of one of the metrics."""
    names = [matcher for matcher in selector.matchers if matcher.name == "__name__"]
    return any(all(matcher.matches(Series(metric, ())) for matcher in names) for metric in metrics)


_NEVER_POINTWISE = frozenset(
    {"absent", "absent_over_time", "scalar", "vector", "time", "histogram_quantile", *_AS_IT_IS}
)


def _keeps_devices_apart(matching: Matching) -> bool:
    return matching.keeps_device and not matching.many
