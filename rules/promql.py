"""PromQL text → our syntax tree. Here: parsing, positions, and what is refused. Not here: meaning.

The grammar is that of the promql-parser package; a construct that tocsin does not evaluate is refused here, with its
place in the text.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import dataclass
from typing import Any

import promql_parser

from telemetry import Series, TocsinError

promql_parser.register_extra_functions(
    [
        promql_parser.Function(
            name="age",
            arg_types=[promql_parser.ValueType.Vector],
            variadic=0,
            return_type=promql_parser.ValueType.Vector,
            experimental=False,
        )
    ]
)

ARITHMETIC = frozenset({"+", "-", "*", "/", "%", "^"})
COMPARISON = frozenset({"==", "!=", ">", "<", ">=", "<="})
SET = frozenset({"and", "or", "unless"})
FUNCTIONS = {
    "abs": 0, "ceil": 0, "floor": 0, "round": 1, "clamp": 2, "clamp_min": 1, "clamp_max": 1, "sqrt": 0, "exp": 0,
    "ln": 0, "log2": 0, "log10": 0, "sgn": 0, "age": 0,
}  # fmt: skip
"""Functions that are evaluated, and how many constant parameters they take at most."""

MAX_LENGTH = 10_000
MAX_NODES = 1_000
MAX_DEPTH = 100


class ExpressionError(TocsinError):
    """The expression cannot be evaluated; `offset` is the place in its text, in characters."""

    def __init__(self, message: str, offset: int = 0) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Number:
    value: float


@dataclass(frozen=True, slots=True)
class Matcher:
    """`name op value` of a selector; a label that a series does not have counts as empty."""

    name: str
    op: str
    value: str
    pattern: re.Pattern[str] | None

    def matches(self, series: Series) -> bool:
        value = series.label(self.name)
        if self.pattern is None:
            return (value == self.value) == (self.op == "=")
        return (self.pattern.fullmatch(value) is not None) == (self.op == "=~")


@dataclass(frozen=True, slots=True)
class Selector:
    matchers: tuple[Matcher, ...]

    @property
    def metric(self) -> str | None:
        """The metric name, where it is fixed."""
        return next((m.value for m in self.matchers if m.name == "__name__" and m.op == "="), None)

    def matches(self, series: Series) -> bool:
        return all(m.matches(series) for m in self.matchers)


@dataclass(frozen=True, slots=True)
class Matching:
    """How the two sides of a vector operation find each other: by the labels `on`, or by all but `ignoring`."""

    on: tuple[str, ...] | None
    ignoring: tuple[str, ...] = ()

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
    matching: Matching
    return_bool: bool


@dataclass(frozen=True, slots=True)
class Call:
    function: str
    argument: Expression
    parameters: tuple[float, ...]


Labels = tuple[tuple[str, str], ...]
"""Label pairs sorted by name, `__name__` among them where the element has a metric name."""
Expression = Number | Selector | Binary | Call


def parse(text: str) -> Expression:
    """The syntax tree of `text`. Raises ExpressionError with the place of what is wrong or not supported."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    if not text.strip():
        raise ExpressionError("the expression is empty")
    try:
        tree = promql_parser.parse(text)
    except ValueError as error:
        raise ExpressionError(_explain(text, str(error)), _suspect(text, str(error))) from None
    return _Reader(text).read(tree)


class _Reader:
    """Walks the parser's tree in the order of the text, so that each construct's name can be found in it."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, _tokens(text)
        self._seen: Counter[str] = Counter()
        self._nodes = self._depth = 0

    def read(self, node: Any) -> Expression:
        """The tree below `node`. Raises ExpressionError."""
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise ExpressionError(
                f"the expression is nested deeper than {MAX_DEPTH} levels: split it into several rules"
            )
        tree = self._read(node)
        self._depth -= 1
        return tree

    def _read(self, node: Any) -> Expression:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ExpressionError(f"the expression has more than {MAX_NODES} parts: split it with recording rules")
        match type(node).__name__:
            case "ParenExpr":
                return self.read(node.expr)
            case "NumberLiteral":
                return Number(float(node.val))
            case "VectorSelector":
                return self._selector(node)
            case "UnaryExpr":
                return _folded(Binary("*", Number(-1.0), self.read(node.expr), Matching(None), return_bool=False))
            case "BinaryExpr":
                return self._binary(node)
            case "Call":
                return self._call(node)
            case kind:
                raise self._refusal(node, kind)

    def _refusal(self, node: Any, kind: str) -> ExpressionError:
        if kind == "AggregateExpr":
            advice = "write the condition per device, without an aggregation"
            return ExpressionError(f"{node.op}() is not supported yet: {advice}", self._place(str(node.op)))
        if kind == "MatrixSelector":
            return ExpressionError("range selectors such as x[5m] are not supported yet", self._place("["))
        if kind == "SubqueryExpr":
            return ExpressionError("subqueries such as x[5m:1m] are not supported yet", self._place("["))
        return ExpressionError("a string is not a condition: compare a series, e.g. temperature > 30")

    def _selector(self, node: Any) -> Selector:
        if node.offset is not None:
            raise ExpressionError("the modifier offset is not supported yet", self._place("offset"))
        if node.at is not None:
            raise ExpressionError("the modifier @ is not supported yet", self._place("@"))
        if node.matchers.or_matchers:
            raise ExpressionError(
                'matchers joined by "or" are not supported: write one selector each, joined by "or" outside the braces',
                self._place("or", inside=True),
            )
        matchers = [] if node.name is None else [Matcher("__name__", "=", node.name, None)]
        matchers.extend(self._matcher(m) for m in node.matchers.matchers)
        return Selector(tuple(matchers))

    def _matcher(self, m: Any) -> Matcher:
        op = {"Equal": "=", "NotEqual": "!=", "Re": "=~", "NotRe": "!~"}[str(m.op).rpartition(".")[2]]
        if op in ("=", "!="):
            return Matcher(m.name, op, m.value, None)
        try:
            return Matcher(m.name, op, m.value, re.compile(m.value, re.DOTALL))
        except re.error as error:
            place = self._text.find(m.value)
            raise ExpressionError(f"the regular expression {m.value!r} is wrong: {error}", max(place, 0)) from None

    def _binary(self, node: Any) -> Expression:
        lhs = self.read(node.lhs)
        op = str(node.op)
        place = self._place(op)
        if op not in ARITHMETIC | COMPARISON | SET:
            raise ExpressionError(f"the operator {op} is not supported yet", place)
        modifier = node.modifier
        matching, return_bool = Matching(None), False
        if modifier is not None:
            return_bool = modifier.return_bool
            matching = self._matching(modifier)
        return _folded(Binary(op, lhs, self.read(node.rhs), matching, return_bool))

    def _matching(self, modifier: Any) -> Matching:
        side = {"ManyToOne": "group_left", "OneToMany": "group_right"}.get(str(modifier.card).rpartition(".")[2])
        if side:
            raise ExpressionError(f"{side} is not supported yet", self._place(side))
        fill = modifier.fill_values
        if fill is not None and (fill.lhs is not None or fill.rhs is not None):
            raise ExpressionError("fill values are not supported", self._place("fill"))
        if modifier.matching is None:
            return Matching(None)
        labels = tuple(modifier.matching.labels)
        include = str(modifier.matching.type).endswith("Include")
        place = self._place("on" if include else "ignoring")
        matching = Matching(labels) if include else Matching(None, labels)
        if not matching.keeps_device:
            raise ExpressionError(
                "matching across devices is not supported yet: both sides must agree on the label device"
                + (", so add it to on(...)" if include else ", so take it out of ignoring(...)"),
                place,
            )
        return matching

    def _call(self, node: Any) -> Expression:
        name = node.func.name
        place = self._place(name)
        if name not in FUNCTIONS:
            raise ExpressionError(
                f"the function {name}() is not supported yet; known are: {', '.join(FUNCTIONS)}", place
            )
        argument = self.read(node.args[0])
        if name == "age" and not isinstance(argument, Selector):
            raise ExpressionError("age() takes a plain series selector, e.g. age(temperature)", place)
        parameters = [self.read(a) for a in node.args[1:]]
        if not all(isinstance(p, Number) for p in parameters):
            raise ExpressionError(f"the parameters of {name}() must be numbers", place)
        return Call(name, argument, tuple(p.value for p in parameters if isinstance(p, Number)))

    def _place(self, token: str, *, inside: bool = False) -> int:
        """Where the next `token` of the text is (`inside`: of braces); 0 if it is not to be found."""
        self._seen[token] += 1
        found = _uses(self._tokens, token, inside=inside)
        return found[min(self._seen[token], len(found)) - 1] if found else 0


def _folded(node: Binary) -> Expression:
    if not (isinstance(node.lhs, Number) and isinstance(node.rhs, Number)):
        return node
    a, b = node.lhs.value, node.rhs.value
    from rules.arithmetic import OPERATORS  # noqa: PLC0415  # numpy is needed only where constants meet

    return Number(float(OPERATORS[node.op](a, b)))


def _uses(tokens: list[re.Match[str]], token: str, *, inside: bool) -> list[int]:
    """Where the token stands: not strings, comments, nor labels and metrics of that name."""
    found, braces = [], 0
    for m, following in itertools.zip_longest(tokens, tokens[1:]):
        braces += {"{": 1, "}": -1}.get(m.group(), 0)
        if m.group().lower() != token or (braces > 0) != inside:
            continue
        opens = following is not None and following.group().lower() in ("(", "by", "without")
        if opens or not token.isidentifier() or token in _WORDS:
            found.append(m.start())
    return found


def _tokens(text: str) -> list[re.Match[str]]:
    """Words, numbers, operators and brackets of the text; strings and comments are skipped."""
    pattern = re.compile(
        r"""(?P<skip>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`|\#[^\n]*|\s+)"""
        r"""|[A-Za-z_:][A-Za-z0-9_:]*|[0-9][0-9a-zA-Z.]*|[=!<>]=|=~|!~|.""",
        re.DOTALL,
    )
    return [m for m in pattern.finditer(text) if m.group("skip") is None]


def _suspect(text: str, error: str) -> int:
    """The likeliest place of a syntax error: the named word, an open bracket, or the first token that cannot follow."""
    named = re.search(r"'([^']+)'", error)
    tokens = _tokens(text)
    if named:
        return next((m.start() for m in tokens if m.group() == named.group(1)), 0)
    bracket = _unbalanced(tokens)
    if bracket is not None:
        return bracket
    operators = ARITHMETIC | COMPARISON | SET
    for a, b in itertools.pairwise(tokens):
        if a.group() in operators and b.group() in operators - {"+", "-"}:
            return b.start()
        if a.group()[0].isalnum() and b.group()[0].isalnum() and not {a.group(), b.group()} & _WORDS:
            return b.start()
    if tokens and tokens[-1].group() in operators:
        return tokens[-1].start()
    return 0


def _unbalanced(tokens: list[re.Match[str]]) -> int | None:
    """Where a bracket is that has no partner."""
    open_brackets: list[int] = []
    for m in tokens:
        if m.group() in "([{":
            open_brackets.append(m.start())
        elif m.group() in ")]}":
            if not open_brackets:
                return m.start()
            open_brackets.pop()
    return open_brackets[-1] if open_brackets else None


_WORDS = {
    "and",
    "or",
    "unless",
    "bool",
    "on",
    "ignoring",
    "by",
    "without",
    "offset",
    "group_left",
    "group_right",
    "atan2",
}


def _explain(text: str, error: str) -> str:
    if error == "invalid promql query":
        last = _tokens(text)[-1].group() if _tokens(text) else ""
        if last in ARITHMETIC | COMPARISON | SET:
            return f"the expression ends after {last}: something must follow"
        return 'this is not PromQL: write for example temperature{site="ams"} > 30'
    return error


def is_scalar(node: Expression) -> bool:
    """Whether the expression has no series at all."""
    return isinstance(node, Number)


def is_comparison(node: Expression) -> bool:
    """Whether the expression, at its top, filters its elements."""
    return isinstance(node, Binary) and node.op in COMPARISON | SET
