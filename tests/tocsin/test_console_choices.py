"""Laws of what is offered while one types, and of the address that Explore can be found again by."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rules.promql import parse
from rules.syntax import Selector
from telemetry import Series, SeriesTable
from tocsin.console.choices import MOST_OFFERED, completions, label_names, label_values, matching, selector
from tocsin.console.explore_state import LONGEST, MOST_QUERIES, SHORTEST, ExploreState

MS = 10**6
NOW = 1_700_000_000 * 10**9


@pytest.fixture
def table() -> SeriesTable:
    table = SeriesTable()
    for i in range(12):
        table.add(Series.of("temperature", device=f"d{i}", site="ams" if i % 2 else "ber"))
    table.add(Series.of("door", device="d1", state="open"))
    return table


def offered(table: SeriesTable, text: str) -> list[str]:
    """What is offered at | in the text."""
    return [choice.text for choice in completions(table, text.replace("|", ""), text.index("|"))]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("te|", "temperature"),
        ("rate(te|", "temperature"),
        ("av|", "avg"),
        ("quantile_o|", "quantile_over_time"),
        ("temperature{|", "device"),
        ("temperature{si|", "site"),
        ('temperature{site="|', "ams"),
        ('temperature{site=~"b|', "ber"),
        ('temperature{site="ams", device="d1|', "d1"),
        ("avg by (si|", "site"),
        ("rate(temperature[|", "1m"),
        ("rate(temperature[1|", "1m"),
        ("temperature + on(|", "device"),
        ("|", "door"),
    ],
)
def test_what_fits_the_place_is_offered(table: SeriesTable, text: str, first: str) -> None:
    assert offered(table, text)[0] == first


@pytest.mark.parametrize("text", ["temperature|", "temperature > |", 'temperature{site="ams"} |'])
def test_where_nothing_is_needed_nothing_is_offered(table: SeriesTable, text: str) -> None:
    assert offered(table, text) == []


def test_a_choice_takes_the_place_of_what_was_typed(table: SeriesTable) -> None:
    text = 'avg(temperature{site="be"})'
    [choice] = completions(table, text, text.index('"}'))
    assert text[: choice.start] + choice.text + text[choice.end :] == 'avg(temperature{site="ber"})'


def test_labels_and_values_are_those_of_the_metric(table: SeriesTable) -> None:
    assert label_names(table, "door") == ["device", "state"]
    assert label_values(table, "device", "temperature", site="ams") == ["d1", "d3", "d5", "d7", "d9", "d11"]
    assert label_values(table, "device")[-1] == "d11"


def test_of_ten_thousand_devices_the_best_are_offered_and_the_others_are_counted() -> None:
    found, in_all = matching((f"pump-{i:05}" for i in range(10_000)), "09")
    assert len(found) == MOST_OFFERED
    assert in_all > 500
    assert matching(["xpump", "pump"], "PU")[0] == ["pump", "xpump"]


@given(
    st.dictionaries(st.sampled_from(["device", "site"]), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
)
@example({"device": 'a\\b"c\n\t\r', "site": "{x=~'.*'}"})
def test_a_picked_series_is_found_whatever_it_is_called(labels: dict[str, str]) -> None:
    series = Series("t", tuple(sorted(labels.items())))
    expression = parse(selector("t", **labels))
    assert isinstance(expression, Selector)
    assert expression.matches(series)
    assert (
        not expression.matches(Series("t", tuple((name, f"{value}!") for name, value in series.labels))) or not labels
    )


def read(address: str) -> ExploreState:
    return ExploreState.read(parse_qsl(urlsplit(address).query))


states = st.builds(
    lambda queries, since, live, table: ExploreState(tuple(queries), since, live=live, table=table),
    st.lists(st.text(min_size=1, max_size=50).filter(str.strip), max_size=MOST_QUERIES),
    st.integers(SHORTEST, LONGEST),
    st.booleans(),
    st.booleans(),
) | st.builds(
    lambda queries, start, length: ExploreState(tuple(queries), 0, start * MS, (start + length) * MS),
    st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip), max_size=3),
    st.integers(1, NOW // MS),
    st.integers(1_000, LONGEST // MS),
)


@given(states)
def test_the_address_says_all_that_is_shown(state: ExploreState) -> None:
    assert read(state.address()) == state


@given(st.lists(st.tuples(st.sampled_from(["q", "since", "from", "to", "live", "view", "x"]), st.text())))
def test_whatever_an_address_says_there_is_something_to_show(pairs: list[tuple[str, str]]) -> None:
    state = ExploreState.read(pairs)
    start, end = state.window(NOW)
    assert SHORTEST <= end - start <= LONGEST
    assert len(state.queries) <= MOST_QUERIES


@pytest.mark.parametrize(("text", "since"), [("100y", LONGEST), ("1ms", SHORTEST), ("5m", 300 * 10**9)])
def test_a_time_is_neither_endless_nor_nothing(text: str, since: int) -> None:
    assert ExploreState.read([("since", text)]).since == since


@pytest.mark.parametrize("text", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "2026-13-01", "1e9", ""])
def test_a_time_that_makes_no_sense_is_left_out(text: str) -> None:
    assert ExploreState.read([("from", text), ("to", "2026-01-01T00:00:00Z"), ("since", "5m")]).since == 300 * 10**9


def test_a_time_of_its_own_does_not_move() -> None:
    state = ExploreState(("t",), live=True).between(NOW, NOW + 1)
    assert (state.live, state.since, state.end - state.start) == (False, 0, SHORTEST)
