"""Laws of the engine over random rules and random streams."""

from __future__ import annotations

import dataclasses
import math

import hypothesis.strategies as st
from hypothesis import given, settings

from rules import Engine, Rule
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

WINDOWS = [
    "avg_over_time(x[10s]) > 5.3", "min_over_time(x[12s]) > 3", "max_over_time(x[7s]) < 6",
    "count_over_time(x[9s]) >= 2", "sum_over_time(x[10s]) > 9", "last_over_time(x[30s]) > 5",
    "present_over_time(x[6s]) == 1", "stddev_over_time(x[20s]) > 1.3", "quantile_over_time(0.5, x[15s]) > 4.2",
    "rate(x[15s]) > 0.33", "increase(x[20s]) > 3.1", "delta(x[15s]) < -2.7", "idelta(x[20s]) > 2",
    "deriv(x[15s]) > 0.21", "predict_linear(x[20s], 10) > 6.3", "changes(x[20s]) > 1", "resets(x[20s]) > 0",
    "x offset 6s > 5", "x - x offset 5s > 3", "avg_over_time(x[8s] offset 4s) > 5.3", "timestamp(x) > 1700000040",
    "avg_over_time(x[10s]) > on(device) y", "max_over_time(x[10s]) > 5 and on(device) y > 5",
    "x > 5 unless on(device) count_over_time(y[10s]) > 1", "x > 2 * avg_over_time(x[25s])",
    'label_replace(x, "kind", "$1", "device", "(.)") > 5', "max_over_time(x[10s]) > 5 or last_over_time(y[5s]) > 5",
    'count_over_time({__name__=~"x|y"}[9s]) > 1', "-x < -5 or z > 3", '{__name__=~"x|y"} + 0 > 7',
]  # fmt: skip
"""Pointwise, too"""

ON_THE_GRID = [
    "sum(x) > 9", "sum by (device) (x) > 5", "avg(x) > 5", "max without (device) (x) > 5", "count(x > 5) > 1",
    "topk(1, x) > 5", "bottomk by (site) (1, x) < 3", "quantile(0.5, x) > 4.2", "stddev(x) > 1.3", "group(x)",
    "x > on() group_left() max(y)", "x / on() group_left avg(x) > 1.2", "absent(x)", 'absent(x{device="b"})',
    "absent_over_time(y[10s])", "scalar(sum(x)) > bool 9", "vector(1)", "x > scalar(avg(y))", "x > on(site) y",
    "max_over_time(sum(x)[20s:5s]) > 9", "avg_over_time(x[20s:4s]) > 5.3", "time() - timestamp(x) > 10",
    "hour() >= 0 and on() x > 5", "sum(rate(x[15s])) > 0.7", "x offset -3s > 5", 'min by (device) ({device!=""}) > 2',
    'label_replace(x, "device", "all", "device", ".*") > 5', "sum(x > 5) or vector(0) > 0", "age(x) > 6 and on() y > 5",
    "total > 9", "total > 0 unless on() absent(x)", "max_over_time(total[20s]) > 9", "hot",
    "hot > 6 and on(device) y > 2", "count(hot) > 1", "total - total offset 10s > 3",
]  # fmt: skip

COUNTED = ['count_values("v", x) > 0 or on(v) y', 'count by (v) (count_values by (device) ("v", x))']
"""On the grid, too; the reference does not remember earlier values, so it cannot say of one that it vanished"""

RECORDS = [
    {"record": "total", "expr": "sum(y)"},
    {"record": "total", "expr": "sum(x)"},
    {"record": "total", "expr": "sum(x)", "labels": {"of": "x"}},
    {"record": "hot", "expr": "x > 5"},
    {"record": "hot", "expr": "hot > 7", "labels": {"very": "yes"}},
]

alerts = st.lists(
    st.fixed_dictionaries(
        {
            "alert": st.just("A"),
            "expr": st.one_of(*map(st.sampled_from, (EXPRESSIONS, WINDOWS, ON_THE_GRID, COUNTED))),
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


@st.composite
def rule_lists(draw):
    """The rules of a group: recording rules, then alerting rules."""
    records = draw(st.lists(st.sampled_from(RECORDS), max_size=2, unique_by=str))
    interval = draw(st.sampled_from(["3s", "5s", "15s"]))
    return rules_of(*records, *draw(alerts), interval=interval)


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


def comparable(events):
    """Events without what may differ in the last digit, and without ages, taken at other instants by the reference."""
    return [dataclasses.replace(e, id="", value=0.0, annotations=()) for e in events]


def exact(events, parsed):
    """Values of the events whose rules give readings, not results of arithmetic."""
    plain = {r.id for r in parsed if isinstance(r, Rule) and r.expr in EXPRESSIONS and "age(" not in r.expr}
    return [(e.rule, repr(e.value), e.annotations) for e in events if e.rule in plain]


@settings(max_examples=100)
@given(rule_lists(), streams(), st.sets(st.integers(0, 40)))
def test_the_engine_equals_the_reference(parsed, stream, cuts):
    parsed = [rule for rule in parsed if rule.expr not in COUNTED]
    reference = Reference(parsed, table_of(*TABLE), STALENESS)
    for item in stream:
        if isinstance(item, Tick):
            reference.tick(item.time)
        elif item.rows:
            reference.message(item.rows, item.received)

    events = run(engine_of(parsed), batches(stream, cuts))

    assert comparable(events) == comparable(reference.out)
    assert exact(events, parsed) == exact(reference.out, parsed)


@settings(max_examples=60)
@given(rule_lists(), streams(), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_batching_is_invisible(parsed, stream, cuts, others):
    one, other = engine_of(parsed), engine_of(parsed)

    assert list(map(repr, run(one, batches(stream, cuts)))) == list(map(repr, run(other, batches(stream, others))))
    assert repr(one.take_recorded()) == repr(other.take_recorded())


@settings(max_examples=40)
@given(rule_lists(), streams(), st.integers(0, 40))
def test_a_restart_from_a_snapshot_is_invisible(parsed, stream, at):
    whole = engine_of(parsed)
    expected = run(whole, batches(stream, set(range(40))))
    first = engine_of(parsed)
    before = run(first, batches(stream[:at], set(range(40))))
    second = engine_of(parsed)
    second.restore(first.snapshot())

    after = run(second, batches(stream[at:], set(range(40))))

    assert list(map(repr, before + after)) == list(map(repr, expected))
    assert repr(first.take_recorded() + second.take_recorded()) == repr(whole.take_recorded())
