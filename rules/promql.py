"""PromQL text → our syntax tree. Here: reading the parser's tree. Not here: meaning; nor the tree (syntax.py).

The grammar is that of the promql-parser package. It tells no places, and its strings, patterns and durations are not
quite upstream's; so each string and number is given to it as the number of its token, and read here.
"""

from __future__ import annotations

from typing import Any

import promql_parser
from promql_parser import Function, ValueType

from rules.arithmetic import OPERATORS
from rules.functions_known import SAME
from rules.patterns import PatternError, compile_pattern
from rules.promql_mistakes import explained
from rules.promql_refusals import MAX_DEPTH, TOO_DEEP, TOO_MANY, refuse
from rules.promql_tokens import (
    MAX_SECONDS,
    ExpressionError,
    Token,
    is_label_name,
    nanoseconds,
    number,
    numbered,
    scan,
    string,
)
from rules.syntax import (
    NOW,
    Aggregation,
    Binary,
    Call,
    Expression,
    Instant,
    Matcher,
    Matching,
    Negation,
    Number,
    Range,
    Selector,
    Subquery,
    Text,
)

__all__ = ["MAX_DEPTH", "MAX_LENGTH", "MAX_NODES", "ExpressionError", "parse", "parse_any"]

MAX_LENGTH = 10_000
MAX_NODES = 1_000

_SMOOTHING = [ValueType.Matrix, ValueType.Scalar, ValueType.Scalar]
promql_parser.register_extra_functions(
    [
        Function(name="age", arg_types=[ValueType.Vector], return_type=ValueType.Vector),
        Function(name="holt_winters", arg_types=_SMOOTHING, return_type=ValueType.Vector),
    ]
)
_MANY = {"ManyToOne": "left", "OneToMany": "right"}


def parse(text: str) -> Expression:
    """The syntax tree of a condition. Raises ExpressionError with the place of what is wrong or not supported."""
    expression = parse_any(text)
    if isinstance(expression, Text):
        raise ExpressionError(
            "a string is not a condition: compare a series, e.g. temperature > 30", scan(text)[0].start
        )
    if isinstance(expression, Range | Subquery):
        bracket = next(t for t in reversed(scan(text)) if t.text == "[")
        raise ExpressionError("a range is no condition: write for example avg_over_time(x[5m]) > 30", bracket.start)
    return expression


def parse_any(text: str) -> Expression:
    """As `parse`, of ranges and strings too, which instant queries may ask for."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {MAX_LENGTH} characters")
    if not text.isascii():
        _refuse_surrogates(text)
    tokens = scan(text)
    if not tokens:
        raise ExpressionError("the expression is empty")
    refuse(tokens)
    parts = numbered(tokens)
    try:
        tree = promql_parser.parse(" ".join(parts))
    except ValueError as error:
        raise explained(tokens, parts, str(error)) from None
    except RecursionError:
        raise ExpressionError(TOO_DEEP) from None
    return _Reader(tokens).read(tree)


def _refuse_surrogates(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ExpressionError("half a character (a lone surrogate) stands in the expression", error.start) from None


class _Reader:
    """Walks the parser's tree, in which strings and numbers are the numbers of their tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._nodes = self._depth = self._calls = 0

    def read(self, node: Any) -> Expression:
        """The tree below `node`. Raises ExpressionError."""
        self._nodes += 1
        self._depth += 1
        if self._nodes > MAX_NODES:
            raise ExpressionError(TOO_MANY)
        if self._depth > MAX_DEPTH:
            raise ExpressionError(TOO_DEEP)
        tree = self._read(_within_parentheses(node))
        self._depth -= 1
        return tree

    def _read(self, node: Any) -> Expression:
        match type(node).__name__:
            case "VectorSelector":
                return self._selector(node)
            case "NumberLiteral":
                value = number(self._token(abs(node.val)))
                return Number(-value if node.val < 0 else value)
            case "BinaryExpr":
                return self._binary(node)
            case "Call":
                return self._call(node)
            case "AggregateExpr":
                return self._aggregation(node)
            case "MatrixSelector":
                return Range(self._selector(node.vector_selector), self._duration(node.range))
            case "SubqueryExpr":
                step = 0 if node.step is None else self._duration(node.step)
                return Subquery(self.read(node.expr), self._duration(node.range), step, self._instant(node))
            case "UnaryExpr":
                operand = self.read(node.expr)
                return Number(-operand.value) if isinstance(operand, Number) else Negation(operand)
            case "StringLiteral":
                return Text(string(self._token(node.val)))
            case kind:
                raise ExpressionError(f"{kind} is not supported")

    def _token(self, n: Any) -> Token:
        return self._tokens[int(n) - 1]

    def _selector(self, node: Any) -> Selector:
        found = node.matchers.matchers
        matchers = [self._matcher(m) for m in found]
        if node.name is not None:
            matchers.insert(0, Matcher("__name__", "=", node.name, None))
        elif all(m.matches(_UNLABELLED) for m in matchers):
            raise ExpressionError(
                'a selector needs a metric, or one matcher that does not match "": {site=~".+"}',
                self._token(found[0].value).start,
            )
        return Selector(tuple(matchers), self._instant(node))

    def _matcher(self, m: Any) -> Matcher:
        index = int(m.value) - 1
        token, op = self._tokens[index], self._tokens[index - 1].text
        name, value = self._label(m.name), string(token)
        if op in ("=~", "!~"):
            return Matcher(name, op, value, _pattern(value, token))
        return Matcher(name, "!=" if op == "!=" else "=", value, None)  # without one it is a quoted metric

    def _label(self, name: str) -> str:
        """A label's name, which may be quoted."""
        if not name.isdigit():
            return name
        token = self._token(name)
        if not (label := string(token) if token.kind == "string" else token.text):
            raise ExpressionError("a label's name cannot be empty", token.start)
        return label

    def _duration(self, tokens_seconds: Any) -> int:
        token = self._token(tokens_seconds.total_seconds())
        if not (ns := nanoseconds(token)) > 0:
            raise ExpressionError("a range, and its step, must be longer than 0", token.start)
        return ns

    def _instant(self, node: Any) -> Instant:
        if node.offset is None and node.at is None:
            return NOW
        offset, at = 0, None
        if node.offset is not None:
            seconds = node.offset.total_seconds()
            ns = nanoseconds(self._token(abs(seconds)))
            offset = -ns if seconds < 0 else ns
        if node.at is not None:
            at = {"Start": "start", "End": "end"}.get(str(node.at.type)[15:]) or self._timestamp(node.at.at)
        return Instant(offset, at)

    def _timestamp(self, at: Any) -> int:
        index = int(at.timestamp()) - 1
        token, sign = self._tokens[index], self._tokens[index - 1]
        seconds = number(token)
        if not seconds <= MAX_SECONDS:
            raise ExpressionError(
                f"@ {token.text} is out of bounds: it takes seconds since 1970, up to the year 2160", token.start
            )
        ms = round(seconds * 1_000)  # as upstream rounds
        return -ms * 10**6 if sign.text == "-" else ms * 10**6

    def _binary(self, node: Any) -> Expression:
        op, modifier = str(node.op), node.modifier
        lhs, rhs = self.read(node.lhs), self.read(node.rhs)
        if isinstance(lhs, Number) and isinstance(rhs, Number) and op in OPERATORS:
            return Number(float(OPERATORS[op](lhs.value, rhs.value)))
        if modifier is None:
            return Binary(op, lhs, rhs)
        return Binary(op, lhs, rhs, self._matching(modifier), modifier.return_bool)

    def _matching(self, modifier: Any) -> Matching:
        if modifier.matching is None:
            return Matching(None)
        labels = tuple(map(self._label, modifier.matching.labels))
        many = _MANY.get(str(modifier.card)[23:], "")
        include = tuple(map(self._label, modifier.group_labels or ()))
        if str(modifier.matching.type).endswith("Include"):
            return Matching(labels, (), many, include)
        return Matching(None, labels, many, include)

    def _aggregation(self, node: Any) -> Aggregation:
        op, modifier = str(node.op), node.modifier
        parameter = None if node.param is None else self.read(node.param)
        if op == "count_values":
            self._new_label(node.param)
        expression = self.read(node.expr)
        if modifier is None:
            return Aggregation(op, expression, parameter)
        labels = tuple(map(self._label, modifier.labels))
        return Aggregation(op, expression, parameter, labels, str(modifier.type).endswith("Without"))

    def _call(self, node: Any) -> Call:
        name, call = node.func.name, self._calls
        self._calls += 1
        arguments = tuple(self.read(a) for a in node.args)
        if name == "age" and not (isinstance(arguments[0], Selector) and arguments[0].instant == NOW):
            raise ExpressionError(
                "age() takes a plain series selector, without offset and @, e.g. age(temperature)", self._place(call)
            )
        if name in ("label_replace", "label_join"):
            self._new_label(node.args[1])
        if name == "label_replace":
            token = self._string(node.args[4])
            _pattern(string(token), token)
        return Call(SAME.get(name, name), arguments)

    def _string(self, node: Any) -> Token:
        return self._token(_within_parentheses(node).val)

    def _new_label(self, node: Any) -> None:
        """Refuses a label that no element may have."""
        token = self._string(node)
        if not is_label_name(name := string(token)):
            raise ExpressionError(f"{name!r} cannot be a label: letters, digits and _, no digit first", token.start)

    def _place(self, call: int) -> int:
        """Where a call is: they stand in the text in the order in which the tree has them."""
        words = zip(self._tokens, self._tokens[1:], ["", *(t.text for t in self._tokens)], strict=False)
        return [a.start for a, b, before in words if a.kind == "word" and b.text == "(" and before != "@"][call]


class _Unlabelled:
    """A series that has no label at all."""

    def label(self, name: str) -> str:
        del name
        return ""


_UNLABELLED = _Unlabelled()


def _within_parentheses(node: Any) -> Any:
    while type(node).__name__ == "ParenExpr":
        node = node.expr
    return node


def _pattern(text: str, token: Token) -> Any:
    try:
        return compile_pattern(text)
    except PatternError as error:
        raise ExpressionError(f"the regular expression {text!r} is wrong: {error}", token.start) from None
