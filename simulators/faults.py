"""What each kind of fault does to the reports of a fleet: to their values, their clocks and their way to the broker.

Here: windows, choice of devices, effects, all over arrays. Not here: the reports themselves (fleet.py).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from simulators.scenario import SECOND, VALUE_KINDS, Fault, Fleet, NumberMetric, Scenario, StatesMetric

DUPLICATE_DELAY = 10_000_000
"""ns between a message and its copy."""
_CHOICE, _CHANCE = 1, 2
"""Streams of random numbers that must not depend on one another."""


def occurrences(fault: Fault, until: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each time the fault happens before `until`, in ns since the start of the scenario."""
    start = fault.at
    while start < until:
        yield start, start + fault.lasts if fault.lasts else until
        if not fault.every:
            return
        start += fault.every


def chosen(scenario: Scenario, index: int) -> NDArray[np.intp]:
    """(k,) ascending indices of the devices that fault number `index` befalls."""
    fault = scenario.faults[index]
    devices = scenario.fleet_of(fault).all_devices()
    if isinstance(fault.devices, list):
        numbers = {device.name: n for n, device in enumerate(devices)}
        return np.array(sorted({numbers[name] for name in fault.devices}), np.intp)
    count = fault.devices if isinstance(fault.devices, int) else round(fault.devices * len(devices))
    rng = np.random.default_rng([scenario.seed, _CHOICE, index])
    return np.sort(rng.permutation(len(devices))[: max(0, count)])


@dataclass(slots=True)
class Reports:
    """One report of every device of a fleet: D devices, R records each."""

    number: int
    """Counts the reports of each device from 0."""
    time: NDArray[np.int64]
    """(R, D) when each record was measured, ns since the start; the last row is the planned time of sending."""
    values: NDArray[np.float64]
    """(R, M, D)"""
    skew: NDArray[np.int64]
    """(D,) ns added to the times in the payload."""
    wire: NDArray[np.int64]
    """(D,) when it goes out, ns since the start."""
    sent: NDArray[np.bool_]
    """(D,)"""
    kind: list[str]
    """D names: "reading", or the fault that befell it on its way."""
    copies: list[int] = field(default_factory=list)
    """Devices whose message is sent twice."""
    broken: list[tuple[int, int]] = field(default_factory=list)
    """(device, variant): a damaged message follows."""


class FleetFaults:
    """The faults of one fleet, applied in the order of the scenario."""

    def __init__(self, scenario: Scenario, fleet: Fleet, *, epoch_ns: int) -> None:
        self._fleet, self._seed, self._epoch = fleet, scenario.seed, epoch_ns
        self._faults = [
            (index, fault, chosen(scenario, index))
            for index, fault in enumerate(scenario.faults)
            if fault.kind != "reconnect_storm" and scenario.fleet_of(fault) is fleet
        ]
        self._metric = {name: m for m, name in enumerate(fleet.metrics)}
        self._held: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def apply(self, reports: Reports) -> None:
        """Change the reports in place."""
        for index, fault, devices in self._faults:
            if fault.at > reports.time[-1].max(initial=0):
                continue
            if fault.kind in VALUE_KINDS:
                self._distort(reports, index, fault, devices)
            else:
                self._on_the_way(reports, index, fault, devices)

    def _distort(self, reports: Reports, index: int, fault: Fault, devices: NDArray[np.intp]) -> None:
        m = self._metric[fault.metric or ""]
        metric = self._fleet.metrics[fault.metric or ""]
        for r, times in enumerate(reports.time):
            active, since, cycle = _active(fault, times[devices])
            if not active.any():
                continue
            hit = devices[active]
            column = reports.values[r, m]
            if fault.kind == "drift":
                column[hit] += (fault.rate or 0.0) * since[active] / SECOND
            elif fault.step is not None:
                column[hit] += fault.step
            elif fault.kind == "step" and isinstance(metric, NumberMetric):
                column[hit] += float(fault.value or 0.0) - metric.level
            elif fault.value is not None:
                column[hit] = metric.states.index(str(fault.value)) if isinstance(metric, StatesMetric) else fault.value
            else:
                column[hit] = self._hold(index, cycle[active], np.flatnonzero(active), column[hit], len(devices))

    def _hold(
        self, index: int, cycle: NDArray[np.int64], places: NDArray[np.intp], now: NDArray[np.float64], n: int
    ) -> NDArray[np.float64]:
        """The values of a stuck sensor: those of its first report in this occurrence."""
        last, held = self._held.setdefault(index, (np.full(n, -1, np.int64), np.zeros(n)))
        fresh = last[places] != cycle
        held[places[fresh]] = now[fresh]
        last[places] = cycle
        return held[places]

    def _on_the_way(self, reports: Reports, index: int, fault: Fault, devices: NDArray[np.intp]) -> None:
        planned = reports.time[-1]
        active, since, _ = _active(fault, planned[devices])
        hit, since = devices[active], since[active]
        match fault.kind:
            case "dropout":
                reports.sent[hit] = False
            case "delayed_burst":
                reports.wire[hit] = np.maximum(reports.wire[hit], planned[hit] - since + fault.lasts)
                _mark(reports, hit, fault.kind)
            case "clock_skew":
                offset = fault.offset
                if fault.clock is not None:
                    begun = self._epoch + planned[hit] - since
                    reports.skew[hit] += round(fault.clock.timestamp()) * SECOND - begun
                else:
                    reports.skew[hit] += offset
                _mark(reports, hit, fault.kind)
            case "out_of_order":
                # only every other report: those between must overtake it
                late = self._lucky(fault, index, reports.number, hit) if reports.number % 2 == 0 else hit[:0]
                interval = self._fleet.interval
                reports.wire[late] += round(interval * (1.1 + self._fleet.jitter))
                _mark(reports, late, fault.kind)
            case "duplicate":
                reports.copies += self._lucky(fault, index, reports.number, hit).tolist()
            case _:
                broken = self._lucky(fault, index, reports.number, hit).tolist()
                reports.broken += [(device, reports.number + device) for device in broken]

    def _lucky(self, fault: Fault, index: int, number: int, hit: NDArray[np.intp]) -> NDArray[np.intp]:
        if fault.fraction >= 1:
            return hit
        rng = np.random.default_rng([self._seed, _CHANCE, index, number])
        return hit[rng.random(len(hit)) < fault.fraction]


def storms(scenario: Scenario, until: int) -> Iterator[tuple[int, int]]:
    """(start, end) of the reconnect storms before `until`, in order, in ns since the start."""
    yield from heapq.merge(*(_storm(f, until) for f in scenario.faults if f.kind == "reconnect_storm"))


def _storm(fault: Fault, until: int) -> Iterator[tuple[int, int]]:
    for start, _ in occurrences(fault, until):
        yield start, start + fault.lasts


def _active(fault: Fault, times: NDArray[np.int64]) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """For each time: does the fault act, how long ago did this occurrence begin (ns), and which occurrence is it."""
    since = times - fault.at
    cycle = since // fault.every if fault.every else np.zeros_like(since)
    active = since >= 0
    since = since - cycle * fault.every
    if fault.lasts:
        active &= since < fault.lasts
    return active, since, cycle


def _mark(reports: Reports, devices: NDArray[np.intp], kind: str) -> None:
    for device in devices.tolist():
        reports.kind[device] = kind
