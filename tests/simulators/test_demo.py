"""Laws of the demo's scenario, checked with a slow and obvious evaluation of the rules that it is made for."""

import json
import logging
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from simulators.demo import CYCLE_S, demo_scenario
from simulators.fleet import publications
from simulators.scenario import Scenario
from simulators.truth import expectations, judge
from telemetry import AlertEvent, AlertState

EPOCH = 1_700_000_000 * 10**9
S = 10**9


@dataclass
class Alert:
    """One rule of one device: `for`, then firing, then kept for a while."""

    name: str
    device: str
    wait: int = 0
    keep: int = 0
    since: int | None = None
    firing: int | None = None
    gone: int | None = None
    events: list[AlertEvent] = field(default_factory=list)

    def see(self, now: int, holds: bool) -> None:
        self.advance(now)
        if holds:
            self.gone = None
            self.since = now if self.since is None else self.since
        elif self.firing is None:
            self.since = None
        elif self.gone is None:
            self.gone = now
        self.advance(now)

    def advance(self, now: int) -> None:
        if self.firing is None and self.since is not None and now >= self.since + self.wait:
            self.firing = self.since + self.wait
            self._tell(AlertState.FIRING, 0)
        if self.firing is not None and self.gone is not None and now >= self.gone + self.keep:
            self._tell(AlertState.RESOLVED, self.gone + self.keep)
            self.since = self.firing = self.gone = None

    def _tell(self, state: AlertState, end: int) -> None:
        labels = (("alertname", self.name), ("device", self.device))
        assert self.firing is not None
        self.events.append(AlertEvent(self.name, labels, state, 1.0, self.firing, end, self.firing))


def evaluate(plan: Scenario, until: int) -> list[AlertEvent]:
    """The demo's rules over what the pipeline accepts: well-formed, plausible times, newer than what it has seen."""
    alerts: dict[str, dict[str, Alert]] = {}
    newest: defaultdict[str, int] = defaultdict(int)
    arrived: dict[str, tuple[int, int]] = {}
    tick = EPOCH
    for p in publications(plan, epoch_ns=EPOCH):
        if p.at_ns >= until:
            break
        now = EPOCH + p.at_ns
        while tick <= now:
            silence(alerts, arrived, tick)
            tick += S
        try:
            body = json.loads(p.payload)
        except ValueError:
            continue
        time = body["ts"] * 10**6
        if abs(time - now) > 600 * S or time <= newest[p.device]:
            continue
        newest[p.device] = time
        arrived[p.device] = time, now
        if p.device not in alerts:
            alerts[p.device] = {a.name: a for a in rules(p.device)}
        for name, holds in conditions(body):
            alerts[p.device][name].see(time, holds)
    return [e for by_name in alerts.values() for a in by_name.values() for e in a.events]


def rules(device: str) -> Iterator[Alert]:
    yield Alert("HighTemperature", device, wait=2 * S)
    yield Alert("Overpressure", device)
    yield Alert("BearingWear", device, keep=2 * S)
    yield Alert("DoorOpen", device, wait=3 * S)
    yield Alert("DeviceSilent", device)


def conditions(body: dict[str, Any]) -> Iterator[tuple[str, bool]]:
    yield "HighTemperature", body["temperature"] > 80
    yield "Overpressure", body["pressure"] > 400
    yield "BearingWear", body["vibration"] > 6 and body["running"]
    yield "DoorOpen", body["door"] == "open"
    yield "DeviceSilent", False


def silence(alerts: dict[str, dict[str, Alert]], arrived: dict[str, tuple[int, int]], tick: int) -> None:
    """A device's time at a tick: its newest reading's, plus the time since that arrived."""
    for device, (time, arrival) in arrived.items():
        age = tick - arrival
        for alert in alerts[device].values():
            alert.advance(time + age)
        if age > 4 * S:
            alerts[device]["DeviceSilent"].see(time + 4 * S, True)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("devices", "duration_s", "rate"), [(60, 20.0, None), (200, 14.0, None), (40, 30.0, 200.0), (7, 20.0, None)]
)
def test_the_rules_find_exactly_what_is_expected(
    seed: int, devices: int, duration_s: float, rate: float | None
) -> None:
    plan = demo_scenario(devices=devices, duration_s=duration_s, seed=seed, rate=rate)
    expected = expectations(plan, epoch_ns=EPOCH)
    verdict = judge(expected, evaluate(plan, plan.duration))
    assert verdict.passed, verdict.details
    assert verdict.detected == len(expected) >= 5
    assert {e.alert for e in expected} == {
        "HighTemperature", "Overpressure", "BearingWear", "DoorOpen", "DeviceSilent"
    }  # fmt: skip


def test_an_endless_demo_repeats_its_faults_and_expectations_every_minute() -> None:
    plan = demo_scenario(devices=15, duration_s=None, seed=1, rate=None)
    once = expectations(plan, epoch_ns=EPOCH, until=60 * S)
    twice = expectations(plan, epoch_ns=EPOCH, until=120 * S)
    assert [e.from_ns for e in twice[len(once) :]] == [e.from_ns + round(CYCLE_S * S) for e in once]
    verdict = judge(twice, evaluate(plan, 120 * S), end_ns=EPOCH + 120 * S)
    assert verdict.passed, verdict.details
    assert verdict.detected == len(twice)


@pytest.mark.parametrize("seed", range(5))
def test_every_fault_starts_after_a_second_and_a_half_and_leaves_four_quiet_seconds(seed: int) -> None:
    plan = demo_scenario(devices=300, duration_s=15, seed=seed, rate=None)
    for fault in plan.faults:
        if fault.lasts and fault.kind != "reconnect_storm":
            assert fault.at >= 1.5 * S
            assert fault.at + fault.lasts <= 11 * S


def test_about_a_tenth_of_the_devices_has_a_fault() -> None:
    plan = demo_scenario(devices=1000, duration_s=60, seed=1, rate=None)
    ill = {name for fault in plan.faults if isinstance(fault.devices, list) for name in fault.devices}
    assert len(ill) == 100


def test_every_kind_of_trouble_is_shown_even_with_few_devices() -> None:
    kinds = {fault.kind for fault in demo_scenario(devices=13, duration_s=20, seed=1, rate=None).faults}
    assert kinds == {
        "spike", "step", "dropout", "duplicate", "out_of_order", "delayed_burst", "malformed", "clock_skew",
        "reconnect_storm",
    }  # fmt: skip


def test_the_rate_sets_the_interval_and_never_makes_it_longer_than_a_second(caplog: pytest.LogCaptureFixture) -> None:
    fast = demo_scenario(devices=100, duration_s=20, seed=1, rate=500).fleets[0]
    assert (fast.devices, fast.interval) == (100, 200_000_000)
    with caplog.at_level(logging.WARNING, "tocsin.simulators"):
        slow = demo_scenario(devices=100, duration_s=20, seed=1, rate=30).fleets[0]
    assert (slow.devices, slow.interval) == (30, S)
    assert "using 30" in caplog.text


def test_the_same_seed_gives_the_same_demo() -> None:
    def make(seed: int) -> Scenario:
        return demo_scenario(devices=50, duration_s=20, seed=seed, rate=None)

    assert make(1) == make(1)
    assert make(1) != make(2)


@pytest.mark.parametrize("duration_s", [1.0, 5.0, 12.0])
def test_a_short_demo_has_only_the_faults_that_fit(duration_s: float) -> None:
    plan = demo_scenario(devices=50, duration_s=duration_s, seed=1, rate=None)
    expected = expectations(plan, epoch_ns=EPOCH)
    verdict = judge(expected, evaluate(plan, plan.duration))
    assert verdict.passed, verdict.details
    assert verdict.detected == len(expected)
