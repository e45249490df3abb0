"""Laws of snapshots: an engine that was restored is the one that was left."""

from __future__ import annotations

import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from tests.rules.notation import S, batches, run
from tests.rules.plant import (
    HOUR,
    RULES,
    XA,
    XB,
    YA,
    YB,
    Stream,
    engine,
    messages,
    record,
    rule,
    said,
    stream_of,
    ticks,
    told,
)


def stored_and_loaded(arrays: dict[str, Any]) -> dict[str, Any]:
    """Through a file, in which nothing is pickled."""
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    file.seek(0)
    return dict(np.load(file, allow_pickle=False))


ALL_KINDS = [
    *RULES,
    rule("avg_over_time(x[7s]) > 0.4", alert="Window", **{"for": "2s"}),
    record("total", "sum(x)"),
    record("high", "x > 0", labels={"of": "x"}),
    rule("rate(total[10s]) > 0 or high", alert="Recorded", keep_firing_for="4s"),
    rule('count_values("value", y) > 0 or on(device) x offset 3s', alert="Counted"),
    rule("x + on() group_left sum(y) > 1", alert="InError"),
]


@settings(max_examples=30)
@given(messages)
def test_a_restored_engine_is_equal_to_the_one_that_was_left(drawn):
    """Also in the order in which series became known, which is not that of the table."""
    first = engine(*ALL_KINDS, staleness=8 * S, interval="3s")
    run(first, batches(stream_of(drawn)))
    arrays = first.snapshot()

    second = engine(*ALL_KINDS, staleness=8 * S, interval="3s")
    second.restore(stored_and_loaded(arrays))
    again = second.snapshot()

    assert arrays.keys() == again.keys()
    for name, column in arrays.items():
        assert column.dtype == again[name].dtype, name
        np.testing.assert_array_equal(column, again[name], err_msg=name)
    assert list(map(repr, first.active())) == list(map(repr, second.active()))


SITES = ['x{device="1", site="p"}', 'x{device="2", site="p"}', 'x{device="3", site="q"}', 'x{device="4", site="r"}']


@pytest.mark.parametrize("after", ["nothing", "a tick", "a reading"])
def test_alerts_that_several_series_share_are_restored_with_their_labels(after: str):
    """The rule's label replaces the device, so devices of one site share an alert, and there are fewer of these."""
    shared = rule("x > 0", labels={"device": "some of {{ $labels.site }}"}, no_data="resolve")
    first, second = engine(shared, series=SITES), engine(shared, series=SITES)
    run(first, batches([said(0, (0, 1)), said(1, (1, 0), (2, 1), (3, 0))]))
    second.restore(stored_and_loaded(first.snapshot()))
    streams: dict[str, Stream] = {"nothing": [], "a tick": ticks(2, 70), "a reading": [said(2, (3, 1))]}

    one, other = (run(subject, batches(streams[after])) for subject in (first, second))

    assert list(map(repr, one)) == list(map(repr, other))
    assert list(map(repr, first.active())) == list(map(repr, second.active()))


def test_a_snapshot_keeps_the_order_in_which_series_became_known():
    subject = engine(rule("x > 0"))
    run(subject, batches([said(0, (XB, 1)), said(1, (YB, 1)), said(1, (YA, 1), (XA, 1), (XB, 0))]))

    assert json.loads(subject.snapshot()["order"].tobytes()) == [XB, YB, YA, XA]


def test_a_snapshot_does_not_change_with_the_engine():
    subject = engine(rule("x > 0"))
    run(subject, batches([said(0, (XA, 1))]))
    arrays = subject.snapshot()
    before = {name: column.copy() for name, column in arrays.items()}

    run(subject, batches([said(1, (XA, 0), (XB, 1))]))

    for name, column in before.items():
        np.testing.assert_array_equal(arrays[name], column, err_msg=name)


def test_an_engine_restored_from_nothing_is_new():
    subject = engine(*RULES)
    subject.restore(stored_and_loaded(engine(*RULES).snapshot()))

    assert told(run(subject, batches([said(0, (XA, 1)), *ticks(1, 6)])))[0] == ("a", "firing", 0)


def test_after_a_restart_the_time_until_the_next_message_is_a_gap_like_any_other():
    silent, first = rule("age(x) > 60"), [said(0, (XA, 1)), *ticks(1, 50)]
    subject = engine(silent)
    left = engine(silent)
    run(left, batches(first))
    subject.restore(left.snapshot())

    assert run(subject, batches(ticks(HOUR, HOUR + 5))) == []
    assert told(run(subject, batches(ticks(HOUR + 5, HOUR + 10)))) == [("a", "firing", 60.000000001)]
