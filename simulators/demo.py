"""The demo's scenario: pumps at three sites, a tenth of them with a fault, made for the rules that the demo ships.

The rules have fixed thresholds and times (in comments below); every expectation is derived from them and from the
report interval. Not here: the rules themselves, and running anything.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from simulators.scenario import SECOND, Scenario
from telemetry import format_duration

log = logging.getLogger("tocsin.simulators")
FLEET = "pump"
CYCLE_S = 60.0
"""An endless demo repeats its faults after this time."""
_FIRST_S, _END_MARGIN_S, _SLACK_S = 1.5, 4.0, 2.5
"""First fault; quiet time before the end; time that a tick and its evaluation may add to a resolution."""
_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class _Plan:
    """One way in which a demo device fails."""

    kind: str
    lasts: float
    """s"""
    alert: str = ""
    """Empty: no alert may fire."""
    after: float = 0.0
    """s from the start of the fault until the alert begins, if the device reported continuously."""
    early: float = 0.0
    """Intervals by which it may begin earlier, since the last report before the fault counts."""
    late: float = 0.0
    """s by which it may begin later, beyond two intervals."""
    keep: float = 0.0
    """s that the alert stays after the fault."""
    fields: dict[str, Any] = field(default_factory=dict)


_PLANS = (
    # the rule HighTemperature is: temperature > 80, for: 2s
    _Plan("spike", 4.5, "HighTemperature", after=2.0, fields={"metric": "temperature", "value": 95}),
    # the rule Overpressure is: pressure > 400
    _Plan("spike", 2.5, "Overpressure", fields={"metric": "pressure", "value": 450}),
    # the rule BearingWear is: vibration > 6 and on(device) running == 1, keep_firing_for: 2s
    _Plan("step", 3.0, "BearingWear", keep=2.0, fields={"metric": "vibration", "value": 8}),
    # the rule DoorOpen is: door{state="open"} == 1, for: 3s
    _Plan("step", 4.8, "DoorOpen", after=3.0, fields={"metric": "door", "value": "open"}),
    # the rule DeviceSilent is: age(temperature) > 4: counted from the last report, noticed by a tick
    _Plan("dropout", 6.0, "DeviceSilent", after=4.0, early=1 + _JITTER, late=_SLACK_S),
    _Plan("spike", 0.5, fields={"metric": "temperature", "value": 95}),
    _Plan("step", 3.0, fields={"metric": "vibration", "value": 8}),
    _Plan("duplicate", 4.0),
    _Plan("out_of_order", 4.0),
    _Plan("delayed_burst", 1.8),
    _Plan("malformed", 4.0, fields={"rate": 0.5}),
    _Plan("clock_skew", 0.0, fields={"clock": "1970-01-01T00:00:00Z"}),
    _Plan("clock_skew", 0.0, fields={"clock": "2100-01-01T00:00:00Z"}),
)
_NOT_RUNNING = 6
"""The plan whose device stands still, so that its vibration must not raise BearingWear."""


def demo_scenario(*, devices: int, duration_s: float | None, seed: int, rate: float | None) -> Scenario:
    """A scenario for about `devices` devices; None as duration: endless, with the faults again every minute.

    `rate` (messages a second, over all devices) sets the report interval; each device reports once a second at least,
    since the rules count on it, so a rate lower than the number of devices means fewer devices (logged).
    """
    if rate is not None and rate < devices:
        fewer = max(1, int(rate))
        log.warning("%g messages/s are too few for %d devices that report each second: using %d", rate, devices, fewer)
        devices = fewer
    interval = 1.0 if rate is None else min(1.0, max(0.001, devices / rate))
    rng = random.Random(seed)  # noqa: S311  # reproducible, no secret
    return Scenario.model_validate(
        {
            "seed": seed,
            "duration": _text(duration_s or 0.0),
            "fleets": [_fleet(devices, interval)],
            "faults": list(_faults(devices, interval, duration_s, rng)),
        }
    )


def _fleet(devices: int, interval: float) -> dict[str, Any]:
    return {
        "name": FLEET,
        "sites": ["ams", "ber", "cph"],
        "devices": devices,
        "interval": _text(interval),
        "jitter": _JITTER,
        "metrics": {
            "temperature": {
                "level": 45,
                "noise": 0.5,
                "per_device_spread": 3,
                "cycle": {"amplitude": 2, "period": "2m"},
            },
            "pressure": {"level": 300, "noise": 2, "per_device_spread": 10, "decimals": 1},
            "vibration": {"level": 2, "noise": 0.2, "per_device_spread": 0.3, "decimals": 3},
            "flow": {"level": 12, "noise": 0.3, "per_device_spread": 2},
            "running": "boolean",
            "door": {"states": ["closed", "open"]},
        },
    }


def _faults(devices: int, interval: float, duration_s: float | None, rng: random.Random) -> Iterator[dict[str, Any]]:
    """About one device in ten; with few devices, as many as there are kinds, so that everything is seen."""
    count = max(min(devices, len(_PLANS)), round(devices / 10))
    names = [f"{FLEET}-{n:04d}" for n in sorted(rng.sample(range(1, devices + 1), count))]
    rng.shuffle(names)
    for n, name in enumerate(names):
        number = n % len(_PLANS)
        start = _start(_PLANS[number], interval, duration_s, rng)
        if start is None:
            continue
        if number == _NOT_RUNNING:
            yield {"kind": "step", "devices": [name], "metric": "running", "value": False}
        yield _fault(_PLANS[number], name, start, interval, repeat=duration_s is None)
    end = CYCLE_S if duration_s is None else duration_s
    if end >= 8:  # the storm needs quiet time before and after it
        yield {
            "kind": "reconnect_storm",
            "at": _text(rng.uniform(2.0, end - 5)),
            "for": "500ms",
            "every": _text(CYCLE_S if duration_s is None else 0.0),
        }


def _start(plan: _Plan, interval: float, duration_s: float | None, rng: random.Random) -> float | None:
    """When it begins, so that it is over and resolved in time; None when the run is too short for it."""
    if plan.kind == "clock_skew":
        return 0.0
    end = CYCLE_S if duration_s is None else duration_s
    latest = end - _END_MARGIN_S - plan.lasts - plan.keep - (1 + _JITTER) * interval
    return rng.uniform(_FIRST_S, latest) if latest >= _FIRST_S else None


def _fault(plan: _Plan, device: str, start: float, interval: float, *, repeat: bool) -> dict[str, Any]:
    fault: dict[str, Any] = {
        "kind": plan.kind,
        "devices": [device],
        "at": _text(start),
        "for": _text(plan.lasts),
        **plan.fields,
    }
    if repeat and plan.lasts:
        fault["every"] = _text(CYCLE_S)
    if plan.alert:
        fault["expect"] = [
            {
                "alert": plan.alert,
                "after": _text(plan.after - plan.early * interval),
                "within": _text(plan.after + (2 + _JITTER) * interval + plan.late),
                "resolve_within": _text(plan.keep + (2 + _JITTER) * interval + _SLACK_S),
            }
        ]
    return fault


def _text(seconds: float) -> str:
    return format_duration(round(seconds * SECOND))
