"""What the console's pages list: filters, rows, figures. Without a browser."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.dead_letters import DeadLetter, Selection
from ingest.replay_queue import Progress, State
from rules import Alert, load_rules
from rules.promql import parse
from telemetry import AlertEvent, AlertState, TocsinError
from tests.tocsin.fake_backend import FakeBackend
from tocsin.console import alerts_page, devices_page
from tocsin.console.alert_rows import SORTS as ALERT_SORTS
from tocsin.console.alert_rows import (
    AlertItem,
    active_items,
    coarse,
    event_id,
    fingerprint_of,
    listed,
)
from tocsin.console.alert_rows import counted as counted_alerts
from tocsin.console.alert_rows import table_row as alert_row
from tocsin.console.dead_letter_rows import facts, payload_hex, payload_text, progress_text, selection_of
from tocsin.console.dead_letter_rows import table_row as letter_row
from tocsin.console.device_rows import SORTS, about, natural, page_of, rate, signed_span, spark_path
from tocsin.console.filtering import Filter, parse_filter
from tocsin.console.pipeline_stages import Rates, books, picture, size
from tocsin.console.promql_text import pieces
from tocsin.console.rule_rows import cost_text, groups_of
from tocsin.console.rule_rows import counted as counted_rules
from tocsin.devices import DeviceRow
from tocsin.status import AccountRow, JournalRow, SessionRow, SinkRow, Snapshot, StandstillRow

NOW = 1_700_000_000 * 10**9
SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("", True),
        ("severity=critical", True),
        ("severity=CRIT*", True),
        ("severity=warning", False),
        ("severity!=warning device=pump-?", True),
        ("overheated pump", True),
        ("-overheated", False),
        ('summary="pump 7 is overheated"', True),
        ("room=", True),
        ("room!=", False),
        ("critical warning", False),
        ("=x", False),
        ("-", True),
    ],
)
def test_a_filter_lets_through_what_has_all_its_words(text: str, passes: bool) -> None:
    fields = {"severity": "critical", "device": "pump-7", "summary": "Pump 7 is overheated"}
    assert parse_filter(text).matches(fields) == passes


@given(st.text(max_size=80), st.dictionaries(st.text(max_size=5), st.text(max_size=10), max_size=3))
def test_no_filter_is_an_error(text: str, fields: dict[str, str]) -> None:
    assert parse_filter(text).matches(fields) in (True, False)


def item(state: str, since: int, *, value: float = 1.0, **labels: str) -> AlertItem:
    return AlertItem(f"{state}{since}{labels}", state, tuple(sorted(labels.items())), (), value, since)


def test_firing_alerts_come_first_then_the_worse_then_the_newer() -> None:
    items = [
        item("pending", 9, severity="critical", alertname="D"),
        item("firing", 5, severity="warning", alertname="C"),
        item("firing", 3, severity="critical", alertname="B"),
        item("firing", 4, severity="critical", alertname="A"),
        item("firing", 9, alertname="N"),
    ]
    assert [i.label("alertname") for i in listed(items, Filter())] == ["A", "B", "C", "N", "D"]
    assert [i.label("alertname") for i in listed(items, Filter(), "name", descending=True)] == list("NDCBA")
    assert [i.label("alertname") for i in listed(items, parse_filter("state=pending"))] == ["D"]
    assert counted_alerts(items) == {"firing": 4, "pending": 1, "resolved": 0}


def test_alerts_are_sorted_by_how_long_they_last_or_have_lasted() -> None:
    firing = [item("firing", since) for since in (5, 9, 3)]
    assert [i.since for i in listed(firing, Filter(), "age")] == [9, 5, 3]
    resolved = [replace(item("resolved", 100 + n), lasted=n) for n in (7, 2, 4)]
    assert [i.lasted for i in listed(resolved, Filter(), "age")] == [2, 4, 7]


def test_every_column_that_can_be_sorted_by_has_an_order() -> None:
    for columns, orders in ((alerts_page._COLUMNS, ALERT_SORTS), (devices_page._COLUMNS, SORTS)):
        assert {column.name for column in columns if column.sortable} <= orders.keys()


def test_nan_sorts_behind_all_values() -> None:
    items = [item("firing", 1, value=v) for v in (math.nan, 3.0, -math.inf)]
    assert [str(i.value) for i in listed(items, Filter(), "value")] == ["-inf", "3.0", "nan"]


def test_a_firing_alert_leads_to_the_event_that_told_of_it(tmp_path: Path) -> None:
    labels = (("alertname", "Hot"), ("device", "d1"))
    told = AlertEvent("g/Hot", labels, AlertState.FIRING, 81.0, NOW, 0, NOW + 5)
    assert event_id(Alert("g/Hot", labels, (), "firing", NOW, 99.0)) == told.id
    assert fingerprint_of(labels) == told.fingerprint
    backend = FakeBackend(tmp_path, lambda: Snapshot(time=NOW, started=NOW))
    backend.active = [Alert("g/Hot", labels, (), state, NOW, 99.0) for state in ("firing", "pending")]
    assert [i.key for i in active_items(backend)] == [told.id, told.fingerprint]


def test_a_row_of_an_alert_has_all_its_labels_once() -> None:
    row = alert_row(item("firing", NOW - 90 * SECOND, alertname="Hot", device="d1", severity="page", site="<b>"), NOW)
    assert (row["name"], row["device"], row["severity"], row["labels"]) == ("Hot", "d1", "page", "site=<b>")
    assert row["age"] == "90s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "60s"), (119, "119s"), (125, "2m"), (7_300, "2h"), (200_000, "2d"), (-4, "0s")],
)
def test_ages_are_coarse(seconds: float, text: str) -> None:
    assert coarse(round(seconds * SECOND)) == text


def device(name: str, **more: object) -> DeviceRow:
    row = DeviceRow(
        device=name, labels=(("site", "ams"),), streams=("t",), series=2, last_seen=NOW, last_time=NOW,
        interval=SECOND, skew=0, rate=1.0, state="reporting", firing=0,
    )  # fmt: skip
    return replace(row, **more)  # type: ignore[arg-type]  # whatever a test says


DEVICES = [device(f"pump-{i}", rate=float(i % 7), skew=(i - 50) * SECOND if i % 5 else None) for i in range(100)]


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("descending", [False, True])
def test_all_pages_together_are_all_devices_in_order(sort: str, descending: bool) -> None:
    pages = [
        page_of(DEVICES, Filter(), sort, descending=descending, start=start, length=30) for start in range(0, 100, 30)
    ]
    assert {page.total for page in pages} == {100}
    names = [row.device for page in pages for row in page.rows]
    assert names == [row.device for row in sorted(DEVICES, key=SORTS[sort], reverse=descending)]


def test_pump_2_comes_before_pump_10() -> None:
    assert sorted(["pump-10", "pump-2", "Pump-1", "9", "pump"], key=natural) == [
        "9",
        "pump",
        "Pump-1",
        "pump-2",
        "pump-10",
    ]


def test_devices_are_filtered_before_they_are_cut_into_pages() -> None:
    rows = [*DEVICES, device("<script>", state="silent", firing=2)]
    assert page_of(rows, parse_filter("state=silent"), "device", descending=False, start=0, length=30).total == 1
    [found] = page_of(rows, parse_filter("firing=yes"), "rate", descending=False, start=0, length=30).rows
    assert found.device == "<script>"
    beyond = page_of(rows, Filter(), "device", descending=False, start=500, length=30)
    assert (len(beyond.rows), beyond.total) == (1, 101)


def test_figures_of_devices() -> None:
    assert [rate(r) for r in (0, 0.01, 0.5, 42.0, 12_345.6)] == ["0", "0.6/min", "0.5/s", "42.0/s", "12,346/s"]
    assert (signed_span(-3_600 * SECOND), signed_span(2 * 10**6)) == ("-1h", "+2ms")
    assert [about(ns) for ns in (29_400_000, 991_000_000, 900 * SECOND)] == ["29ms", "1.0s", "15m"]


def test_a_curve_stays_within_its_box_and_shows_gaps() -> None:
    time = np.array([0, 1, 2, 50, 51, 99], np.int64)
    path = spark_path(time, np.array([1.0, 5.0, np.nan, 3.0, -1.0, 2.0]), 0, 100)
    assert path.startswith("M")
    assert path.count("M") == 3
    assert spark_path(time, np.full(6, 4.0), 0, 100).count("11.0") > 0
    assert spark_path(time, np.full(6, np.nan), 0, 100) == ""
    assert spark_path(time[:0], np.zeros(0), 0, 100) == ""
    numbers = [float(n) for n in path.replace("M", " ").replace("L", " ").replace("V", " ").replace("h", " ").split()]
    assert all(0 <= n <= 96 for n in numbers)


LETTER = DeadLetter(
    7, 12, NOW, "a/<b>/c", b'{"t": 1\x00\n}', 10, "bad_json", "line 1:\n <b>", "telemetry", 1, 0b10_0000
)


def test_a_letter_is_shown_without_control_characters() -> None:
    row = letter_row(LETTER)
    assert (row["topic"], row["detail"], row["payload"]) == ("a/<b>/c", "line 1:\\n <b>", '{"t": 1\\x00\\n}')
    assert payload_text(LETTER.payload) == '{"t": 1\\x00\n}'
    assert dict(facts(LETTER))["topic"] == "a/<b>/c"
    assert dict(facts(replace(LETTER, sink="influx")))["sink"] == "influx"


def test_a_payload_is_shown_as_far_as_there_is_room() -> None:
    assert payload_text(b"\xff\x00") is None
    assert payload_text("ü".encode()[:1]) == ""  # cut off in the middle of a character, as it was kept
    assert payload_text(b"x" * 10_000) == "x" * 8_192 + "\n… and 1,808 more characters"
    lines = payload_hex(bytes(range(256)) * 20).splitlines()
    assert lines[0].startswith("000000  00 01 02")
    assert lines[2].endswith("  !\"#$%&'()*+,-./")
    assert (len(lines), lines[-1]) == (129, "… and 3,072 more bytes")


@pytest.mark.parametrize(
    ("text", "selection"),
    [
        ("", Selection()),
        ("reason=bad_json", Selection(reason="bad_json")),
        ("stream=T topic=Site/+/#", Selection(stream="T", topic="Site/+/#")),
        ("plant/#", Selection(topic="plant/#")),
        ("since=2m", Selection(since=NOW - 120 * SECOND)),
        ("id=4 id=5", Selection(ids=(4, 5))),
        ("id=x", Selection(ids=(0,))),
        ("stream=a stream=b", Selection(ids=())),
    ],
)
def test_a_filter_of_letters_is_a_selection(text: str, selection: Selection) -> None:
    assert selection_of(parse_filter(text), "", NOW) == selection


@pytest.mark.parametrize("text", ["word", "-word", "stream!=t", "colour=red", "topic=a/#/b", "since=yesterday"])
def test_what_letters_cannot_be_asked_is_said(text: str) -> None:
    with pytest.raises(TocsinError, match=r"cannot be looked for|topic=|since="):
        selection_of(parse_filter(text), "", NOW)


def test_a_reason_that_is_chosen_twice_must_be_the_same() -> None:
    assert selection_of(parse_filter("reason=a"), "a", NOW) == Selection(reason="a")
    assert selection_of(parse_filter("reason=a"), "b", NOW) == Selection(ids=())


def test_the_progress_of_a_replay_in_words() -> None:
    waiting = Progress({"": 2}, {State.APPENDED: 1, State.DECODED: 4, State.REFUSED: 1})
    assert progress_text(waiting, 8) == (5, "4 decoded, 1 refused again, 3 to come")
    assert progress_text(Progress({}, {}), 0) == (0, "nothing to do")


RULES = {
    "groups": [
        {
            "name": "g",
            "rules": [
                {"alert": "Hot", "expr": "temperature > 80", "for": "2s", "labels": {"severity": "page"}},
                {"alert": "AllHot", "expr": "avg by (site) (temperature) > 50"},
                {"record": "site:t", "expr": "avg(temperature)"},
                {"alert": "Broken", "expr": "a * b"},
            ],
        }
    ]
}


def test_rules_are_listed_with_state_and_how_they_are_evaluated(tmp_path: Path) -> None:
    groups, problems = load_rules(RULES)
    assert not problems
    backend = FakeBackend(tmp_path, lambda: Snapshot(time=NOW, started=NOW), groups=groups)
    backend.active = [
        Alert("g/Hot", (("device", f"d{i}"),), (), "firing" if i else "pending", NOW, 1.0) for i in range(3)
    ]
    backend.errors = {"g/Broken": "many-to-many"}
    [group] = groups_of(backend, Filter())
    told = {rule.name: (rule.state, rule.firing, rule.pending, rule.evaluation[:16]) for rule in group.rules}
    assert told == {
        "Hot": ("firing", 2, 1, "at every reading"),
        "AllHot": ("inactive", 0, 0, "every 15s: it lo"),
        "site:t": ("recording", 0, 0, "every 15s"),
        "Broken": ("error", 0, 0, "at every reading"),
    }
    assert group.rules[0].extra == ("for 2s", "severity=page")
    assert [rule.cost for rule in group.rules] == [""] * 4
    assert [cost_text(share) for share in (0.0, 0.00123, 0.0456, 1.5)] == [
        "costs < 0.1 % of a core",
        "costs 0.1 % of a core",
        "costs 5 % of a core",
        "costs 200 % of a core",
    ]
    assert counted_rules([group]) == {"error": 1, "firing": 1, "recording": 1, "inactive": 1}
    assert groups_of(backend, parse_filter("state=error"))[0].rules[0].error == "many-to-many"
    assert groups_of(backend, parse_filter("nothing")) == []


@pytest.mark.parametrize("text", ['avg by (site) (rate(x{a="b"}[5m])) > 3', "not ] valid ' at all", "", "a #c\n+ b"])
def test_the_pieces_of_an_expression_are_its_text(text: str) -> None:
    for place in (None, 0, len(text) // 2):
        assert (
            "".join(part for kind, part in pieces(text, place) if (kind, part) != ("here", " ")).strip() == text.strip()
        )


def test_the_place_of_a_mistake_is_marked() -> None:
    assert pieces("avg by site x", 7)[-3:] == [("here", "site"), ("", " "), ("word", "x")]
    assert pieces("a + 'x", 4) == [("", "a + "), ("here", "'"), ("", "x")]
    assert pieces("a +", 3)[-1] == ("here", " ")
    assert [kind for kind, part in pieces("sum(rate(x[5m]))") if part == "rate"] == ["function"]
    assert parse("sum(rate(x[5m]))")


def snapshot(time: int, *, stored: int = 90, **more: object) -> Snapshot:
    whole = Snapshot(
        time=time,
        started=NOW - 60 * SECOND,
        session=SessionRow(url="mqtt://b:1883", state="connected", since=NOW - SECOND),
        journal=JournalRow(start=0, end=10, bytes=2_048, free_bytes=5 << 20),
        accounts=(
            AccountRow("session", 100, (("acknowledged", 100), ("in flight", 0))),
            AccountRow("store", 100, (("stored", stored), ("in flight", 10))),
        ),
        sinks=(
            SinkRow(name="store", state="retrying", lag=1, written=stored, error="disk full"),
            SinkRow(name="hook", kind="receiver", state="running", lag=2, written=5),
        ),
    )
    return replace(whole, **more)  # type: ignore[arg-type]  # whatever a test says


def test_the_picture_has_a_box_for_every_part() -> None:
    drawing = picture(snapshot(NOW), Rates())
    assert [stage.title for stage in drawing.trunk] == ["Broker", "Journal", "Decoding"]
    assert [stage.title for stage in drawing.rules] == ["Rules", "receiver hook"]
    [store] = drawing.sinks
    assert (store.title, store.state, store.word, store.error) == ("sink store", "waiting", "retrying", "disk full")
    assert store.lines == ("1 message behind", "90 stored")
    assert drawing.trunk[1].lines == ("10 records, 2.0 KiB", "may grow by 5.0 MiB")


def test_rates_are_from_one_look_to_the_next() -> None:
    rates = Rates()
    rates.look(snapshot(NOW))
    assert rates.of("store", "stored") is None
    rates.look(snapshot(NOW))  # the same one, which another page has asked for
    assert rates.of("store", "stored") is None
    rates.look(snapshot(NOW + 2 * SECOND, stored=290))
    assert rates.of("store", "stored") == 100.0
    assert rates.of("no such stage") is None
    assert picture(snapshot(NOW + 2 * SECOND, stored=290), rates).sinks[0].figure == "100"


def test_an_imbalance_is_said_by_how_much() -> None:
    row = AccountRow("store", 100, (("stored", 90), ("late", 0), ("in flight", 3)))
    balanced, wrong = (books(row, snapshot(NOW, imbalances=names)) for names in ((), ("store",)))
    assert (balanced.parts, balanced.wrong) == ((("stored", "90"), ("in flight", "3")), "")
    assert wrong.wrong == "7 not accounted for"
    more = AccountRow("store", 90, (("stored", 100),))
    assert books(more, snapshot(NOW, imbalances=("store",))).wrong == "10 more than were received"


def test_what_stops_a_part_is_said_in_its_box() -> None:
    troubled = snapshot(
        NOW,
        session=SessionRow(url="mqtt://b:1883", state="refused", since=NOW, last_error="bad password"),
        journal=JournalRow(start=0, end=1, bytes=1, error="no space"),
        standstill=StandstillRow(error="disk", since=NOW),
    )
    drawing = picture(troubled, Rates())
    told = [(stage.state, stage.error) for stage in (*drawing.trunk[:2], drawing.rules[0])]
    assert told == [("trouble", "bad password"), ("trouble", "no space"), ("trouble", "disk")]
    stopped = picture(replace(troubled, running=False, session=None, standstill=None), Rates())
    assert {stage.state for stage in (stopped.trunk[0], stopped.rules[0], *stopped.sinks)} == {"stopped"}


def test_sizes() -> None:
    assert [size(n) for n in (0, 1_023, 1_536, 3 << 30, 5 << 40)] == ["0 B", "1,023 B", "1.5 KiB", "3.0 GiB", "5.0 TiB"]
