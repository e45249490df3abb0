"""The alerts of one rule: their instances, what is told of them, and their state. Not here: when they are evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from rules.arithmetic import Floats
from rules.columns import Columns, Ints
from rules.compile import Compiled
from rules.instances import Instances
from rules.leaves import Members
from rules.lifecycle import FALSE, TRUE, UNKNOWN, Transitions, instance_table
from rules.operators import Bools, Frame
from rules.rule_file import NoData, Rule
from rules.syntax import Labels, Selector
from telemetry import AlertEvent, AlertState

_NO_DATA = {NoData.KEEP: UNKNOWN, NoData.RESOLVE: FALSE, NoData.FIRE: TRUE}


class Emitted(NamedTuple):
    """An event, and the position in the batch at which it became known."""

    position: int
    event: AlertEvent


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is pending or firing now."""

    rule: str
    labels: Labels
    annotations: Labels
    state: str
    """`pending` or `firing`"""
    active_at: int
    """ns: since when the condition holds (pending) or the alert fires (firing)"""
    value: float


class FallibleFrame(Frame, Protocol):
    """A frame that tells where the expression is in error."""

    failed: Bools
    failure: str


class Alerts:
    """The instances of one rule, and their state; the base of rules driven by readings and of those on a grid."""

    def __init__(self, rule: Rule, members_of: Callable[[Selector], Members], *, back: int | None = None) -> None:
        """back: as Compiled's."""
        self.rule = rule
        self.compiled = Compiled(rule.expression, members_of, step=rule.interval, back=back)
        self.leaves = self.compiled.leaves
        self.instances = Instances(self.compiled.top, rule)
        self.error = ""
        """Why the rule could not be evaluated when it last failed."""
        self._table = instance_table()

    def active(self) -> Iterator[Alert]:
        """All alerts that are pending or firing."""
        table = self._table
        instance = np.flatnonzero(table.firing | (table.condition == TRUE))
        yield from self.alerts_of(table.take(instance), instance)

    def alerts_of(self, table: Columns, instance: Ints) -> Iterator[Alert]:
        """Those that are pending or firing, of a table of these instances."""
        for i, own in enumerate(instance.tolist()):
            firing = bool(table.firing[i])
            if not firing and table.condition[i] != TRUE:
                continue
            since = int(table.fired_at[i] if firing else table.since[i])
            value = float(table.value[i])
            labels = self.instances.labels(own)
            state = "firing" if firing else "pending"
            yield Alert(self.rule.id, labels, self._annotations(labels, value), state, since, value)

    def snapshot(self) -> dict[str, NDArray[Any]]:
        return self._table.arrays()

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        self._table.load(arrays)

    def _follow(self) -> None:
        """Hear of every new element, one by one."""
        for leaf in self.leaves:
            leaf.members.follow(leaf)

    def _conditions(self, frame: FallibleFrame, instance: Ints, row: Ints) -> tuple[NDArray[np.uint8], Floats]:
        """Condition and value of each instance at each row."""
        value, present, unknown = self.instances.evaluate(frame, instance, row)
        condition = present.astype(np.uint8)
        if unknown.any():
            condition[unknown] = _NO_DATA[self.rule.no_data]
        if not present.all():
            value = np.where(present, value, np.nan)
        if frame.failure:
            self.error = frame.failure
            condition[frame.failed[row]] = UNKNOWN
        return condition, value

    def event(self, changes: Transitions, i: int, instance: int, detected_at: int) -> AlertEvent:
        """What is told of changes[i]."""
        firing, value = bool(changes.firing[i]), float(changes.value[i])
        labels = self.instances.labels(instance)
        return AlertEvent(
            rule=self.rule.id,
            labels=labels,
            state=AlertState.FIRING if firing else AlertState.RESOLVED,
            value=value,
            starts_at=int(changes.starts_at[i]),
            ends_at=0 if firing else int(changes.time[i]),
            detected_at=detected_at,
            annotations=self._annotations(labels, value),
        )

    def _annotations(self, labels: Labels, value: float) -> Labels:
        given = dict(labels)
        return tuple((name, template.expand(given, value)) for name, template in self.rule.annotations)
