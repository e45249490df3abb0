"""The syntax tree of PromQL. Here: the nodes, and what can be told from them alone. Not here: parsing, evaluation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "^", "atan2"})
COMPARISON = frozenset({"==", "!=", ">", "<", ">=", "<="})
SET = frozenset({"and", "or", "unless"})

Labels = tuple[tuple[str, str], ...]
"""Label pairs sorted by name, `__name__` among them where the element has a metric name."""


class Pattern(Protocol):
    """A compiled regular expression."""

    def fullmatch(self, text: str, /) -> object | None: ...


class Labelled(Protocol):
    """What selectors match: a series, of a device or recorded."""

    def label(self, name: str) -> str:
        """The value of a label (`__name__`: the metric); empty if it has no such label."""
        ...


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Text:
    """A string: only ever an argument."""

    value: str


@dataclass(frozen=True, slots=True)
class Matcher:
    """`name op value` of a selector; a label that a series does not have counts as empty."""

    name: str
    op: str
    value: str
    pattern: Pattern | None

    def matches(self, series: Labelled) -> bool:
        value = series.label(self.name)
        if self.pattern is None:
            return (value == self.value) == (self.op == "=")
        return (self.pattern.fullmatch(value) is not None) == (self.op == "=~")


@dataclass(frozen=True, slots=True)
class Instant:
    """`offset` and `@`: at which time to look, seen from the time of evaluation."""

    offset: int = 0
    """ns back"""
    at: int | str | None = None
    """ns since the epoch, `start` or `end` (of a range query; in a rule both are the time of evaluation)"""


NOW = Instant()


@dataclass(frozen=True, slots=True)
class Selector:
    matchers: tuple[Matcher, ...]
    instant: Instant = NOW

    @property
    def metric(self) -> str | None:
        """The metric name, where it is fixed."""
        return next((m.value for m in self.matchers if m.name == "__name__" and m.op == "="), None)

    def matches(self, series: Labelled) -> bool:
        return all(m.matches(series) for m in self.matchers)


@dataclass(frozen=True, slots=True)
class Range:
    """`x[5m]`"""

    selector: Selector
    """With the range's `offset` and `@`."""
    duration: int
    """ns"""


@dataclass(frozen=True, slots=True)
class Subquery:
    """`expr[10m:1m]`"""

    expression: Expression
    duration: int
    """ns"""
    step: int
    """ns; 0: the default, which is the interval of the rule's group"""
    instant: Instant = NOW


@dataclass(frozen=True, slots=True)
class Matching:
    """How the two sides of a vector operation find each other: by the labels `on`, or by all but `ignoring`."""

    on: tuple[str, ...] | None
    ignoring: tuple[str, ...] = ()
    many: str = ""
    """`left`: group_left, the left side has several elements for one on the right; `right`: group_right; or empty"""
    include: tuple[str, ...] = ()
    """Labels that the result takes from the side that has one"""

    def key(self, labels: Labels) -> Labels:
        if self.on is not None:
            return tuple(pair for pair in labels if pair[0] in self.on)
        return tuple(pair for pair in labels if pair[0] not in self.ignoring and pair[0] != "__name__")

    @property
    def keeps_device(self) -> bool:
        return "device" in self.on if self.on is not None else "device" not in self.ignoring


@dataclass(frozen=True, slots=True)
class Binary:
    op: str
    lhs: Expression
    rhs: Expression
    matching: Matching = Matching(None)
    return_bool: bool = False


@dataclass(frozen=True, slots=True)
class Negation:
    """`-expr`"""

    operand: Expression


@dataclass(frozen=True, slots=True)
class Aggregation:
    """`sum by (site) (x)`, `topk(3, x)`"""

    op: str
    expression: Expression
    parameter: Expression | None = None
    """Of topk, bottomk, quantile and count_values"""
    labels: tuple[str, ...] = ()
    without: bool = False
    """Group by all labels but `labels`, not by `labels`"""

    def key(self, labels: Labels) -> Labels:
        """The labels of the group that an element belongs to."""
        if self.without:
            return tuple(pair for pair in labels if pair[0] not in self.labels and pair[0] != "__name__")
        return tuple(pair for pair in labels if pair[0] in self.labels)


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    arguments: tuple[Expression, ...]


Expression = Number | Text | Selector | Range | Subquery | Binary | Negation | Aggregation | Call

SCALAR_CALLS = frozenset({"scalar", "time", "pi"})


def operands(node: Expression) -> tuple[Expression, ...]:
    """The expressions right below a node, in the order of the text."""
    match node:
        case Range():
            return (node.selector,)
        case Subquery():
            return (node.expression,)
        case Binary():
            return (node.lhs, node.rhs)
        case Negation():
            return (node.operand,)
        case Aggregation():
            return (node.expression,) if node.parameter is None else (node.parameter, node.expression)
        case Call():
            return node.arguments
    return ()


def is_scalar(node: Expression) -> bool:
    """Whether the value is one number, without labels."""
    match node:
        case Number():
            return True
        case Call():
            return node.function in SCALAR_CALLS
        case Negation():
            return is_scalar(node.operand)
        case Binary():
            return is_scalar(node.lhs) and is_scalar(node.rhs)
    return False


def is_comparison(node: Expression) -> bool:
    """Whether the expression, at its top, filters its elements."""
    return isinstance(node, Binary) and node.op in COMPARISON | SET
