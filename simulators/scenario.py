"""Scenario: which fleets of devices report what, and which faults befall them when.

Here: the user's file as checked models. Not here: readings (fleet.py), what faults do (faults.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from telemetry import format_duration, parse_duration

SECOND = 10**9
Duration = Annotated[int, BeforeValidator(parse_duration)]
"""ns; written as `500ms`, `30s`, `1h30m`."""


def _signed(text: str | int) -> int:
    return -parse_duration(text[1:]) if isinstance(text, str) and text.startswith("-") else parse_duration(text)


SignedDuration = Annotated[int, BeforeValidator(_signed)]
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class Model(BaseModel):
    """What all models of a scenario have in common: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Cycle(Model):
    amplitude: float = Field(description="Half the distance between the lowest and the highest value.")
    period: Duration = Field(86_400 * SECOND, gt=0, description="Length of one cycle, such as 24h.")


class NumberMetric(Model):
    """A measured number: level + device's own offset + cycle + drift + noise."""

    level: float = Field(description="The value around which the readings lie.")
    cycle: Cycle | None = Field(None, description="A sine wave on top of the level, such as day and night.")
    noise: float = Field(0.0, ge=0, description="Standard deviation of the noise; never beyond three times this.")
    drift: float = Field(0.0, description="Steady change, in units an hour.")
    decimals: int = Field(2, ge=0, le=9, description="Digits after the decimal point.")
    per_device_spread: float = Field(0.0, ge=0, description="Each device's level differs by at most this.")


class StatesMetric(Model):
    """A text value out of a few states."""

    states: list[str] = Field(min_length=1, max_length=32, description="The states; a device starts in the first.")
    change: Duration = Field(0, description="Go to the next state after this time; 0: only faults change it.")


class BooleanMetric(Model):
    """A value that is true or false."""

    boolean: bool = Field(True, description="The value at the start.")
    change: Duration = Field(0, description="Flip after this time; 0: only faults change it.")


def _written_short(value: Any) -> Any:
    if value == "boolean":
        return {"boolean": True}
    return {"level": value} if isinstance(value, int | float) and not isinstance(value, bool) else value


def _metric_kind(value: Any) -> str:
    has = value.__contains__ if isinstance(value, dict) else lambda name: hasattr(value, name)
    return "states" if has("states") else "boolean" if has("boolean") else "number"


Metric = Annotated[
    Annotated[NumberMetric, Tag("number")]
    | Annotated[StatesMetric, Tag("states")]
    | Annotated[BooleanMetric, Tag("boolean")],
    Discriminator(_metric_kind),
    BeforeValidator(_written_short),
]


class Device(NamedTuple):
    name: str
    site: str


class Fleet(Model):
    name: str = Field(min_length=1, description="Name of the fleet; the default device names begin with it.")
    sites: list[str] | int = Field(1, description="Names of the sites, or how many there are (site-1, site-2, ...).")
    devices: int | None = Field(None, ge=1, description="Devices in total, dealt out to the sites in turn.")
    devices_per_site: int | None = Field(None, ge=1, description="Devices at each site; instead of `devices`.")
    device: str = Field("{fleet}-{number}", description="Name of a device, from {fleet}, {site} and {number}.")
    topic: str = Field(
        "sensors/{site}/{device}/telemetry",
        description="Topic, from {fleet}, {site}, {device} and, for scalars, {metric}.",
    )
    interval: Duration = Field(SECOND, ge=10**6, description="Time between two reports of a device.")
    jitter: float = Field(
        0.1, ge=0, le=0.9, description="How irregular the reports are, as a fraction of the interval."
    )
    qos: Literal[0, 1] = Field(1, description="MQTT quality of service of the publications.")
    retain: bool = Field(False, description="Publish with the RETAIN flag.")
    format: Literal["json", "scalar", "nested", "records"] = Field(
        "json",
        description="json: one flat object; nested: values in an object of their own; records: an array of flat "
        "objects; scalar: one message per metric, the bare value.",
    )
    records: int = Field(4, ge=1, le=1000, description="Records in a message, for the format records.")
    time_field: str | None = Field("ts", description="Name of the time in the payload; null: none.")
    time_unit: Literal["s", "ms", "us", "ns", "rfc3339"] = Field("ms", description="Unit of the time in the payload.")
    metrics: dict[str, Metric] = Field(min_length=1, description="What the devices measure.")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.devices is None) == (self.devices_per_site is None):
            raise ValueError("give either devices or devices_per_site")
        if not self.site_names:
            raise ValueError("a fleet needs at least one site")
        for text, allowed in ((self.device, {"fleet", "site", "number"}), (self.topic, self._topic_placeholders)):
            if unknown := set(_PLACEHOLDER.findall(text)) - allowed:
                raise ValueError(f"{text!r}: {sorted(unknown)} is none of the placeholders {sorted(allowed)}")
        if "{number}" not in self.device:
            raise ValueError("device needs the placeholder {number}, or all devices have the same name")
        if self.format == "scalar" and "{metric}" not in self.topic:
            raise ValueError("the topic of a scalar fleet needs the placeholder {metric}")
        if set("+#\0") & set(self.topic):
            raise ValueError("a topic to publish to has no + and no #")
        return self

    @property
    def _topic_placeholders(self) -> set[str]:
        return {"fleet", "site", "device"} | ({"metric"} if self.format == "scalar" else set())

    @property
    def site_names(self) -> list[str]:
        return [f"site-{n + 1}" for n in range(self.sites)] if isinstance(self.sites, int) else self.sites

    def all_devices(self) -> list[Device]:
        """Every device, numbered from 1 through all sites."""
        sites = self.site_names
        total = self.devices or (self.devices_per_site or 0) * len(sites)
        named = self.device.replace("{fleet}", self.name)
        return [
            Device(
                named.replace("{number}", f"{n + 1:04d}").replace("{site}", sites[n % len(sites)]),
                sites[n % len(sites)],
            )
            for n in range(total)
        ]


class Expect(Model):
    alert: str = Field(min_length=1, description="Name of the alert that the fault must raise, once for each device.")
    after: SignedDuration = Field(0, description="It begins to fire this long after the fault began, at the earliest.")
    within: Duration = Field(5 * SECOND, description="... and at the latest.")
    resolve_within: Duration = Field(10 * SECOND, description="It is resolved this long after the fault ended.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.after > self.within:
            raise ValueError("`after` must not be greater than `within`")
        return self


VALUE_KINDS = frozenset({"spike", "step", "drift", "stuck"})


class Fault(Model):
    kind: Literal[
        "spike", "step", "drift", "stuck", "dropout", "duplicate", "out_of_order", "delayed_burst", "clock_skew",
        "malformed", "reconnect_storm",
    ] = Field(description="What happens.")  # fmt: skip
    fleet: str | None = Field(None, description="Name of the fleet; may be left out when there is only one.")
    devices: list[str] | int | float = Field(
        1, description="Names, a number (3) or a fraction (0.1) chosen by the seed."
    )
    metric: str | None = Field(None, description="The metric, for spike, step, drift and stuck.")
    at: Duration = Field(0, description="Start, counted from the start of the scenario.")
    lasts: Duration = Field(0, alias="for", description="Length; 0: to the end (reconnect_storm: back at once).")
    every: Duration = Field(0, description="Happen again after this time, for ever; 0: once.")
    value: bool | float | str | None = Field(None, description="spike, step, stuck: the value during the fault.")
    step: float | None = Field(None, description="spike, step: added to the value, instead of `value`.")
    rate: float | None = Field(
        None, ge=-1e12, le=1e12, description="drift: units a second; duplicate, out_of_order, malformed: fraction."
    )
    offset: SignedDuration = Field(0, description="clock_skew: added to the device's clock, such as -1h.")
    clock: AwareDatetime | None = Field(None, description="clock_skew: what the clock shows when the fault begins.")
    expect: list[Expect] = Field(default_factory=list, description="Alerts that the fault must raise.")

    @field_validator("clock", mode="before")
    @classmethod
    def _year(cls, value: Any) -> Any:
        return datetime(value, 1, 1, tzinfo=UTC) if isinstance(value, int) and 1 <= value <= 9999 else value

    @property
    def fraction(self) -> float:
        """`rate` as the fraction of messages hit; all when it is not given."""
        return 1.0 if self.rate is None else self.rate

    def problems(self, fleet: Fleet) -> Iterator[str]:
        """What is wrong with it, given its fleet."""
        if self.every and not 0 < self.lasts < self.every:
            yield f"a fault that repeats needs a `for` between 0 and `every` ({format_duration(self.every)})"
        if self.expect and not self.lasts:
            yield "a fault with expected alerts needs a length (`for`)"
        if isinstance(self.devices, list):
            known = {device.name for device in fleet.all_devices()}
            yield from (f"fleet {fleet.name} has no device {name}" for name in self.devices if name not in known)
        elif isinstance(self.devices, float) and not 0 <= self.devices <= 1:
            yield f"a fraction of the devices lies between 0 and 1, not {self.devices}"
        if self.kind in VALUE_KINDS:
            yield from self._value_problems(fleet)
        elif self.kind in {"duplicate", "out_of_order", "malformed"} and not 0 <= self.fraction <= 1:
            yield f"rate is a fraction between 0 and 1, not {self.rate}"
        elif self.kind == "clock_skew" and (self.clock is None) == (self.offset == 0):
            yield "clock_skew needs either offset (-1h) or clock (1970-01-01T00:00:00Z)"

    def _value_problems(self, fleet: Fleet) -> Iterator[str]:
        metric = fleet.metrics.get(self.metric or "")
        if metric is None:
            yield f"{self.kind} needs a metric of fleet {fleet.name}: one of {', '.join(fleet.metrics)}"
            return
        if self.kind in {"spike", "step"} and (self.value is None) == (self.step is None):
            yield f"{self.kind} needs either value or step"
        if self.kind == "drift" and self.rate is None:
            yield "drift needs a rate, in units a second"
        number = isinstance(metric, NumberMetric)
        if not number and (self.kind == "drift" or self.step is not None):
            yield f"{self.metric} is no number: use step with a value"
        if isinstance(metric, StatesMetric) and self.value is not None and self.value not in metric.states:
            yield f"{self.value!r} is no state of {self.metric}: use one of {', '.join(metric.states)}"
        elif self.value is not None and not isinstance(metric, StatesMetric) and isinstance(self.value, str):
            yield f"{self.value!r} is no value of {self.metric}: write a {'number' if number else 'boolean'}"


class Scenario(Model):
    """Fleets and faults. The same scenario and seed give the same publications, byte for byte."""

    seed: int = Field(0, ge=0, description="Another seed gives another run of the same scenario.")
    duration: Duration = Field(0, description="Length of the run; 0: until it is stopped.")
    fleets: list[Fleet] = Field(min_length=1, description="Devices that report alike.")
    faults: list[Fault] = Field(default_factory=list, description="What goes wrong, when, and what must be noticed.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        names = [device.name for fleet in self.fleets for device in fleet.all_devices()]
        if len({fleet.name for fleet in self.fleets}) < len(self.fleets):
            problems.append("two fleets have the same name")
        elif len(set(names)) < len(names):
            problems.append("two fleets have devices of the same name")
        for n, fault in enumerate(self.faults):
            if fault.fleet is None and len(self.fleets) > 1 and fault.kind != "reconnect_storm":
                problems.append(f"faults[{n}]: say which fleet")
            elif fault.fleet is not None and all(fault.fleet != fleet.name for fleet in self.fleets):
                problems.append(f"faults[{n}]: there is no fleet {fault.fleet}")
            else:
                problems += [f"faults[{n}]: {text}" for text in fault.problems(self.fleet_of(fault))]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def fleet_of(self, fault: Fault) -> Fleet:
        return next((fleet for fleet in self.fleets if fleet.name == fault.fleet), self.fleets[0])
