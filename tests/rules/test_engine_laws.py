"""Laws of the engine over random rules and random streams."""

from __future__ import annotations

import dataclasses
import math

import hypothesis.strategies as st
from hypothesis import given, settings

from rules import Engine
from telemetry import Tick
from tests.rules.notation import T0, S, Said, batches, live, rules_of, run, table_of
from tests.rules.reference import Reference

STALENESS = 20 * S

TABLE = [
    'x{device="a"}', 'y{device="a"}', 'z{device="a", state="on"}', 'z{device="a", state="off"}',
    'x{device="b"}', 'y{device="b"}', 'z{device="b", state="on"}',
    'x{device="c", site="s"}', 'y{device="c", site="t"}',
]  # fmt: skip

EXPRESSIONS = [
    "x > 5", "x >= 5", "x == 3", "x != 3", "5 < x", "x < 2", 'x{device="a"} > 5', 'x{device=~"a|b"} > 4',
    'x{device!="a"} > 4', 'x{site!~"s"} > 4', '{__name__=~"x|y"} > 7', "x > bool 5", "(x > bool 5) == 1", "-x < -5",
    "abs(x - 5) > 3", "x + 1 > 6", "x * 2 - 3 > 7", "x % 4 == 1", "x / 2 > 2.5", "clamp_max(x, 5) == 5",
    "clamp_min(x, 7) == 7", "ceil(x / 3) == 2", "x > y", "x + y > 10", "x > on(device) y", "x - on(device) y > 3",
    "x / on(device) y > 2", "x > ignoring(site) y", "x > 5 and y > 5", "x > 5 and on(device) y > 5",
    'x > 5 and on(device) z{state="on"} == 1', "x > 5 and on(device) z > 5", "x > 5 or y > 5",
    "x > 5 or on(device) y > 5", "x > 5 unless y > 5", "x > 5 unless on(device) z > 3", "x > on(device) z",
    "x + on(device) z > 8", "z > 5", "age(x) > 6", "age(x) >= 6", "age(x) > 30", "age(y) > 6 and on(device) x > 3",
    "x > 5 unless on(device) age(y) > 8", "age(x) < 3", "x > 5 or on(device) age(y) > 4", "(x > 3) and (x < 7)",
    "x > 5 and x < 8 or y > 9",
]  # fmt: skip

rules = st.lists(
    st.fixed_dictionaries(
        {
            "alert": st.just("A"),
            "expr": st.sampled_from(EXPRESSIONS),
            "for": st.sampled_from(["0s", "0s", "3s", "10s", "30s"]),
            "keep_firing_for": st.sampled_from(["0s", "0s", "4s", "15s"]),
            "no_data": st.sampled_from(["keep", "keep", "resolve", "fire"]),
            "labels": st.sampled_from(
                [{}, {"severity": "page"}, {"device": "all"}, {"where": "{{ $labels.device }}!"}]
            ),
            "annotations": st.just({"at": "{{ $labels.device }} {{ $value }}"}),
        }
    ),
    min_size=1,
    max_size=4,
)

values = st.one_of(st.integers(0, 10).map(float), st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 5.000001]))


@st.composite
def streams(draw):
    """Messages and ticks: readings a little out of order, repeated, with gaps, several devices and times a message."""
    now = T0
    items: list[Said | Tick] = []
    for _ in range(draw(st.integers(1, 40))):
        now += draw(st.sampled_from([0, 1, S // 2, S, S, 2 * S, 7 * S, 25 * S]))
        if draw(st.integers(0, 3)) == 0:
            items.append(Tick(now))
            continue
        rows = draw(
            st.lists(
                st.tuples(
                    st.integers(0, len(TABLE) - 1),
                    st.sampled_from([now + ahead * S for ahead in (0, 0, 0, 0, 1, -1, 3, -4, 10, -30)]),
                    values,
                ),
                max_size=4,
            )
        )
        items.append(Said(tuple(rows), now))
    return live(items)


def engine_of(parsed):
    return Engine(parsed, table_of(*TABLE), staleness=lambda _: STALENESS)


def comparable(events, parsed):
    """Events without the value where it is an age: the reference looks at other instants, so it may be another age."""
    aged = {r.id for r in parsed if "age(" in r.expr}
    plain = [dataclasses.replace(e, value=0.0, annotations=()) if e.rule in aged else e for e in events]
    return [dataclasses.replace(e, value=repr(e.value)) for e in plain]


@settings(max_examples=100)
@given(rules, streams(), st.sets(st.integers(0, 40)))
def test_the_engine_equals_the_reference(some, stream, cuts):
    parsed = rules_of(*some)
    reference = Reference(parsed, table_of(*TABLE), STALENESS)
    for item in stream:
        if isinstance(item, Tick):
            reference.tick(item.time)
        elif item.rows:
            reference.message(item.rows, item.received)

    events = run(engine_of(parsed), batches(stream, cuts))

    assert comparable(events, parsed) == comparable(reference.out, parsed)


@settings(max_examples=60)
@given(rules, streams(), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_batching_is_invisible(some, stream, cuts, others):
    parsed = rules_of(*some)

    one, other = run(engine_of(parsed), batches(stream, cuts)), run(engine_of(parsed), batches(stream, others))

    assert list(map(repr, one)) == list(map(repr, other))


@settings(max_examples=40)
@given(rules, streams(), st.integers(0, 40))
def test_a_restart_from_a_snapshot_is_invisible(some, stream, at):
    parsed = rules_of(*some)
    whole = run(engine_of(parsed), batches(stream, set(range(40))))
    first = engine_of(parsed)
    before = run(first, batches(stream[:at], set(range(40))))
    second = engine_of(parsed)
    second.restore(first.snapshot())

    after = run(second, batches(stream[at:], set(range(40))))

    assert list(map(repr, before + after)) == list(map(repr, whole))
