"""Laws of the YAML source: every problem has its exact place, and data is what YAML 1.2 says."""

import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from telemetry import ConfigError, Problem
from tocsin.yaml_source import load_yaml, parse_yaml
from tocsin.yaml_values import MAX_DEPTH

BROKEN = [
    ("a: 1\nb: 2\na: 3\n", "3:1: the key 'a' stands here twice: the first is in line 1"),
    ("a:\n  - x: 1\n    x: 2\n", "3:5: the key 'x' stands here twice: the first is in line 2"),
    ("a:\n\t- b\n", "2:1: a tab cannot indent YAML: use spaces"),
    ("a: b: c\n", "1:5: a second ':' in one value: quote the value, or mend the indentation"),
    (
        "a:\n  - b\n c: 1\n",
        "3:2: this line does not fit the lines above it: mend the indentation (it begins in line 1)",
    ),
    ("a: 'x\nb: 1\n", "3:1: the quoted text is not closed: its last quote is missing (it begins in line 1)"),
    (
        "a: {b: 1, c\n",
        "2:1: expected ',' or '}': a { is not closed (quote text that holds braces) (it begins in line 1)",
    ),
    ('a: "x" "y"\nb: 1\n', "1:8: the value ends at its closing quote: quote all of it together"),
    ("a: 1\nb: 'x'  > 'y'\n", "2:9: the value ends at its closing quote: quote all of it together"),
    ('a: ["x" y, z]\n', "1:9: the value ends at its closing quote"),
    ('a:\n  b: {c: "x" d: 1}\n', "2:14: the value ends at its closing quote: quote all of it together, or put a comma"),
    ('a: "x"\n b: 1\n', "2:2: this line does not fit"),
    ("a: @x\n", "1:4: a value cannot begin with '@': quote it"),
    ("a: *x\n", "1:4: there is no anchor of this name above: write &name at the value that *name stands for"),
    ("- 1\n", "1:1: the file holds a list: expected keys with values (key: value)"),
    ("\n  word\n", "2:3: the file holds a single value: expected keys with values (key: value)"),
    (b"a: 1\nb: \xff\n", "2:4: the byte 0xff is not UTF-8: save the file as UTF-8"),
    ("a: 1".encode("utf-16"), "1:1: the file is UTF-16: save it as UTF-8"),
    ("a: \x01\n", "1:4: the character U+0001 is not allowed in YAML: remove it"),
    ("a: !secret x\n", "1:4: the tag !secret is not supported: remove it"),
    ("a: !!python/object:os.system x\n", "1:4: the tag !!python/object:os.system is not supported: remove it"),
    ("a: !!int x\n", "1:4: 'x' is not of the type !!int"),
    ("? [a]\n: 1\n", "1:3: a key must be text: quote it if it begins with { or ["),
    ("a: &a [*a]\n", "1:1: an anchor holds itself: write the value out"),
    ("a: 1\n---\nb: 1\n", "2:1: '---' begins a second document: write one document in each file (it begins in line 1)"),
    ("a: " + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), f"1:1: the file is nested more than {MAX_DEPTH} deep"),
    ("[" * 100_000, f"1:{MAX_DEPTH + 3}: not valid YAML: nested more than {MAX_DEPTH} deep"),
    (
        f"a: &a {'[' * 40}{']' * 40}\nb: {'[' * 40}*a{']' * 40}\n",
        f"1:1: the file is nested more than {MAX_DEPTH} deep",
    ),
    ('a: "\\ud800"\n', "1:4: half of a surrogate pair is no character: remove the \\u escape"),
    ('a: "\\UFFFFFFFF"\n', "1:1: not valid YAML: "),
    ("a:\n  <<: 5\n", "2:7: << takes a mapping or a list of mappings"),
]


@pytest.mark.parametrize(("text", "problem"), BROKEN, ids=[problem for _, problem in BROKEN])
def test_broken_text_gives_a_problem_with_its_place(text, problem):
    with pytest.raises(ConfigError) as caught:
        load_yaml(text, "x.yaml")

    (found,) = caught.value.problems
    assert str(found).startswith(f"x.yaml:{problem}")


def test_all_repeated_keys_are_reported_at_once():
    document = parse_yaml("a: 1\na: 2\nb: {c: 1, c: 2}\n", "x.yaml")

    assert [(p.line, p.column) for p in document.problems] == [(2, 1), (3, 11)]


def test_anchors_cannot_multiply_a_small_file_without_bound():
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))

    with pytest.raises(ConfigError, match="more than 200000 values"):
        load_yaml(bomb, "x.yaml")


def test_an_anchor_may_be_used_more_than_once():
    assert load_yaml("a: &x [1]\nb: [*x, *x]\n", "x.yaml").data == {"a": [1], "b": [[1], [1]]}


def test_scalars_are_read_as_yaml_1_2_reads_them_and_keys_are_text():
    text = """
    words: [on, off, yes, no, 1:30, 2024-01-01, "1"]
    numbers: [010, 0x10, 0o10, -5, 1.5, 1e3, .5, -.inf]
    others: [true, False, ~, null, '', ]
    keys: {ON: 1, OFF: 0, true: 2, 5: 3, null: 4}
    empty:
    """
    assert load_yaml(text, "x.yaml").data == {
        "words": ["on", "off", "yes", "no", "1:30", "2024-01-01", "1"],
        "numbers": [10, 16, 8, -5, 1.5, 1000.0, 0.5, float("-inf")],
        "others": [True, False, None, None, ""],
        "keys": {"ON": 1, "OFF": 0, "true": 2, "5": 3, "null": 4},
        "empty": None,
    }


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\ufeff"])
def test_an_empty_file_holds_no_keys(text):
    assert load_yaml(text, "x.yaml").data == {}


def test_own_keys_win_over_merged_ones_and_both_have_places():
    document = load_yaml("b: &b {x: 1, y: 2}\nc:\n  <<: *b\n  y: 3\n", "x.yaml")

    assert document.data["c"] == {"x": 1, "y": 3}
    assert document.place(("c", "y")) == (4, 6)
    assert document.place(("c", "x")) == (1, 11)


PLACES = """\
top: 1
map:
  list:
    - name: one
      value:  10
    - name: two
empty:
flow: {a: [1, 22], "b c": 3}
"""


@pytest.mark.parametrize(
    ("loc", "place"),
    [
        ((), (1, 1)),
        (("top",), (1, 6)),
        (("map",), (3, 3)),
        (("map", "list", 0, "value"), (5, 15)),
        (("map", "list", 1), (6, 7)),
        (("map", "list", 1, "value"), (6, 7)),
        (("map", "list", 9), (4, 5)),
        (("map", "list", 9, "name"), (4, 5)),
        (("empty",), (7, 1)),
        (("flow", "a", 1), (8, 15)),
        (("flow", "b c"), (8, 27)),
        (("nowhere", "at", "all"), (1, 1)),
    ],
)
def test_a_value_has_its_place_and_a_missing_one_that_of_its_parent(loc, place):
    assert load_yaml(PLACES, "x.yaml").place(loc) == place


def test_the_place_of_a_key_differs_from_that_of_its_value():
    assert load_yaml(PLACES, "x.yaml").place(("map", "list", 0, "value"), key=True) == (5, 7)


SCALARS = """\
plain: aaa @b
folded_plain: aaa
  @b
single: 'it''s @b'
double: "a\\n\\x41\\" \\
  @b"
literal: |
  aaa
    bbb

  c @b
folded: >-  # with a comment
  aaa

  @b
"""


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("plain", (1, 12)),
        ("folded_plain", (3, 3)),
        ("single", (4, 16)),
        ("double", (6, 3)),
        ("literal", (11, 5)),
        ("folded", (15, 3)),
    ],
)
def test_a_character_inside_a_scalar_has_its_place(key, place):
    document = load_yaml(SCALARS, "x.yaml")

    assert document.place((key,), document.data[key].index("@")) == place


def test_one_past_the_end_of_a_scalar_stands_after_its_last_character():
    document = load_yaml("a: |\n  x +\nb: 'x +  '\n", "x.yaml")

    assert document.place(("a",), len("x +")) == (2, 6)
    assert document.place(("b",), len("x +  ")) == (3, 10)


WORDS = st.lists(st.text(string.ascii_letters + "'\"\\:#{}[]é€😀", min_size=1, max_size=6), min_size=1, max_size=8)


@given(
    words=WORDS, separators=st.lists(st.sampled_from([" ", "  ", "\n", "\n\n"]), min_size=8, max_size=8), data=st.data()
)
def test_every_visible_character_is_found_in_the_file_again(words, separators, data):
    value = "".join(word + sep for word, sep in zip(words, separators, strict=False)).rstrip()
    style = data.draw(st.sampled_from(["'", '"', "|", ">"]))
    text = yaml.safe_dump({"x": {"y": value}}, default_style=style, allow_unicode=data.draw(st.booleans()), width=12)
    document = load_yaml(text, "x.yaml")
    assert document.data["x"]["y"] == value
    lines = text.split("\n")

    for i, character in enumerate(value[1:], 1):
        if not character.isspace():
            line, column = document.place(("x", "y"), i)
            assert lines[line - 1][column - 1] in (character, "\\")


def test_references_to_the_environment_are_replaced_in_values_only():
    document = load_yaml(
        "url: mqtt://${HOST:-localhost}:${PORT}\n'${PORT}': $${PORT} costs $5\nempty: '${EMPTY}${EMPTY:-x}'\n",
        "x.yaml",
        env={"PORT": "1883", "EMPTY": ""},
    )

    assert document.data == {"url": "mqtt://localhost:1883", "${PORT}": "${PORT} costs $5", "empty": "x"}


def test_a_variable_cannot_change_the_structure():
    assert load_yaml("a: ${X}", "x.yaml", env={"X": "1\nb: {c: 2}"}).data == {"a": "1\nb: {c: 2}"}


def test_without_an_environment_nothing_is_replaced():
    assert load_yaml("a: ${X}", "x.yaml").data == {"a": "${X}"}


def test_missing_and_malformed_references_are_problems_with_places():
    document = parse_yaml("a: x ${NOPE}\nb:\n  - '${9}'\n  - ${OPEN\n", "x.yaml", env={})

    assert [str(p) for p in document.problems] == [
        "x.yaml:1:6: the environment variable NOPE is not set: set it, or write ${NOPE:-default}",
        "x.yaml:3:5: '${9}' is no reference: write ${NAME} or ${NAME:-default}, or $${ for the characters",
        "x.yaml:4:5: '${OPEN' is no reference: write ${NAME} or ${NAME:-default}, or $${ for the characters",
    ]


def test_values_from_the_environment_are_not_shown_in_problems():
    document = load_yaml("a: {url: 'mqtt://${PW}@h'}", "x.yaml", env={"PW": "hunter2"})

    shown = document.located(Problem("'mqtt://hunter2@h' is wrong", ("a", "url")))

    assert str(shown) == "x.yaml:1:10: 'mqtt://${PW}@h' is wrong"


SNIPPETS = ["a", "b: ", "- ", "\n", "  ", "[", "]", "{", "}", ",", ": ", "? ", "&x ", "*x", "<<: ", "|", ">", "'", '"']
SNIPPETS += [
    "#",
    "!!int ",
    "!x ",
    "%YAML 1.1\n",
    "---\n",
    "\t",
    "1",
    ".5",
    "~",
    "\\x4",
    "\\u12",
    "\x00",
    "\r",
    "\u2028",
    "é",
]


@given(st.lists(st.sampled_from(SNIPPETS), max_size=25).map("".join) | st.binary(max_size=30) | st.text(max_size=30))
def test_any_input_gives_data_or_problems_with_places_and_never_another_error(text):
    document = parse_yaml(text, "x.yaml", env={})

    assert isinstance(document.data, dict)
    for problem in document.problems:
        assert problem.file == "x.yaml"
        assert problem.line >= 1
        assert problem.column >= 1
    for key, value in document.data.items():
        for offset in range(len(value) + 1 if isinstance(value, str) else 1):
            assert document.place((key,), offset) >= (1, 1)
