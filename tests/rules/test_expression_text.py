"""rules.expression_text: the text of a tree parses to the same tree."""

import pytest

from rules.expression_text import text_of
from rules.promql import ExpressionError, parse
from tests.integration.promql_cases import CASES

_MORE = (
    "-x ^ 2", "(-x) ^ 2", "2 ^ x ^ y", "(x ^ y) ^ z", "x - (y - z)", "x - y - z", "(a or b) and c", "a or b and c",
    "-(x + y)", "x > bool 3", "x == bool on (device) group_left (site) y", "x * ignoring () group_right () y",
    '{"with space"}', '{__name__="sum"}', 'x{or="1"}', 'x{a="\\"\\n\\u0001é"}', "(x > 1)[5m:1m]", "(-x)[5m:]",
    "(sum(x))[5m:30s] offset 1m", "x[1h30m] @ 12.5", "(-2) ^ x", "x ^ -2", "sum by () (x)", "sum without () (x)",
    "age(temperature) > 4", "1e300 * x", "x > Inf", "x > -Inf", "x > 1e-7", "x > 123456789012345678",
)  # fmt: skip


def _readable(text: str) -> bool:
    try:
        parse(text)
    except ExpressionError:
        return False
    return True


def _whole(text: str) -> str:
    return text if _readable(text) else f"last_over_time({text})"


@pytest.mark.parametrize("topic", CASES)
def test_the_text_of_an_expression_parses_to_the_same_tree(topic: str):
    for text in filter(_readable, map(_whole, CASES[topic])):
        tree = parse(text)
        assert repr(parse(text_of(tree))) == repr(tree), text  # NaN is not itself


@pytest.mark.parametrize("text", _MORE)
def test_the_text_keeps_what_binds_how(text: str):
    tree = parse(_whole(text))
    assert repr(parse(text_of(tree))) == repr(tree), text_of(tree)


def test_the_text_reads_as_one_would_write_it():
    text = 'avg by (site) (rate(x{device=~"a.*"}[5m] offset 1m)) > 3 and on (site) count(y) >= 2'
    assert text_of(parse(text)) == text
