"""Laws of the judge: every expectation exactly once, everything else is false, and the order of events is nothing."""

import random
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from simulators.scenario import Scenario
from simulators.truth import Expected, Verdict, expectations, judge, read_expectations, write_expectations
from telemetry import AlertEvent, AlertState

S = 10**9


def event(alert: str, device: str, start: int, end: int = 0) -> AlertEvent:
    return AlertEvent(
        rule=f"demo/{alert}",
        labels=(("alertname", alert), ("device", device)),
        state=AlertState.RESOLVED if end else AlertState.FIRING,
        value=1.0,
        starts_at=start,
        ends_at=end,
        detected_at=start,
    )


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[Expected], list[AlertEvent]]:
    """Expectations that do not overlap for one alert and device, and a run that meets each of them."""
    expected, events = [], []
    for device in ("d1", "d2"):
        for alert in ("Hot", "Wet"):
            now = 100 * S
            for _ in range(draw(st.integers(0, 3))):
                begin = now + draw(st.integers(0, 5)) * S
                until = begin + draw(st.integers(0, 3)) * S
                resolve_by = until + draw(st.integers(1, 5)) * S
                expected.append(Expected(alert, device, begin, until, resolve_by))
                start = draw(st.integers(begin, until))
                events += [
                    event(alert, device, start),
                    event(alert, device, start, draw(st.integers(until, resolve_by))),
                ]
                now = resolve_by + 1
    return expected, events


def counts(verdict: Verdict) -> tuple[int, int, int, int, int]:
    return verdict.expected, verdict.detected, verdict.missed, verdict.false, verdict.unresolved


@given(run=runs())
def test_a_run_that_meets_every_expectation_passes(run: tuple[list[Expected], list[AlertEvent]]) -> None:
    expected, events = run
    verdict = judge(expected, events)
    assert verdict.passed
    assert counts(verdict) == (len(expected), len(expected), 0, 0, 0)
    assert not verdict.details


@given(run=runs(), seed=st.integers(0, 99), extra=st.lists(st.integers(90 * S, 130 * S), max_size=4))
def test_neither_order_nor_repetition_of_events_changes_the_verdict(
    run: tuple[list[Expected], list[AlertEvent]], seed: int, extra: list[int]
) -> None:
    expected, events = run
    events = events + [event("Hot", "d1", at) for at in extra]
    shuffled = events + events[::2]
    random.Random(seed).shuffle(shuffled)
    assert judge(expected, shuffled) == judge(expected, events)


@given(run=runs(), data=st.data())
def test_a_firing_that_is_taken_away_is_missed(
    run: tuple[list[Expected], list[AlertEvent]], data: st.DataObject
) -> None:
    expected, events = run
    firing = [e for e in events if e.state is AlertState.FIRING]
    if firing:
        gone = data.draw(st.sampled_from(firing))
        verdict = judge(expected, [e for e in events if e is not gone])
        assert counts(verdict) == (len(expected), len(expected) - 1, 1, 0, 0)
        assert not verdict.passed
        assert verdict.details[0].startswith(
            f"missed: {dict(gone.labels)['alertname']} of {dict(gone.labels)['device']}"
        )


@given(run=runs(), data=st.data())
def test_a_resolution_that_is_taken_away_is_unresolved(
    run: tuple[list[Expected], list[AlertEvent]], data: st.DataObject
) -> None:
    expected, events = run
    resolved = [e for e in events if e.state is AlertState.RESOLVED]
    if resolved:
        gone = data.draw(st.sampled_from(resolved))
        verdict = judge(expected, [e for e in events if e is not gone])
        assert counts(verdict) == (len(expected), len(expected), 0, 0, 1)
        assert not verdict.passed


@given(run=runs(), alert=st.sampled_from(["Hot", "Wet", "New"]), at=st.integers(90 * S, 150 * S))
def test_any_firing_beyond_those_expected_is_false(
    run: tuple[list[Expected], list[AlertEvent]], alert: str, at: int
) -> None:
    expected, events = run
    more = event(alert, "d1", at)
    if more.id not in {e.id for e in events}:
        verdict = judge(expected, [*events, more])
        assert (verdict.missed, verdict.false) == (0, 1)
        assert not verdict.passed


def test_a_second_firing_in_the_same_window_is_flapping_and_false() -> None:
    expected = [Expected("Hot", "d1", 10 * S, 14 * S, 20 * S)]
    firings = [event("Hot", "d1", 11 * S), event("Hot", "d1", 11 * S, 12 * S), event("Hot", "d1", 13 * S)]
    assert counts(judge(expected, firings)) == (1, 1, 0, 1, 0)


def test_the_right_alert_at_the_wrong_time_or_device_is_both_missed_and_false() -> None:
    expected = [Expected("Hot", "d1", 10 * S, 14 * S, 20 * S)]
    for wrong in (event("Hot", "d1", 10 * S - 1), event("Hot", "d1", 14 * S + 1), event("Hot", "d2", 12 * S)):
        assert counts(judge(expected, [wrong])) == (1, 0, 1, 1, 0)


def test_late_resolution_is_unresolved() -> None:
    expected = [Expected("Hot", "d1", 10 * S, 14 * S, 20 * S)]
    events = [event("Hot", "d1", 11 * S), event("Hot", "d1", 11 * S, 20 * S + 1)]
    assert counts(judge(expected, events)) == (1, 1, 0, 0, 1)


def test_what_is_due_after_the_end_is_undecided_and_never_false() -> None:
    expected = [Expected("Hot", "d1", 10 * S, 14 * S, 20 * S), Expected("Hot", "d2", 15 * S, 16 * S, 30 * S)]
    events = [event("Hot", "d1", 11 * S), event("Hot", "d1", 11 * S, 18 * S), event("Hot", "d2", 16 * S)]
    verdict = judge(expected, events, end_ns=25 * S)
    assert counts(verdict) == (1, 1, 0, 0, 0)
    assert verdict.undecided == 1


def test_expectations_follow_the_occurrences_of_their_fault(tmp_path: Path) -> None:
    fault = {
        "kind": "spike", "metric": "t", "value": 9, "devices": ["f-0002"], "at": "2s", "for": "3s", "every": "20s",
        "expect": [{"alert": "Hot", "after": "1s", "within": "4s", "resolve_within": "5s"}],
    }  # fmt: skip
    fleet = {"name": "f", "devices": 2, "metrics": {"t": 1}}
    plan = Scenario.model_validate({"fleets": [fleet], "faults": [fault]})
    found = expectations(plan, epoch_ns=100 * S, until=30 * S)
    first = Expected("Hot", "f-0002", 103 * S, 106 * S, 110 * S)
    assert found == [first, Expected("Hot", "f-0002", 123 * S, 126 * S, 130 * S)]
    write_expectations(tmp_path / "truth.json", found)
    assert read_expectations(tmp_path / "truth.json") == found
