"""Laws of the life cycle: what conditions mean over time, in the engine and in `advance` alone.

Not here: what an expression gives, and how readings reach the rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from rules import Engine
from telemetry import AlertEvent, Tick
from tests.rules.notation import T0, S, Said, batches, rules_of, run, table_of

STALENESS = 10 * S
Stream = list[Said | Tick]


def seconds(at: float) -> int:
    return T0 + round(at * S)


def engine(**rule: Any) -> Engine:
    """By default of the expression x == 1; `staleness` is that of the series."""
    staleness = rule.pop("staleness", STALENESS)
    parsed = rules_of({"alert": "A", "expr": "x == 1", **rule})
    return Engine(parsed, table_of('x{device="d"}', 'y{device="d"}'), staleness=lambda _: staleness)


def said(at: float, value: float, *, series: int = 0, received: float | None = None) -> Said:
    """One reading at `at` seconds."""
    return Said(((series, seconds(at), value),), seconds(at if received is None else received))


def tick(at: float) -> Tick:
    return Tick(seconds(at))


def told(events: list[AlertEvent]) -> list[tuple[str, float]]:
    """What happened, and when, in seconds."""
    return [(str(e.state), ((e.ends_at or e.starts_at) - T0) / S) for e in events]


def happened(stream: Stream, **rule: Any) -> list[tuple[str, float]]:
    return told(run(engine(**rule), batches(stream)))


# ---- Prometheus' state machine, on its grid

VECTORS = [
    ("2s", "0s", "TTTTFFT", "ppFFr.p"),
    ("2s", "2s", "TTTTFFFFT", "ppFFFFr.p"),
    ("2s", "3s", "TTTTFTFFT", "ppFFFFFFF"),
    ("2s", "0s", "TTFTTTT", "pp.ppFF"),
    ("0s", "0s", "FTFT", ".FrF"),
    ("0s", "2s", "TFFFT", "FFFrF"),
    ("1s", "1s", "TFTTFTFFF", "p.pFFFFr."),
    ("3s", "2s", "FTTTFTTTTFF", ".ppp.pppFFF"),
]


@pytest.mark.parametrize("ticking", [False, True], ids=["readings only", "with ticks"])
@pytest.mark.parametrize(("hold", "keep", "conditions", "states"), VECTORS)
def test_on_a_grid_the_states_are_those_of_prometheus(
    hold: str, keep: str, conditions: str, states: str, *, ticking: bool
):
    """T: the expression is true, F: false. Then `.` nothing, p pending, F firing, r was resolved just now."""
    subject, seen = engine(**{"for": hold, "keep_firing_for": keep}), ""
    for at, condition in enumerate(conditions):
        events = run(subject, batches([said(at, condition == "T")]))
        alerts = list(subject.active())
        letter = {"pending": "p", "firing": "F"}[alerts[0].state] if alerts else "."
        seen += "r" if letter == "." and ("resolved", at) in told(events) else letter
        if ticking:
            run(subject, [tick(at + 0.25), tick(at + 0.75)])

    assert seen == states


def test_an_alert_that_fires_again_is_a_new_one():
    events = run(engine(**{"for": "2s"}), batches([said(at, value) for at, value in enumerate([1, 1, 1, 0, 1, 1, 1])]))

    assert told(events) == [("firing", 2), ("resolved", 3), ("firing", 6)]
    assert events[0].id != events[2].id
    assert events[0].fingerprint == events[2].fingerprint


# ---- deadlines are instants


def test_a_deadline_between_readings_is_stamped_with_itself():
    stream: Stream = [said(0, 1), said(7.3, 1), said(8.1, 0), said(17.9, 0)]

    assert happened(stream, **{"for": "5s", "keep_firing_for": "4s"}) == [("firing", 5), ("resolved", 12.1)]


def test_a_deadline_that_a_tick_shows_is_stamped_with_itself():
    stream: Stream = [said(0, 1), tick(4.9), tick(5.7), said(6, 0), tick(9.9), tick(10.4)]

    assert happened(stream, **{"for": "5s", "keep_firing_for": "4s"}) == [("firing", 5), ("resolved", 10)]


def test_at_the_deadline_itself_the_reading_decides():
    assert happened([said(0, 1), said(5, 1), tick(6)], **{"for": "5s"}) == [("firing", 5)]
    assert happened([said(0, 1), said(5, 0), tick(6)], **{"for": "5s"}) == []
    assert happened([said(0, 1), tick(5), said(5, 0), tick(6)], **{"for": "5s"}) == []


def test_detected_at_is_our_clock_when_the_reading_or_tick_came():
    stream: Stream = [
        said(0, 1, received=100),
        tick(103),
        tick(105.5),
        said(6, 0, received=106),
        said(7, 1, received=200.25),
    ]

    events = run(engine(**{"for": "5s"}), batches([*stream, said(13, 1, received=207)]))

    assert told(events) == [("firing", 5), ("resolved", 6), ("firing", 12)]
    assert [(e.detected_at - T0) / S for e in events] == [105.5, 106, 207]


@pytest.mark.parametrize("cuts", [(), range(20)], ids=["one batch", "a batch each"])
def test_events_carry_the_value_that_held_and_the_instant_of_firing(cuts: Collection[int]):
    subject = engine(expr="x > 5", **{"for": "2s", "keep_firing_for": "3s"})
    holding: Stream = [said(0, 6), said(1, 7), said(2, 8), said(3, 9)]

    (fired,) = run(subject, batches(holding, cuts))
    assert [alert.value for alert in subject.active()] == [9]
    (resolved,) = run(subject, batches([said(4, 1), said(5, 2), said(9, 3)], cuts))

    assert (fired.value, fired.starts_at, fired.ends_at) == (8, seconds(2), 0)
    assert (resolved.value, resolved.starts_at, resolved.ends_at) == (9, seconds(2), seconds(7))


@given(
    st.lists(st.tuples(st.integers(100, 4900), st.integers(0, 1)), min_size=1, max_size=12),
    st.lists(st.lists(st.integers(1, 60_000), max_size=12), min_size=2, max_size=2),
    st.sampled_from(["0s", "700ms", "3s"]),
    st.sampled_from(["0s", "900ms", "5s"]),
    st.sampled_from(["keep", "resolve", "fire"]),
    st.sampled_from([-3600, 0, 3600]),
)
@pytest.mark.slow
def test_ticks_never_show_in_the_stamps(readings, ticks, hold, keep, no_data, ahead):
    """Wherever ticks fall, the same happens at the same instants, though it may be known sooner."""
    rule = {"for": hold, "keep_firing_for": keep, "no_data": no_data, "staleness": 2 * S}
    stream, at = [], 0
    for gap, value in readings:
        at += gap
        stream.append(said(at / 1000 + ahead, value, received=at / 1000))
    ends = [tick(at / 1000 + more) for more in (4.99, 9.98, 14.97)]

    def with_ticks(instants: list[int]) -> Stream:
        items: Stream = [*stream, *(tick(i / 1000) for i in instants if i < at), *ends]
        return sorted(items, key=lambda item: item.time if isinstance(item, Tick) else item.received)

    one, other = (run(engine(**rule), batches(with_ticks(instants))) for instants in ticks)

    assert [repr(dataclasses.replace(e, detected_at=0)) for e in one] == [
        repr(dataclasses.replace(e, detected_at=0)) for e in other
    ]


# ---- data that vanishes


def vanishing(*, value: float = 1) -> Stream:
    """Readings of `value` at 0 … 5 s, none until 105 s, then again; ticks all along. Data is stale from 15 s on."""
    readings = [*range(6), *range(105, 130)]
    return sorted(
        [said(at, value) for at in readings] + [tick(at + 0.5) for at in range(130)],
        key=lambda item: item.time if isinstance(item, Tick) else item.received,
    )


@pytest.mark.parametrize(
    ("no_data", "events"),
    [
        ("keep", [("firing", 110)]),  # 15 s before it vanished, and 5 s since it came back
        ("resolve", [("firing", 125)]),
        ("fire", [("firing", 20)]),
    ],
)
def test_what_time_without_data_means_to_a_pending_alert(no_data: str, events: list[tuple[str, float]]):
    assert happened(vanishing(), **{"for": "20s"}, no_data=no_data) == events


@pytest.mark.parametrize(
    ("no_data", "events"),
    [
        ("keep", [("firing", 2)]),
        ("resolve", [("firing", 2), ("resolved", 18), ("firing", 107)]),
        ("fire", [("firing", 2)]),
    ],
)
def test_what_time_without_data_means_to_a_firing_alert(no_data: str, events: list[tuple[str, float]]):
    assert happened(vanishing(), **{"for": "2s", "keep_firing_for": "3s"}, no_data=no_data) == events


@pytest.mark.parametrize(
    ("no_data", "events"), [("keep", []), ("resolve", []), ("fire", [("firing", 17), ("resolved", 105)])]
)
def test_what_time_without_data_means_to_a_healthy_device(no_data: str, events: list[tuple[str, float]]):
    assert happened(vanishing(value=0), **{"for": "2s"}, no_data=no_data) == events


def test_under_keep_a_firing_alert_survives_silence_and_ends_with_the_first_good_reading():
    subject = engine()

    events = run(subject, batches([said(0, 1), *(tick(at) for at in range(1, 3600))]))
    assert told(events) == [("firing", 0)]
    assert [alert.state for alert in subject.active()] == ["firing"]

    assert told(run(subject, batches([said(3600, 0)]))) == [("resolved", 3600)]


def test_under_keep_the_time_without_data_does_not_count_for_keep_firing_for():
    stream: Stream = [said(0, 1), said(1, 0), *(tick(at + 0.5) for at in range(1, 100)), said(100, 0), said(120, 0)]

    # False from 1 s on, unknown from 11 s to 100 s: 15 s of false are over at 105 s.
    assert happened(stream, keep_firing_for="15s") == [("firing", 0), ("resolved", 105)]


def test_a_series_goes_stale_at_the_end_of_its_own_staleness():
    for staleness in (S, 7 * S):
        stream: Stream = [said(0, 1), *(tick(at + 0.5) for at in range(20))]
        assert happened(stream, staleness=staleness, no_data="resolve") == [("firing", 0), ("resolved", staleness / S)]


def test_when_one_of_two_operands_vanishes_the_alert_stays():
    stream = [said(0, 1), said(0, 2, series=1), *(said(at, 1) for at in range(1, 40)), said(40, 2, series=1)]

    assert happened([*stream, said(41, 0)], expr="x == 1 and y == 2") == [("firing", 0), ("resolved", 41)]


@pytest.mark.parametrize(
    ("expr", "y_after", "ends"),
    [
        ("x == 1 and y >= 0", 0, False),
        ("x == 1 and y >= 0", -1, True),
        ("x == 1 unless on(device) y > 5", 5, False),
        ("x == 1 unless on(device) y > 5", 6, True),
        ("x + on(device) y > 0", -9, False),
        ("x == 1 or on(device) y > 5", 0, False),
        ("x == 1 or on(device) y > 5", 6, False),
        ("x >= on(device) y", 9, False),
    ],
)
def test_an_alert_ends_although_data_vanished_when_what_is_left_settles_it(expr: str, y_after: float, *, ends: bool):
    """x vanishes at 10 s; y goes on, and is another from 12 s on."""
    stream: Stream = [said(0, 1), *(said(at, 0 if at < 12 else y_after, series=1) for at in range(20))]

    assert happened(stream, expr=expr) == [("firing", 0)] + [("resolved", 12)] * ends


def test_a_deadline_at_the_very_instant_at_which_data_vanishes_waits_for_the_next_reading():
    assert happened([said(0, 1), said(15, 1)], **{"for": "10s"}) == [("firing", 15)]


def test_an_alert_ends_with_its_own_value_although_another_device_holds_in_the_same_batch():
    subject = Engine(rules_of({"alert": "A", "expr": "x > 0"}), table_of('x{device="a"}', 'x{device="b"}'))
    run(subject, batches([said(0, 0), said(0, 5, series=1)]))

    events = run(subject, batches([said(1, 9), said(1, 0, series=1)]))

    assert [(e.labels[1][1], str(e.state), e.value) for e in events] == [("a", "firing", 9), ("b", "resolved", 5)]
