"""Laws of label_replace, label_join and absent."""

from __future__ import annotations

import re

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules import grouping
from rules.labelling import Absent, MapLabels, absent_labels, label_join, label_replace
from rules.operators import BEFORE
from rules.patterns import compile_pattern
from rules.syntax import Matcher, Selector
from tests.rules.vectors import GONE, NAN, Listener, Planted, Rows, everything, labels_of, plant, vanished, written
from tests.rules.vectors import there as elements


def replaced(name: str, destination: str, replacement: str, source: str, regex: str) -> str:
    """The name that an element gets; Python's own patterns must agree."""
    patterns = re.compile(regex, re.DOTALL), compile_pattern(regex)
    names = {written(label_replace(destination, replacement, source, pattern)(labels_of(name))) for pattern in patterns}
    assert len(names) == 1
    return names.pop()


# ---- label_replace


@pytest.mark.parametrize(
    ("replacement", "regex", "dst"),
    [
        ("$1", "source-(.*)", "value-10"), ("${1}", "source-(.*)", "value-10"), ("$0", ".*", "source-value-10"),
        ("$1-$2", "(.*)-(.*)", "source-value-10"), ("$2$1", "source-(.*)-(.*)", "10value"), ("value", ".*", "value"),
        ("$n", "(?P<n>source).*", "source"), ("${n}x", "(?P<n>source).*", "sourcex"), ("$$1", "(.*)", "$1"),
        ("$", ".*", "$"), ("a$ b", ".*", "a$ b"), ("${1", "(.*)", "${1"), ("${}", ".*", "${}"), ("$-1", ".*", "$-1"),
        ("${1 }x", "(.*)", "${1 }x"), ("x$1", "source-(?:value|(x)).*", "x"), ("a$$$$b", ".*", "a$$b"),
        ("x$1y", "(.*)", "x"), ("x$01", "(.*)", "x"), ("x$7", "(.*)", "x"), ("x$n", "(.*)", "x"),
        ("${1}y", "(.*)", "source-value-10y"), ("$1.$1", "source-value-(1).*", "1.1"), ("x$1000000000", "(.*)", "x"),
        ("x$é!", "(.*)", "x!"),
    ],
)  # fmt: skip
def test_templates_follow_go(replacement: str, regex: str, dst: str):
    name = 'x{dst="old", src="source-value-10"}'

    assert replaced(name, "dst", replacement, "src", regex) == f'x{{dst="{dst}", src="source-value-10"}}'


@pytest.mark.parametrize(
    ("regex", "expected"),
    [
        ("value", 'x{dst="old", src="source-value-10"}'),  # the whole must match
        ("source-value-1", 'x{dst="old", src="source-value-10"}'),
        ("nothing|source.*", 'x{dst="new", src="source-value-10"}'),
    ],
)
def test_what_does_not_match_as_a_whole_stays_as_it_is(regex: str, expected: str):
    assert replaced('x{dst="old", src="source-value-10"}', "dst", "new", "src", regex) == expected


def test_an_empty_replacement_takes_the_label_away():
    assert replaced('x{dst="old", src="s"}', "dst", "", "src", ".*") == 'x{src="s"}'
    assert replaced('x{dst="old", src="s"}', "dst", "$1", "src", "s(t)?") == 'x{src="s"}'
    assert replaced('x{dst="old", src="s"}', "dst", "", "dst", "old") == 'x{src="s"}'


def test_a_label_that_is_missing_is_empty_text():
    assert replaced("x{}", "dst", "new", "src", "") == 'x{dst="new"}'
    assert replaced("x{}", "dst", "new", "src", ".*") == 'x{dst="new"}'
    assert replaced("x{}", "dst", "new", "src", ".+") == "x{}"


def test_a_dot_matches_the_end_of_a_line():
    assert replaced('x{src="a\nb"}', "dst", "$1", "src", "a(.*)") == 'x{dst="\nb", src="a\nb"}'


def test_the_name_is_a_label_like_others():
    assert replaced('x_total{a="1"}', "__name__", "y_$1", "__name__", "x_(.*)") == 'y_total{a="1"}'
    assert replaced("x{}", "was", "$1", "__name__", "(.*)") == 'x{was="x"}'


# ---- label_join


@pytest.mark.parametrize(
    ("name", "sources", "expected"),
    [
        ('x{a="1", b="2"}', ["a", "b"], 'x{a="1", b="2", dst="1-2"}'),
        ('x{a="1", dst="old"}', ["b", "a", "b"], 'x{a="1", dst="-1-"}'),
        ('x{dst="old"}', ["a"], "x{}"),
        ('x{dst="old"}', [], "x{}"),
        ('x{dst="old"}', ["a", "b"], 'x{dst="-"}'),
        ('x{a="1"}', ["__name__", "a"], 'x{a="1", dst="x-1"}'),
    ],
)
def test_joined_values(name: str, sources: list[str], expected: str):
    assert written(label_join("dst", "-", sources)(labels_of(name))) == expected


# ---- elements


def mapped(vector) -> tuple[MapLabels, Rows]:
    """Everything but the label `site` is the same as before; `site` is cut to its first letter."""
    child = Planted()
    operator = MapLabels(child, label_replace("site", "$1", "site", re.compile("(.).*")))
    return operator, Rows(plant(child, vector))


def test_values_and_names_stay():
    vector = {'x{a="1", site="pq"}': 1, 'x{a="2", site="pq"}': GONE, 'y{a="1", site="pr"}': NAN, "x{}": None}
    operator, frame = mapped(vector)

    assert str(elements(operator, frame)) == str({'x{a="1", site="p"}': 1.0, 'y{a="1", site="p"}': NAN})
    assert vanished(operator, frame) == {'x{a="2", site="p"}'}


def test_elements_with_the_same_labels_share_one_and_two_at_once_are_an_error():
    vector = {'x{site="pa"}': [1, None, 3, GONE, GONE], 'x{site="qa"}': [5] * 5, 'x{site="pb"}': [None, 2, 4, 5, None]}
    operator, frame = mapped(vector)
    result = everything(operator, frame)

    assert len(operator) == 2
    assert result.present.tolist() == [[True, True, False, True, False], [True] * 5]
    assert result.value[0, [0, 1, 3]].tolist() == [1, 2, 5]
    assert result.unknown.tolist() == [[False, False, False, False, True], [False] * 5]
    assert frame.failures == {
        2: "several elements have the same labels: what told them apart, a label or the name, is gone"
    }


def test_each_label_set_is_announced_once():
    child = Planted()
    operator = MapLabels(child, label_join("site", "", []))
    above = Listener(operator)

    child.plant('x{site="a"}', 1, born=2)
    child.plant('x{site="b"}', None, born=3)
    child.plant('y{site="b"}', 1, born=4)

    assert above.heard == [(0, 2), (1, 4)]
    assert operator.dependents(0, np.array([2, 1, 0]))[1].tolist() == [1, 0, 0]
    assert elements(operator, Rows(1)) == {"x{}": 1, "y{}": 1}
    assert not operator.injective  # x and y differ by name only


def test_where_labels_stay_apart_the_very_rows_are_handed_on():
    """Frames tell by the array itself that all rows are meant, which is much faster."""

    class Watched(Planted):
        def evaluate(self, frame, element, row):
            assert row is frame.all_rows
            return super().evaluate(frame, element, row)

    child, frame = Watched(), Rows(2)
    operator = MapLabels(child, label_join("to", "", ["a"]))
    plant(child, {'x{a="1"}': 1, 'x{a="2"}': 2})
    frame.all_rows = np.zeros(2, np.int64)
    assert operator.evaluate(frame, np.array([1, 0]), frame.all_rows).value.tolist() == [2, 1]


# ---- absent


def matcher(text: str) -> Matcher:
    name, op, value = re.split(r"(=~|!=|=)", text, maxsplit=1)
    return Matcher(name, op, value, re.compile(value) if op == "=~" else None)


@pytest.mark.parametrize(
    ("matchers", "expected"),
    [
        (["__name__=x"], "{}"), (["__name__=x", "job=a"], '{job="a"}'), (["job=a", "job=b", "site=s"], '{site="s"}'),
        (["job=a", "job=a"], "{}"), (["job=~a.*", "site=s"], '{site="s"}'), (["job!=a"], "{}"),
        (["job=a", "job!=b"], "{}"), (["job!=b", "job=a"], '{job="a"}'), (["job="], "{}"),
        (["b=2", "a=1"], '{a="1", b="2"}'),
    ],
)  # fmt: skip
def test_absent_has_the_labels_that_are_demanded(matchers: list[str], expected: str):
    assert written(absent_labels(Selector(tuple(matcher(m) for m in matchers)))) == expected


def absent(vector) -> tuple[Absent, Rows]:
    child = Planted()
    return Absent(child, (("job", "a"),)), Rows(plant(child, vector))


def test_absent_is_there_where_nothing_is_and_never_unknown():
    operator, frame = absent({'x{a="1"}': [1, None, GONE, None, NAN], 'x{a="2"}': [2, 3, GONE, None, None]})
    result = everything(operator, frame)

    assert result.present.tolist() == [[False, False, True, True, False]]
    assert result.value.tolist() == [[1] * 5]
    assert not result.unknown.any()
    assert elements(operator, frame, 2) == {'{job="a"}': 1}


def test_absent_has_its_element_without_any_series_and_tells_once():
    operator, frame = absent({})
    above = Listener(operator)
    operator.start()

    assert elements(operator, frame) == {'{job="a"}': 1}
    assert above.heard == [(0, BEFORE)]
    which, own = operator.dependents(0, np.array([3, 1]))
    assert (which, own.tolist()) == (None, [0, 0])


@settings(max_examples=40)
@given(st.lists(st.lists(st.sampled_from([None, GONE, 1.0]), min_size=9, max_size=9), max_size=6), st.booleans())
def test_absent_is_what_no_element_is(table, small: bool):
    operator, frame = absent({f'x{{a="{i}"}}': values for i, values in enumerate(table)})
    frame = Rows(9) if table else frame
    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(grouping, "MAX_CELLS", 8)
        result = everything(operator, frame)

    assert result.present[0].tolist() == [
        all(values[row] != 1 for values in table) for row in range(len(frame.time))
    ]  # fmt: skip
