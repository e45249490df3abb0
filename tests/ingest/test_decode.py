"""Laws of the decoder: what payloads mean, what is refused and why, and that every reading is accounted for."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.block import RETAIN, TICK, Records
from ingest.decode import Decoded, Decoder
from ingest.streams import LimitsConfig, StreamConfig
from telemetry import HISTORICAL, LIVE, RETAINED, Counters, SeriesTable

NOW = 1_700_000_000_000_000_000
HOUR = 3_600 * 10**9
JSON_TOPIC = "sensors/{site}/{device}/telemetry"
TOPIC = "sensors/north/d1/telemetry"


def stream(topic: str = JSON_TOPIC, **more: object) -> StreamConfig:
    return StreamConfig.model_validate({"name": "s", "topic": topic, **more})


def records(*messages: tuple[str, object], first: int = 0, flags: int = 0, received: int = NOW) -> Records:
    payloads = [p if isinstance(p, bytes) else json.dumps(p).encode() for _, p in messages]
    n = len(messages)
    return Records(
        first,
        np.full(n, received, np.int64),
        np.full(n, flags, np.uint8),
        [t for t, _ in messages],
        payloads,
        np.zeros(n, np.uint16),
    )


class Bench:
    """A decoder, and what came out of it in words."""

    def __init__(self, *streams: StreamConfig, table: SeriesTable | None = None, **limits: object) -> None:
        self.table = table or SeriesTable()
        self.counters = Counters()
        self.decoder = Decoder(
            streams or [stream()], LimitsConfig.model_validate(limits), self.table, counters=self.counters
        )
        self.next = 0

    def give(self, payload: object, topic: str = TOPIC, **more: int) -> Decoded:
        decoded = self.decoder.decode(records((topic, payload), first=self.next, **more))
        self.next += 1
        return decoded

    def rows(self, decoded: Decoded) -> list[tuple[str, float, float]]:
        """(series, value, seconds since NOW)."""
        b = decoded.batch
        return [
            (str(self.table[int(s)]), float(v), (int(t) - NOW) / 1e9)
            for s, v, t in zip(b.series, b.value, b.time, strict=True)
        ]

    def values(self, payload: object, topic: str = TOPIC) -> dict[str, float]:
        """Value by series of what the payload gives; nothing of it may be refused."""
        decoded = self.give(payload, topic)
        assert decoded.rejections == []
        return {series: value for series, value, _ in self.rows(decoded)}

    def refusals(self, payload: object, topic: str = TOPIC, **more: int) -> list[tuple[str, int]]:
        return [(r.reason, r.rows) for r in self.give(payload, topic, **more).rejections]


def d1(metric: str, site: str = "north", **labels: str) -> str:
    inner = ", ".join(f'{n}="{v}"' for n, v in sorted({"device": "d1", "site": site, **labels}.items()))
    return f"{metric}{{{inner}}}"


# --- what JSON means ---------------------------------------------------------------------------------------------


def test_numbers_and_booleans_of_an_object_are_readings_of_the_topics_device():
    assert Bench().values({"temp": 21.5, "n": 3, "on": True, "off": False}) == {
        d1("temp"): 21.5,
        d1("n"): 3,
        d1("on"): 1,
        d1("off"): 0,
    }


def test_nested_objects_are_flattened_and_names_made_valid():
    payload = {"d": {"env": {"t": 21.5}}, "switch:0": {"a power": 1}, "3rd": 4, "température": 5}
    assert Bench().values(payload) == {
        d1("d_env_t"): 21.5,
        d1("switch:0_a_power"): 1,
        d1("_3rd"): 4,
        d1("temp_rature"): 5,
    }


def test_null_and_empty_text_and_arrays_are_no_readings_but_are_counted():
    bench = Bench()
    assert bench.values({"a": None, "b": "", "c": [1, 2], "t": 1}) == {d1("t"): 1}
    assert bench.counters.reasons("ingest.skipped") == {"null": 2, "array": 1}


def test_numbers_in_text_are_numbers_unless_the_stream_says_otherwise():
    assert Bench().values({"battery": "100.00", "x": "-1e3"}) == {d1("battery"): 100, d1("x"): -1000}
    words = Bench(stream(fields={"numeric_strings": False}))
    assert words.values({"fw": "1.5"}) == {d1("fw", state="1.5"): 1}


def test_fields_are_chosen_and_renamed_by_their_dotted_path():
    fields = {"include": ["env", "b*"], "exclude": ["env.raw"], "rename": {"env.t": "temperature"}}
    bench = Bench(stream(fields=fields, prefix="acme_"))
    payload = {"env": {"t": 1, "h": 2, "raw": {"x": 3}}, "bat": 4, "other": 5}
    assert bench.values(payload) == {d1("temperature"): 1, d1("acme_env_h"): 2, d1("acme_bat"): 4}


def test_words_that_are_mapped_are_numbers_whatever_their_capitals():
    bench = Bench(stream(fields={"values": {"door": {"OPEN": 1, "closed": 0}}}))
    assert bench.values({"door": "open"}) == {d1("door"): 1}
    assert bench.values({"door": "CLOSED"}) == {d1("door"): 0}
    decoded = bench.give({"door": "ajar", "t": 1})
    assert [(r.reason, r.detail) for r in decoded.rejections] == [
        ("unmapped_word", "door: 'ajar' is none of closed, open: add it to fields.values")
    ]
    assert bench.rows(decoded) == [(d1("t"), 1, 0)]


def test_payload_fields_may_give_labels_and_the_device():
    bench = Bench(
        stream("plant/+", device={"field": "dev.id"}, labels={"line": "a"}, labels_from={"unit": "meta.unit"})
    )
    payload = {"dev": {"id": "p7"}, "meta": {"unit": "bar"}, "v": 2}
    assert bench.values(payload, "plant/x") == {'v{device="p7", line="a", unit="bar"}': 2}
    assert bench.values({"dev": {"id": 8}, "v": 2}, "plant/x") == {'v{device="8", line="a"}': 2}
    assert bench.refusals({"v": 2, "w": 3}, "plant/x") == [("no_device", 2)]


def test_a_metric_level_keeps_the_topics_of_a_device_apart():
    bench = Bench(stream("tele/{device}/{metric}"))
    assert bench.values({"value": 1}, "tele/d1/temp") == {'temp_value{device="d1"}': 1}
    assert bench.values(b"2", "tele/d1/temp") == {'temp{device="d1"}': 2}


# --- words as state sets -----------------------------------------------------------------------------------------


def test_a_word_is_one_for_itself_and_zero_for_the_words_before_it():
    bench = Bench()
    assert bench.values({"door": "OPEN"}) == {d1("door", state="OPEN"): 1}
    assert bench.values({"door": "CLOSED"}) == {d1("door", state="OPEN"): 0, d1("door", state="CLOSED"): 1}
    assert bench.values({"door": "OPEN"}) == {d1("door", state="OPEN"): 1, d1("door", state="CLOSED"): 0}


def test_words_of_other_devices_and_metrics_are_not_touched():
    bench = Bench()
    bench.give({"door": "OPEN", "lock": "SHUT"})
    assert len(bench.values({"door": "AJAR"}, "sensors/north/d2/telemetry")) == 1
    assert len(bench.values({"door": "AJAR"}, "sensors/south/d1/telemetry")) == 1
    assert len(bench.values({"lock": "BROKEN"})) == 2


def test_a_text_metric_has_at_most_its_number_of_words():
    bench = Bench(max_states=3)
    for word in "abc":
        bench.give({"door": word})
    assert bench.refusals({"door": "d"}) == [("too_many_states", 1)]
    assert len(bench.values({"door": "a"})) == 3


def test_free_text_is_no_state():
    assert Bench().refusals({"a": "x" * 300, "b": "line\nline", "c": "\x1b[31m"}) == [("bad_text", 3)]


def test_words_of_an_earlier_run_are_known_when_it_goes_on_behind_it():
    bench = Bench()
    bench.give({"door": "OPEN"})
    later = Bench(table=bench.table)
    later.decoder.admission.admit_up_to(len(bench.table))
    assert later.values({"door": "CLOSED"}) == {d1("door", state="OPEN"): 0, d1("door", state="CLOSED"): 1}


def test_decoding_the_journal_from_its_start_gives_the_same_rows_though_the_table_knows_more():
    payloads = [{"door": "OPEN"}, {"n": 1}, {"door": "CLOSED"}, {"door": "AJAR"}]
    bench = Bench()
    live = [bench.rows(bench.give(p)) for p in payloads]
    again = Bench(table=bench.table)
    assert [again.rows(again.give(p)) for p in payloads] == live


# --- arrays of records -------------------------------------------------------------------------------------------


def test_records_have_their_own_time_or_that_of_the_document_around_them():
    bench = Bench(stream(records="values", name_field="id", value_field="v", time={"field": ["t", "timestamp"]}))
    ms = NOW // 10**6
    payload = {
        "timestamp": ms,
        "values": [{"id": "PLC1.T1", "v": 7, "t": ms - 100}, {"id": "T2", "v": 8}, {"id": "T3", "v": 9, "t": ms - 200}],
    }
    assert bench.rows(bench.give(payload)) == [(d1("T3"), 9, -0.2), (d1("PLC1_T1"), 7, -0.1), (d1("T2"), 8, 0)]


def test_bad_quality_costs_only_its_record():
    bench = Bench(stream(records="values", name_field="id", value_field="v", quality_field="q"))
    payload = {"values": [{"id": "a", "v": 1, "q": False}, {"id": "b", "v": 2, "q": True}, {"id": "c", "v": 3}]}
    decoded = bench.give(payload)
    assert [s for s, *_ in bench.rows(decoded)] == [d1("b"), d1("c")]
    assert [(r.reason, r.rows) for r in decoded.rejections] == [("bad_quality", 1)]
    assert decoded.rejections[0].detail.startswith("values[0].")


def test_an_array_at_the_top_needs_to_be_configured():
    payload = [{"ts": NOW // 10**9 - i, "values": {"temp": i}} for i in range(3)]
    assert Bench().refusals(payload) == [("not_an_object", 1)]
    bench = Bench(stream(records="", value_field="values"))
    assert bench.rows(bench.give(payload)) == [(d1("temp"), 2, -2), (d1("temp"), 1, -1), (d1("temp"), 0, 0)]
    assert bench.values(payload[0]) == {d1("temp"): 0}


def test_fields_around_the_records_are_readings_of_their_own():
    bench = Bench(stream(records="r"))
    assert bench.values({"battery": 3.7, "r": [{"t": 1}, {"h": 2}]}) == {d1("battery"): 3.7, d1("t"): 1, d1("h"): 2}
    assert bench.counters.get("ingest.skipped") == 0


def test_a_record_that_is_none_costs_only_itself():
    bench = Bench(stream(records="r"))
    assert bench.refusals({"r": [{"t": 1}, 5, "x", None]}) == [("not_an_object", 2)]
    assert bench.refusals({"x": 1}) == [("no_records", 1)]


# --- scalars -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        ("21.5", 21.5),
        (" -3 \n", -3),
        ("1e3", 1000),
        ('"21,5"', 21.5),
        ("21,5", 21.5),
        ("23.42 °C", 23.42),
        ("23,42°C", 23.42),
        ("50%", 50),
        ("12.1 m³", 12.1),
        ("true", 1),
        ("False", 0),
    ],
)
def test_a_scalar_may_have_blanks_quotes_a_comma_and_a_unit(payload: str, value: float):
    bench = Bench(stream("home/{device}/temp"))
    assert bench.values(payload.encode(), "home/d1/temp") == {'temp{device="d1"}': value}


def test_mapped_words_of_a_scalar_come_before_any_other_meaning():
    bench = Bench(stream("home/{device}/x", fields={"values": {"x": {"true": 7, "null": -1, "5 m": 8}}}))
    assert [bench.values(p, "home/d1/x") for p in (b"TRUE", b"null", b"5 m", b"6 m")] == [
        {'x{device="d1"}': value} for value in (7, -1, 8, 6)
    ]


@pytest.mark.parametrize("payload", ["ON", "1.2.3", "2024-01-01", "10.0.0.1", "1,234,567", "3 of 5", "0x1F", "on/off"])
def test_a_scalar_that_is_no_number_is_a_word(payload: str):
    bench = Bench(stream("home/{device}/x"))
    assert bench.values(payload.encode(), "home/d1/x") == {f'x{{device="d1", state="{payload}"}}': 1}


@pytest.mark.parametrize("payload", ["nan", "NaN", "-inf", "Infinity", "1e999", "1e999 m"])
def test_a_scalar_that_is_not_finite_is_refused(payload: str):
    assert Bench(stream("home/{device}/x")).refusals(payload.encode(), "home/d1/x") == [("not_finite", 1)]


def test_a_binary_payload_is_refused_with_a_guess():
    decoded = Bench(stream("home/{device}/x")).give(b"\x01\x67\x00\xd7", "home/d1/x")
    assert [r.reason for r in decoded.rejections] == ["bad_encoding"]
    assert "binary" in decoded.rejections[0].detail


def test_a_scalar_on_a_stream_of_objects_needs_a_name():
    assert Bench(stream("home/{device}")).refusals(b"5", "home/d1") == [("no_metric", 1)]
    assert Bench(stream("home/{device}/x", format="json")).refusals(b"5", "home/d1/x") == [("not_an_object", 1)]


# --- event time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "ns"),
    [
        (NOW // 10**9 - 5, -5 * 10**9),
        (NOW // 10**6 - 5, -5 * 10**6),
        (NOW // 10**3 - 5, -5_000),
        (NOW - 5, -5),
        (1_699_999_999.12, -880_000_000),
        (1_699_999_999.123457, -876_543_000),
        (1_699_999_999_123.457, -876_543_000),
        (str(NOW // 10**9 - 5), -5 * 10**9),
        ("1699999999.5", -500_000_000),
        ("2023-11-14T22:13:19Z", -(10**9)),
        ("2023-11-14 22:13:19.25+00:00", -750_000_000),
        ("2023-11-15T00:13:19+02", -(10**9)),
        ("2023-11-14T22:13:19.999999999Z", -1),
        ("2023-11-14T22:13", -20 * 10**9),
        (None, 0),
    ],
)
def test_times_are_recognised_as_devices_write_them(written: object, ns: int):
    assert (Bench().give({"ts": written, "t": 1}).batch.time - NOW).tolist() == [ns]


def test_text_without_a_zone_is_in_the_streams_zone():
    bench = Bench(stream(time={"field": "Time", "timezone": "Europe/Berlin"}))
    assert bench.rows(bench.give({"Time": "2023-11-14T23:13:19", "t": 1})) == [(d1("t"), 1, -1)]


def test_the_unit_is_kept_from_the_first_plausible_time_on():
    bench = Bench(max_past="0", max_future="5m")
    bench.give({"ts": 12, "t": 1}, received=60 * 10**9)  # a clock near 1970, that of the receiver, too
    assert bench.decoder.state()["units"] == {"s": "s"}
    bench = Bench()
    assert bench.refusals({"ts": 12, "t": 1}) == [("time_too_old", 1)]
    assert bench.decoder.state()["units"] == {}
    bench.give({"ts": NOW // 10**6, "t": 1})
    assert bench.decoder.state()["units"] == {"s": "ms"}
    assert bench.refusals({"ts": NOW // 10**9, "t": 1}) == [("time_too_old", 1)]


def test_time_fields_are_never_readings_and_arrival_ignores_them():
    bench = Bench(stream(time={"unit": "arrival"}))
    assert bench.rows(bench.give({"ts": 5, "time": "12:30", "t": 1})) == [(d1("t"), 1, 0)]


@pytest.mark.parametrize("written", ["12:30", "yesterday", True, [1], {"a": 1}, "2023-02-30T00:00:00Z"])
def test_a_time_that_is_none_costs_the_readings_it_belongs_to(written: object):
    assert Bench().refusals({"ts": written, "t": 1, "h": 2}) in ([("bad_time", 2)], [("bad_time", 3)])


def test_a_clock_that_is_off_is_refused_and_told_what_to_change():
    bench = Bench()
    year = datetime(2100, 1, 1, tzinfo=UTC)
    for written, reason in ((0, "time_too_old"), (int(year.timestamp()), "time_in_future")):
        (rejection,) = bench.give({"ts": written, "t": 1, "h": 2}).rejections
        assert (rejection.reason, rejection.rows) == (reason, 2)
        assert ("1970-01-01" if written == 0 else "2100-01-01") in rejection.detail
        assert "limits.max_" in rejection.detail
    assert len(bench.table) == 0


@pytest.mark.parametrize("digits", [20, 31, 300, 4_000])
def test_a_time_of_any_size_costs_only_its_message(digits: int):
    bench = Bench()
    assert bench.give(b'{"ts":' + b"9" * digits + b',"t":1}').rejections[0].reason in ("bad_time", "time_in_future")
    assert bench.values({"t": 1}) == {d1("t"): 1}


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "bad_json"),
        (b'{"a":1} x', "bad_json"),
        (b'{"a":"\xff"}', "bad_json"),
        (b"[" * 100_000, "too_deep"),
        (b'{"a":' * 5_000 + b"1" + b"}" * 5_000, "too_deep"),
        (b"x" * (256 * 1024 + 1), "payload_too_large"),
    ],
)
def test_an_unusable_payload_costs_its_message(payload: bytes, reason: str):
    bench = Bench()
    assert bench.refusals(payload) == [(reason, 1)]
    assert bench.counters.get("ingest.messages_rejected") == 1


@pytest.mark.parametrize("number", [b"NaN", b"-Infinity", b"1e400"])
def test_a_number_that_is_none_costs_its_field(number: bytes):
    bench = Bench()
    assert bench.refusals(b'{"a":' + number + b',"t":1}') == [("not_finite", 1)]
    assert bench.counters.get("ingest.messages_decoded") == 1


def test_a_field_that_is_nan_is_not_said_to_be_too_large():
    bench = Bench()
    (why,) = bench.give(b'{"a":NaN,"t":1}').rejections
    assert (why.reason, why.detail) == ("not_finite", "a: NaN is no reading; leave the field out when there is none")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b'{"a":"\\ud800"}', "bad_json"),
        (b'{"a":NaN,"b":"\\udfff"}', "bad_json"),
        (b'{"a":NaN,"b":"\xff"}', "bad_json"),
        ('{"a":1}'.encode("utf-16"), "bad_encoding"),
    ],
)
def test_what_is_no_utf8_json_stays_refused(payload: bytes, reason: str):
    bench = Bench()
    assert bench.refusals(payload) == [(reason, 1)]


def test_two_fields_of_one_name_do_not_overwrite_each_other():
    bench = Bench()
    for _ in range(3):
        assert bench.refusals(b'{"a b":2,"a.b":5}') == [("name_collision", 1)]
    assert bench.counters.get("ingest.readings") == 6


def test_brackets_within_text_are_no_nesting():
    bench = Bench()
    payload = b'{"a":"' + b'[\\"{' * 150 + b'","t":1}'
    assert bench.refusals(payload) == [("bad_text", 1)]  # and not too_deep, which would cost the message


def test_one_bad_field_costs_only_itself():
    payload = {"deep": {"a": {"b": {"c": 1}}}, "long": 10**40, "huge": "x" * 999, "n" * 300: 1, "nan": "NaN", "t": 1}
    bench = Bench(max_depth=3)
    decoded = bench.give(payload)
    assert bench.rows(decoded) == [(d1("t"), 1, 0)]
    assert sorted(r.reason for r in decoded.rejections) == [
        "bad_name",
        "bad_text",
        "not_finite",
        "number_too_long",
        "too_deep",
    ]
    assert {r.detail.split(":")[0] for r in decoded.rejections} >= {"deep.a.b", "long", "huge", "nan"}


def test_limits_on_fields_and_rows_keep_what_fits():
    assert Bench(max_fields=2).refusals({"a": 1, "b": 2, "c": 3, "d": 4}) == [("too_many_fields", 2)]
    bench = Bench(stream(records="r"), max_rows_per_message=3)
    decoded = bench.give({"r": [{"a": i, "ts": NOW // 10**9 - i} for i in range(5)]})
    assert len(decoded.batch) == 3
    assert [(r.reason, r.rows) for r in decoded.rejections] == [("too_many_rows", 2)]
    assert "and 1 more readings" in decoded.rejections[0].detail


def test_limits_on_series_refuse_new_ones_only():
    bench = Bench(max_series_per_device=2)
    assert bench.refusals({"a": 1, "b": 2, "c": 3}) == [("too_many_series_of_device", 1)]
    assert bench.refusals({"a": 1, "b": 2}) == []
    assert bench.refusals({"c": 3}, "sensors/north/d2/telemetry") == []
    bench = Bench(max_series=2)
    assert bench.refusals({"a": 1, "b": 2, "c": 3}) == [("too_many_series", 1)]
    bench = Bench(max_new_series_per_hour=2)
    assert bench.refusals({"a": 1, "b": 2, "c": 3}) == [("too_many_new_series", 1)]
    assert bench.refusals({"c": 3}, received=NOW + HOUR) == []


def test_an_unknown_topic_is_kept_with_its_reason():
    (rejection,) = Bench().give({"t": 1}, "other/d1").rejections
    assert (rejection.reason, rejection.topic, rejection.stream, rejection.payload) == (
        "unknown_topic",
        "other/d1",
        "",
        b'{"t": 1}',
    )


@pytest.mark.parametrize("level", ["x" * 300, "a\nb", "a\ud800b", "\x1b[31m"])
def test_a_topic_level_unfit_for_a_label_is_refused(level: str):
    assert Bench().refusals({"t": 1}, f"sensors/{level}/d1/telemetry") == [("bad_label", 1)]
    assert Bench().refusals({"t": 1}, "sensors/north//telemetry") == [("no_device", 1)]


def test_the_first_stream_that_has_the_topic_counts():
    bench = Bench(stream("a/{device}/x", prefix="first_"), stream("a/{device}/#", prefix="second_"))
    assert list(bench.values({"t": 1}, "a/d/x")) == ['first_t{device="d"}']
    assert list(bench.values({"t": 1}, "a/d/y")) == ['second_t{device="d"}']


def test_empty_payloads_and_topics_of_the_broker_are_counted_and_nothing_else():
    bench = Bench()
    assert bench.refusals(b"") == []
    assert bench.refusals(b"5", "$SYS/uptime") == []
    assert bench.counters.get("ingest.messages_empty") == 1
    assert bench.counters.get("ingest.messages_ignored") == 1
    assert bench.counters.get("ingest.readings") == 0


# --- flags -------------------------------------------------------------------------------------------------------


def test_retained_and_historical_readings_are_flagged():
    bench = Bench(stream(historical_field="backlog"))
    assert bench.give({"t": 1}, flags=RETAIN).batch.flags.tolist() == [RETAINED]
    assert bench.give({"t": 1, "backlog": True}).batch.flags.tolist() == [HISTORICAL]
    assert bench.give({"t": 1, "backlog": False}).batch.flags.tolist() == [LIVE]


def test_ticks_are_no_messages():
    decoded = Bench().decoder.decode(records(("", b""), flags=TICK))
    assert (decoded.messages, len(decoded.batch)) == (0, 0)


# --- accounts and determinism, on anything at all ----------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c.d", "ts", "r", "id", "v", "q", "é", "", "dev"])
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [NOW, NOW // 10**6, NOW // 10**9, 10**40, 10**400, "OPEN", "CLOSED", "nan", "1.5", "d1", "x" * 300]
    ),
    st.floats(),
    st.text(max_size=3),
)
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
)


def encoded(document: object) -> bytes:
    try:
        return json.dumps(document).encode()
    except ValueError:
        return b"{"


PAYLOADS = st.one_of(
    DOCUMENTS.map(encoded),
    st.dictionaries(NAMES, LEAVES, max_size=4).map(encoded),
    st.binary(max_size=20),
    st.sampled_from([b"", b"5", b"OPEN", b'{"a":1', b"[" * 300, b'{"a":1,"b":2,"ts":1700000000}']),
)
TOPICS = st.sampled_from(
    [TOPIC, "sensors/north/d2/telemetry", "recs/d1", "home/d1/temp", "dyn/x", "what/is/this", "$SYS/x"]
)
MESSAGES = st.lists(st.tuples(TOPICS, PAYLOADS, st.sampled_from([0, 0, RETAIN, TICK])), max_size=12)


def odd_streams() -> Sequence[StreamConfig]:
    return [
        stream(fields={"values": {"b": {"OPEN": 1}}}),
        stream("recs/{device}", name="r", records="r", quality_field="q", time={"field": ["ts", "c.d"]}),
        stream("home/{device}/temp", name="h"),
        stream("dyn/+", name="d", device={"field": "dev"}, labels_from={"unit": "a"}),
    ]


def as_records(messages: list[tuple[str, bytes, int]], first: int = 0) -> Records:
    n = len(messages)
    return Records(
        first,
        np.full(n, NOW, np.int64),
        np.array([flag for *_, flag in messages], np.uint8),
        ["" if flag & TICK else topic for topic, _, flag in messages],
        [b"" if flag & TICK else payload for _, payload, flag in messages],
        np.zeros(n, np.uint16),
    )


def columns(decoded: Decoded) -> list[tuple[object, ...]]:
    b = decoded.batch
    return list(
        zip(b.series.tolist(), b.time.tolist(), b.value.tolist(), b.flags.tolist(), b.offset.tolist(), strict=True)
    )


@settings(max_examples=150)
@given(MESSAGES)
def test_every_message_and_every_reading_is_accounted_for(messages: list[tuple[str, bytes, int]]):
    bench = Bench(*odd_streams(), max_states=2, max_series_per_device=4)
    decoded = bench.decoder.decode(as_records(messages))
    count = bench.counters.get
    assert count("ingest.messages") == decoded.messages == sum(flag != TICK for *_, flag in messages)
    assert count("ingest.messages") == sum(
        count(f"ingest.messages_{outcome}") for outcome in ("decoded", "rejected", "empty", "ignored")
    )
    assert count("ingest.readings") == len(decoded.batch) + sum(r.rows for r in decoded.rejections)
    assert count("ingest.rejected") == sum(r.rows for r in decoded.rejections)
    assert count("ingest.rejected", "decoder_error") == 0
    assert np.isfinite(decoded.batch.value).all()
    offset, time = decoded.batch.offset, decoded.batch.time
    assert (np.diff(offset) >= 0).all()
    assert (np.diff(time)[np.diff(offset) == 0] >= 0).all()


@settings(max_examples=100)
@given(MESSAGES, st.integers(1, 5))
def test_decoding_again_gives_the_same_rows_and_changes_nothing(messages: list[tuple[str, bytes, int]], size: int):
    bench = Bench(*odd_streams(), max_states=2, max_series_per_device=4, max_new_series_per_hour=6)
    parts = [as_records(messages[i : i + size], first=i) for i in range(0, len(messages), size)]
    first = [columns(bench.decoder.decode(part)) for part in parts]
    counted, series = bench.counters.snapshot(), len(bench.table)
    again = [bench.decoder.decode(part, add_series=False) for part in parts]
    assert [columns(decoded) for decoded in again] == first
    assert all(decoded.rejections == [] for decoded in again)
    assert (bench.counters.snapshot(), len(bench.table)) == (counted, series)


@settings(max_examples=100)
@given(MESSAGES, st.integers(0, 12))
def test_a_restored_decoder_goes_on_as_if_nothing_had_happened(messages: list[tuple[str, bytes, int]], cut: int):
    one, two = Bench(*odd_streams(), max_series_per_device=4), Bench(*odd_streams(), max_series_per_device=4)
    cut = min(cut, len(messages))
    whole = columns(one.decoder.decode(as_records(messages)))
    start = columns(two.decoder.decode(as_records(messages[:cut])))
    three = Bench(*odd_streams(), table=two.table, max_series_per_device=4)
    three.decoder.restore(json.loads(json.dumps(two.decoder.state())), two.decoder.admission.admitted)
    assert start + columns(three.decoder.decode(as_records(messages[cut:], first=cut))) == whole


@settings(max_examples=150)
@given(st.lists(st.dictionaries(NAMES, LEAVES | st.dictionaries(NAMES, LEAVES, max_size=3), max_size=4), max_size=8))
def test_the_short_cut_gives_what_the_long_way_gives(documents: list[dict[str, object]]):
    messages = [(TOPIC, encoded(document), 0) for document in documents]
    padded = [(TOPIC, payload + b" " * 5_000, 0) for _, payload, _ in messages]  # too long for the short cut
    short, long = (Bench(stream(fields={"exclude": ["b", "a.c.d"]}), max_depth=2) for _ in range(2))
    for _ in range(2):  # the second time, fields are known
        assert columns(short.decoder.decode(as_records(messages))) == columns(long.decoder.decode(as_records(padded)))
    assert short.counters.snapshot() == long.counters.snapshot()
    assert list(short.table) == list(long.table)


def test_plain_objects_do_take_the_short_cut():
    bench = Bench()
    payload = {"ts": NOW // 10**6, "temp": 21.5, "n": 1, "env": {"t": True, "in": {"t": 2}}}
    bench.give(payload)
    bench.decoder._unpacker.unpack = lambda *_: pytest.fail("the long way")  # type: ignore[method-assign]
    assert len(bench.values(payload)) == 4


def test_the_parser_is_the_strict_one_that_we_rely_on():
    for bad in (b"NaN", b"1e400", b"01", b"{'a':1}", b"[1,]", b'"\\ud800"', b"\xef\xbb\xbf1"):
        with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
            msgspec.json.decode(bad)
