"""Laws of the engine beside those of test_engine_laws.py: what drives rules, and what is shown of alerts."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rules import Engine
from rules.history import MAX_SAMPLES
from telemetry import DUPLICATE, HISTORICAL, LATE, RETAINED, ReadingBatch, Tick
from tests.rules.notation import T0, S, Said, batches, rules_of, run, table_of
from tests.rules.plant import (
    RULES,
    SERIES,
    XA,
    XB,
    YA,
    YB,
    Stream,
    engine,
    happened,
    messages,
    rule,
    said,
    seconds,
    stream_of,
    ticks,
    told,
)


def test_the_readings_of_one_message_are_applied_together():
    above = rule("x > on(device) y")
    apart: Stream = [said(0, (XA, 1), (YA, 2)), said(1, (XA, 11)), said(1, (YA, 12))]

    assert happened([said(0, (XA, 1), (YA, 2)), said(1, (XA, 11), (YA, 12))], above) == []
    assert happened(apart, above) == [("a", "firing", 1), ("a", "resolved", 1)]


def test_the_times_of_one_message_are_instants_of_their_own():
    message = Said(((XA, seconds(0), 5), (YA, seconds(0), 6), (XA, seconds(1), 7), (YA, seconds(2), 8)), seconds(2))

    assert happened([message], rule("x > on(device) y")) == [("a", "firing", 1), ("a", "resolved", 2)]


FLAGS = st.sampled_from([LATE, RETAINED, HISTORICAL, DUPLICATE, LATE | HISTORICAL, 15])


@settings(max_examples=30)
@given(messages, st.lists(st.tuples(st.integers(0, 50), st.integers(0, 3), st.integers(-99, 99), FLAGS), max_size=12))
def test_flagged_rows_never_change_alerts(drawn, flagged):
    """Wherever they stand in a message, and whatever they say."""
    plain = batches(stream_of(drawn))
    mixed = [add_flagged(item, flagged) for item in plain]

    one, other = (run(engine(*RULES, staleness=8 * S), items) for items in (plain, mixed))

    assert list(map(repr, one)) == list(map(repr, other))


COLUMNS = ("series", "time", "value", "received", "flags", "offset")


def add_flagged(item: ReadingBatch | Tick, flagged: list[tuple[int, int, int, int]]) -> ReadingBatch | Tick:
    """The batch with flagged rows among those of its messages."""
    if isinstance(item, Tick):
        return item
    rows = list(zip(*(getattr(item, name).tolist() for name in COLUMNS), strict=True))
    for where, series, off, flags in flagged:
        _, time, value, received, _, offset = rows[where % len(rows)]
        rows.insert(where % len(rows) + where % 2, (series, time + off * S, 1 - value, received, flags, offset))
    columns = dict(zip(COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
    return ReadingBatch.of(**columns)


def test_a_batch_of_nothing_and_series_of_no_rule_do_nothing():
    subject = engine(rule("x > 0"))

    assert subject.apply(ReadingBatch.empty()) == []
    assert subject.tick(Tick(T0)) == []
    assert run(subject, batches([said(0, (YA, 1), (YB, 1)), *ticks(1, 5)])) == []
    assert list(subject.active()) == []


@pytest.mark.slow
def test_a_thousand_devices_in_one_batch_are_a_thousand_batches():
    names = [f'{metric}{{device="d{i}"}}' for i in range(1000) for metric in "xy"]
    stream: Stream = [
        said(turn + i / 1001, (2 * i, (i * 7 + turn * 3) % 11), (2 * i + 1, (i * 5 + turn) % 7))
        for turn in range(2)
        for i in range(1000)
    ]
    some = [rule("x > on(device) y", **{"for": "1s"}), rule("x > 8", labels={"device": "all"})]

    one = run(engine(*some, series=names), batches(stream, {1000}))
    other = run(engine(*some, series=names), batches(stream, {*range(0, 1000, 20), *range(1000, 2000)}))

    assert list(map(repr, one)) == list(map(repr, other))
    assert len(one) > 300


def test_each_series_goes_stale_in_its_own_time():
    subject = Engine(
        rules_of(rule("x > 0", no_data="resolve")), table_of(*SERIES), staleness=lambda i: {XA: 5, XB: 20}[i] * S
    )

    events = run(subject, batches([said(0, (XA, 1), (XB, 1)), *ticks(1, 30)]))

    assert [e for e in told(events) if e[1] == "resolved"] == [("a", "resolved", 5), ("b", "resolved", 20)]


def test_events_come_in_the_order_in_which_they_became_known_then_by_rule_and_labels():
    some = [rule("y > 0", alert="Y"), rule("x > 0", alert="X")]
    events = run(engine(*some), batches([said(1, (XB, 1)), said(2, (XB, 1), (XA, 1), (YB, 1), (YA, 1))]))

    assert [(dict(e.labels)["alertname"], dict(e.labels)["device"]) for e in events] == [
        ("X", "b"), ("Y", "a"), ("Y", "b"), ("X", "a"),
    ]  # fmt: skip


# ---- alerts


def test_active_alerts_are_shown_with_all_that_is_known():
    hot = rule(
        "x > 20",
        **{"for": "3s"},
        labels={"severity": "page"},
        annotations={"now": "{{ $labels.device }}: {{ $value }}"},
    )
    subject = engine(hot)
    run(subject, batches([said(0, (XA, 21), (XB, 1)), said(4, (XA, 22)), said(4.5, (XB, 30)), said(5, (XA, 23))]))

    firing, pending = sorted(subject.active(), key=lambda alert: alert.labels)

    assert (firing.rule, firing.state, firing.active_at, firing.value) == ("g/A", "firing", seconds(3), 23)
    assert firing.labels == (("alertname", "A"), ("device", "a"), ("severity", "page"))
    assert firing.annotations == (("now", "a: 23"),)
    assert (pending.state, pending.active_at, pending.annotations) == ("pending", seconds(4.5), (("now", "b: 30"),))


def test_two_elements_of_one_alert_are_an_error_and_leave_it_as_it_is():
    merged = rule("x > 0", labels={"device": "any"})
    subject = engine(merged)
    stream = [said(0, (XA, 1)), said(1, (XB, 1)), said(2, (XA, 0)), said(3, (XB, 0))]

    assert told(run(subject, batches(stream[:2]))) == [("any", "firing", 0)]
    assert subject.errors()["g/A"].startswith("two elements would be one alert")
    assert told(run(subject, batches(stream[2:]))) == [("any", "resolved", 3)]


# ---- errors


@pytest.mark.parametrize("split", [True, False])
def test_the_error_of_a_rule_goes_when_it_can_be_evaluated_again(*, split: bool):
    """Also where both come in one batch."""
    subject = engine(rule("x > 0", labels={"device": "any"}))
    stream: Stream = [said(0, (XA, 1)), said(1, (XB, 1)), said(2, (XA, 0))]

    run(subject, batches(stream[:2]) if split else [])
    assert bool(subject.errors()) is split
    run(subject, batches(stream[2:] if split else stream))

    assert subject.errors() == {}


TWO_LIMITS = ['x{device="a"}', 'y{device="a",of="1"}', 'y{device="a",of="2"}', 'x{device="b"}', 'y{device="b",of="1"}']


def test_what_goes_well_for_one_device_does_not_hide_the_error_of_another():
    subject = engine(rule("x > on(device) y"), series=TWO_LIMITS)

    run(subject, batches([said(0, (1, 1), (2, 1)), said(1, (0, 5)), said(2, (3, 5), (4, 1))]))
    assert list(subject.errors()) == ["g/A"]
    run(subject, batches([said(3, (3, 6))]))
    assert list(subject.errors()) == ["g/A"]


def test_an_error_goes_by_time_alone_when_what_made_it_is_stale():
    """Of three y, one is stale at 10 s, and one more at 12 s."""
    series = [*TWO_LIMITS, 'y{device="a",of="3"}']
    subject = engine(rule("x > on(device) y"), series=series, staleness=10 * S)

    run(subject, batches([said(0, (2, 1)), said(2, (5, 1)), said(5, (1, 1)), said(6, (0, 5)), *ticks(6.5, 9)]))
    assert list(subject.errors()) == ["g/A"]
    run(subject, batches(ticks(9.5, 11.5)))
    assert list(subject.errors()) == ["g/A"]
    run(subject, batches(ticks(11.5, 14)))
    assert subject.errors() == {}


@pytest.mark.parametrize(
    ("later", "errors"),
    [(ticks(2.5, 14), []), ([said(30, (XB, 1))], ["g/A"]), ([said(30, (XA, 1), (XB, 1))], ["g/A"])],
    ids=["windows run empty", "another device", "samples again"],
)
def test_the_error_of_a_window_s_function_goes_when_no_window_has_a_sample(later: Stream, errors: list[str]):
    subject = engine(rule("double_exponential_smoothing(x[10s], 2, 0.5) > 0"))

    run(subject, batches([said(0, (XA, 1)), said(1, (XA, 2)), said(2, (XB, 1))]))
    assert "factors" in subject.errors()["g/A"]
    run(subject, batches(later))

    assert list(subject.errors()) == errors


def test_an_error_that_went_is_back_with_the_next_sample():
    """The window was empty from 10 to 30 s, which nothing told before."""
    subject = engine(rule("double_exponential_smoothing(x[10s], 2, 0.5) > 0"))

    run(subject, batches([said(0, (XA, 1))]))
    run(subject, batches([said(30, (XA, 1))]))

    assert list(subject.errors()) == ["g/A"]


def test_samples_that_windows_cannot_keep_are_counted_over_restarts():
    n, rules = MAX_SAMPLES + 8, [rule("avg_over_time(x[1d]) > 5"), rule("x > 0")]
    time = T0 + np.arange(n) * 10**6
    series, ones = np.repeat(np.array([XA, XB], np.int32), [n - 5, 5]), np.ones(n)
    batch = ReadingBatch(
        series=series, time=time, value=ones, received=time, flags=np.zeros(n, np.uint8), offset=np.arange(n)
    )
    subject, again = engine(*rules), engine(*rules)

    subject.apply(batch)
    again.restore(subject.snapshot())

    assert (subject.dropped, again.dropped) == (3, 3)
    assert engine(*rules).dropped == 0


def test_an_empty_label_is_none():
    (event,) = run(engine(rule("x > 0", labels={"site": "{{ $labels.site }}", "no": ""})), batches([said(0, (XA, 1))]))

    assert event.labels == (("alertname", "A"), ("device", "a"))
