"""What both reference evaluators, that of readings and that of the grid, know of alerts: labels, outcomes, events."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from rules.rule_file import NoData, Rule
from rules.syntax import Labels
from telemetry import AlertEvent, AlertState
from tests.rules.promql_reference_operators import Element

NEVER = -(1 << 62)

TRUE, FALSE, UNKNOWN = "T", "F", "U"


@dataclass
class Instance:
    """One alert of a rule: what it is now, and since when."""

    labels: Labels
    firing: bool = False
    condition: bool = False
    since: int = NEVER
    """Start of the current run of the condition; later by all the time that it was unknown meanwhile"""
    fired_at: int = 0
    value: float = math.nan
    unknown_since: int | None = None
    clock: int | None = None
    anchor: int = 0
    events: list[AlertEvent] = field(default_factory=list)


def final(rule: Rule, labels: Labels) -> Labels:
    """The labels of the alert that an element stands for."""
    given = {n: v for n, v in labels if n != "__name__"}
    own = {n: t.expand(given, math.nan) for n, t in rule.labels}
    return tuple(sorted((n, v) for n, v in (given | own | {"alertname": rule.alert}).items() if v))


def outcome(rule: Rule, elements: list[Element]) -> tuple[str, float]:
    """What the elements of one alert say, and the value; two that are there at once are an error."""
    values = [e.value for e in elements if e.value is not None]
    if len(values) > 1:
        return UNKNOWN, math.nan
    if len(values) == 1:
        return TRUE, values[0]
    if any(e.vanished for e in elements):
        return {NoData.KEEP: UNKNOWN, NoData.RESOLVE: FALSE, NoData.FIRE: TRUE}[rule.no_data], math.nan
    return FALSE, math.nan


def turn(rule: Rule, instance: Instance, at: int, detected: int) -> None:
    """It begins to fire, or is resolved."""
    instance.firing = not instance.firing
    if instance.firing:
        instance.fired_at = at
    labels = dict(instance.labels)
    annotations = tuple((n, t.expand(labels, instance.value)) for n, t in rule.annotations)
    instance.events.append(
        AlertEvent(
            rule.id,
            instance.labels,
            AlertState.FIRING if instance.firing else AlertState.RESOLVED,
            instance.value,
            instance.fired_at,
            0 if instance.firing else at,
            detected,
            annotations,
        )
    )


def drain(instance: Instance) -> list[AlertEvent]:
    events, instance.events = instance.events, []
    return events


def in_order(found: list[tuple[int, AlertEvent]]) -> list[AlertEvent]:
    """(number of the rule, event) of one instant, by rule, labels and time."""
    return [e for _, e in sorted(found, key=lambda f: (f[0], f[1].labels, f[1].ends_at or f[1].starts_at))]
