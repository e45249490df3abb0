"""The reference evaluator of rules that are not pointwise, and of recording rules: at ticks, on their group's grid.

A rule is evaluated once for the newest instant T of its grid, all at once, in the order of the file; the state machine
is Prometheus' own: what it finds holds from T on, and deadlines pass at instants of the grid only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rules.rule_file import DEFAULT_INTERVAL
from rules.syntax import Labels
from telemetry import AlertEvent
from tests.rules.promql_reference import Ending, Track, World, evaluate
from tests.rules.promql_reference_functions import EvaluationError, nameless
from tests.rules.promql_reference_operators import Element
from tests.rules.reference_alerts import FALSE, TRUE, UNKNOWN, Instance, drain, final, outcome, turn


@dataclass
class Grid:
    """rules: alerting and recording rules by number, in the order of the file."""

    rules: Mapping[int, Any]
    staleness: int
    """ns that samples of recorded series are seen"""
    recorded: dict[Labels, list[tuple[int, float | Ending]]] = field(default_factory=dict)
    """The samples of each recorded series"""
    last: dict[int, tuple[int, int]] = field(default_factory=dict)
    """The grid instant at which each rule was evaluated last, and our up-time at it"""
    instances: dict[int, dict[Labels, Instance]] = field(default_factory=dict)
    writers: dict[int, set[Labels]] = field(default_factory=dict)
    """The recorded series that each rule has written"""

    def tick(self, now: int, uptime: int, tracks_at: Callable[[int], list[Track]]) -> list[tuple[int, AlertEvent]]:
        """uptime: how long tocsin has been up by `now`; tracks_at: the series of devices as of an instant of our clock.

        Events with the numbers of their rules.
        """
        found: list[tuple[int, AlertEvent]] = []
        for i, rule in self.rules.items():
            interval = getattr(rule, "interval", DEFAULT_INTERVAL)
            at = now // interval * interval
            up = uptime - (now - at)
            before, up_before = self.last.get(i, (None, up))
            if at == before:
                continue
            self.last[i] = at, up
            passed = up - up_before
            for instance in self.instances.get(i, {}).values():
                if before is not None:
                    instance.since += (at - before) - passed  # timers stand still while we are down
            recorded = [Track(labels, samples, self.staleness) for labels, samples in self.recorded.items()]
            try:
                elements = evaluate(rule.expression, at, World([*tracks_at(at), *recorded], interval))
            except EvaluationError:
                continue  # all stays as it is
            if hasattr(rule, "record"):
                self.write(i, rule, at, elements)
            else:
                self.alert(i, rule, at, passed, elements, now)
                found += [(i, e) for instance in self.instances[i].values() for e in drain(instance)]
        return found

    # ---- recording rules
    def write(self, i: int, rule: Any, at: int, elements: list[Element]) -> None:
        """The elements become samples; the series of those that are gone end."""
        values: dict[Labels, float | Ending] = {}
        for e in sorted(elements, key=lambda e: e.value is not None):  # what is there goes before what vanished
            labels = tuple(sorted((dict(nameless(e.labels)) | dict(rule.labels) | {"__name__": rule.record}).items()))
            labels = tuple(pair for pair in labels if pair[1])
            if e.value is not None and isinstance(values.get(labels), float):
                return  # two elements with the same labels are an error
            values[labels] = Ending.VANISHED if e.value is None else e.value
        written = self.writers.setdefault(i, set())
        for labels in written - values.keys():
            values[labels] = Ending.ABSENT
        for labels, value in values.items():
            if labels in written or not isinstance(value, Ending):
                samples = self.recorded.setdefault(labels, [])
                if not samples or samples[-1][0] < at:  # else another rule has made one of this instant
                    samples.append((at, value))
                written.add(labels)

    # ---- alerting rules
    def alert(self, i: int, rule: Any, at: int, passed: int, elements: list[Element], detected: int) -> None:
        """One evaluation of all alerts of a rule, when we have been up for `passed` since the last one."""
        instances = self.instances.setdefault(i, {})
        said: dict[Labels, list[Element]] = {labels: [] for labels in instances}
        for e in elements:
            said.setdefault(final(rule, e.labels), []).append(e)
        if any(len([e for e in own if e.value is not None]) > 1 for own in said.values()):
            return  # two elements of one alert: as any other error
        for labels, own in said.items():
            instance = instances.setdefault(labels, Instance(labels))
            condition, value = outcome(rule, own)
            if condition == UNKNOWN:
                instance.since += passed
                continue
            if instance.condition != (condition == TRUE):
                instance.condition, instance.since = condition == TRUE, at
            if condition != FALSE:
                instance.value = value
            wait = rule.hold if instance.condition else rule.keep
            if instance.firing != instance.condition and at - instance.since >= wait:
                turn(rule, instance, at, detected)
