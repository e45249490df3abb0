"""What the page of an alert tells: its story, its chart, the value of each part of its rule. Over a real pipeline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rules.expression_text import text_of
from rules.promql import parse
from sinks.store import Store
from telemetry import Series, SeriesTable
from tests.tocsin.pipeline_rig import prepare, receive, running, settle
from tocsin.backend import RunningBackend
from tocsin.console.alert_chart import draw, parts_of, question_of, window
from tocsin.console.alert_rows import active_items, recent_items
from tocsin.console.alert_story import find_story, moments, outcome, receipts
from tocsin.console.expression_values import Question, Values, belongs, comparisons, narrowed, narrowing
from tocsin.pipeline_status import PipelineStatus

NOW = 1_700_000_000 * 10**9
SECOND = 10**9


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBackend]:
    with running(prepare(tmp_path_factory.mktemp("tocsin"))) as pipeline:
        receive(pipeline, 20, 60)
        receive(pipeline, 70, 10, topic="<b>/temperature")
        settle(pipeline)
        yield RunningBackend(pipeline, PipelineStatus(pipeline, title="rig"))


def test_the_story_of_an_alert_is_found_by_its_event_and_by_its_labels(backend: RunningBackend) -> None:
    [item] = active_items(backend)
    story = find_story(backend, item.key)
    assert story is not None
    assert story.event is not None
    assert (story.item.label("device"), story.ends_at, story.rule and story.rule.expr) == ("d1", 0, "temperature > 50")
    again = find_story(backend, story.event.fingerprint)
    assert again is not None
    assert again.event == story.event
    assert [moment.state for moment in moments(story)] == ["firing"]
    assert find_story(backend, "0" * 32) is None
    assert find_story(backend, "%") is None
    assert find_story(backend, item.key[:8]) is None


def test_the_story_of_a_resolved_alert_has_both_events_and_what_receivers_were_told(backend: RunningBackend) -> None:
    [item] = recent_items(backend)
    story = find_story(backend, item.key)
    assert story is not None
    assert (story.item.state, story.item.label("device")) == ("resolved", "<b>")
    assert [(moment.state, bool(moment.key)) for moment in moments(story)] == [("firing", True), ("resolved", True)]
    assert [event.state for event in story.earlier] == ["firing"]
    told = receipts(story)
    assert [(event.state, outcome(receipt)[0]) for event, receipt in told] == [("firing", "ok"), ("resolved", "ok")]
    assert outcome(replace(told[0][1], state="dead", attempts=3, last_error="gone")) == (
        "trouble",
        "given up after 3 tries: gone",
    )
    assert outcome(replace(told[0][1], state="pending", attempts=1, last_error="slow")) == (
        "waiting",
        "waiting, 1 try: slow",
    )


def test_the_parts_of_its_rule_have_the_values_that_made_it_fire(backend: RunningBackend) -> None:
    [item] = active_items(backend)
    story = find_story(backend, item.key)
    assert story is not None
    assert story.rule is not None
    parts = parts_of(backend, story.rule, question_of(backend, story))
    assert [(part.text, part.depth, [value for _, value in part.elements]) for part in parts] == [
        ("temperature > 50", 0, [60.0]),
        ("temperature", 1, [60.0]),
    ]


def test_its_chart_has_the_readings_of_its_device_the_level_and_the_time_it_fired(backend: RunningBackend) -> None:
    [item] = recent_items(backend)
    story = find_story(backend, item.key)
    assert story is not None
    assert story.rule is not None
    drawing = draw(backend, story, story.rule, question_of(backend, story))
    assert drawing.queries == ('temperature{device="<b>"}',)
    [curve] = drawing.curves
    assert curve.value.tolist() == [70.0, 10.0]
    assert drawing.start < story.starts_at < story.ends_at < drawing.end
    marks = [series for series in drawing.options["series"] if series.get("markLine", {}).get("data")]
    assert [line["yAxis"] for series in marks for line in series["markLine"]["data"]] == [50.0]
    assert sum(len(s.get("markArea", {}).get("data", ())) for s in drawing.options["series"]) == 1


def test_the_window_has_the_whole_alert_and_something_around_it(backend: RunningBackend) -> None:
    [item] = recent_items(backend)
    story = find_story(backend, item.key)
    assert story is not None
    at = story.starts_at
    long_ago = replace(story, ends_at=at + 3_600 * SECOND)
    assert window(long_ago, at + 10**6 * SECOND) == (at - 3_600 * SECOND, at + 7_200 * SECOND)
    still = replace(story, ends_at=0)
    assert window(still, at + 10 * SECOND) == (at - 120 * SECOND, at + 10 * SECOND + 1)


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Values]:
    """Two devices at each of two sites, a reading a second for a minute."""
    table = SeriesTable(tmp_path / "series.jsonl")
    with Store(tmp_path / "store.db") as store:
        for i, (site, name) in enumerate((("ams", "a"), ("ams", "b"), ("ber", "c"), ("ber", "d"))):
            for metric, value in (("temperature", 10.0 * (i + 1)), ("running", 1.0)):
                id_ = table.add(Series(metric, (("device", name), ("site", site))))
                time = np.arange(NOW - 60 * SECOND, NOW + 1, SECOND)
                store.append(np.full(len(time), id_, np.int32), time, value + np.arange(len(time)) / 100)
        table.sync()
        yield Values(table, store, {})


def question(**labels: str) -> Question:
    return Question(
        labels={"alertname": "A", "severity": "page", **labels}, own_labels=frozenset({"alertname", "severity"}), at=NOW
    )


def test_of_several_devices_the_parts_show_that_of_the_alert(fleet: Values) -> None:
    expression = parse("temperature > 15 and on (device) running >= 1")
    parts = fleet.of(expression, question(device="b", site="ams"))
    told = {part.text: [round(value, 2) for _, value in part.elements] for part in parts}
    assert told == {
        "temperature > 15 and on (device) running >= 1": [20.6],
        "temperature > 15": [20.6],
        "temperature": [20.6],
        "running >= 1": [1.6],
        "running": [1.6],
    }
    assert {part.more for part in parts} == {0}


def test_labels_that_the_rule_has_put_on_do_not_tell_elements_apart() -> None:
    asked = question(device="a")
    assert belongs({"__name__": "x", "device": "a", "severity": "low", "site": "s"}, asked)
    assert not belongs({"device": "b"}, asked)


def test_of_an_aggregation_the_parts_show_the_group_and_all_that_went_into_it(fleet: Values) -> None:
    parts = fleet.of(parse("avg by (site) (temperature) > 30"), question(site="ber"))
    assert [(part.text, [round(v, 1) for _, v in part.elements], part.more) for part in parts] == [
        ("avg by (site) (temperature) > 30", [35.6], 0),
        ("avg by (site) (temperature)", [35.6], 1),
        ("temperature", [30.6, 40.6], 2),
    ]


def test_a_comparison_that_does_not_hold_and_what_is_not_there_are_told_apart(fleet: Values) -> None:
    parts = fleet.of(parse("temperature > 100 or humidity > 3"), question(device="a"))
    assert [(part.text, part.remark) for part in parts if part.remark] == [
        ("temperature > 100 or humidity > 3", "not so"),
        ("temperature > 100", "not so"),
        ("humidity > 3", "not so"),
        ("humidity", "no sample then"),
    ]


def test_a_range_is_told_by_what_is_in_it(fleet: Values) -> None:
    parts = fleet.of(parse("max_over_time(temperature[10s]) > 1"), question(device="a"))
    assert (parts[-1].text, parts[-1].remark) == ("temperature[10s]", "10 samples, 10.51 to 10.6")
    [_, _, ago] = fleet.of(parse("rate(temperature[5s] offset 2h) > 1"), question(device="a"))
    assert ago.remark == "no samples within 5s"


def test_what_cannot_be_evaluated_says_why(fleet: Values) -> None:
    parts = fleet.of(parse("temperature * on (site) running > 1"), question(device="a"))
    assert "site" in parts[0].remark


def test_levels_are_what_is_compared_with_a_number() -> None:
    found = comparisons(parse("x > 3 and 5 >= y or abs(z) != bool 1"))
    assert [(text_of(c.side), c.op, c.level) for c in found] == [("x", ">", 3), ("y", "<=", 5), ("abs(z)", "!=", 1)]
    assert comparisons(parse("x and y")) == []


@pytest.mark.parametrize(
    ("text", "narrow"),
    [
        ("x > 3", 'x{device="a"} > 3'),
        ('x{site="s"} and on (device) -y', 'x{site="s", device="a"} and on (device) -y{device="a"}'),
        ("rate(x[5m] offset 1m)", 'rate(x{device="a"}[5m] offset 1m)'),
        ("age(x) > 4", 'age(x{device="a"}) > 4'),
        ("avg(x) > 3", "avg(x) > 3"),
        ("x > on () group_left () sum(x)", "x > on () group_left () sum(x)"),
        ("site:t > 3", "site:t > 3"),
    ],
)
def test_only_expressions_about_single_devices_are_narrowed_to_one(text: str, narrow: str) -> None:
    expression = parse(text)
    assert text_of(narrowed(expression, narrowing(expression, {"device": "a"}, {"site:t"}))) == narrow
    assert narrowed(expression, narrowing(expression, {}, ())) == expression
