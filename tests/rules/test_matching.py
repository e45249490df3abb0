"""Laws of matching: what operators of two vectors give is what going through both sides, one by one, gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules.arithmetic import OPERATORS
from rules.columns import Ints
from rules.many_matching import ManyMatch
from rules.matching import Keyed, Match, written
from rules.operators import BEFORE, Frame, Operator, Vector
from rules.set_operators import AndUnless, Or
from rules.syntax import COMPARISON, SET, Binary, Labels, Matching, Number

ROWS = 3


@dataclass
class Instants:
    """A frame of ROWS rows that notes what fails."""

    position: Ints = field(default_factory=lambda: np.arange(ROWS))
    time: Ints = field(default_factory=lambda: np.arange(ROWS))
    all_rows: Ints = field(default_factory=lambda: np.arange(ROWS))
    failed: dict[int, str] = field(default_factory=dict)

    def fail(self, row: Ints, message: str) -> None:
        for r in row.tolist():
            self.failed.setdefault(r, message)


@dataclass
class Element:
    """What an operand has of an element: for each row a value, None where it is not there, or the word vanished."""

    labels: Labels
    cells: tuple[float | str | None, ...]


class Given(Operator):
    """An operand that is told what it has."""

    def __init__(self) -> None:
        super().__init__(injective=False, timed=False)
        self.elements: list[Element] = []

    def __len__(self) -> int:
        return len(self.elements)

    def labels(self, element: int) -> Labels:
        return self.elements[element].labels

    def child_added(self, side: int, element: int, born: int) -> None:
        raise AssertionError

    def add(self, element: Element, born: int = BEFORE) -> None:
        self.elements.append(element)
        self.announce(len(self.elements) - 1, born)

    def evaluate(self, frame: Frame, element: Ints, row: Ints) -> Vector:
        del frame
        cells = [self.elements[e].cells[r] for e, r in zip(element.tolist(), row.tolist(), strict=True)]
        value = np.array([c if isinstance(c, float) else np.nan for c in cells], np.float64)
        return Vector(
            value,
            np.array([isinstance(c, float) for c in cells], bool),
            np.array([c == "vanished" for c in cells], bool),
        )


def binary(op: str, matching: Matching, *, return_bool: bool = False) -> Binary:
    return Binary(op, Number(0), Number(0), matching, return_bool)


def built(node: Binary, arrivals: list[tuple[int, Element]]) -> tuple[Keyed, tuple[Given, Given]]:
    """The operator, after the elements have come, each on its side."""
    sides = (Given(), Given())
    kind = Or if node.op == "or" else AndUnless if node.op in SET else ManyMatch if node.matching.many else Match
    operator = kind(*sides, node)
    for side, element in arrivals:
        sides[side].add(element)
    operator.settle()
    return operator, sides


def evaluated(operator: Operator) -> tuple[Vector, Instants]:
    """All elements at all rows, (elements × rows)."""
    frame = Instants()
    operator.discover(frame, frame.all_rows)  # type: ignore[arg-type]  # as much of a frame as is needed
    n = len(operator)
    asked = np.repeat(np.arange(n), ROWS), np.tile(frame.all_rows, n)
    return operator.evaluate(frame, *asked), frame  # type: ignore[arg-type]


def found(operator: Operator) -> tuple[list[dict[Labels, float]], Instants]:
    """By row: what is there."""
    vector, frame = evaluated(operator)
    rows: list[dict[Labels, float]] = [{} for _ in range(ROWS)]
    for i in np.flatnonzero(vector.present).tolist():
        labels = operator.labels(i // ROWS)
        assert i % ROWS in frame.failed or labels not in rows[i % ROWS], "two elements have the same labels"
        rows[i % ROWS][labels] = float(vector.value[i])
    return rows, frame


# ---- the obvious way


Vectors = list[tuple[Labels, float]]


class Refused(Exception):  # as Prometheus does
    pass


def by_hand(node: Binary, left: Vectors, right: Vectors) -> dict[Labels, float]:
    """The result at an instant, going through the elements that are there, one by one."""
    matching = node.matching
    many, one = (right, left) if matching.many == "right" else (left, right)
    if not left or not right:
        return {}
    partner: dict[Labels, tuple[Labels, float]] = {}
    for labels, value in one:
        if matching.key(labels) in partner:
            raise Refused("two on the one side")
        partner[matching.key(labels)] = (labels, value)
    result: dict[Labels, float] = {}
    taken: set[Labels] = set()
    for labels, value in many:
        key = matching.key(labels)
        if key not in partner:
            continue
        other_labels, other = partner[key]
        a, b = (other, value) if matching.many == "right" else (value, other)
        outcome = OPERATORS[node.op](np.float64(a), np.float64(b))
        name = labels_of_result(node, labels, other_labels)
        if name in taken or (not matching.many and key in {matching.key(t) for t in taken}):
            raise Refused("two on the many side")
        taken.add(name)
        if node.op not in COMPARISON or node.return_bool:
            result[name] = float(outcome)
        elif outcome:
            result[name] = a
    return result


def set_by_hand(node: Binary, left: Vectors, right: Vectors) -> dict[Labels, float]:
    key = node.matching.key
    on_left, on_right = ({key(labels) for labels, _ in side} for side in (left, right))
    if node.op == "or":
        return dict(left) | {labels: value for labels, value in right if key(labels) not in on_left}
    return {labels: value for labels, value in left if (key(labels) in on_right) == (node.op == "and")}


def labels_of_result(node: Binary, many: Labels, one: Labels) -> Labels:
    labels = dict(many)
    if node.op not in COMPARISON:
        labels.pop("__name__", None)
    if not node.matching.many:
        on = node.matching.on
        labels = {n: v for n, v in labels.items() if (n in on if on is not None else n not in node.matching.ignoring)}
    for name in node.matching.include:
        labels[name] = dict(one).get(name, "")
    if node.return_bool:
        labels.pop("__name__", None)
    return tuple(sorted((n, v) for n, v in labels.items() if v))


def there(side: Given, row: int) -> Vectors:
    return [(e.labels, cell) for e in side.elements if isinstance(cell := e.cells[row], float)]


# ---- random plants

NAMES = ("a", "b", "c")
VALUES = ("", "1", "1", "2")  # few, so that elements meet
label_sets = st.builds(
    lambda *pairs: tuple((name, value) for name, value in pairs if value),
    st.tuples(st.just("__name__"), st.sampled_from("xy")),
    *[st.tuples(st.just(name), st.sampled_from(VALUES)) for name in NAMES],
)
cells = st.sampled_from([1.0, 2.0, 3.0, None, "vanished"])


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[int, Element]]:
    both = [draw(st.lists(label_sets, unique=True, min_size=1, max_size=5)) for _ in range(2)]
    plant = [(side, Element(labels, draw(st.tuples(*[cells] * ROWS)))) for side in (0, 1) for labels in both[side]]
    return draw(st.permutations(plant))


@st.composite
def nodes(draw: st.DrawFn, *, many: tuple[str, ...], ops: tuple[str, ...] = ("-", ">", "== bool")) -> Binary:
    names = tuple(draw(st.sets(st.sampled_from(NAMES))))
    group = draw(st.sampled_from(many))
    on = draw(st.booleans())
    include = tuple(n for n in draw(st.permutations(NAMES))[: draw(st.integers(0, 2))] if not (on and n in names))
    matching = Matching(names if on else None, () if on else names, group, include if group else ())
    op, _, return_bool = draw(st.sampled_from(ops)).partition(" ")
    return binary(op, matching, return_bool=bool(return_bool))


every = nodes(many=("", "left", "right")) | nodes(many=("",), ops=("and", "or", "unless"))


@settings(max_examples=250)
@given(every, arrivals())
def test_matching_gives_what_going_through_both_sides_gives_and_refuses_what_prometheus_refuses(
    node: Binary, plant: list[tuple[int, Element]]
):
    operator, sides = built(node, plant)

    rows, frame = found(operator)

    for row in range(ROWS):
        try:
            expected = (set_by_hand if node.op in SET else by_hand)(node, there(sides[0], row), there(sides[1], row))
        except Refused:
            assert row in frame.failed
        else:
            assert row not in frame.failed, frame.failed
            assert rows[row] == expected


@settings(max_examples=100)
@given(every, arrivals(), st.randoms(use_true_random=False))
def test_the_order_in_which_elements_appear_does_not_matter(
    node: Binary, plant: list[tuple[int, Element]], random: Random
):
    operator, _ = built(node, plant)
    shuffled = list(plant)
    random.shuffle(shuffled)
    other, _ = built(node, shuffled)

    (rows, frame), (other_rows, other_frame) = found(operator), found(other)

    assert frame.failed.keys() == other_frame.failed.keys()
    for row in set(range(ROWS)) - frame.failed.keys():
        assert rows[row] == other_rows[row]


@settings(max_examples=100)
@given(every, arrivals())
def test_an_element_that_goes_changes_only_what_depends_on_it(node: Binary, plant: list[tuple[int, Element]]):
    operator, sides = built(node, plant)
    before, frame = evaluated(operator)
    for side, operand in enumerate(sides):
        for i, element in enumerate(operand.elements):
            operand.elements[i] = Element(element.labels, (None,) * ROWS)
            after, other_frame = evaluated(operator)
            operand.elements[i] = element

            changed = (before.present != after.present) | (before.unknown != after.unknown)
            changed |= before.present & after.present & (before.value != after.value)
            changed &= ~np.isin(np.arange(len(changed)) % ROWS, [*frame.failed, *other_frame.failed])
            _, dependents = operator.dependents(side, np.array([i]))
            assert set((np.flatnonzero(changed) // ROWS).tolist()) <= set(dependents.tolist())


@settings(max_examples=100)
@given(every, arrivals())
def test_no_element_is_there_and_unknown_and_without_vanished_data_nothing_is_unknown(
    node: Binary, plant: list[tuple[int, Element]]
):
    operator, sides = built(node, plant)

    vector, _ = evaluated(operator)

    assert not (vector.present & vector.unknown).any()
    vanished = [any(e.cells[row] == "vanished" for side in sides for e in side.elements) for row in range(ROWS)]
    assert not vector.unknown.reshape(-1, ROWS)[:, ~np.array(vanished)].any()


# ---- examples


def of(text: str, *row: float | str | None) -> Element:
    """`x a=1 b=2` with a cell for each row, the last one repeated."""
    name, *labels = text.split()
    pairs = {"__name__": name} if name != "-" else {}
    pairs |= dict(label.split("=") for label in labels)
    return Element(tuple(sorted(pairs.items())), (*row, *[row[-1]] * (ROWS - len(row))))


def shown(operator: Operator) -> dict[str, float]:
    return {written(labels): value for labels, value in found(operator)[0][0].items()}


LEFT = Matching(("a",), many="left")


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (binary("-", Matching(("a",), (), "left", ("b",))), {'{a="1", b="9", c="1"}': 4, '{a="1", b="9", c="2"}': 6}),
        (binary("-", LEFT), {'{a="1", b="5", c="1"}': 4, '{a="1", c="2"}': 6}),
        (binary("-", Matching(("a",), (), "left", ("c",))), {'{a="1", b="5"}': 4, '{a="1"}': 6}),
        (binary("-", Matching(None, ("b", "c"), "left")), {'{a="1", b="5", c="1"}': 4, '{a="1", c="2"}': 6}),
        (binary(">", LEFT), {'x{a="1", b="5", c="1"}': 7, 'x{a="1", c="2"}': 9}),
        (binary("<", LEFT, return_bool=True), {'{a="1", b="5", c="1"}': 0, '{a="1", c="2"}': 0}),
        (binary(">", Matching(("a",), (), "left", ("__name__",))), {'y{a="1", b="5", c="1"}': 7, 'y{a="1", c="2"}': 9}),
        (binary("<", Matching(("a",), (), "left", ("__name__",)), return_bool=True),
         {'{a="1", b="5", c="1"}': 0, '{a="1", c="2"}': 0}),
        (binary("-", Matching(("a",), (), "left", ("__name__",))), {'y{a="1", b="5", c="1"}': 4, 'y{a="1", c="2"}': 6}),
    ],
)  # fmt: skip
def test_labels_of_many_to_one(node: Binary, expected: dict[str, float]):
    plant = [(0, of("x a=1 b=5 c=1", 7.0)), (0, of("x a=1 c=2", 9.0)), (1, of("y a=1 b=9", 3.0)), (0, of("x a=2", 1.0))]

    assert shown(built(node, plant)[0]) == expected


def test_one_to_many_computes_left_by_right_and_keeps_the_left_value():
    plant = [(0, of("y a=1 b=9", 3.0)), (1, of("x a=1 c=1", 7.0)), (1, of("x a=1 c=2", 2.0))]
    matching = Matching(("a",), (), "right", ("b",))

    assert shown(built(binary("-", matching), plant)[0]) == {'{a="1", b="9", c="1"}': -4, '{a="1", b="9", c="2"}': 1}
    assert shown(built(binary(">", matching), plant)[0]) == {'x{a="1", b="9", c="2"}': 3}


@pytest.mark.parametrize("matching", [Matching(()), Matching((), (), "left"), Matching((), (), "right")])
def test_elements_without_labels_match_on_nothing(matching: Matching):
    operator, _ = built(binary("+", matching), [(0, of("-", 1.0)), (1, of("-", 2.0))])

    assert shown(operator) == {"{}": 3}


def test_another_series_with_the_same_included_labels_takes_over_the_same_element():
    matching = Matching(("a",), (), "left", ("version",))
    plant = [
        (0, of("x a=1", 7.0)),
        (1, of("info a=1 version=1 pod=p", 1.0, None)),
        (1, of("info a=1 version=1 pod=q", None, 1.0, None)),
        (1, of("info a=1 version=2 pod=q", None, None, 1.0)),
    ]
    operator, _ = built(binary("*", matching), plant)

    rows, frame = found(operator)

    assert len(operator) == 2
    assert [[written(labels) for labels in row] for row in rows] == [
        ['{a="1", version="1"}'], ['{a="1", version="1"}'], ['{a="1", version="2"}'],
    ]  # fmt: skip
    assert frame.failed == {}


@pytest.mark.parametrize(
    ("matching", "plant", "words"),
    [
        (Matching(("a",)), [(0, "x a=1"), (1, "y a=1 b=1"), (1, "y a=1 b=2")],
         ['group {a="1"} on the right side', 'y{a="1", b="1"} and y{a="1", b="2"}', "group_right"]),
        (Matching(("a",)), [(0, "x a=1"), (1, "y a=2 b=1"), (1, "y a=2 b=2")], ['group {a="2"} on the right side']),
        (Matching(("a",)), [(0, "x a=1"), (0, "x a=1 b=1"), (1, "y a=1")],
         ['group {a="1"} on the left side', 'x{a="1"} and x{a="1", b="1"}', "group_left"]),
        (LEFT, [(0, "x a=1"), (1, "y a=1 b=1"), (1, "y a=1 b=2")],
         ['group {a="1"} on the right side', 'y{a="1", b="1"} and y{a="1", b="2"}', "labels that tell them apart"]),
        (LEFT, [(0, "x a=1"), (1, "y a=2 b=1"), (1, "y a=2 b=2")], ['group {a="2"} on the right side']),
        (Matching(("a",), (), "right"), [(1, "x a=1"), (0, "y a=1 b=1"), (0, "y a=1 b=2")],
         ['group {a="1"} on the left side']),
        (Matching(("a",), (), "left", ("b",)), [(0, "x a=1 b=1"), (0, "x a=1 b=2"), (1, "y a=1 b=3")],
         ["multiple matches for labels", '{a="1", b="3"}']),
        (LEFT, [(0, "x a=1"), (0, "z a=1"), (1, "y a=1")], ["multiple matches for labels", '{a="1"}']),
    ],
)  # fmt: skip
def test_a_refusal_names_the_labels(matching: Matching, plant: list[tuple[int, str]], words: list[str]):
    operator, _ = built(binary("+", matching), [(side, of(text, None, 1.0, 1.0)) for side, text in plant])

    rows, frame = found(operator)

    assert frame.failed.keys() == {1, 2}
    assert all(word in frame.failed[1] for word in words), frame.failed[1]
    assert rows[1] == {}


def test_two_on_the_one_side_are_no_error_while_the_other_side_has_nothing():
    plant = [
        (1, of("y a=0 b=1", 1.0)), (1, of("y a=0 b=2", None)),
        (1, of("y a=1 b=1", 1.0)), (0, of("x a=1", None)), (1, of("y a=1 b=2", 1.0)), (0, of("x a=2", None, 1.0)),
    ]  # fmt: skip

    for many in ("", "left"):
        failed = found(built(binary("+", Matching(("a",), (), many)), plant)[0])[1].failed
        assert failed.keys() == {1, 2}
        assert 'group {a="1"}' in failed[1]


@pytest.mark.parametrize("many", ["", "left", "right"])
@pytest.mark.parametrize(
    ("lefts", "rights", "failing"), [(1, 2, "left"), (2, 1, "right"), (2, 2, "left right"), (2, 0, ""), (0, 2, "")]
)
def test_what_meets_is_refused_at_each_reading_too(many: str, lefts: int, rights: int, failing: str):
    """There `discover` is not called; and no pair that does not meet is looked at."""
    plant = [(0, of(f"x a=1 b={i}", 1.0 if i < lefts else None)) for i in range(2)]
    plant += [(1, of(f"y a=1 b={i}", 1.0 if i < rights else None)) for i in range(2)]
    operator, _ = built(binary("+", Matching(("a",), (), many, ())), plant)
    frame = Instants()

    n = len(operator)
    vector = operator.evaluate(frame, np.arange(n), np.full(n, 2))  # type: ignore[arg-type]  # as above

    is_refused = many in failing.split() if many else bool(failing)
    assert frame.failed.keys() == ({2} if is_refused else set())
    assert vector.present.any() == (bool(failing) and not is_refused)


@pytest.mark.parametrize("many", ["", "left"])
def test_a_refusal_names_what_comes_first_in_time(many: str):
    plant = [(1, of(f"y a={a} b={b}", None if a == 1 else 1.0, 1.0)) for a in (1, 2) for b in (1, 2)]
    plant += [(0, of("x a=1", 1.0)), (0, of("x a=2", 1.0))]
    operator, _ = built(binary("+", Matching(("a",), (), many)), plant)
    frame = Instants()

    rows = np.tile(frame.all_rows, 2)
    operator.evaluate(frame, np.repeat(np.arange(2), ROWS), rows)  # type: ignore[arg-type]  # as above

    assert 'group {a="2"}' in frame.failed[0]


def test_an_element_that_is_asked_for_twice_is_not_its_own_twin():
    plant = [(0, of("x a=1 b=1", 1.0)), (0, of("x a=1 b=2", None)), (1, of("y a=1", 1.0))]
    operator, _ = built(binary("+", Matching(("a",), (), "left", ("b",))), plant)
    frame = Instants()

    vector = operator.evaluate(frame, np.zeros(2, np.int64), np.zeros(2, np.int64))  # type: ignore[arg-type]  # as above

    assert vector.present.all()
    assert frame.failed == {}


@pytest.mark.parametrize(
    ("matching", "injective"),
    [(Matching(("a",)), True), (Matching(None, ("a",)), True), (Matching(("__name__", "a")), False)],
)
def test_one_to_one_on_the_name_can_give_the_same_labels_twice(matching: Matching, injective: bool):
    plant = [(side, of(f"{name} a=1", 1.0)) for side in (0, 1) for name in "xy"]
    operator, _ = built(binary("+", matching), plant if not injective else [])

    assert operator.injective == injective
    assert len({operator.labels(i) for i in range(len(operator))}) == (0 if injective else 1)


def test_what_a_comparison_would_drop_is_refused_all_the_same():
    plant = [(0, of("x a=1 b=1", 1.0)), (0, of("x a=1 b=2", 9.0)), (1, of("y a=1", 5.0))]

    assert found(built(binary(">", Matching(("a",))), plant)[0])[1].failed.keys() == {0, 1, 2}


@pytest.mark.parametrize(
    ("left", "right", "unknown"),
    [(1.0, "vanished", True), ("vanished", 1.0, True), ("vanished", "vanished", True), (None, "vanished", False),
     ("vanished", None, False), (1.0, 1.0, False)],
)  # fmt: skip
@pytest.mark.parametrize("many", ["", "left", "right"])
def test_an_element_is_unknown_where_a_side_vanished_and_the_other_one_did_not_end(
    left: float | str | None, right: float | str | None, unknown: bool, many: str
):
    operator, _ = built(binary("+", Matching(("a",), (), many)), [(0, of("x a=1", left)), (1, of("y a=1", right))])

    assert evaluated(operator)[0].unknown.tolist() == [unknown] * ROWS


@pytest.mark.parametrize(("many", "unknown"), [("", True), ("left", False)])
def test_of_two_at_once_nothing_is_known_one_to_one_as_the_other_side_may_come_back(many: str, unknown: bool):
    plant = [(0, of("x a=1", "vanished")), (1, of("y a=1 b=1", 1.0)), (1, of("y a=1 b=2", 1.0))]
    plant.append((1, of("y a=1 b=3", "vanished")))

    found = evaluated(built(binary("+", Matching(("a",), (), many)), plant)[0])[0].unknown

    assert found.tolist() == [unknown] * ROWS


def test_a_vanished_series_is_replaced_not_missed():
    matching = Matching(("a",), (), "left", ("b",))
    plant = [(0, of("x a=1", 7.0)), (1, of("y a=1 b=1", "vanished")), (1, of("y a=1 b=2", "vanished", 1.0))]
    operator, _ = built(binary("*", matching), plant)

    assert evaluated(operator)[0].unknown.reshape(-1, ROWS).tolist() == [[True, False, False]] * 2


@pytest.mark.parametrize("many", ["", "left", "right"])
def test_an_element_is_not_there_before_it_is_born(many: str):
    sides = Given(), Given()
    node = binary("+", Matching(("a",), (), many))
    operator = ManyMatch(*sides, node) if many else Match(*sides, node)
    sides[0].add(of("x a=1", 1.0))
    sides[1].add(of("y a=1", 1.0), born=1)

    assert evaluated(operator)[0].present.tolist() == [False, True, True]
    operator.settle()
    assert evaluated(operator)[0].present.tolist() == [True] * ROWS


def test_the_one_side_is_evaluated_once_for_each_key_and_row():
    operator, sides = built(
        binary("+", LEFT), [(0, of(f"x a=1 b={i}", 1.0)) for i in range(50)] + [(1, of("y a=1", 1.0))]
    )
    asked: list[int] = []
    evaluate = sides[1].evaluate

    def listening(frame: Frame, element: Ints, row: Ints) -> Vector:
        asked.append(len(row))
        return evaluate(frame, element, row)

    sides[1].evaluate = listening  # type: ignore[method-assign]  # to listen is the point

    assert evaluated(operator)[0].present.all()
    assert asked == [ROWS]


def test_labels_are_written_as_promql_writes_them():
    assert written((("__name__", "x"), ("a", 'say "\\"\n'))) == 'x{a="say \\"\\\\\\"\\n"}'
