"""What happens to readings on their way, in tests of rules: they are lost, repeated, delayed, overtaken, misdated.

The names are those of the simulators' scenarios. Here: the user's faults, and what they do to arrivals. Not here: what
the rules make of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from telemetry import parse_duration

Ints = NDArray[np.int64]
_COPY_DELAY = 10**7
"""ns between a message and its copy, if nothing else is said; as of the simulators."""
_OTHER_WORDS = {
    "drop": "dropout", "loss": "dropout", "reorder": "out_of_order", "duplicates": "duplicate", "late": "delay",
    "burst": "delayed_burst", "skew": "clock_skew",
}  # fmt: skip


def _signed(text: Any) -> int:
    return -parse_duration(text[1:]) if isinstance(text, str) and text.startswith("-") else parse_duration(text)


def _kind(word: Any) -> Any:
    if word in _OTHER_WORDS:
        raise ValueError(f"unknown kind {word!r}: did you mean {_OTHER_WORDS[word]!r}?")
    return word


class Fault(BaseModel):
    """One fault of one test."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    series: str = Field("", description="Selector of the series that it befalls; all if it is missing.")
    kind: Annotated[
        Literal["dropout", "duplicate", "delay", "delayed_burst", "out_of_order", "clock_skew"], BeforeValidator(_kind)
    ] = Field(description="What happens.")
    at: Annotated[int, BeforeValidator(parse_duration)] = Field(0, description="From when on, since the test's start.")
    lasts: Annotated[int, BeforeValidator(parse_duration)] = Field(
        0, alias="for", description="How long; 0: to the end. A delayed_burst comes when this is over."
    )
    rate: float = Field(1.0, ge=0, le=1, description="Which fraction of the readings, chosen by the seed.")
    by: Annotated[int, BeforeValidator(parse_duration)] = Field(
        0, description="delay: how much later they come; duplicate: how much later the copy comes (10ms)."
    )
    offset: Annotated[int, BeforeValidator(_signed)] = Field(
        0, description="clock_skew: added to the devices' clocks, such as -1h."
    )

    def problems(self) -> Iterator[str]:
        """What does not fit together in it."""
        if (self.by == 0) != (self.kind != "delay") and self.kind != "duplicate":
            yield "delay needs by: how much later the readings come" if self.by == 0 else f"{self.kind} has no by"
        if (self.offset == 0) != (self.kind != "clock_skew"):
            yield "clock_skew needs an offset, such as -1h" if self.offset == 0 else f"{self.kind} has no offset"
        if self.kind == "delayed_burst" and not self.lasts:
            yield "delayed_burst needs a length (for), after which all readings come at once"


@dataclass(slots=True)
class Arrivals:
    """(n,) readings, in any order."""

    series: NDArray[np.int32]
    planned: Ints
    """ns: when each was measured and, without faults, came"""
    time: Ints
    """ns: its own time"""
    received: Ints
    """ns"""
    value: NDArray[np.float64]

    def take(self, rows: Any) -> Arrivals:
        return Arrivals(self.series[rows], self.planned[rows], self.time[rows], self.received[rows], self.value[rows])

    def in_order(self) -> Arrivals:
        """As they come; the readings of one message, which were measured together, stand together, by their time."""
        return self.take(np.lexsort((self.series, self.time, self.planned, self.received)))

    @property
    def message(self) -> Ints:
        """(n,) the number of each reading's message; they must be in order."""
        new = np.ones(len(self.series), bool)
        new[1:] = (np.diff(self.received) != 0) | (np.diff(self.planned) != 0)
        return np.cumsum(new) - 1


def befall(
    arrivals: Arrivals, fault: Fault, series: NDArray[np.int64], *, start: int, interval: int, rng: np.random.Generator
) -> Arrivals:
    """The arrivals with a fault of these series; `start` of the test and `interval` of the samples in ns."""
    since = arrivals.planned - start - fault.at
    hit = np.isin(arrivals.series, series) & (since >= 0)
    if fault.lasts:
        hit &= since < fault.lasts
    if fault.kind == "out_of_order":
        hit &= since // interval % 2 == 0  # only every other reading: those between must overtake it
    hit &= rng.random(len(hit)) < fault.rate
    received = arrivals.received
    match fault.kind:
        case "dropout":
            return arrivals.take(~hit)
        case "duplicate":
            copies = arrivals.take(hit)
            copies.received = copies.received + (fault.by or _COPY_DELAY)
            return _joined(arrivals, copies)
        case "delay":
            received = received + np.where(hit, fault.by, 0)
        case "delayed_burst":
            received = np.where(hit, np.maximum(received, start + fault.at + fault.lasts), received)
        case "out_of_order":
            received = received + np.where(hit, interval * 11 // 10, 0)
        case "clock_skew":
            arrivals.time = arrivals.time + np.where(hit, fault.offset, 0)
    arrivals.received = received
    return arrivals


def _joined(a: Arrivals, b: Arrivals) -> Arrivals:
    columns = (np.concatenate([getattr(a, name), getattr(b, name)]) for name in Arrivals.__slots__)
    return Arrivals(*columns)
