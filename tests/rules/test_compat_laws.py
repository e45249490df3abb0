"""Alerts on the grid are at each of its instants what a query finds there, for all of PromQL.

Always under `compat: prometheus`; and without it, where no device's clock is off and vanished data is false.
"""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import numpy as np
from hypothesis import assume, given, settings

from rules import Engine, ExpressionError, load_rules, query_range
from telemetry import ReadingBatch, Tick
from tests.rules.expressions import SERIES, any_expressions, expressions, nameless
from tests.rules.notation import T0, S, rules_of, table_of

STALENESS = 7 * S
INTERVAL, OFFSET = 3, 4
TABLE = table_of(*SERIES)

samples = st.lists(st.tuples(st.integers(0, 40), st.integers(-3, 8).map(float)), max_size=12, unique_by=lambda s: s[0])
rows = st.tuples(*[samples.map(sorted) for _ in SERIES]).map(list)
Rows = list[list[tuple[int, float]]]
Elements = list[tuple[dict[str, str], str]]


def is_rule(text: str) -> bool:
    """Queries may have more of `@`."""
    return not load_rules({"groups": [{"name": "g", "rules": [{"alert": "A", "expr": text}]}]})[1]


texts = st.one_of(expressions, any_expressions).filter(
    # A rule cannot see the future; of equal values topk keeps which it likes.
    lambda text: is_rule(text) and not any(part in text for part in ("offset -", "topk", "bottomk"))
)


KINDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {"compat": "prometheus"}),
    ({"no_data": "resolve"}, {"limit": 1000}),
]
"""Options of the rule and of its group"""


@settings(max_examples=60)
@given(texts, rows, st.sampled_from(KINDS), st.sampled_from([0, OFFSET]), st.integers(0, 16))
def test_alerts_are_what_a_query_finds(
    expr: str, rows: Rows, kind: tuple[dict[str, Any], dict[str, Any]], offset: int, restart: int
):
    of_rule, of_group = kind
    group = {"interval": f"{INTERVAL}s", "query_offset": f"{offset}s", **of_group}
    rules = rules_of({"alert": "A", "expr": expr, **of_rule}, **group)
    engine = Engine(rules, TABLE, staleness=lambda _: STALENESS)
    first = -(-T0 // (INTERVAL * S)) * INTERVAL * S  # T0 is no multiple of the interval
    before = T0 - S
    kept: Elements = []
    for n, at in enumerate(range(first, T0 + 48 * S, INTERVAL * S)):
        engine.apply(readings(rows, before, at))
        engine.tick(Tick(at))
        before = at
        if n == restart:
            left, engine = engine, Engine(rules, TABLE, staleness=lambda _: STALENESS)
            engine.restore(left.snapshot())
        found = by_query(expr, rows, at - offset * S)
        if found is None:
            assert n == restart or engine.errors()
        else:
            assert not engine.errors()
            kept = found
            labels = [repr(labels) for labels, _ in kept]
            assume(len(set(labels)) == len(labels))  # else it takes the name to tell them apart: no alerts
        assert active(engine) == kept, f"at {(at - T0) // S} s"


def readings(rows: Rows, after: int, upto: int) -> ReadingBatch:
    """All readings after `after` up to `upto`, in the order of time."""
    new = sorted((T0 + t * S, i, v) for i, own in enumerate(rows) for t, v in own if after < T0 + t * S <= upto)
    times = [t for t, *_ in new]
    return ReadingBatch.of([i for _, i, _ in new], times, [v for *_, v in new], received=times, offset=times)


def by_query(expr: str, rows: Rows, at: int) -> Elements | None:
    """None: an error."""
    stored = [(np.array([T0 + t * S for t, _ in own], np.int64), np.array([v for _, v in own])) for own in rows]

    def read(ids, t0, t1):
        inside = {i: (stored[i][0] >= t0) & (stored[i][0] < t1) for i in ids}
        return {i: (stored[i][0][mask], stored[i][1][mask]) for i, mask in inside.items()}

    try:
        found = query_range(expr, TABLE, read, at, at, S, staleness=STALENESS, substep=INTERVAL * S)
    except ExpressionError:
        return None
    return nameless((labels, float(values[0])) for labels, _, values in found)


def active(engine: Engine) -> Elements:
    return nameless(
        ({name: text for name, text in alert.labels if name != "alertname"}, alert.value) for alert in engine.active()
    )
