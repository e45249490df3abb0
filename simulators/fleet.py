"""Publications of all fleets in time order: what thousands of devices send, made a report of a whole fleet at a time.

Here: values, report times, merging. Not here: sending (publisher.py). Pure: the same scenario, the same bytes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left
from collections.abc import Iterator
from itertools import count
from operator import attrgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulators.faults import DUPLICATE_DELAY, FleetFaults, Reports
from simulators.payloads import Encoder, damage
from simulators.scenario import BooleanMetric, Fleet, Metric, NumberMetric, Scenario, StatesMetric

NOISE_LIMIT = 3.0
"""Noise never exceeds this many standard deviations, so a threshold with a margin is crossed by faults only."""
_HOUR = 3600e9


class Publication(NamedTuple):
    """One MQTT message that a device sends."""

    at_ns: int
    """ns since the start of the scenario."""
    topic: str
    payload: bytes
    qos: int
    retain: bool
    device: str
    kind: str
    """`reading`, or the fault that shaped it: duplicate, out_of_order, delayed_burst, clock_skew, malformed."""
    readings: int
    """Values in the payload; 0 when it is malformed."""


_at = attrgetter("at_ns")


def publications(scenario: Scenario, *, epoch_ns: int) -> Iterator[Publication]:
    """Every publication in time order; endless when the scenario is.

    `epoch_ns` is the wall time of the start (ns since the epoch, UTC): devices write epoch_ns + at into their payloads.
    """
    streams = [_stream(scenario, number, epoch_ns) for number in range(len(scenario.fleets))]
    return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=_at)


def _stream(scenario: Scenario, number: int, epoch_ns: int) -> Iterator[Publication]:
    """The publications of one fleet: report k of every device lies at or after k intervals, so all before are final."""
    fleet = scenario.fleets[number]
    reporter = _Reporter(scenario, number, epoch_ns)
    pending: list[Publication] = []
    for k in count():
        if scenario.duration and k * fleet.interval >= scenario.duration:
            break
        pending += reporter.report(k)
        pending.sort(key=_at)
        final = bisect_left(pending, (k + 1) * fleet.interval, key=_at)
        yield from pending[:final]
        del pending[:final]
    yield from pending


class _Reporter:
    """Makes the k-th report of every device of a fleet."""

    def __init__(self, scenario: Scenario, number: int, epoch_ns: int) -> None:
        self._fleet = fleet = scenario.fleets[number]
        self._key = [scenario.seed, number]
        self._epoch, self._duration = epoch_ns, scenario.duration
        self._faults = FleetFaults(scenario, fleet, epoch_ns=epoch_ns)
        self._encoder = Encoder(fleet)
        devices = fleet.all_devices()
        self._names = [device.name for device in devices]
        metrics = list(fleet.metrics) if fleet.format == "scalar" else [""]
        self._topics = [[_topic(fleet, d.name, d.site, metric) for d in devices] for metric in metrics]
        rng = np.random.default_rng([*self._key, 0])
        self._phase = rng.integers(0, fleet.interval, len(devices))
        self._offset = rng.uniform(-1, 1, (len(fleet.metrics), len(devices)))

    def report(self, k: int) -> list[Publication]:
        fleet, n = self._fleet, len(self._names)
        rng = np.random.default_rng([*self._key, 1, k])
        planned = self._phase + k * fleet.interval + (rng.random(n) * (fleet.jitter * fleet.interval)).astype(np.int64)
        records = fleet.records if fleet.format == "records" else 1
        ages = np.arange(records - 1, -1, -1, dtype=np.int64)[:, None] * (fleet.interval // records)
        times = planned - ages
        noise = np.clip(rng.standard_normal((records, len(fleet.metrics), n)), -NOISE_LIMIT, NOISE_LIMIT)
        values = np.stack(
            [_values(m, times, noise[:, i], self._offset[i]) for i, m in enumerate(fleet.metrics.values())], axis=1
        )
        sent = planned < self._duration if self._duration else np.ones(n, np.bool_)
        reports = Reports(k, times, values, np.zeros(n, np.int64), planned.copy(), sent, ["reading"] * n)
        self._faults.apply(reports)
        return list(self._messages(reports))

    def _messages(self, reports: Reports) -> Iterator[Publication]:
        fleet, readings = self._fleet, self._encoder.readings
        payloads = self._encoder.encode(reports.time + self._epoch + reports.skew, reports.values)
        wire, sent = reports.wire.tolist(), reports.sent.tolist()
        qos, retain = fleet.qos, fleet.retain
        for topics, part in zip(self._topics, payloads, strict=True):
            for at, topic, payload, name, kind, goes in zip(
                wire, topics, part, self._names, reports.kind, sent, strict=True
            ):
                if goes:
                    yield Publication(at, topic, payload, qos, retain, name, kind, readings)
            for d in reports.copies:
                if sent[d]:
                    at = wire[d] + DUPLICATE_DELAY
                    yield Publication(at, topics[d], part[d], qos, retain, self._names[d], "duplicate", readings)
            for d, variant in reports.broken:
                if sent[d]:
                    bad = damage(part[d], variant, scalar=fleet.format == "scalar")
                    yield Publication(wire[d], topics[d], bad, qos, retain, self._names[d], "malformed", 0)


def _values(
    metric: Metric, times: NDArray[np.int64], noise: NDArray[np.float64], offset: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(R, D) undisturbed values; states as their index, booleans as 0 and 1."""
    match metric:
        case NumberMetric():
            values = metric.level + metric.per_device_spread * offset + metric.noise * noise
            if metric.cycle is not None:
                values += metric.cycle.amplitude * np.sin(times * (2 * np.pi / metric.cycle.period))
            return values + metric.drift * (times / _HOUR)
        case StatesMetric():
            return _steps(times, metric.change) % len(metric.states)
        case BooleanMetric():
            return (_steps(times, metric.change) + metric.boolean) % 2


def _steps(times: NDArray[np.int64], change: int) -> NDArray[np.float64]:
    return (np.maximum(times, 0) // change).astype(np.float64) if change else np.zeros(times.shape)


def _topic(fleet: Fleet, device: str, site: str, metric: str) -> str:
    topic = fleet.topic.replace("{fleet}", fleet.name).replace("{metric}", metric)
    return topic.replace("{site}", site).replace("{device}", device)
