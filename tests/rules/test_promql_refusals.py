"""Laws of what is refused: every expression that tocsin does not evaluate, at its place in the text.

In the texts `¦` stands before the construct that is to be named.
"""

from __future__ import annotations

import contextlib

import hypothesis.strategies as st
import pytest
from hypothesis import given

from rules.promql import MAX_LENGTH, Binary, ExpressionError, Matcher, Selector, parse


def refusal(text: str) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    return caught.value


NOT_YET = {
    "offset": "a ¦offset 5m",
    "@": "a ¦@ 1700000000",
    "atan2": "a ¦atan2 b",
    "group_left": "a > on(device) ¦group_left b",
    "group_right": "a > on(device) ¦group_right(site) b",
    "fill": "a + ¦fill(0) b",
    "on": "a > ¦on(site) b",
    "ignoring": "a > ¦ignoring(device) b",
    "sum": "¦sum(a)",
    "topk": "¦topk(3, a)",
    "count_values": '¦count_values("v", a)',
    "rate": "¦rate(a[5m])",
    "max_over_time": "¦max_over_time(a[5m:1m])",
    "absent": "¦absent(a)",
    "histogram_quantile": "¦histogram_quantile(0.9, a)",
    "label_replace": '¦label_replace(a, "b", "$1", "c", "(.*)")',
    "vector": "¦vector(1)",
    "time": "clamp(a, ¦time(), 3)",
    "pi": "a * ¦pi()",
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
    "after words that begin like it": "{word}s > 1 or x_{word} > 1 or {}",
}


def marked(text: str) -> tuple[str, int]:
    return text.replace("¦", ""), text.index("¦")


@pytest.mark.parametrize("surroundings", SURROUNDINGS)
@pytest.mark.parametrize("word", NOT_YET)
def test_what_is_not_supported_is_refused_at_its_place(word: str, surroundings: str):
    form = SURROUNDINGS[surroundings]
    if word in ("@", "or"):  # no word that could begin another; and the `or` of the surroundings is one that is fine
        form = form.replace("{word}s > 1 or x_{word} > 1 or {}", "{}").replace("{} or y > 1", "{}")
    text, place = marked(form.format(NOT_YET[word], word=word))

    error = refusal(text)

    assert (error.offset, word.strip() in str(error)) == (place, True), str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a¦[5m]", "range selectors"), ("a¦[5m:1m]", "subqueries"), ('a{b="[5m]"}¦[5m] # [1m]', "range selectors"),
        ('# a[5m]\na{b="c"}\n¦[5m] offset 3m', "range selectors"), ('¦"text"', "a string is not a condition"),
        ("", "is empty"), (" \n\t", "is empty"), ("# only a comment", "no expression"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_condition_is_refused(text: str, message: str):
    text, place = marked(text) if "¦" in text else (text, 0)

    error = refusal(text)

    assert message in str(error)
    assert error.offset == place


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a ¦>", "must follow"), ("a > ¦> 3", "not PromQL"), ("a > 3 and ¦and b", "not PromQL"), ("a ¦b", "not PromQL"),
        ("¦(a > 3", "unclosed"), ("b > (a > 3)\n  or ¦(c", "unclosed"), ("a > 3¦)", "unexpected right parenthesis"),
        ("a¦{", "unexpected end"), ("a{b=¦c}", "expected string"), ("a > 3 ¦4", "not PromQL"),
        ("a > ¦foo(b)", "unknown function"), ("1 + ¦round(a, b)", "expected type scalar"),
        ("¦abs(a, b)", "expected 1 argument"), ("a > ¦clamp(b)", "expected 3 argument"),
        ("a ¦and 5", "scalar expression"), ("¦5 > 3", "BOOL"), ("¦{}", "at least one non-empty matcher"),
    ],
)  # fmt: skip
def test_a_mistake_is_shown_near_its_place(text: str, message: str):
    text, place = marked(text)

    error = refusal(text)

    assert message in str(error)
    assert error.offset == place


def test_a_wrong_regular_expression_is_shown_at_its_pattern():
    text, place = marked('a{b="x"} > 3 and c{d=~"¦x(?i)y"}')

    error = refusal(text)

    assert "regular expression 'x(?i)y' is wrong" in str(error)
    assert error.offset == place


def test_too_long_an_expression_is_refused_before_it_is_parsed():
    assert parse("a" * MAX_LENGTH) == Selector((Matcher("__name__", "=", "a" * MAX_LENGTH, None),))
    assert "longer than" in str(refusal("a" * (MAX_LENGTH + 1)))


@pytest.mark.slow
def test_an_expression_of_too_many_parts_is_refused():
    def side_by_side(parts: int) -> str:
        """A balanced tree of so many comparisons, so that it is wide and not deep."""
        return "a > 1" if parts == 1 else f"({side_by_side(parts // 2)} or {side_by_side(parts - parts // 2)})"

    assert isinstance(parse(side_by_side(60)), Binary)
    assert "parts" in str(refusal(side_by_side(252)))


TOKENS = st.sampled_from(
    ["a", "b", "(", ")", "{", "}", "[5m]", "[5m:1m]", "3", "1e3", "-", "+", "*", "^", "%", ">", "==", "!=", "=~", "and",
     "or", "unless", "bool", "on(device)", "ignoring(site)", "group_left", "sum(", "rate(", "abs(", "age(", "clamp(",
     ",", '{a="b"}', '{a=~"b|c"}', '"s', "'s'", "#", "\n", "offset 5m", "@", "by(x)", "é", "☃", "time()"]
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


@pytest.mark.parametrize(
    "text",
    [
        'a{min="3"} > ¦min(b)', "sum > 3 and ¦sum(b)", 'a{offset="1"} ¦offset 5m',
        "a > on(device) b and c > ¦on(site) d",
    ],
)  # fmt: skip
def test_a_label_metric_or_clause_of_the_same_name_does_not_mislead(text: str):
    text, place = marked(text)

    assert refusal(text).offset == place


# ---- known shortcomings


@pytest.mark.xfail(strict=True, reason="the parser tells no places, and these are not guessed right")
@pytest.mark.parametrize(
    "text",
    [
        'a{round="1"} > ¦round(a, b)', 'a{b="x(?i)y", c=~"¦x(?i)y"}', 'a{b=~"¦("}', "a ¦=~ 3", "a > ¦group_left b",
        "abs(a) > 3\n  ¦)", 'a{b=¦"c',
    ],
)  # fmt: skip
def test_the_place_of_what_is_hard_to_find(text: str):
    text, place = marked(text)

    assert refusal(text).offset == place


@pytest.mark.parametrize("text", [" or ".join(["a"] * 499), "1 + " * 900 + "a", "(" * 1500 + "a" + ")" * 1500])
def test_a_deep_expression_is_parsed_or_refused(text: str):
    with contextlib.suppress(ExpressionError):
        try:
            parse(text)
        except RecursionError:
            pytest.fail("RecursionError", pytrace=False)
