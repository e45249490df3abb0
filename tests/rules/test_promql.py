"""Laws of parsing: which tree a text gives. What is refused is in test_promql_refusals.py."""

from __future__ import annotations

import time

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from rules.functions_known import FUNCTIONS
from rules.patterns import MAX_PATTERN, PatternError, compile_pattern
from rules.promql import ExpressionError, parse
from rules.promql_tokens import scan
from rules.syntax import (
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
from telemetry import Series
from tests.rules.trees import trees, written

MINUTE = 60 * 10**9


def shown(node: Expression) -> str:
    """A tree, fully parenthesized."""
    match node:
        case Number():
            return f"{node.value:g}"
        case Selector():
            return node.metric or "{}"
        case Negation():
            return f"(-{shown(node.operand)})"
        case Call():
            return f"{node.function}({', '.join(map(shown, node.arguments))})"
        case Binary():
            return f"({shown(node.lhs)} {node.op}{' bool' * node.return_bool} {shown(node.rhs)})"
    raise TypeError(node)


def selector(text: str) -> Selector:
    tree = parse(text)
    assert isinstance(tree, Selector)
    return tree


def binary(text: str) -> Binary:
    tree = parse(text)
    assert isinstance(tree, Binary)
    return tree


def metric(name: str) -> Selector:
    return Selector((Matcher("__name__", "=", name, None),))


# ---- trees


@settings(max_examples=60)
@given(trees)
def test_a_tree_that_is_written_as_text_is_read_back(tree: Expression):
    assert parse(written(tree)) == tree


@settings(max_examples=30)
@given(trees, st.sampled_from(["\n", " \t", ' # a comment, with ) and "\n', "\r\n# '\r"]))
def test_space_and_comments_say_nothing(tree: Expression, between: str):
    text = written(tree)

    assert parse(between + between.join(token.text for token in scan(text)) + between) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("a or b and c unless d", "(a or ((b and c) unless d))"),
        ("a > 1 and b < 2 or c == 3", "(((a > 1) and (b < 2)) or (c == 3))"),
        ("a < b + c * d ^ e", "(a < (b + (c * (d ^ e))))"),
        ("a - b + c", "((a - b) + c)"),
        ("a / b % c * d atan2 e", "((((a / b) % c) * d) atan2 e)"),
        ("a ^ b ^ c", "(a ^ (b ^ c))"),
        ("a > b == c", "((a > b) == c)"),
        ("(a - b) * c", "((a - b) * c)"),
        ("-a ^ 2", "(-(a ^ 2))"),
        ("-a * b", "((-a) * b)"),
        ("a - -b", "(a - (-b))"),
        ("- - a", "(-(-a))"),
        ("+a", "a"),
        ("a > -3", "(a > -3)"),
        ("a > 2 ^ 3 ^ 2 - 1", "(a > 511)"),
        ("a > -2 ^ 2", "(a > -4)"),
        ("a > (1 > bool 2)", "(a > 0)"),
        ("a > 1 / 0 - 1 % 0", "(a > nan)"),
        ("a > 0x1F", "(a > 31)"),
        ("a > 017", "(a > 15)"),
        ("a > 08", "(a > 8)"),
        ("a > 1e3", "(a > 1000)"),
        ("a > .5", "(a > 0.5)"),
        ("a > 5.", "(a > 5)"),
        ("a > 1_000.5", "(a > 1000.5)"),
        ("a > 1h30m", "(a > 5400)"),
        ("a > -1ms", "(a > -0.001)"),
        ("a > Inf", "(a > inf)"),
        ("a > NaN", "(a > nan)"),
        ("a > bool 3", "(a > bool 3)"),
        ("a >= bool b", "(a >= bool b)"),
        ("a AND b OR c", "((a and b) or c)"),
        ("round(a)", "round(a)"),
        ("clamp(-a, 1 + 1, -(3))", "clamp((-a), 2, -3)"),
        ("clamp(a, time(), pi() * 2)", "clamp(a, time(), (pi() * 2))"),
        ("age(a) > 60", "(age(a) > 60)"),
        ("a\n  > # a comment, with ( and sum(b)\n  3", "(a > 3)"),
        ("sum > 3", "(sum > 3)"),
        ("offset + by - start", "((offset + by) - start)"),
        ("((a))", "a"),
    ],
)
def test_a_text_gives_the_tree_that_it_gives_upstream(text: str, tree: str):
    assert shown(parse(text)) == tree


LEVELS: dict[str, int] = {"or": 1, "and": 2, "unless": 2, "==": 3, "!=": 3, "<": 3, "<=": 3, ">": 3, ">=": 3} | {
    "+": 4, "-": 4, "*": 5, "/": 5, "%": 5, "atan2": 5, "^": 6,
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


A, B = metric("a"), metric("b")


def at(instant: Instant) -> Selector:
    return Selector(A.matchers, instant)


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("rate(a[5m])", Call("rate", (Range(A, 5 * MINUTE),))),
        ("rate((a[1h30m1s]))", Call("rate", (Range(A, 90 * MINUTE + 10**9),))),
        ("rate(a[1.5])", Call("rate", (Range(A, 1_500_000_000),))),
        ("rate(a[5ms])", Call("rate", (Range(A, 5_000_000),))),
        ("rate(a[5m:])", Call("rate", (Subquery(A, 5 * MINUTE, 0),))),
        ("rate(a[5m:30s])", Call("rate", (Subquery(A, 5 * MINUTE, MINUTE // 2),))),
        ("rate(a[5m:1m] offset 1m)", Call("rate", (Subquery(A, 5 * MINUTE, MINUTE, Instant(MINUTE)),))),
        ("rate(a offset 1s [5m:1m])", Call("rate", (Subquery(at(Instant(10**9)), 5 * MINUTE, MINUTE),))),
        ("rate(a[5m] offset 1m @ end())", Call("rate", (Range(at(Instant(MINUTE, "end")), 5 * MINUTE),))),
        ("a offset 5m", at(Instant(5 * MINUTE))),
        ("a offset -5m", at(Instant(-5 * MINUTE))),
        ("a OFFSET 90", at(Instant(90 * 10**9))),
        ("a offset 0s", A),
        ("a @ 1700000000.1234", at(Instant(0, 1_700_000_000_123_000_000))),
        ("a @ -5", at(Instant(0, -5 * 10**9))),
        ("a @ +1e9", at(Instant(0, 10**18))),
        ("a @ start() offset 5m", at(Instant(5 * MINUTE, "start"))),
        ("a offset 5m @ start()", at(Instant(5 * MINUTE, "start"))),
        ("sum(a)", Aggregation("sum", A)),
        ("SUM BY (x, y,) (a)", Aggregation("sum", A, None, ("x", "y"))),
        ("sum(a) by (x)", Aggregation("sum", A, None, ("x",))),
        ("sum by () (a)", Aggregation("sum", A)),
        ("sum without () (a)", Aggregation("sum", A, None, (), without=True)),
        ('sum without ("a.b", on) (a)', Aggregation("sum", A, None, ("a.b", "on"), without=True)),
        ("topk(3, a)", Aggregation("topk", A, Number(3))),
        ("topk by (x) (scalar(b), a)", Aggregation("topk", A, Call("scalar", (B,)), ("x",))),
        ('count_values("v", a)', Aggregation("count_values", A, Text("v"))),
        ("count_values(('v'), a)", Aggregation("count_values", A, Text("v"))),
        (
            "label_replace(a, 'b', `$1\\n`, \"c\\\\\", '(.*)')",
            Call("label_replace", (A, Text("b"), Text("$1\\n"), Text("c\\"), Text("(.*)"))),
        ),
        ("hour()", Call("hour", ())),
        (
            "holt_winters(a[1m], 0.5, 0.1)",
            Call("double_exponential_smoothing", (Range(A, MINUTE), Number(0.5), Number(0.1))),
        ),
        ("vector(-1)", Call("vector", (Number(-1),))),
        ("-pi()", Negation(Call("pi", ()))),
        ('{"a.b", "c.d"="e"}', Selector((Matcher("__name__", "=", "a.b", None), Matcher("c.d", "=", "e", None)))),
    ],
)  # fmt: skip
def test_each_construct_has_its_node(text: str, tree: Expression):
    assert parse(text) == tree


def test_how_the_sides_find_each_other_is_kept():
    def matching(text: str) -> Matching:
        return binary(text).matching

    assert matching("a > b") == Matching(None)
    assert matching("a > on(device, site) b") == Matching(("device", "site"))
    assert matching("a > on() b") == Matching(())
    assert matching("a and ignoring(state) b") == Matching(None, ("state",))
    assert matching("a > bool on(device) b") == Matching(("device",))
    assert matching("a * on(device) group_left b") == Matching(("device",), (), "left")
    assert matching("a * on(device) GROUP_LEFT(model, site) b") == Matching(("device",), (), "left", ("model", "site"))
    assert matching("a * ignoring(x) group_right('a b') b") == Matching(None, ("x",), "right", ("a b",))


def test_a_comparison_of_a_number_with_bool_keeps_it():
    assert binary("1 < bool a").return_bool
    assert binary("time() < bool 5").return_bool
    assert not binary("a < 5").return_bool


@pytest.mark.parametrize("name", sorted(FUNCTIONS - {"holt_winters"}))
def test_every_function_that_is_said_to_be_known_is_parsed(name: str):
    arguments = ["a", "a[5m]", "", "1", "1, a", "a, 1", "1, a[5m]", "a[5m], 1", "a, 1, 2", "a[5m], 1, 2", 'a, "b"',
                 'a, "b", "c", "d"', 'a, "b", "c", "d", "e"']  # fmt: skip
    trees = []
    for written_arguments in arguments:
        try:
            trees.append(parse(f"{name}({written_arguments})"))
        except ExpressionError:
            continue
    assert trees
    assert all(isinstance(tree, Call) and tree.function == name for tree in trees)


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
        (r'temperature{device=~"d\\d"}', True), (r"temperature{device=~`d\d`}", True),
        ('temperature{device=~"(?i)D1"}', True), ("temperature{}", True), ('{site!=""}', True), ('{room!=""}', False),
        ('{site!~""}', True), ('{site!~"|lon"}', True), ('{site=~"|lon", device="d1"}', False),
        ('temperature{"site"="ams"}', True), ('temperature{"si\\u0074e"="ams"}', True),
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
        ('{"a"}', "a"),
        ('{__name__=~"a"}', None),
        ('{device="d"}', None),
        ('{__name__!="a",b="c"}', None),
    ],
)
def test_the_metric_is_known_where_it_is_fixed(text: str, metric: str | None):
    assert selector(text).metric == metric


def test_a_selector_keeps_its_matchers():
    assert selector('a{b="c", d!="e", f=~"g", h!~"i"}').matchers == (
        Matcher("__name__", "=", "a", None),
        Matcher("b", "=", "c", None),
        Matcher("d", "!=", "e", None),
        Matcher("f", "=~", "g", compile_pattern("g")),
        Matcher("h", "!~", "i", compile_pattern("i")),
    )


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (r'"a\n\t\\\"\a\b\f\r\v"', 'a\n\t\\"\a\b\f\r\v'), (r"'\''", "'"), (r"`\n`", r"\n"), (r'"\x41\101\377"', None),
        (r'"\x41\101"', "AA"), (r'"\xc3\xa9"', "é"), (r'"\u00e9\U0001F600"', "é😀"), ('"é☃"', "é☃"), ('"#"', "#"),
        ("`a\nb`", "a\nb"), ('""', ""), (r'"\ud800"', None), (r'"\U00110000"', None), (r'"\q"', None),
        (r'"\400"', None),
        (r'"\\d"', r"\d"), (r'"\x4"', None), (r'"\\\\"', r"\\"),
    ],
)  # fmt: skip
def test_strings_are_gos(written: str, value: str | None):
    if value is None:
        with pytest.raises(ExpressionError, match=r"no escape|not valid UTF-8"):
            parse(f"a{{b={written}}}")
    else:
        assert selector(f"a{{b={written}}}").matchers[1].value == value


# ---- patterns


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("[[:alpha:]]+", "abc", True),
        (r"\\d", "٣", False),
        (r"\\pL+", "é", True),
        (r"a\\z", "a", True),
        ("a(?i)b", "aB", True),
        ("a|ab", "ab", True),
        ("(a+)+", "a" * 10_000 + "b", False),
        (r"\\Qa.b\\E", "a.b", True),
        ("{{x", "{{x", True),
    ],
)
def test_patterns_mean_what_they_mean_in_re2(pattern: str, value: str, *, matches: bool):
    series = Labelled(value)
    assert selector(f'x{{a=~"{pattern}"}}').matchers[1].matches(series) is matches


class Labelled:
    """A series whose every label has the same value."""

    def __init__(self, value: str) -> None:
        self._value = value

    def label(self, name: str) -> str:
        del name
        return self._value


@pytest.mark.parametrize(
    "pattern", ["(", "(?=x)", r"\C", r"a\\\C", "a{1001}", "x**", r"\8", "[b-a]", "a" * (MAX_PATTERN + 1)]
)
def test_what_is_no_pattern_in_prometheus_is_none_here(pattern: str):
    with pytest.raises(PatternError, match=r"\w"):
        compile_pattern(pattern)


@pytest.mark.parametrize("pattern", [r"\\C", r"\Q\C\E", r"[\\C]"])
def test_a_backslash_before_c_may_be_plain(pattern: str):
    assert compile_pattern(pattern).text == pattern


def test_patterns_are_equal_if_they_say_the_same():
    assert compile_pattern("a") == compile_pattern("a")
    assert compile_pattern("a") != compile_pattern("b")


# ---- speed


def test_a_thousand_rules_are_parsed_within_a_second_of_work():
    limit = "2 * stddev_over_time(temperature[1h] offset 5m)"
    texts = [f'avg_over_time(x{{kind=~"a|b{i}"}}[5m]) > on(device) group_left(site) {limit}' for i in range(1_000)]
    start = time.process_time()
    for text in texts:
        parse(text)
    assert time.process_time() - start < 1
