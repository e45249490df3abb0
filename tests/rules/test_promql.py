"""Laws of parsing: which tree a text gives. What is refused is in test_promql_refusals.py."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given

from rules.promql import Binary, Call, Expression, Matcher, Matching, Number, Selector, parse
from telemetry import Series


def shown(node: Expression) -> str:
    """A tree, fully parenthesized."""
    match node:
        case Number():
            return f"{node.value:g}"
        case Selector():
            return node.metric or "{}"
        case Call():
            return f"{node.function}({', '.join([shown(node.argument), *(f'{p:g}' for p in node.parameters)])})"
        case Binary():
            return f"({shown(node.lhs)} {node.op}{' bool' * node.return_bool} {shown(node.rhs)})"


def selector(text: str) -> Selector:
    tree = parse(text)
    assert isinstance(tree, Selector)
    return tree


# ---- trees


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a or b and c unless d", "(a or ((b and c) unless d))"),
        ("a > 1 and b < 2 or c == 3", "(((a > 1) and (b < 2)) or (c == 3))"),
        ("a < b + c * d ^ e", "(a < (b + (c * (d ^ e))))"),
        ("a - b + c", "((a - b) + c)"),
        ("a / b % c * d", "(((a / b) % c) * d)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("a > b == c", "((a > b) == c)"),
        ("(a - b) * c", "((a - b) * c)"),
        ("-a ^ 2", "(-1 * (a ^ 2))"),
        ("-a * b", "((-1 * a) * b)"),
        ("a - -b", "(a - (-1 * b))"),
        ("+a", "a"),
        ("a > -3", "(a > -3)"),
        ("a > 2 ^ 3 ^ 2 - 1", "(a > 511)"),
        ("a > (1 > bool 2)", "(a > 0)"),
        ("a > 0x1F", "(a > 31)"),
        ("a > 1e3", "(a > 1000)"),
        ("a > .5", "(a > 0.5)"),
        ("a > Inf", "(a > inf)"),
        ("a > NaN", "(a > nan)"),
        ("a > bool 3", "(a > bool 3)"),
        ("a >= bool b", "(a >= bool b)"),
        ("a AND b OR c", "((a and b) or c)"),
        ("round(a)", "round(a)"),
        ("clamp(-a, 1 + 1, -(3))", "clamp((-1 * a), 2, -3)"),
        ("age(a) > 60", "(age(a) > 60)"),
        ("a\n  > # a comment, with ( and sum(b)\n  3", "(a > 3)"),
        ("sum > 3", "(sum > 3)"),
    ],
)
def test_a_text_gives_the_tree_that_it_gives_upstream(text: str, tree: str):
    assert shown(parse(text)) == tree


LEVELS: dict[str, int] = {"or": 1, "and": 2, "unless": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3} | {
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5, "^": 6,
}  # fmt: skip
"""How tightly upstream's operators bind; `^` alone groups to the right."""


def grouped(operators: list[str], first: int = 0, least: int = 1) -> tuple[str, int]:
    """v0 op v1 op v2 … with its parentheses, from operand `first` on while operators bind as tightly as `least`."""
    text, at = f"v{first}", first
    while at < len(operators) and LEVELS[operators[at]] >= least:
        op = operators[at]
        right, at = grouped(operators, at + 1, LEVELS[op] + (op != "^"))
        text = f"({text} {op} {right})"
    return text, at


@given(st.lists(st.sampled_from(sorted(LEVELS)), max_size=8))
def test_operators_bind_as_upstream(operators: list[str]):
    text = "v0" + "".join(f" {op} v{i}" for i, op in enumerate(operators, 1))

    assert shown(parse(text)) == grouped(operators)[0]


TREES = st.recursive(
    st.sampled_from(["a", "b", "c"]),
    lambda inner: st.one_of(
        st.builds("({} {} {})".format, inner, st.sampled_from(sorted(LEVELS)), inner),
        st.builds("({} {} 7)".format, inner, st.sampled_from(sorted(set(LEVELS) - {"and", "or", "unless"}))),
        st.builds("clamp({}, 1, 2)".format, inner),
    ),
)


@given(TREES)
def test_parentheses_are_obeyed(text: str):
    assert shown(parse(text)) == text


def test_how_the_sides_find_each_other_is_kept():
    def matching(text: str) -> Matching:
        tree = parse(text)
        assert isinstance(tree, Binary)
        return tree.matching

    assert matching("a > b") == Matching(None)
    assert matching("a > on(device, site) b") == Matching(("device", "site"))
    assert matching("a and ignoring(state) b") == Matching(None, ("state",))
    assert matching("a > bool on(device) b") == Matching(("device",))


# ---- selectors

COLD = Series.of("temperature", device="d1", site="ams")


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("temperature", True), ("humidity", False), ('{__name__="temperature"}', True), ('{__name__=~"temp.*"}', True),
        ('{__name__!="temperature", device="d1"}', False), ('temperature{device="d1"}', True),
        ('temperature{device="d"}', False), ('temperature{device!="d1"}', False), ('temperature{device!="d2"}', True),
        ('temperature{device=~"d."}', True), ('temperature{device=~"d"}', False), ('temperature{device=~"1"}', False),
        ('temperature{device=~"d1|e1"}', True), ('temperature{device=~"e1|d"}', False),
        ('temperature{device!~"d."}', False), ('temperature{device!~"1"}', True), ('temperature{site=~".+"}', True),
        ('temperature{room=""}', True), ('temperature{room!=""}', False), ('temperature{room=~".*"}', True),
        ('temperature{room=~".+"}', False), ('temperature{room!~".+"}', True), ('temperature{room!="x"}', True),
        ('temperature{device="d1", site="ams"}', True), ('temperature{device="d1", site="lon"}', False),
        ("temperature{device='d1'}", True), ("temperature{device=`d1`}", True), ('{"temperature", device="d1"}', True),
        (r'temperature{device=~"d\\d"}', True), ('temperature{device=~"(?i)D1"}', True), ("temperature{}", True),
    ],
)  # fmt: skip
def test_matchers_choose_as_upstream(text: str, *, matches: bool):
    """Regular expressions are anchored; a label that is not there is empty."""
    assert selector(text).matches(COLD) is matches


def test_a_dot_matches_line_ends_too():
    assert selector('x{a=~"1.2"}').matches(Series.from_labels("x", {"device": "d", "a": "1\n2"}))


@pytest.mark.parametrize(
    ("text", "metric"),
    [
        ("a", "a"),
        ('{__name__="a"}', "a"),
        ('{__name__=~"a"}', None),
        ('{device="d"}', None),
        ('{__name__!="a",b="c"}', None),
    ],
)
def test_the_metric_is_known_where_it_is_fixed(text: str, metric: str | None):
    assert selector(text).metric == metric


def test_a_selector_keeps_its_matchers():
    assert selector('a{b="c", d!="e"}').matchers == (
        Matcher("__name__", "=", "a", None),
        Matcher("b", "=", "c", None),
        Matcher("d", "!=", "e", None),
    )


@pytest.mark.xfail(strict=True, reason="patterns are compiled by Python's re, which differs from RE2")
@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("[[:alpha:]]+", "abc", True),
        (r"\\d", "٣", False),
        (r"\\pL+", "é", True),
        (r"a\\z", "a", True),
        ("a(?i)b", "aB", True),
    ],
)
def test_patterns_mean_what_they_mean_in_re2(pattern: str, value: str, *, matches: bool):
    assert selector(f'x{{a=~"{pattern}"}}').matches(Series.of("x", device="d", a=value)) is matches
