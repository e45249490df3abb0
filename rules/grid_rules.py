"""Rules on a grid: alerting and recording rules that are evaluated as a whole, at ticks, every interval of their group.

The life cycle is Prometheus' own, rules/alerting.go: what an evaluation finds holds from its instant on, and timers
pass at evaluations only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rules.alerts import Alerts, Emitted
from rules.arithmetic import Floats
from rules.columns import Columns
from rules.compile import Compiled
from rules.grid_frame import GridFrame
from rules.leaves import Members
from rules.lifecycle import FALSE, TRUE, UNKNOWN, Transitions
from rules.operators import Vector
from rules.rule_file import Record, Rule
from rules.samples import GONE, STALE, bits
from rules.syntax import Labels, Selector


class Recorded(NamedTuple):
    """A sample that a recording rule has made."""

    labels: Labels
    """With `__name__`, sorted by name"""
    time: int
    """ns"""
    value: float
    """STALE or GONE where the element is no longer there"""


class GridRule(Alerts):
    """The alerts of a rule that is not pointwise, or whose group wants a grid."""

    def __init__(self, rule: Rule, members_of: Callable[[Selector], Members]) -> None:
        super().__init__(rule, members_of, back=rule.query_offset)
        self._last: tuple[int, int] | None = None
        """Instant of the last evaluation, and the engine's up-time at it"""
        self._follow()
        self.compiled.start()

    def evaluate(self, frame: GridFrame, uptime: int, now: int) -> Iterator[Emitted]:
        """The events of an evaluation at the frame's instant; in error, all stays as it is.

        uptime: of the engine at that instant; now: our clock; ns.
        """
        self.error = ""
        self.compiled.top.discover(frame, frame.all_rows)
        n = len(self.instances)
        table, at = self._table, frame.stamp
        table.grow(n)
        passed = self._passed(at, uptime)
        condition, value = self._conditions(frame, np.arange(n), np.zeros(n, np.int64))
        if frame.failure:
            return
        condition = self._limited(condition, at)
        changes = step(table, condition, value, at, passed, hold=self.rule.hold, keep=self.rule.keep)
        for i in range(len(changes.time)):
            yield Emitted(0, self.event(changes, i, int(changes.instance[i]), now))

    def settle(self) -> None:
        self.compiled.settle()

    def snapshot(self) -> dict[str, NDArray[Any]]:
        return super().snapshot() | {"last": np.array(self._last or (), np.int64)}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        super().restore({name: column for name, column in arrays.items() if name != "last"})
        self._last = tuple(arrays["last"].tolist()) or None

    def _passed(self, at: int, uptime: int) -> int:
        """Time since the last evaluation by our clock, ns; where it went on without us, timers are set after it."""
        last, self._last = self._last, (at, uptime)
        if last is None:
            return 0
        self._table.since[:] += (at - last[0]) - (uptime - last[1])
        return uptime - last[1]

    def _limited(self, condition: NDArray[np.uint8], at: int) -> NDArray[np.uint8]:
        """Beyond the group's limit no alert begins; those that are there go on."""
        limit, table = self.rule.limit, self._table
        if not limit:
            return condition
        active = table.firing | (table.condition == TRUE)
        since = np.where(table.condition == TRUE, at, table.since)
        ends = (condition == FALSE) & ~(table.firing & (at - since < self.rule.keep))
        room = max(limit - int((active & ~ends).sum()), 0)
        refused = np.flatnonzero((condition == TRUE) & ~active)[room:]
        if not len(refused):
            return condition
        self.error = f"more than {limit} alerts: {len(refused)} could not begin (limit of the group)"
        condition[refused] = FALSE
        return condition


def step(
    table: Columns, condition: NDArray[np.uint8], value: Floats, at: int, passed: int, *, hold: int, keep: int
) -> Transitions:
    """One evaluation of all instances at the instant `at`, `passed` ns after the last one."""
    known = np.flatnonzero(condition != UNKNOWN)
    table.since[condition == UNKNOWN] += passed  # while data is unknown, timers stand still
    begins = known[condition[known] != table.condition[known]]
    table.condition[begins], table.since[begins] = condition[begins], at
    holds = known[condition[known] == TRUE]
    table.value[holds] = value[holds]
    wait = np.where(table.condition[known] == TRUE, hold, keep)
    differs = table.firing[known] != (table.condition[known] == TRUE)
    turns = known[differs & (at - table.since[known] >= wait)]
    firing = ~table.firing[turns]
    table.firing[turns] = firing
    table.fired_at[turns[firing]] = at
    time = np.full(len(turns), at)
    return Transitions(turns, firing, time, table.fired_at[turns], table.value[turns], time)


class RecordingRule:
    """A recording rule: its elements become samples of series of their own."""

    def __init__(self, rule: Record, members_of: Callable[[Selector], Members]) -> None:
        self.rule = rule
        self.compiled = Compiled(rule.expression, members_of, step=rule.interval, back=rule.query_offset)
        self.leaves = self.compiled.leaves
        self.error = ""
        self._ended: dict[Labels, str] = {}
        """By series that it has made: `gone` or `stale` where it ended, empty where it goes on"""
        for leaf in self.leaves:
            leaf.members.follow(leaf)
        self.compiled.start()

    def evaluate(self, frame: GridFrame) -> list[Recorded]:
        """The samples of an evaluation at the frame's instant; none where the expression is in error."""
        self.error = ""
        top, at = self.compiled.top, int(frame.time[0])
        top.discover(frame, frame.all_rows)
        n = len(top)
        found = top.evaluate(frame, np.arange(n), np.zeros(n, np.int64))
        values = self._values(found)
        if frame.failure or self.error:
            self.error = self.error or frame.failure
            return []
        for labels in self._ended:
            values.setdefault(labels, GONE)
        out = [
            Recorded(labels, at, value)
            for labels, value in values.items()
            if (ending := _ending(value)) != self._ended.get(labels, "gone") or not ending
        ]
        self._ended |= {labels: _ending(value) for labels, value in values.items()}
        return out

    def settle(self) -> None:
        self.compiled.settle()

    def snapshot(self) -> dict[str, NDArray[Any]]:
        return {"ended": np.frombuffer(json.dumps(list(self._ended.items())).encode(), np.uint8)}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        ended = json.loads(arrays["ended"].tobytes())
        self._ended = {tuple((name, value) for name, value in labels): ending for labels, ending in ended}

    def _values(self, found: Vector) -> dict[Labels, float]:
        """Value or STALE by final labels."""
        values: dict[Labels, float] = {}
        there = np.flatnonzero(found.present)
        if self.rule.limit and len(there) > self.rule.limit:
            self.error = f"{len(there)} elements are more than the group's limit of {self.rule.limit}"
            return {}
        for i in there.tolist():
            labels = self._labels(i)
            if labels in values:
                self.error = f"two elements have the same labels {dict(labels)} once the rule's own are applied"
                return {}
            values[labels] = float(found.value[i])
        for i in np.flatnonzero(found.unknown).tolist():
            labels = self._labels(i)
            if labels in self._ended:
                values.setdefault(labels, STALE)
        return values

    def _labels(self, element: int) -> Labels:
        given = dict(self.compiled.top.labels(element)) | dict(self.rule.labels) | {"__name__": self.rule.record}
        return tuple(sorted((name, value) for name, value in given.items() if value))


def _ending(value: float) -> str:
    """What a marker says, empty for values."""
    if not np.isnan(value):
        return ""
    return {bits(STALE): "stale", bits(GONE): "gone"}.get(bits(value), "")
