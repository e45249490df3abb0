"""Laws of charts: what is drawn is what is stored, gaps stay gaps, names of devices are only ever text."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rules import load_rules
from sinks.outbox import Outbox
from telemetry import AlertEvent, AlertState, Series
from tests.tocsin.console_store import NOW, SECOND, stored_backend
from tocsin.console.chart import (
    MAX_CURVES,
    ChartCurve,
    Span,
    Threshold,
    chart_options,
    is_switch,
    look,
    nice_step,
    points,
    with_gaps,
)
from tocsin.console.curves import Found, Outdated, axis_of, find, name_of, pieces, summary
from tocsin.console.explore_reading import cut, rows, take
from tocsin.console.explore_state import ExploreState
from tocsin.console.overlays import spans, thresholds
from tocsin.console.welcome import stock

HOSTILE = '"><script>alert(1)</script>{a|b}'
MINUTE = 60 * SECOND


def curve(times: list[int], values: list[float], name: str = "c", **more: Any) -> ChartCurve:
    return ChartCurve(name, np.array(times, np.int64), np.array(values, np.float64), **more)


def walk(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of nested options, and every leaf with its key."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield name, None
            yield from walk(value, name)
    elif isinstance(node, list):
        for value in node:
            yield from walk(value, key)
    else:
        yield key, node


def test_names_are_only_ever_values_and_never_code() -> None:
    drawn = curve([NOW], [1.0], HOSTILE, axis=HOSTILE)
    options = chart_options(
        [drawn, drawn], NOW, NOW + 1, thresholds=[Threshold(HOSTILE, 1, HOSTILE)], spans=[Span(HOSTILE, NOW, NOW + 1)]
    )
    found = list(walk(options))
    assert any(value is not None and HOSTILE in str(value) for _, value in found)
    assert not [key for key, _ in found if HOSTILE in key]
    assert {str(value) for key, value in found if key.startswith(":") and value} == {"tocsin.number", "tocsin.tick"}
    assert options["tooltip"]["renderMode"] == "richText"
    json.dumps(options, allow_nan=False)


def test_a_long_gap_is_not_drawn_over() -> None:
    time, value, _, _ = with_gaps(curve([0, 10, 100, 110], [1, 2, 3, 4], gap=20))
    assert time.tolist() == [0, 10, 55, 100, 110]
    assert np.array_equal(value, [1, 2, np.nan, 3, 4], equal_nan=True)


def test_what_is_no_number_is_null() -> None:
    drawn = points(np.array([10**6, 2 * 10**6, 3 * 10**6]), np.array([np.nan, np.inf, -1.5]))
    assert drawn == [[1, None], [2, None], [3, -1.5]]


def test_curves_that_share_a_name_can_be_hidden_one_by_one() -> None:
    options = chart_options([curve([NOW], [1.0], "a"), curve([NOW], [2.0], "a")], NOW, NOW + 1)
    assert len(set(options["legend"]["data"])) == 2


def test_each_unit_has_an_axis_and_curves_beyond_the_last_one_share_the_first() -> None:
    options = chart_options([curve([NOW], [1.0], str(i), axis=f"unit{i}") for i in range(6)], NOW, NOW + 1)
    assert [axis["name"] for axis in options["yAxis"]] == ["unit0", "unit1", "unit2", "unit3"]
    assert [one["yAxisIndex"] for one in options["series"][:6]] == [0, 1, 2, 3, 0, 0]


def test_every_curve_of_a_chart_looks_different() -> None:
    assert len({str(look(i)) for i in range(MAX_CURVES)}) == MAX_CURVES


def test_a_band_lies_between_low_and_high() -> None:
    drawn = curve([NOW], [2.0], low=np.array([-1.0]), high=np.array([5.0]))
    line, low, height, *_ = chart_options([drawn], NOW, NOW + 1)["series"]
    assert line["data"][0][1] == 2
    assert (low["data"][0][1], height["data"][0][1]) == (-1, 6)
    assert low["stackStrategy"] == height["stackStrategy"] == "all"


def test_names_of_spans_do_not_stand_upon_one_another() -> None:
    alerts = [Span(f"a{i}", NOW + i * 100, NOW + i * 100 + 10) for i in range(10)]

    def named(width: int) -> int:
        marks = chart_options([curve([NOW], [1.0])], NOW, NOW + 1_000, spans=alerts, width=width)["series"][-1]
        return sum(begin["label"]["show"] for begin, _ in marks["markArea"]["data"])

    assert (named(10_000), named(390)) == (10, 2)


@pytest.mark.parametrize(("values", "switch"), [([0.0, 1.0], True), ([0.0, 0.5], False), ([], False)])
def test_what_is_on_or_off_has_steps(values: list[float], switch: bool) -> None:
    assert is_switch(np.array(values)) is switch


@given(st.integers(0, 10**18))
def test_a_nice_step_is_long_enough_and_not_much_too_long(ns: int) -> None:
    step = nice_step(ns)
    assert step >= ns
    assert step <= max(SECOND, 3 * ns, ns + 86_400 * SECOND)


def test_short_times_show_each_reading_and_long_ones_their_envelope(tmp_path: Path) -> None:
    pump = Series.of("temperature", device="p1")
    seconds = range(20_000, 0, -1)
    backend = stored_backend(tmp_path, {pump: [(ago, float(ago % 7)) for ago in seconds]})
    with backend:
        raw = find(backend, "temperature", NOW - 100 * SECOND, NOW, 200)
        assert raw.step == 0
        assert raw.curves[0].value.tolist() == [float(ago % 7) for ago in range(100, 0, -1)]
        thinned = find(backend, "temperature", NOW - 20_000 * SECOND, NOW, 200)
        assert thinned.step == 120 * SECOND
        [drawn] = thinned.curves
        assert drawn.low is not None
        assert drawn.high is not None
        assert (drawn.low.min(), drawn.high.max()) == (0, 6)
        time, value = backend.store.read(0)
        start = drawn.time[5] - 60 * SECOND
        there = (time > start) & (time <= start + 120 * SECOND)
        assert drawn.value[5] == pytest.approx(value[there].mean())


def test_series_are_in_the_order_that_people_expect_and_their_number_is_bounded(tmp_path: Path) -> None:
    backend = stored_backend(tmp_path, {Series.of("t", device=f"d{i}"): [(1, 1.0)] for i in range(40)})
    with backend:
        found = find(backend, "t", NOW - MINUTE, NOW, 100)
    assert [labels["device"] for labels in found.labels] == [f"d{i}" for i in range(MAX_CURVES)]
    assert found.more == 40 - MAX_CURVES


def test_a_mistake_has_line_and_column(tmp_path: Path) -> None:
    with stored_backend(tmp_path, {Series.of("t", device="d"): [(1, 1.0)]}) as backend:
        found = find(backend, "avg(t)\n > > 3", NOW - MINUTE, NOW, 100)
        assert str(found.mistake).startswith("2:4: ")
        assert find(backend, "t offset 1m", NOW - MINUTE, NOW, 100).mistake is None


def test_what_nobody_waits_for_is_given_up(tmp_path: Path) -> None:
    readings = {Series.of("t", device=f"d{i}"): [(1, 1.0)] for i in range(3)}
    with stored_backend(tmp_path, readings) as backend, pytest.raises(Outdated):
        find(backend, "avg(rate(t[5m]))", NOW - MINUTE, NOW, 100, wanted=lambda: False)


@pytest.mark.parametrize(("limit", "why"), [("_MOST_SAMPLES", "samples"), ("_MOST_SECONDS", "it takes more than")])
def test_what_needs_too_much_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, why: str
) -> None:
    monkeypatch.setattr(f"tocsin.console.curves.{limit}", 0)
    with stored_backend(tmp_path, {Series.of("t", device="d"): [(1, 1.0)]}) as backend:
        assert why in str(find(backend, "rate(t[5m])", NOW - MINUTE, NOW, 100).mistake)


def test_without_readings_there_is_nothing_and_no_failure(tmp_path: Path) -> None:
    with stored_backend(tmp_path, {}) as backend:
        backend.data.store.unlink()
        backend.data.series.unlink(missing_ok=True)
        assert find(backend, "t", NOW - MINUTE, NOW, 100).mistake is not None
        assert stock(backend).cards == ()


def test_who_has_chosen_nothing_sees_which_metrics_there_are(tmp_path: Path) -> None:
    stored = {
        Series.of("t", device="d1"): [(60, 20.0), (0, 21.5)],
        Series.of("t", device="d2"): [(0, 3.0)],
        Series.of("old", device="d1"): [(3_600, 1.0)],
    }
    with stored_backend(tmp_path, stored) as backend:
        there = stock(backend)
    assert [(card.metric, card.series, card.example) for card in there.cards] == [("t", 2, "d1: 21.5"), ("old", 1, "")]
    assert there.newest == NOW
    assert there.cards[0].curve.startswith("M")
    assert there.cards[1].curve == ""


def test_rules_that_compare_a_drawn_metric_with_a_number_are_thresholds() -> None:
    rules = [
        {"alert": "Hot", "expr": 't{site="a"} > 80'},
        {"alert": "Cold", "expr": "t < -5 and on(device) running == 1"},
        {"alert": "Elsewhere", "expr": 't{site="b"} > 3'},
        {"alert": "Derived", "expr": "avg(t) > 3"},
    ]
    groups, problems = load_rules({"groups": [{"name": "g", "rules": rules}]})
    assert problems == []
    found = Found("t", (curve([NOW], [1.0], axis="t"),), ({"__name__": "t", "site": "a", "device": "d"},))
    assert thresholds(groups, [found]) == [Threshold("Hot > 80", 80, "t"), Threshold("Cold < -5", -5, "t")]


def test_alerts_of_the_drawn_device_are_shaded_while_they_fired(tmp_path: Path) -> None:
    groups, _ = load_rules({"groups": [{"name": "g", "rules": [{"alert": "Hot", "expr": "t > 80"}]}]})
    backend = stored_backend(tmp_path, {Series.of("t", device="d"): [(1, 1.0)]}, groups)

    def event(device: str, begin: int, end: int = 0) -> AlertEvent:
        labels = (("alertname", "Hot"), ("device", device))
        state = AlertState.RESOLVED if end else AlertState.FIRING
        return AlertEvent("g/Hot", labels, state, 1.0, NOW - begin, NOW - end if end else 0, NOW)

    outbox = Outbox(backend.data.alerts)
    for at, one in enumerate(
        (
            event("d", 50 * MINUTE),
            event("d", 50 * MINUTE, 40 * MINUTE),
            event("d", 20 * MINUTE),
            event("other", 20 * MINUTE),
        )
    ):
        outbox.publish([one], offset=at + 1)
    outbox.close()
    found = Found("t", (curve([NOW], [1.0], axis="t"),), ({"__name__": "t", "device": "d"},))
    with backend:
        assert spans(backend, [found], NOW - 30 * MINUTE, NOW, NOW) == [Span("Hot", NOW - 20 * MINUTE, NOW)]
        assert len(spans(backend, [found], NOW - 60 * MINUTE, NOW, NOW)) == 2


def test_a_picture_has_room_to_pan_to_but_not_into_the_future(tmp_path: Path) -> None:
    with stored_backend(tmp_path, {Series.of("t", device="d"): [(30, 1.0), (1, 2.0)]}) as backend:
        picture = take(backend, ExploreState(("t",), since=MINUTE), 1000, lambda: True)
        assert picture.window == (NOW - MINUTE, NOW)
        assert picture.extent == (NOW - 2 * MINUTE, NOW)
        past = take(backend, ExploreState(("t",), 0, NOW - 10 * MINUTE, NOW - 9 * MINUTE), 1000, lambda: True)
        assert past.extent == (NOW - 11 * MINUTE, NOW - 8 * MINUTE)
        assert [row["value"] for row in rows(picture.inside())] == ["2", "1"]


def test_a_cut_keeps_what_lies_inside() -> None:
    assert cut(curve([1, 2, 3, 4], [1, 2, 3, 4]), 2, 3).value.tolist() == [2, 3]


def test_figures_of_a_curve_leave_out_what_is_no_number() -> None:
    assert summary(curve([1, 2, 3], [1, 3, np.nan])) == (3, 1, 2, 3)
    assert all(np.isnan(summary(curve([], []))))


def test_names_and_axes_are_those_of_the_field() -> None:
    assert name_of({"__name__": "t", "site": "a", "device": "d"}) == "t {device=d, site=a}"
    assert (axis_of("room_celsius"), axis_of("flow"), axis_of("")) == ("celsius", "flow", "value")
    assert sorted(["d10", "d2", "d1b"], key=pieces) == ["d1b", "d2", "d10"]
