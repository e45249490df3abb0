"""What the user says about streams of messages and about limits. Here: the models. Not here: any decoding."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from ingest.config import Duration
from ingest.topics import REST, TopicPattern
from telemetry import parse_duration
from telemetry.series import LABEL_NAME, MAX_LABEL_VALUE, METRIC_NAME

STATE = "state"
"""The label that a text value becomes (OpenMetrics StateSet)."""
METRIC_LEVEL = "metric"
"""The named level that gives the metric its name instead of becoming a label."""
DEFAULT_STALENESS = 300 * 10**9
"""ns; Prometheus' lookback delta."""
_TEMPLATE = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_]*)\}")
_YAML_BOOLEANS = {True: ("true", "on", "yes"), False: ("false", "off", "no")}


def _pattern(text: str) -> str:
    return TopicPattern.parse(text).text


def _zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone: write for example UTC or Europe/Berlin") from None
    return name


def _metric_name(name: str) -> str:
    if not METRIC_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a metric name: use letters, digits, _ and :")
    return name


def _label_name(name: str) -> str:
    if not LABEL_NAME.fullmatch(name) or name.startswith("__"):
        raise ValueError(f"{name!r} is not a label name: use letters, digits and _, and no __ in front")
    if name == STATE:
        raise ValueError(f"the label {STATE!r} is kept for text values: choose another name")
    return name


def _label_value(text: str) -> str:
    if not 0 < len(text) <= MAX_LABEL_VALUE:
        raise ValueError(f"a label value has 1 to {MAX_LABEL_VALUE} characters")
    return text


def _words(given: Any) -> Any:
    """Unquoted ON, OFF, yes, no … are booleans in YAML: take them as the words that the user wrote."""
    if not isinstance(given, Mapping):
        return given
    words: dict[Any, Any] = {}
    for word, number in given.items():
        for spelled in _YAML_BOOLEANS[word] if isinstance(word, bool) else (str(word).casefold(),):
            words[spelled] = number
    return words


def _one_or_many(given: Any) -> Any:
    return (given,) if isinstance(given, str) else given


Words = Annotated[dict[str, float], BeforeValidator(_words)]
MetricName = Annotated[str, AfterValidator(_metric_name)]
LabelName = Annotated[str, AfterValidator(_label_name)]
LabelValue = Annotated[str, AfterValidator(_label_value)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TimeConfig(_Model):
    """Where the event time stands in the payload."""

    field: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        ("ts", "timestamp", "time"),
        description="Dotted path of the field with the device's time, or several: the first that is present counts. "
        "Without any, the time of arrival is taken. These fields are never readings.",
    )
    unit: Literal["auto", "s", "ms", "us", "ns", "iso", "arrival"] = Field(
        "auto",
        description="Unit of numbers. auto: recognised by magnitude at the first plausible message of the stream, and "
        "kept from then on; text is read as ISO 8601. arrival: ignore the device's time.",
    )
    timezone: Annotated[str, AfterValidator(_zone)] = Field(
        "UTC",
        description="Time zone of ISO 8601 text that names none, for example Europe/Berlin. The hour that autumn has "
        "twice is taken as summer time.",
    )


class FieldsConfig(_Model):
    """Which fields of a JSON payload become readings, addressed by dotted path (env.temperature)."""

    include: tuple[str, ...] = Field(
        (), description="Only these fields (or all beneath them); * stands for any text. Empty: all fields."
    )
    exclude: tuple[str, ...] = Field((), description="Not these fields (nor any beneath them); * stands for any text.")
    rename: dict[str, MetricName] = Field(
        default_factory=dict, description="Field: full name of its metric (no prefix is put before it)."
    )
    values: dict[str, Words] = Field(
        default_factory=dict,
        description="Field: numbers for its words, for example {door: {OPEN: 1, CLOSED: 0}}; capitals do not matter. "
        "Other words are rejected. Without this, a text value becomes one series per word (label state), 1 or 0.",
    )
    numeric_strings: bool = Field(
        default=True, description='Text that is a number ("21.5") is a number; false: it is a word like any other.'
    )


class DeviceConfig(_Model):
    """The device's name from the payload. Prefer the topic: brokers can enforce who publishes where."""

    field: str = Field(
        min_length=1, description="Dotted path of the field with the device's name. Anyone who may publish can forge it"
    )


class StreamConfig(_Model):
    """Messages of one kind: which topics, how their payloads become readings."""

    name: str = Field(min_length=1, max_length=100, description="Name of the stream, in messages and counters.")
    topic: Annotated[str, AfterValidator(_pattern)] = Field(
        description="Topic pattern, for example sensors/{site}/{device}/telemetry. Named levels become labels; "
        "{metric} names the metric; + is any level, a final # any rest."
    )
    format: Literal["auto", "json", "scalar"] = Field(
        "auto",
        description="json: object or array; scalar: one plain value (21.5, 23.4 °C, ON); auto: whichever it is.",
    )
    metric: str | None = Field(
        None,
        description="Metric name of scalars; may contain named levels: {quantity}_value. Default: the level {metric}, "
        "else what # stands for, else the last level of the pattern if it is plain text.",
    )
    prefix: str = Field("", description="Put before every metric name of the stream.")
    device: DeviceConfig | None = Field(None, description="Take the device's name from the payload, not the topic.")
    labels: dict[LabelName, LabelValue] = Field(default_factory=dict, description="Constant labels.")
    labels_from: dict[LabelName, str] = Field(
        default_factory=dict, description="Label: dotted path of the payload field that holds its value, if present."
    )
    fields: FieldsConfig = Field(default_factory=FieldsConfig, description="Which fields become readings, and how.")
    time: TimeConfig = Field(default_factory=TimeConfig, description="Where the event time stands.")
    records: str | None = Field(
        None,
        description='Dotted path of an array of records, each with its own fields and perhaps time; "" if the payload '
        "itself is the array. Time and labels outside of it count where a record has none.",
    )
    name_field: str | None = Field(
        None, description='Field of a record with the metric\'s name, for records such as {"id": "t1", "v": 7}.'
    )
    value_field: str | None = Field(
        None, description="Field of a record with the value, or the object beneath which the readings stand."
    )
    quality_field: str | None = Field(
        None, description="Field of a record that is false, 0 or a word other than good when its values are bad."
    )
    message_id: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        (),
        description="Dotted path of the field that tells one message of a device from its others, or several that do "
        "so together (deduplicationId; f_cnt; id and source): what comes again within an hour is a duplicate, so a "
        "counter must not begin anew within that time. Not needed for what the broker redelivers.",
    )
    staleness: Duration = Field(
        DEFAULT_STALENESS,
        gt=0,
        description="How long a reading counts as the current value in rules; more than the interval at which the "
        "devices report, for example 45m for a device that reports every 15m.",
    )
    historical_field: str | None = Field(
        None, description="Field that is true for a backlog: it is stored, but drives no alert."
    )

    @property
    def pattern(self) -> TopicPattern:
        return TopicPattern.parse(self.topic)

    @property
    def filter(self) -> str:
        """The MQTT topic filter to subscribe to."""
        return self.pattern.filter

    @model_validator(mode="after")
    def _labels_are_clear(self) -> Self:
        levels = [name for name in self.pattern.names if name != METRIC_LEVEL]
        for name in levels:
            _label_name(name)
        every = [*levels, *self.labels, *self.labels_from, *(["device"] if self.device else [])]
        for name in every:
            if every.count(name) > 1:
                raise ValueError(f"stream {self.name}: the label {name} is given twice: keep one of them")
        if "device" not in every:
            raise ValueError(
                f"stream {self.name}: nothing gives the device's name: name a topic level {{device}}, "
                "or set device: {field: …} or labels: {device: …}"
            )
        return self

    @model_validator(mode="after")
    def _metric_is_clear(self) -> Self:
        if self.prefix:
            _metric_name(self.prefix)
        if self.metric is not None:
            unknown = set(_TEMPLATE.findall(self.metric)) - set(self.pattern.names)
            if unknown:
                raise ValueError(f"stream {self.name}: metric uses {{{unknown.pop()}}}, which is no level of the topic")
            _metric_name(_TEMPLATE.sub("x", self.metric))
        if self.format == "scalar" and self.scalar_metric({}, dry=True) is None:
            raise ValueError(f"stream {self.name}: scalars need a metric name: set metric, or name a level {{metric}}")
        if self.format == "scalar" and (self.device or self.labels_from):
            raise ValueError(f"stream {self.name}: a scalar payload has no fields for device or labels_from")
        if self.name_field is not None and self.value_field is None:
            raise ValueError(f"stream {self.name}: name_field needs value_field beside it")
        return self

    def scalar_metric(self, levels: Mapping[str, str], *, dry: bool = False) -> str | None:
        """What a scalar on a topic with these levels is called, not yet sanitised nor prefixed; None: nothing says.

        `dry` asks whether there will be a name.
        """
        if self.metric is not None:
            return _TEMPLATE.sub(lambda found: levels.get(found[1], ""), self.metric)
        last = self.pattern.levels[-1]
        if METRIC_LEVEL in self.pattern.names:
            return levels.get(METRIC_LEVEL, "") if not dry else METRIC_LEVEL
        if last == "#":
            return (levels.get(REST) or None) if not dry else REST
        return None if last == "+" or last.startswith("{") else last


class LimitsConfig(_Model):
    """What is accepted from outside. Each limit has a counter: ingest.rejected with a reason."""

    max_payload_bytes: int = Field(256 * 1024, ge=1, description="Larger messages are rejected undecoded.")
    max_depth: int = Field(16, ge=1, le=100, description="A field nested deeper is rejected.")
    max_fields: int = Field(1_000, ge=1, description="Fields of one record; those beyond are rejected.")
    max_rows_per_message: int = Field(10_000, ge=1, le=1 << 20, description="Readings of a message; as above.")
    max_digits: int = Field(32, ge=1, le=300, description="A whole number with more digits is rejected.")
    max_states: int = Field(32, ge=1, le=1_000, description="Words of one text metric of a device.")
    max_series: int = Field(1_000_000, ge=1, description="Series in total; readings of further ones are rejected.")
    max_series_per_device: int = Field(1_000, ge=1, description="Series of one device; as above.")
    max_new_series_per_hour: int = Field(
        500_000, ge=1, description="New series within an hour; further ones are rejected until the next hour begins."
    )
    max_past: Duration = Field(
        parse_duration("7d"), description="How far a reading may lie before its arrival, for example 7d; 0: any time."
    )
    max_future: Duration = Field(
        parse_duration("5m"), description="How far a device's clock may be ahead, for example 5m; 0: any time."
    )
