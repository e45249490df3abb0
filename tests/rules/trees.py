"""Random syntax trees, and how each is written as text: what a parser must read back."""

from __future__ import annotations

import json
import re

import hypothesis.strategies as st

from rules.patterns import compile_pattern
from rules.promql_tokens import AGGREGATIONS
from rules.syntax import (
    NOW,
    SET,
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

SECOND = 10**9
_COMPARISON = ["==", "!=", ">", "<", ">=", "<="]
_ARITHMETIC = ["+", "-", "*", "/", "%", "^", "atan2"]
_PATTERNS = ["a|b", ".*x", "", r"\d+", "(?i)é", "[[:alpha:]]\"'`", "\\\\"]

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
labels = st.sampled_from(["site", "device", "le", "on", "by", "offset", "inf", "a.b", "é ☃", "1"])
names = st.lists(labels, max_size=2, unique=True).map(tuple)


@st.composite
def matchers(draw: st.DrawFn) -> Matcher:
    name, op = draw(labels), draw(st.sampled_from(["=", "!=", "=~", "!~"]))
    value = draw(texts if op in ("=", "!=") else st.sampled_from(_PATTERNS))
    return Matcher(name, op, value, compile_pattern(value) if "~" in op else None)


instants = st.builds(
    Instant,
    st.integers(-10_000, 10_000).map(lambda s: s * SECOND // 4),
    st.one_of(st.none(), st.sampled_from(["start", "end"]), st.integers(-(10**12), 10**12).map(lambda ms: ms * 10**6)),
)
metrics = st.sampled_from(["temperature", "a:b", "sum", "offset", "start", "inf_", "rate"])
named = st.builds(
    lambda name, others: (Matcher("__name__", "=", name, None), *others), metrics, st.lists(matchers(), max_size=2)
)
unnamed = st.lists(matchers(), max_size=2).map(lambda others: (*others, Matcher("site", "=", "x", None)))
selectors = st.builds(Selector, st.one_of(named, unnamed), st.one_of(st.just(NOW), instants))
durations = st.integers(1, 10**9).map(lambda ms: ms * 10**6)
numbers = st.floats(allow_nan=False).map(Number)


def matchings(op: str) -> st.SearchStrategy[Matching]:
    none = st.just(Matching(None))
    plain = st.one_of(none, st.builds(Matching, names), names.map(lambda n: Matching(None, n)))
    if op in SET:
        return plain
    sides, include = st.sampled_from(["left", "right"]), st.sampled_from([(), ("model",), ("model", "c d")])
    on = st.builds(Matching, names, st.just(()), sides, include)
    ignoring = st.builds(Matching, st.none(), names, sides, include)
    return st.one_of(plain, on, ignoring)


def _scalars(vectors: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    """Numbers that depend on something, so that they are not folded."""
    return st.one_of(
        st.sampled_from([Call("time", ()), Call("pi", ())]),
        vectors.map(lambda v: Call("scalar", (v,))),
        vectors.map(lambda v: Negation(Call("scalar", (v,)))),
        st.builds(Binary, st.sampled_from(_ARITHMETIC), numbers, st.just(Call("time", ()))),
        st.builds(lambda op, n: Binary(op, Call("pi", ()), n, return_bool=True), st.sampled_from(_COMPARISON), numbers),
    )


@st.composite
def _joined(draw: st.DrawFn, vectors: st.SearchStrategy[Expression]) -> Binary:
    op = draw(st.sampled_from([*_COMPARISON, *_ARITHMETIC, *sorted(SET)]))
    matching = draw(matchings(op))
    return Binary(op, draw(vectors), draw(vectors), matching, op in _COMPARISON and draw(st.booleans()))


@st.composite
def _with_number(draw: st.DrawFn, vectors: st.SearchStrategy[Expression]) -> Binary:
    op = draw(st.sampled_from([*_COMPARISON, *_ARITHMETIC]))
    sides = [draw(vectors), draw(st.one_of(numbers, _scalars(vectors)))]
    lhs, rhs = sides if draw(st.booleans()) else sides[::-1]
    return Binary(op, lhs, rhs, return_bool=op in _COMPARISON and draw(st.booleans()))


@st.composite
def _aggregated(draw: st.DrawFn, vectors: st.SearchStrategy[Expression]) -> Aggregation:
    op = draw(st.sampled_from(sorted(AGGREGATIONS)))
    parameter: Expression | None = None
    if op in ("topk", "bottomk", "quantile"):
        parameter = draw(st.one_of(numbers, _scalars(vectors)))
    elif op == "count_values":
        parameter = Text("version")
    return Aggregation(op, draw(vectors), parameter, draw(names), draw(st.booleans()))


@st.composite
def _called(draw: st.DrawFn, vectors: st.SearchStrategy[Expression]) -> Call:
    windows: st.SearchStrategy[Expression] = st.one_of(
        st.builds(Range, selectors, durations),
        st.builds(Subquery, vectors, durations, st.one_of(st.just(0), durations), st.one_of(st.just(NOW), instants)),
    )
    v, w = draw(vectors), draw(windows)
    scalars = draw(st.one_of(numbers, _scalars(vectors)))
    text = Text(draw(texts))
    return draw(
        st.sampled_from(
            [
                Call("abs", (v,)), Call("hour", ()), Call("round", (v, scalars)),
                Call("clamp", (v, Number(1), scalars)), Call("rate", (w,)),
                Call("quantile_over_time", (scalars, w)), Call("absent", (v,)),
                Call("label_replace", (v, Text("dst"), text, text, Text("(.*)"))), Call("vector", (scalars,)),
                Call("label_join", (v, Text("dst"), text, Text("a"), Text("b"))), Call("age", (draw(selectors),)),
                Call("histogram_quantile", (scalars, v)), Call("double_exponential_smoothing", (w, scalars, Number(1))),
            ]
        )
    )  # fmt: skip


vectors: st.SearchStrategy[Expression] = st.recursive(
    selectors,
    lambda inner: st.one_of(
        _joined(inner), _with_number(inner), _aggregated(inner), _called(inner), inner.map(Negation)
    ),
    max_leaves=5,
)
trees = st.one_of(vectors, _scalars(vectors))


def written(node: Expression) -> str:
    """The text of a tree, with parentheses wherever they may stand."""
    match node:
        case Number():
            return f"({node.value!r})" if node.value < 0 else repr(node.value)
        case Text():
            return _quoted(node.value)
        case Selector():
            return _selector(node)
        case Range():
            bare = Selector(node.selector.matchers)
            return f"{_selector(bare)}[{_milliseconds(node.duration)}]{_instant(node.selector.instant)}"
        case Subquery():
            step = _milliseconds(node.step) if node.step else ""
            inner = f"({written(node.expression)})"
            return f"{inner}[{_milliseconds(node.duration)}:{step}]{_instant(node.instant)}"
        case Binary():
            words = [written(node.lhs), node.op, "bool" * node.return_bool, _matching(node.matching), written(node.rhs)]
            return f"({' '.join(filter(None, words))})"
        case Negation():
            return f"(-{written(node.operand)})"
        case Aggregation():
            arguments = ", ".join(written(a) for a in (node.parameter, node.expression) if a is not None)
            grouping = f" without {_names(node.labels)}" if node.without else f" by {_names(node.labels)}"
            return f"{node.op}{grouping if node.labels or node.without else ''} ({arguments})"
        case Call():
            return f"{node.function}({', '.join(written(a) for a in node.arguments)})"


def _selector(node: Selector) -> str:
    first, *others = node.matchers
    name = first.value if (first.name, first.op) == ("__name__", "=") else ""
    inside = [f"{_name(m.name)}{m.op}{_quoted(m.value)}" for m in (others if name else node.matchers)]
    return f"{name}{{{','.join(inside)}}}{_instant(node.instant)}"


def _instant(instant: Instant) -> str:
    words = []
    if instant.offset:
        words.append(f" offset {'-' * (instant.offset < 0)}{_milliseconds(abs(instant.offset))}")
    if isinstance(instant.at, str):
        words.append(f" @ {instant.at}()")
    elif instant.at is not None:
        words.append(f" @ {instant.at / SECOND:.3f}")
    return "".join(words)


def _matching(matching: Matching) -> str:
    if matching == Matching(None):
        return ""
    words = f"ignoring {_names(matching.ignoring)}" if matching.on is None else f"on {_names(matching.on)}"
    return f"{words} group_{matching.many} {_names(matching.include)}" if matching.many else words


def _names(names: tuple[str, ...]) -> str:
    return f"({', '.join(map(_name, names))})"


def _name(name: str) -> str:
    return name if re.fullmatch("[a-z]+", name) and name != "inf" else _quoted(name)


def _milliseconds(ns: int) -> str:
    return f"{ns // 10**6}ms"


def _quoted(text: str) -> str:
    """JSON's escapes are Go's, but for `\\/` and pairs of surrogates, which are not written."""
    if "`" not in text and "\\" in text:
        return f"`{text}`"
    return json.dumps(text, ensure_ascii=False)
