"""Laws of what is refused: every expression that tocsin does not evaluate, at its place in the text.

In the texts `¦` stands before what is to be named.
"""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from rules.patterns import MAX_PATTERN
from rules.promql import MAX_DEPTH, MAX_LENGTH, ExpressionError, parse
from rules.promql_tokens import BRACKETS, scan
from rules.syntax import Binary, Expression, Matcher, Negation, Selector
from tests.rules.trees import trees, written


def refusal(text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    return caught.value


def marked(text: str) -> tuple[str, int]:
    assert text.count("¦") == 1
    return text.replace("¦", ""), text.index("¦")


# ---- constructs that are not evaluated

NOT_SUPPORTED = {
    "histogram_avg": "¦histogram_avg(a)",
    "histogram_count": "¦histogram_count(a)",
    "histogram_sum": "¦histogram_sum(a)",
    "histogram_stddev": "¦histogram_stddev(a)",
    "histogram_stdvar": "¦histogram_stdvar(a)",
    "histogram_fraction": "¦histogram_fraction(0, 0.2, a)",
    "histogram_quantiles": '¦histogram_quantiles(a, "q", 0.5)',
    "info": "¦info(a)",
    "limitk": "¦limitk(3, a)",
    "limit_ratio": "¦limit_ratio by (x) (0.5, a)",
    "start": "vector(¦start())",
    "end": "vector(¦end ())",
    "step": "vector(¦step())",
    "range": "clamp(a, ¦range(), 3)",
    "min_of": "vector(¦min_of(1, 2))",
    "max_of": "vector(¦max_of(1, 2))",
    "fill": "a + ¦fill(0) b",
    "fill_left": "a + on(device) ¦fill_left(0) b",
    "fill_right": "a + ¦fill_right(0) b",
    "anchored": "rate(a[5m] ¦anchored)",
    "smoothed": "a ¦smoothed",
    "age": "¦age(a + 1)",
    "or": '{a="b" ¦or c="d"}',
}
"""By the word that a refusal must find in the text."""
SURROUNDINGS = {
    "alone": "{}",
    "after an operand": "{} or y > 1",
    "before an operand": "y > 1 unless {}",
    "in parentheses": "y and ((\n{}\n))",
    "after a comment with the same word": "# {word} ( {word}\n{}",
    "after strings with the same word": """y{{a="{word} \\" {word}", b='{word} \\' {word}', c=`{word} "`}} and {}""",
    "after other lines": 'y{{site="Zürich ☃ 🎉"}} > 3  # {word}\n  and\n\t{}',  # characters, not bytes
    "before the same word": '{} and y{{a="{word}"}} # {word}',
    "after a label of that name": 'y{{{word}="x", {word}!="y"}} > z and {}',
    "after words that begin like it": "{word}s > 1 or x_{word} > 1 or {}",
    "after calls and @": "hour() and age(z) and y @ start() and {}",
}


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("word", NOT_SUPPORTED)
def test_what_is_not_supported_is_refused_at_its_place(word: str, surroundings: str):
    form = SURROUNDINGS[surroundings]
    text, place = marked(form.format(NOT_SUPPORTED[word], word=word))

    error = refusal(text)

    assert (error.offset, word in str(error)) == (place, True), str(error)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("¦rat(a[5m])", "did you mean rate()?"),
        ("a > ¦avg_over_tme(b[5m])", "did you mean avg_over_time()?"),
        ("¦Abs(a)", "did you mean abs()?"),
        ("¦foo(b)", "there is no function foo()"),
        ("¦a (b)", "there is no function a()"),
        ("y{rat='x'} > rat and ¦rat(a[5m])", "there is no function rat()"),
        ("rate(a[¦-5m])", "no sign"),
        ("rate(a[5m:¦-1m])", "no sign"),
        ("rate(a[5m¦+1m])", "write the duration itself"),
        ("rate(a[¦max(5m, 1m)])", "write the duration itself"),
        ("rate(a[¦step()])", "write the duration itself"),
        ("rate(a[¦(5m)])", "write the duration itself"),
        ("a offset ¦(5m)", "write the duration itself"),
        ("a offset -¦step()", "write the number"),
        ("¦histogram_sum(a)", "a series _sum"),
        ("¦histogram_stddev(a)", "histogram_quantile() takes classic buckets"),
        ("¦limitk(3, a)", "topk(3, x)"),
        ("¦info(a)", "group_left"),
    ],
)
def test_a_refusal_says_what_to_write_instead(text: str, advice: str):
    text, place = marked(text)

    error = refusal(text)

    assert advice in str(error)
    assert error.offset == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a¦[5m]", "a range is no condition"), ("a[5m:1m]", "a range is no condition"),
        ('(a{b="[5m]"}¦[5m]) # [1m]', "a range"),
        ('# a[5m]\na{b="c"}\n¦[5m] offset 3m', "a range"), ("rate(a[5m])¦[1h:]", "a range"),
        ('¦"text"', "a string is not a condition"), ("¦`x`", "a string"),
        ("", "is empty"), (" \n\t", "is empty"), ("# only a comment", "is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_condition_is_refused(text: str, message: str):
    text, place = marked(text) if "¦" in text else (text, text.find("["))

    error = refusal(text)

    assert message in str(error)
    assert error.offset == max(place, 0)


# ---- values out of their limits


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate(a[¦0s])", "longer than 0"), ("rate(a[5m]) > rate(b[¦0])", "longer than 0"),
        ("rate(a[5m:¦0ms])", "longer than 0"), ("rate(a[¦300y])", "too far"), ("rate(a[¦1e30])", "too far"),
        ("a offset ¦300y", "too far"), ("a offset -¦NaN", "too far"), ("rate(a[5m:¦200y])", "too far"),
        ("rate(a[¦30m1h])", "is not a duration"), ("rate(a[¦1h1h])", "is not a duration"),
        ("rate(a[¦5x])", "no duration"),
        ("rate(a[¦1.5h])", "no duration"), ("a @ ¦1e20", "out of bounds"), ("a @ -¦1e20", "out of bounds"),
        ("a @ ¦NaN", "out of bounds"), ("a @ ¦Inf", "out of bounds"), ("a > ¦0x", "no number"),
        ("a > ¦1e", "no number"),
        ("a > ¦1__0", "no number"), ("a > ¦1.2.3", "no number"), ("a > ¦1e400", "out of range"),
        ('count_values(¦"1x", a)', "cannot be a label"), ('count_values((¦""), a)', "cannot be a label"),
        ('label_replace(a, ¦"a-b", "", "c", "")', "cannot be a label"),
        ('label_join(a, ¦"é", "", "c")', "cannot be a label"),
        ('label_replace(a{x="("}, "b", "(", "c", ¦"(")', "the regular expression '(' is wrong"),
        ('sum by (x, ¦"") (a)', "cannot be empty"), ('a > on(¦"") b', "cannot be empty"),
        ("a * on(x) group_left(¦``) b", "cannot be empty"), ('a{¦""="x"}', "cannot be empty"),
        ('a{b="x(?=y)", c=~¦"x(?=y)"}', "the regular expression 'x(?=y)' is wrong"), ('a{b=~¦"("}', "missing )"),
        (f'a{{b=~¦"{"a" * (MAX_PATTERN + 1)}"}}', "longer than"),
        ('a{b="¦\\q"}', "use `backticks`"), ('a{b=~"x¦\\d"}', "use `backticks`"), ('a{b=¦"\\xff"}', "not valid UTF-8"),
        ('{a=~¦".*"}', "needs a metric"), ('a > {b=¦""}', "needs a metric"), ("a > ¦{}", "needs a metric"),
        ('a¦{__name__="b"}', "named twice"), ('x{a="b"} > y¦{"b"}', "named twice"),
        ('a{b="¦\ud800"}', "surrogate"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_limits_is_shown(text: str, message: str):
    text, place = marked(text)

    error = refusal(text)

    assert message in str(error)
    assert error.offset == place


# ---- mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a ¦>", "must follow"), ("a > ¦> 3", "cannot follow >"), ("a > 3 and and ¦>", "must follow"),
        ("(a ¦>", "must follow"),
        ("a > ¦bool", "must follow"), ("a > on(x¦)", "must follow"), ("a ¦offset", "must follow"),
        ("¦*a", "begin with *"),
        ("¦(a > 3", "never closed"), ("b > (a > 3)\n  or ¦(c", "never closed"), ("a¦{", "never closed"),
        ("a¦{b='c'", "never"),
        ("a¦[5m", "never closed"), ("rate(a¦[5m:1m", "never closed"), ("topk¦(3,", "never closed"),
        ("sum by ¦(x", "never closed"),
        ("a > 3¦)", "unexpected )"), ("abs(a) > 3\n  ¦)", "unexpected )"), ("rate(a[5m¦)", "unexpected )"),
        ("a[¦]", "unexpected ]"), ("abs(a,¦)", "unexpected )"), ("a{b¦}", "unexpected }"), ("a¦)(b", "unexpected )"),
        ("a ¦b", "operator is missing"), ("a > 3 ¦4", "operator is missing"), ("rate(a[5m] ¦b", "operator is missing"),
        ("a{b='c' ¦d='e'}", "or a comma"), ("a{b=¦c}", 'in quotes: b="c"'), ("a{¦,}", "matchers are written"),
        ('a{b=¦"c', "no closing"), ("a > ¦`b", "no closing"), ("a{b=¦'\n'}", "no closing"),
        ("a ¦=~ 3", "within braces"),
        ("a ¦= 3", "compared with =="), ("a > ¦group_left b", "after on(...)"), ("¦bool a", "after an operator"),
        ("a ¦ignoring(x) b", "after an operator"), ("a > ignoring ¦b", "labels in parentheses"),
        ("sum by ¦x (a)", "labels in parentheses"), ("sum by (x) ¦> 3", "cannot follow"),
        ("sum(a) by (x) ¦by (y)", "cannot"),
        ("a{b='c'} ¦$ b", "unexpected character"), ("x¦.y", 'written {"…"}'), ("¦é", 'written {"…"}'),
        ("a ¦! b", "unexpected"),
        ("a @ ¦now", "start() or end()"), ("a offset ¦b", "takes a duration"), ("a[5m:1m¦:1m]", "cannot follow"),
    ],
)  # fmt: skip
def test_a_mistake_of_syntax_is_shown_at_the_first_word_that_cannot_be_right(text: str, message: str):
    text, place = marked(text)

    error = refusal(text)

    assert message in str(error)
    assert error.offset == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 + round(a, ¦b)", "round() takes a number there, not series"),
        ("¦abs(a, b)", "abs() takes 1 argument, not 2"),
        ("a > ¦clamp(b)", "clamp() takes 3 arguments, not 1"), ("¦round()", "round() takes at least 1 argument, not 0"),
        ("¦hour(a, b)", "hour() takes at most 1 argument, not 2"),
        ("rate(¦a)", "takes a range, as x[5m] is there, not series"),
        ('a{round="1"} > round(a, ¦b)', "takes a number"), ("round(a, 1) > round(a, ¦b)", "takes a number"),
        ("round(round(a, ¦b), 2) > round(a)", "takes a number"), ("abs(rate(¦a))", "takes a range"),
        ("sum by (x) (b) > sum by (x) (¦3)", "sum() takes series there, not a number"),
        ("sum(¦1) by (x)", "takes series"),
        ("topk(3, a) > ¦topk(a)", "topk() takes 2 arguments, not 1"), ("¦topk()", "takes an argument"),
        ("count_values(¦3, a)", "takes a string there"), ('label_replace(a, ¦b, "", "", "")', "takes a string there"),
        ("a ¦and 5", "joins series"), ("a or b and c ¦unless 5", "joins series"),
        ("(a and b) or (c ¦or 1)", "joins series"),
        ("5 ¦> 3", "written > bool"), ("a + 2 == 5 and vector(5 + 2 ¦<= 3)", "written <= bool"),
        ("clamp(a, 1 > bool 2, 3 ¦> 2)", "written > bool"), ("5 > bool 3 ¦!= 2", "written != bool"),
        ("a > b ¦+ bool c", "bool stands only after a comparison"),
        ("a ¦and bool b", "bool stands only after a comparison"),
        ("a > on(x) group_left b ¦and on(x) group_left c", "takes no group_left"),
        ('a > b ¦+ "x"', "not ranges or strings"), ("a[5m] ¦> 3", "not ranges"), ("a > (c[5m] ¦/ 3 - b)", "not ranges"),
        ("a > ¦-b[5m]", "not a range"), ('abs(¦-"x")', "not a range or string"), ("sum(a)¦[5m] > 3", "write [5m:]"),
        ("rate(time()¦[5m:])", "after an expression of series"), ("rate(a[5m]¦[5m])", "write [5m:]"),
        ("a > sum(b) ¦offset 5m", "right after a selector"), ("(a) ¦@ 5 > b @ 5", "right after a selector"),
        ("a offset 5m ¦offset 3m", "stands once"), ("rate(a[5m] @ 3 ¦@ 4)", "stands once"),
        ("¦age(rate(a[5m]))", "plain series"),
        ("age(a) > ¦age(-a)", "plain series"), ("age(¦a[5m])", "not a range"), ("¦age()", "takes 1 argument"),
        ("a * on(x) group_left(y) b ¦* on(x) group_left(x) c", "ON and GROUP"),
        ("vector(1 ¦+ on(x) 2)", "only allowed between"),
    ],
)  # fmt: skip
def test_a_mistake_of_types_is_shown_at_its_call_argument_or_operator(text: str, message: str):
    text, place = marked(text)

    error = refusal(text)

    assert message in str(error)
    assert error.offset == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('door ¦== "open"', 'write for example door{state="open"} == 1'),
        ("y and door ¦!= `open`", "write for example door{state=`open`} == 0"),
        ('"open" ¦== door', 'door{state="open"} == 1'), ('sum(a) ¦== "open" and b', 'x{state="open"} == 1'),
        ('a ¦> "3.5"', "without quotes: a > 3.5"), ("a ¦<= '-3'", "a <= -3"), ('a ¦+ "b"', "not ranges or strings"),
        ("a{state=¦open}", 'in quotes: state="open"'), ("b > a{c='d', state!=¦5, e='f'}", 'in quotes: state!="5"'),
        ("a{device=¦d-1}", 'in quotes: device="…"'), ("a{state=~¦open.*}", 'in quotes: state=~"…"'),
        ("a{state=~¦.*}", 'in quotes: state=~"…"'), ("a{b='c'¦.d}", "unexpected character '.'"),
        ("a{sum=¦sum}", 'in quotes: sum="sum"'),
        ("rate(a[5 ¦m])", "no space in it: 5m"), ("rate(a[1h ¦30m])", "no space in it: 1h30m"),
        ("rate(a[1h: 30 ¦s])", "no space in it: 30s"), ("a offset 5 ¦m > 3", "no space in it: 5m"),
        ("rate(a[5 ¦minutes])", "written as in 30s, 5m or 1h30m"), ("a > 3 ¦m", "an operator is missing"),
        ("rate(a[5 ¦x])", "write the duration itself"), ("rate(a[30m ¦1h])", "written as in"),
        ("rate(a[1h:5m ¦30s])", "no space in it: 5m30s"),
    ],
)  # fmt: skip
def test_what_people_often_write_is_told_how_it_is_written(text: str, message: str):
    text, place = marked(text)

    error = refusal(text)

    assert message in str(error)
    assert error.offset == place


CALLS = [
    ["abs(", "a", ")"], ["clamp(", "a", "1", "2", ")"], ["round(", "a", "5", ")"], ["rate(", "a[5m]", ")"],
    ["quantile_over_time(", "0.5", "a[5m]", ")"], ["predict_linear(", "a[5m]", "60", ")"],
    ["histogram_quantile(", "0.9", "a", ")"], ["label_join(", "a", '"b"', '"-"', '"c"', ")"],
    ["label_replace(", "a", '"b"', '"c"', '"d"', '"e"', ")"], ["sum(", "a", ") by (x)"],
    ["topk by (x) (", "3", "a", ")"],
    ["count_values(", '"b"', "a", ")"], ["quantile(", "0.5", "a", ")"],
]  # fmt: skip
KINDS = {"a number": "3", "series": "b", "a range, as x[5m] is": "b[5m]", "a string": '"b"'}


@pytest.mark.parametrize("given", KINDS)
@pytest.mark.parametrize("call", CALLS, ids="".join)
def test_the_first_argument_of_the_wrong_type_is_shown(call: list[str], given: str):
    """Also of a call within others, and where others that follow are wrong in the same way."""
    head, *arguments, tail = call
    right = [kind_of(argument) for argument in arguments]
    for i, kind in enumerate(right):
        if kind == given:
            continue
        wrong = [KINDS[given] if j >= i and right[j] == kind else argument for j, argument in enumerate(arguments)]
        before = "x > on(y) max(abs(" + head + ", ".join([*wrong[:i], ""])

        error = refusal(before + ", ".join(wrong[i:]) + tail + "))")

        assert f"takes {kind} there, not {given}" in str(error)
        assert error.offset == len(before)


def kind_of(argument: str) -> str:
    if argument.endswith("]"):
        return "a range, as x[5m] is"
    if argument.startswith('"'):
        return "a string"
    return "series" if argument == "a" else "a number"


@pytest.mark.parametrize(
    "text",
    [
        "round(¦b[5m], c)",
        "round(b, ¦c)",
        "topk(c, ¦3)",
        "topk(¦c, d)",
        "round(clamp(b, 1, 2), ¦c)",
        "round(b, ¦abs((c)))",
        "round(¦b[5m], clamp(c, 1, 2))",
    ],
)
def test_of_several_arguments_the_one_is_shown_that_the_message_is_about(text: str):
    text, place = marked(text)

    assert refusal(text).offset == place


def incomplete(text: str, words: int) -> tuple[str, set[int]]:
    """The first words of a text; and the places of its last word, and of the brackets that are open there."""
    tokens = scan(text)[:words]
    unclosed: list[int] = []
    for token in tokens:
        if token.text in BRACKETS:
            unclosed.append(token.start)
        elif token.text in BRACKETS.values():
            unclosed.pop()
    end = tokens[-1].start + len(tokens[-1].text)
    return text[:end], {tokens[-1].start, *unclosed[-1:]}


@settings(max_examples=30)
@given(trees, st.data())
def test_a_text_that_is_cut_off_is_incomplete_and_not_wrong(tree: Expression, data: st.DataObject):
    """Whatever a right expression begins with can be gone on with: so no word of it is called wrong."""
    text, places = incomplete(written(tree), data.draw(st.integers(1, len(scan(written(tree))))))

    try:
        parse(text)
    except ExpressionError as error:
        assert error.offset in places or "takes" in str(error) or "range" in str(error), error  # noqa: PT017


@settings(max_examples=30)
@given(trees, st.sampled_from([")", "]", "}", "foo", "3", "=~", "bool", "group_left", ","]))
def test_what_does_not_belong_after_an_expression_is_shown(tree: Expression, word: str):
    text = written(tree)

    assert refusal(f"{text} {word} > 3").offset == len(text) + 1


TOKENS = st.sampled_from(
    ["a", "b", "(", ")", "{", "}", "[5m]", "[5m:1m]", "3", "1e3", "-", "+", "*", "^", "%", ">", "==", "!=", "=~", "and",
     "or", "unless", "bool", "on(device)", "ignoring(site)", "group_left", "sum(", "rate(", "abs(", "age(", "clamp(",
     ",", '{a="b"}', '{a=~"b|c"}', '"s', "'s'", "#", "\n", "offset 5m", "@", "by(x)", "é", "☃", "time()", "topk(3,",
     ":",
     "fill(0)", "end()", "info(", "\x00", "`", "\\", "x{", "[", "]"]
)  # fmt: skip


@given(st.lists(TOKENS, max_size=12).map(" ".join))
def test_any_text_is_parsed_or_refused_with_a_place_in_it(text: str):
    place, reason = 0, "it is fine"
    try:
        parse(text)
    except ExpressionError as error:
        place, reason = error.offset, str(error)

    assert reason
    assert 0 <= place <= len(text)


# ---- too much


def test_too_long_an_expression_is_refused_before_it_is_parsed():
    assert parse("a" * MAX_LENGTH) == Selector((Matcher("__name__", "=", "a" * MAX_LENGTH, None),))
    assert "longer than" in str(refusal("a" * (MAX_LENGTH + 1)))


def test_an_expression_of_too_many_parts_is_refused():
    def side_by_side(parts: int) -> str:
        """A balanced tree of so many comparisons, so that it is wide and not deep."""
        return "a > 1" if parts == 1 else f"({side_by_side(parts // 2)} or {side_by_side(parts - parts // 2)})"

    assert isinstance(parse(side_by_side(60)), Binary)
    assert "parts" in str(refusal(side_by_side(252)))


@pytest.mark.parametrize(
    "text",
    ["(" * 1500 + "a" + ")" * 1500, "abs(" * 101 + "a" + ")" * 101, "rate(" * 60 + "a" + "[5m:])" * 60,
     "a" + "^a" * 4_900,
     "-" * 9_000 + "a", "a" + " or a" * 1_500, " or ".join(["a"] * 499), "1 + " * 900 + "a", "-" * 900 + "a",
     "a" + "^a" * 900, "a" + " > on() a" * 900, "(" * 10 + "a" + ("+ a" * 60 + ")") * 10],
)  # fmt: skip
def test_too_deep_an_expression_is_refused(text: str):
    """The parser alone ends the process over some of these."""
    assert "deeper than" in str(refusal(text))


def test_parentheses_alone_do_not_make_an_expression_deep():
    text = "(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH

    assert parse(text) == parse("a")
    assert refusal(f"({text})").offset == MAX_DEPTH


def test_a_chain_of_operators_may_be_as_long_as_deep():
    assert isinstance(parse(" or ".join(["a"] * MAX_DEPTH)), Binary)
    assert isinstance(parse("-" * (MAX_DEPTH - 1) + "a"), Negation)
    assert "deeper" in str(refusal(" or ".join(["a"] * (MAX_DEPTH + 1))))


def test_mistakes_in_long_texts_are_found_in_no_time():
    """Asking the parser about parts of the text must not take the square of its length."""
    text = "(a > 1 or b + 3) * " * 95 + "a > 1 2"

    assert refusal(text).offset == len(text) - 1
