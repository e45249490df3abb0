"""The engine: readings and ticks in, alert events out. A pure function of the journal; no I/O, no clock, no threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rules.alerting import Alert, AlertingRule, Emitted, Instants, Touched
from rules.columns import Ints, Links
from rules.frames import BatchFrame, ReadingFrame, newest_samples
from rules.operators import Members
from rules.promql import Selector
from rules.rule_file import Rule
from telemetry import AlertEvent, ReadingBatch, SeriesTable, Tick

STALENESS = 300 * 10**9
"""ns; Prometheus' lookback delta."""

MAX_GAP = 5 * 10**9
"""ns; a longer gap in the journal means that tocsin was down, and counts as this much: downtime is not silence."""


class Engine:
    """All rules over one stream.

    Laws: any cut of the same stream into batches gives the same events in the same order; so does any restart.
    """

    def __init__(
        self, rules: Sequence[Rule], table: SeriesTable, *, staleness: Callable[[int], int] = lambda _: STALENESS
    ) -> None:
        """staleness: for a series id, how long a sample is seen, in ns."""
        self._table, self._staleness = table, staleness
        self._members: dict[Selector, Members] = {}
        self.rules = [AlertingRule(rule, self._members_of) for rule in rules]
        self._all = list(self._members.values())
        self._rules_of: list[list[int]] = [
            [i for i, rule in enumerate(self.rules) if any(leaf.members is members for leaf in rule.leaves)]
            for members in self._all
        ]
        self._by_metric: dict[str, list[int]] = {}
        self._any_metric: list[int] = []
        for i, members in enumerate(self._all):
            metric = members.selector.metric
            (self._any_metric if metric is None else self._by_metric.setdefault(metric, [])).append(i)
        self._newest = newest_samples()
        self._bound = np.zeros(0, bool)
        self._order: list[int] = []  # series in the order in which they were bound
        self._links = Links()  # series → selector << 32 | element of the selector
        self._uptime = 0
        self._last: int | None = None
        self._grew = False

    def apply(self, batch: ReadingBatch) -> list[AlertEvent]:
        """The events that the live readings of the batch bring about."""
        if not len(batch):
            return []
        uptime = self._uptimes(batch)
        live = np.flatnonzero(batch.flags == 0)
        if not len(live):
            return []
        series, time, offset = batch.series[live], batch.time[live], batch.offset[live]
        begins = np.ones(len(live), bool)
        begins[1:] = (offset[1:] != offset[:-1]) | (time[1:] != time[:-1])
        position = np.cumsum(begins) - 1
        self._bind(series, position)
        instants = Instants(time[begins], uptime[live][begins], batch.received[live][begins])
        anchor = time - uptime[live]
        frame = BatchFrame(self._newest, series, position, time, batch.value[live], anchor, len(instants.time))
        emitted = [(e.position, rule, e.event) for rule, e in self._evaluate(frame, instants)]
        frame.commit()
        if self._grew:
            for rule in self.rules:
                rule.settle()
        return _in_order(emitted)

    def tick(self, tick: Tick) -> list[AlertEvent]:
        """The events that the passing of time alone brings about."""
        self._pass_time(tick.time)
        nothing = np.zeros(0, np.int64)
        frame = BatchFrame(self._newest, np.zeros(0, np.int32), nothing, nothing, np.zeros(0), nothing, 1)
        return _in_order(
            [(0, i, e.event) for i, rule in enumerate(self.rules) for e in rule.tick(frame, self._uptime, tick.time)]
        )

    def active(self) -> Iterator[Alert]:
        """All alerts that are pending or firing, by rule."""
        for rule in self.rules:
            yield from rule.active()

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """All state, as arrays by name; `restore` in an engine with the same rules and series table takes it back."""
        arrays: dict[str, NDArray[Any]] = {
            "order": np.array(self._order, np.int32),
            "clock": np.array([self._uptime, -1 if self._last is None else self._last], np.int64),
        }
        arrays |= {f"series.{name}": column for name, column in self._newest.arrays().items()}
        for i, rule in enumerate(self.rules):
            arrays |= {f"rule.{i}.{name}": column for name, column in rule.snapshot().items()}
        return arrays

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        order = arrays["order"]
        self._bind(order, np.zeros(len(order), np.int64))
        for rule in self.rules:
            rule.settle()
        uptime, last = arrays["clock"].tolist()
        self._uptime, self._last = uptime, None if last < 0 else last
        self._newest.load(_part(arrays, "series."))
        for i, rule in enumerate(self.rules):
            rule.restore(_part(arrays, f"rule.{i}."))

    def _uptimes(self, batch: ReadingBatch) -> Ints:
        """(n,) ns: how long tocsin had been up when each row came, by the gaps between messages."""
        received = batch.received
        before = np.empty(len(received), np.int64)
        before[1:] = received[:-1]
        before[0] = received[0] if self._last is None else self._last
        uptime: Ints = self._uptime + np.cumsum(np.clip(received - before, 0, MAX_GAP))
        self._uptime, self._last = int(uptime[-1]), int(received[-1])
        return uptime

    def _pass_time(self, now: int) -> None:
        if self._last is not None:
            self._uptime += min(max(now - self._last, 0), MAX_GAP)
        self._last = now

    def _bind(self, series: NDArray[np.int32], position: Ints) -> None:
        """Make the series known that appear for the first time, in the order in which they do."""
        if len(series) and int(series.max()) >= len(self._bound):
            size = max(len(self._table), int(series.max()) + 1)
            self._bound = np.concatenate([self._bound, np.zeros(size - len(self._bound), bool)])
            self._newest.grow(size)
        new = np.flatnonzero(~self._bound[series])
        first = np.sort(new[np.unique(series[new], return_index=True)[1]])
        self._grew = bool(len(first))
        for i, born in zip(series[first].tolist(), position[first].tolist(), strict=True):
            identity = self._table[i]
            self._order.append(i)
            self._newest.staleness[i] = self._staleness(i)
            for k in (*self._by_metric.get(identity.metric, ()), *self._any_metric):
                members = self._all[k]
                if members.selector.matches(identity):
                    self._links.add(i, k << 32 | members.add(i, born))
        self._bound[series[first]] = True
        if self._grew:
            for rule in self.rules:
                rule.meet_labels()

    def _evaluate(self, frame: BatchFrame, instants: Instants) -> Iterator[tuple[int, Emitted]]:
        """Evaluate the rules whose selectors have readings → (rule, event)."""
        which, code = self._links.expand(frame.series.astype(np.int64))
        rows = np.arange(len(code)) if which is None else which
        selector = code >> 32
        order = np.argsort(selector, kind="stable")
        selector, element, rows = selector[order], (code & 0xFFFFFFFF)[order], rows[order]
        touched: dict[int, list[Touched]] = {}
        for part in np.split(np.arange(len(order)), np.flatnonzero(np.diff(selector)) + 1):
            if not len(part):
                continue
            k = int(selector[part[0]])
            staleness = self._newest.staleness[frame.series[rows[part]]]
            readings = ReadingFrame(frame, rows[part], element[part], staleness)
            for i in self._rules_of[k]:
                rule = self.rules[i]
                if rule.is_direct:
                    yield from ((i, e) for e in rule.apply_direct(frame, readings, instants))
                else:
                    touched.setdefault(i, []).extend(
                        Touched(leaf, readings.element, readings.position)
                        for leaf in rule.leaves
                        if leaf.members is self._all[k]
                    )
        for i, parts in touched.items():
            yield from ((i, e) for e in self.rules[i].apply(frame, instants, parts))

    def _members_of(self, selector: Selector) -> Members:
        return self._members.setdefault(selector, Members(selector, self._table.__getitem__))


def _in_order(emitted: list[tuple[int, int, AlertEvent]]) -> list[AlertEvent]:
    """By when they became known; then by rule, labels and time: an order that no cut into batches changes."""
    emitted.sort(key=lambda e: (e[0], e[1], e[2].labels, e[2].ends_at or e[2].starts_at))
    return [event for _, _, event in emitted]


def _part(arrays: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
