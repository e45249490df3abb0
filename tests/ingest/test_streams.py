"""Laws of what the user says about streams: topic patterns, and configurations that are refused with a clear reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingest.streams import LimitsConfig, StreamConfig
from ingest.topics import REST, TopicPattern


def stream(topic: str = "sensors/{site}/{device}/telemetry", **more: object) -> StreamConfig:
    return StreamConfig.model_validate({"name": "s", "topic": topic, **more})


def match(pattern: str, topic: str) -> dict[str, str] | None:
    return TopicPattern.parse(pattern).match(topic.split("/"))


def test_named_levels_are_what_the_topic_has_there():
    assert match("sensors/{site}/{device}/t", "sensors/north/d1/t") == {"site": "north", "device": "d1"}


@pytest.mark.parametrize(
    "topic", ["sensors/north/d1", "sensors/north/d1/t/x", "Sensors/north/d1/t", "/sensors/north/d1/t"]
)
def test_a_topic_of_another_shape_does_not_match(topic: str):
    assert match("sensors/{site}/{device}/t", topic) is None


def test_a_final_hash_is_any_rest_and_also_none():
    assert match("a/{device}/#", "a/d1") == {"device": "d1", REST: ""}
    assert match("a/{device}/#", "a/d1/relay/0") == {"device": "d1", REST: "relay/0"}
    assert match("a/{device}/#", "a") is None


def test_wildcards_never_match_topics_of_the_broker():
    assert match("#", "$SYS/uptime") is None
    assert match("+/{device}", "$SYS/uptime") is None


def test_the_filter_to_subscribe_to_has_plus_for_every_name():
    assert stream("a/{site}/+/{device}/#").filter == "a/+/+/+/#"


LEVEL = st.text("ab", max_size=2)


@given(st.lists(st.one_of(LEVEL, st.just("+")), min_size=1, max_size=4), st.booleans(), st.lists(LEVEL, min_size=1))
def test_patterns_match_as_mqtt_filters_do(levels: list[str], open_ended: bool, topic: list[str]):
    def matches(pattern: list[str], rest: list[str]) -> bool:
        if not pattern:
            return open_ended or not rest
        return bool(rest) and pattern[0] in ("+", rest[0]) and matches(pattern[1:], rest[1:])

    text = "/".join(levels + ["#"] * open_ended)
    if text:
        assert (TopicPattern.parse(text).match(topic) is not None) == matches(levels, topic)


@pytest.mark.parametrize(
    ("topic", "complaint"),
    [
        ("", "1 to 65535 bytes"),
        ("a/#/{device}", "# may only be the last level"),
        ("a/x{device}", "must be plain text"),
        ("a/{device}/b+", "must be plain text"),
        ("a/{de vice}", "must be plain text"),
        ("{device}/{device}", "twice"),
        ("$share/g/{device}", "begin with $"),
        ("a/{site}", "nothing gives the device's name"),
        ("a/{device}/{state}", "kept for text values"),
    ],
)
def test_a_bad_topic_pattern_is_refused_with_the_reason(topic: str, complaint: str):
    with pytest.raises(ValidationError, match=complaint.replace("$", r"\$")):
        stream(topic)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ({"labels": {"device": "x"}}, "device is given twice"),
        ({"device": {"field": "dev"}}, "device is given twice"),
        ({"labels": {"a-b": "x"}}, "not a label name"),
        ({"labels": {"a": ""}}, "1 to 256 characters"),
        ({"labels_from": {"state": "s"}}, "kept for text values"),
        ({"time": {"timezone": "Mars/North"}}, "not a time zone"),
        ({"time": {"unit": "minutes"}}, "'auto', 's', 'ms'"),
        ({"fields": {"rename": {"a": "b c"}}}, "not a metric name"),
        ({"prefix": "9"}, "not a metric name"),
        ({"metric": "{nope}"}, "no level of the topic"),
        ({"name_field": "id"}, "needs value_field"),
        ({"topik": "x"}, "Extra inputs"),
    ],
)
def test_a_bad_stream_is_refused_with_the_reason(more: dict[str, object], complaint: str):
    with pytest.raises(ValidationError, match=complaint):
        stream(**more)


def test_scalars_without_any_name_are_refused():
    with pytest.raises(ValidationError, match="scalars need a metric name"):
        stream("home/{device}", format="scalar")


@pytest.mark.parametrize(
    ("topic", "metric", "levels", "name"),
    [
        ("home/{device}/{metric}", None, {"metric": "temp"}, "temp"),
        ("home/{device}/temp", None, {}, "temp"),
        ("home/{device}/#", None, {REST: "relay/0/power"}, "relay/0/power"),
        ("home/{device}/{q}", "{q}_value", {"q": "co2"}, "co2_value"),
        ("home/{device}/temp", "t", {}, "t"),
    ],
)
def test_a_scalar_is_named_by_the_stream_or_by_its_topic(
    topic: str, metric: str | None, levels: dict[str, str], name: str
):
    assert stream(topic, metric=metric, format="scalar").scalar_metric({"device": "d", **levels}) == name


def test_words_that_yaml_takes_for_booleans_are_words():
    fields = stream(fields={"values": {"door": {True: 1, False: 0, "Ajar": 0.5}}}).fields
    assert fields.values["door"] == {"true": 1, "on": 1, "yes": 1, "false": 0, "off": 0, "no": 0, "ajar": 0.5}


def test_limits_are_written_as_durations():
    assert LimitsConfig.model_validate({"max_past": "1h"}).max_past == 3_600 * 10**9
    with pytest.raises(ValidationError, match="not a duration"):
        LimitsConfig.model_validate({"max_past": "an hour"})


def test_every_setting_is_described():
    for model in (StreamConfig, LimitsConfig, *(f.annotation for f in StreamConfig.model_fields.values())):
        for name, field in getattr(model, "model_fields", {}).items():
            assert field.description, name
