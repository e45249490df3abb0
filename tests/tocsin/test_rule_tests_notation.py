"""Laws of promtool's series notation: which samples a text stands for, and where a wrong text is wrong."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.rule_tests.notation import NotationError, parse_metric, parse_values


def samples(text: str) -> list[float | str | None]:
    """The samples by interval: None is left out, `stale` is a marker."""
    values = parse_values(text)
    found = dict(zip(values.index.tolist(), values.value.tolist(), strict=True))
    for i in values.index[values.stale].tolist():
        assert math.isnan(found[i])
        found[i] = "stale"
    return [found.get(i) for i in range(max(found, default=-1) + 1)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("  \t ", []),
        ("1 2.5 -3 +4", [1, 2.5, -3, 4]),
        ("1+2x3", [1, 3, 5, 7]),
        ("10-3x2", [10, 7, 4]),
        ("-2+4x3", [-2, 2, 6, 10]),
        ("-1-1x1", [-1, -2]),
        ("7x2 8", [7, 7, 7, 8]),
        ("1x0", [1]),
        ("_", []),
        ("1 _ 2", [1, None, 2]),
        ("1 _x3 5", [1, None, None, None, 5]),
        ("_x0 1", [1]),
        ("1 stale 2", [1, "stale", 2]),
        ("Inf -Inf +inf", [math.inf, -math.inf, math.inf]),
        ("Inf-1x2", [math.inf] * 3),
        (".5 1. 1e3 1E-1", [0.5, 1, 1000, 0.1]),
        ("010 08 00", [8, 8, 0]),
        ("0x3", [0, 0, 0, 0]),
        ("0.5+0.25x2", [0.5, 0.75, 1]),
    ],
)
def test_a_text_stands_for_samples(text, expected):
    assert samples(text) == expected


def test_not_a_number_is_a_sample_and_no_marker():
    values = parse_values("NaN -nan stale")

    assert values.index.tolist() == [0, 1, 2]
    assert values.stale.tolist() == [False, False, True]


def test_steps_are_added_one_after_another_so_that_they_round_as_upstream_does():
    assert samples("0+0.1x3") == [0, 0.1, 0.2, 0.1 + 0.1 + 0.1]
    assert samples("0+0.1x3")[3] != 0.3


@given(st.lists(st.floats(allow_nan=False) | st.none(), max_size=20).map(lambda s: [*s, 1.0]))
def test_plain_values_are_what_they_say(values):
    assert samples(" ".join("_" if v is None else repr(v) for v in values)) == values


@given(st.integers(-1000, 1000), st.integers(-1000, 1000), st.integers(0, 50))
def test_a_repeat_has_one_sample_more_than_its_times(first, step, times):
    expected = [first + i * step for i in range(times + 1)]

    assert samples(f"{first}{step:+d}x{times}") == expected
    assert samples(f"_x{times} {first}{step:+d}x{times}") == [None] * times + expected


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("1 two", 2, "'two' is not a value: known are numbers, NaN, Inf, a+bxn"),
        ("1 2+3", 2, "'2+3' does not say how often: write 2+3x10"),
        ("1x", 0, "'1x' ends without a number of times: write for example 1x10"),
        ("1 2x1.5", 2, "ends without a number of times"),
        ("NaNx3", 0, "'NaNx3' is read as a name: write nan+0x3"),
        ("1 stalex3", 2, "stale cannot be repeated"),
        ("1 {{schema:1 sum:3}}", 2, "native histograms are not supported"),
        ("1 2\n3", 3, "the values stand in one line"),
        ("1 1e999", 2, "'1e999' is too large a number"),
        ("1 1x99999999999", 2, "more than 5000000 samples"),
        ("1,2", 0, "'1,2' is not a value"),
        ("1_", 0, "'1_' is not a value"),
        ("__", 0, "'__' is not a value"),
        ("1+-2x3", 0, "is not a value"),
    ],
)
def test_a_wrong_text_has_its_place_and_says_what_would_be_right(text, offset, message):
    with pytest.raises(NotationError, match=message.replace("+", r"\+").replace("{", r"\{")) as caught:
        parse_values(text)

    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("", {}),
        ("{}", {}),
        ("up", {"__name__": "up"}),
        ("up{}", {"__name__": "up"}),
        ('up{a="1", b="2",}', {"__name__": "up", "a": "1", "b": "2"}),
        (' a:b { c = "d" } # why', {"__name__": "a:b", "c": "d"}),
        ('{__name__="up", a="1"}', {"__name__": "up", "a": "1"}),
        ('{"odd.name", "odd label"="1"}', {"__name__": "odd.name", "odd label": "1"}),
        ("{a='q\"', b=`\\n`, c=\"\\n\\x41\\u00e9\\101\\\"\"}", {"a": 'q"', "b": "\\n", "c": '\nAéA"'}),
        ('up{a=""}', {"__name__": "up"}),
        ('sum{by="by"}', {"__name__": "sum", "by": "by"}),
    ],
)  # fmt: skip
def test_a_series_is_its_labels(text, labels):
    assert parse_metric(text) == labels


@pytest.mark.parametrize(
    ("text", "offset", "message"),
    [
        ("up{", 3, "expected a label name, not the end"),
        ('up{a="1"', 8, "expected ',' or '}', not the end"),
        ('up{a="1" b="2"}', 9, "expected ',' or '}', not 'b'"),
        ("up{a}", 4, "expected = after the label a, not '}'"),
        ("up{a=b}", 5, 'the value of a label stands in quotes, as in a="value"'),
        ('up{a=~"x"}', 4, '=~ selects series: write name="value" here'),
        ('up{a="1",a="2"}', 9, "the label a stands here twice"),
        ('up{a:b="1"}', 3, "'a:b' is not a label name"),
        ('up{a="\\q"}', 6, "is no escape"),
        ('up{a="\\ud800"}', 6, "is no character"),
        ("up 1", 3, "expected a series such as up{job=\"a\"}, not '1'"),
        ("1", 0, "expected a series"),
        ("nan", 0, "nan is a number"),
        ('up{a="1}', 5, "stands in quotes"),
    ],
)
def test_a_wrong_series_has_its_place(text, offset, message):
    with pytest.raises(NotationError) as caught:
        parse_metric(text)

    assert message in str(caught.value)
    assert caught.value.offset == offset


@given(st.text(max_size=30) | st.lists(st.sampled_from(list("up{}=\",'`\\_x+-1. #~")), max_size=15).map("".join))
def test_any_text_is_read_or_refused_with_a_place_in_it(text):
    for parse in (parse_values, parse_metric):
        assert 0 <= place_of_mistake(parse, text) <= len(text)


def place_of_mistake(parse: Callable[[str], object], text: str) -> int:
    try:
        parse(text)
    except NotationError as error:
        return error.offset
    return 0
