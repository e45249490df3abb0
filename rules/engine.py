"""The engine: readings and ticks in, alert events out. A pure function of the journal; no I/O, no clock, no threads."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rules.alerts import Alert, Emitted
from rules.bank import Bank
from rules.binding import Binding
from rules.calm import Band, band_of
from rules.chains import horizon_of
from rules.columns import Ints, any_of, where
from rules.compile import is_pointwise
from rules.frames import BatchFrame
from rules.grid_frame import GridFrame
from rules.grid_rules import GridRule, Recorded, RecordingRule
from rules.leaves import Leaf
from rules.reading_rule import Instants, ReadingRule, Touched
from rules.rule_file import Record, Rule
from rules.samples import STALENESS, Memory, part
from rules.syntax import is_scalar
from telemetry import AlertEvent, ReadingBatch, SeriesTable, Tick

MAX_GAP = 5 * 10**9
"""ns; a longer gap in the journal means that tocsin was down, and counts as this much: downtime is not silence."""

_T = TypeVar("_T")


class Engine:
    """All rules over one stream.

    Laws: any cut of the same stream into batches gives the same events in the same order; so does any restart.
    """

    def __init__(
        self,
        rules: Sequence[Rule | Record],
        table: SeriesTable,
        *,
        staleness: Callable[[int], int] = lambda _: STALENESS,
        timer: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """staleness: for a series id, how long a sample is seen, in ns; timer: a clock in s, by which `spent` goes."""
        recorded = {rule.record for rule in rules if isinstance(rule, Record)}
        self._binding = Binding(table, staleness)
        self._rules: list[ReadingRule | GridRule | RecordingRule] = []
        for rule in rules:
            if isinstance(rule, Record):
                self._rules.append(RecordingRule(rule, self._binding.members_of))
            elif rule.wants_grid or is_scalar(rule.expression) or not is_pointwise(rule.expression, recorded):
                self._rules.append(GridRule(rule, self._binding.members_of))
            else:
                self._rules.append(ReadingRule(rule, self._binding.members_of))
        self._reading = {
            i: rule for i, rule in enumerate(self._rules) if isinstance(rule, ReadingRule) and not rule.is_direct
        }
        """Rules driven by readings, but in no bank"""
        self._on_grid = [(i, rule) for i, rule in enumerate(self._rules) if not isinstance(rule, ReadingRule)]
        compiled = [rule.compiled for rule in self._rules]
        self._memory = Memory({channel for c in compiled for channel in c.channels})
        self._binding.look_back(
            self._memory,
            [reach for c in compiled for reach in c.reaches],
            [reach for _, rule in self._on_grid for reach in rule.compiled.reaches],
        )
        self._banks = self._in_banks()
        self._bank_of = {i: bank for bank in self._banks for i in bank.numbers}
        self._banks_of = [
            [bank for bank in self._banks if bank.members is members] for members in self._binding.members
        ]
        """By selector"""
        self._leaves_of = self._by_selector()
        self._evaluated: dict[int, int] = {}
        """The grid's instant at which rule i was evaluated last, ns"""
        self._recorded: list[Recorded] = []
        self._uptime = 0
        self._last: int | None = None
        self._timer = timer
        self.spent = np.zeros(len(self._rules))
        """s that each rule has taken, in the order of `ids`; rules that are evaluated together have equal shares."""

    def apply(self, batch: ReadingBatch) -> list[AlertEvent]:
        """The events that the live readings of the batch bring about."""
        if not len(batch):
            return []
        uptime = self._uptimes(batch.received)
        if any_of(batch.flags != 0):
            live = where(batch.flags == 0)
            if not len(live):
                return []
            batch, uptime = batch.select(live), uptime[live]
        time, offset = batch.time, batch.offset
        begins = np.empty(len(batch), bool)
        begins[0] = True
        np.logical_or(offset[1:] != offset[:-1], time[1:] != time[:-1], out=begins[1:])
        position = begins.cumsum() - 1
        grew = self._binding.bind(batch.series, position)
        if grew:
            self._meet_labels()
        series = self._binding.local(batch.series)
        first = where(begins)
        instants = Instants(time[first], uptime[first], batch.received[first])
        frame = BatchFrame(self._memory, series, position, time, batch.value, time - uptime, len(first))
        emitted = [(e.position, rule, e.event) for rule, e in self._evaluate(frame, instants)]
        frame.commit()
        if grew:
            self._settle()
        return _in_order(emitted)

    def tick(self, tick: Tick) -> list[AlertEvent]:
        """The events that the passing of time alone brings about, and those of rules on a grid."""
        self._pass_time(tick.time)
        nothing = np.zeros(0, np.int64)
        frame = BatchFrame(self._memory, nothing.astype(np.int32), nothing, nothing, np.zeros(0), nothing, 1)
        emitted = [
            (0, i, e.event)
            for bank in self._banks
            for i, e in self._timed(bank.numbers, bank.tick(self._uptime, tick.time))
        ]
        for i, rule in self._reading.items():
            emitted += [(0, i, e.event) for e in self._timed([i], rule.tick(frame, self._uptime, tick.time))]
        emitted += [(0, i, e.event) for i, e in self._evaluate_grid(tick.time)]
        return _in_order(emitted)

    def take_recorded(self) -> list[Recorded]:
        """The samples of recording rules since the last call."""
        recorded, self._recorded = self._recorded, []
        return recorded

    def active(self) -> Iterator[Alert]:
        """All alerts that are pending or firing, by rule."""
        for i, rule in enumerate(self._rules):
            if i in self._bank_of:
                yield from self._bank_of[i].active(i)
            elif not isinstance(rule, RecordingRule):
                yield from rule.active()

    @property
    def ids(self) -> list[str]:
        """Of all rules, in their order."""
        return [rule.rule.id for rule in self._rules]

    def errors(self) -> dict[str, str]:
        """By rule id: why the rule could not be evaluated somewhere."""
        return {rule.rule.id: rule.error for rule in self._rules if rule.error}

    @property
    def dropped(self) -> int:
        """Samples that windows could not keep, over all time: a series had more than its limit of them."""
        return self._memory.ranges.dropped + self._memory.instants.dropped

    def snapshot(self) -> dict[str, NDArray[Any]]:
        """All state, as arrays by name; `restore` in an engine with the same rules and series table takes it back."""
        evaluated = [self._evaluated.get(i, -1) for i in range(len(self._rules))]
        last = -1 if self._last is None else self._last
        arrays: dict[str, NDArray[Any]] = {
            "order": np.frombuffer(json.dumps(self._binding.order()).encode(), np.uint8),
            "clock": np.array([self._uptime, last], np.int64),
            "evaluated": np.array(evaluated, np.int64),
        }
        arrays |= {f"memory.{name}": column for name, column in self._memory.state().items()}
        for i, rule in enumerate(self._rules):
            arrays |= {f"rule.{i}.{name}": column for name, column in rule.snapshot().items()}
        for i, bank in enumerate(self._banks):
            arrays |= {f"bank.{i}.{name}": column for name, column in bank.snapshot().items()}
        return arrays

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Into a new engine."""
        self._binding.restore(json.loads(arrays["order"].tobytes()), [rule.compiled.dynamic for rule in self._rules])
        self._meet_labels()
        self._settle()
        uptime, last = arrays["clock"].tolist()
        self._uptime, self._last = uptime, None if last < 0 else last
        self._evaluated = {i: at for i, at in enumerate(arrays["evaluated"].tolist()) if at >= 0}
        self._memory.restore(part(arrays, "memory."))
        for i, each in enumerate(self._rules):
            each.restore(part(arrays, f"rule.{i}."))
        for i, bank in enumerate(self._banks):
            bank.restore(part(arrays, f"bank.{i}."))

    def _in_banks(self) -> list[Bank]:
        """Direct rules, by selector, by what changes them as time passes, and by whether they have a band."""
        banks: dict[Hashable, list[tuple[int, ReadingRule]]] = {}
        bands: dict[Hashable, list[Band]] = {}
        for i, rule in enumerate(self._rules):
            if isinstance(rule, ReadingRule) and rule.is_direct:
                band = band_of(rule.rule, rule.compiled.top)
                key = horizon_of(rule.compiled.top), rule.is_lazy, band is None
                banks.setdefault(key, []).append((i, rule))
                bands.setdefault(key, []).extend([] if band is None else [band])
        return [
            Bank(rules[0][1].leaves[0].members, self._memory, rules, lazy=rules[0][1].is_lazy, bands=bands[key])
            for key, rules in banks.items()
        ]

    def _by_selector(self) -> list[list[tuple[int, Leaf]]]:
        """The leaves of rules in no bank, with the rules' numbers."""
        found = [(i, leaf) for i, rule in self._reading.items() for leaf in rule.leaves]
        return [[(i, leaf) for i, leaf in found if leaf.members is members] for members in self._binding.members]

    def _meet_labels(self) -> None:
        """There are new series."""
        for bank in self._banks:
            for i, rule in bank.meet_labels():
                self._reading[i] = rule
                del self._bank_of[i]
                self._leaves_of = self._by_selector()
        for rule in self._reading.values():
            rule.meet_labels()

    def _settle(self) -> None:
        for rule in self._rules:
            rule.settle()

    def _uptimes(self, received: Ints) -> Ints:
        """(n,) ns: how long tocsin had been up when each row came, by the gaps between messages."""
        gap = np.empty(len(received), np.int64)
        np.subtract(received[1:], received[:-1], out=gap[1:])
        gap[0] = 0 if self._last is None else received[0] - self._last
        np.minimum(np.maximum(gap, 0, out=gap), MAX_GAP, out=gap)
        gap[0] += self._uptime
        uptime: Ints = gap.cumsum()
        self._uptime, self._last = int(uptime[-1]), int(received[-1])
        return uptime

    def _pass_time(self, now: int) -> None:
        if self._last is not None:
            self._uptime += min(max(now - self._last, 0), MAX_GAP)
        self._last = now

    def _evaluate(self, frame: BatchFrame, instants: Instants) -> Iterator[tuple[int, Emitted]]:
        """Evaluate the rules whose selectors have readings → (rule, event)."""
        touched: dict[int, list[Touched]] = {}
        for k, rows, element in self._binding.elements(frame.series):
            readings = frame.readings(rows, element)
            for bank in self._banks_of[k]:
                yield from self._timed(bank.numbers, bank.apply(readings, instants))
            for i, leaf in self._leaves_of[k]:
                touched.setdefault(i, []).append(Touched(leaf, element, readings.position))
        for i, found in sorted(touched.items()):
            yield from ((i, e) for e in self._timed([i], self._reading[i].apply(frame, instants, found)))

    def _evaluate_grid(self, now: int) -> Iterator[tuple[int, Emitted]]:
        """Evaluate the rules whose grid has a new instant, in the order of the files → (rule, event)."""
        for i, rule in self._on_grid:
            options = rule.rule
            at = now // options.interval * options.interval
            if at == self._evaluated.get(i):
                continue
            self._evaluated[i] = at
            uptime = self._uptime - (now - at)
            frame = GridFrame(self._memory, at, None if options.compat else uptime, ago=options.query_offset)
            if isinstance(rule, GridRule):
                yield from ((i, e) for e in self._timed([i], rule.evaluate(frame, uptime, now)))
            else:
                self._record(rule, self._timed([i], rule.evaluate(frame)), at - uptime)
            self._binding.note_dynamic(i, rule.compiled.dynamic)

    def _timed(self, numbers: list[int], found: Iterable[_T]) -> list[_T]:
        """All of it; the time it took is put down to these rules."""
        began = self._timer()
        everything = list(found)
        if taken := self._timer() - began:
            self.spent[numbers] += taken / len(numbers)
        return everything

    def _record(self, rule: RecordingRule, samples: list[Recorded], anchor: int) -> None:
        """Make the samples of a recording rule known to the rules after it."""
        if not samples:
            return
        series = self._binding.bind_recorded([sample.labels for sample in samples])
        time = np.array([sample.time for sample in samples], np.int64)
        value = np.array([sample.value for sample in samples], np.float64)
        later = where(time > self._memory.newest.time[series])
        if len(later) < len(samples):
            rule.error = (
                "its series have samples of this instant or a later one: another rule makes the same series, or our "
                "clock was set back"
            )
        self._recorded += [samples[i] for i in later.tolist()]
        series, time, position = series[later], time[later], np.zeros(len(later), np.int64)
        BatchFrame(self._memory, series, position, time, value[later], np.full(len(later), anchor), 1).commit()
        self._settle()


def _in_order(emitted: list[tuple[int, int, AlertEvent]]) -> list[AlertEvent]:
    """By when they became known; then by rule, labels and time: an order that no cut into batches changes."""
    emitted.sort(key=lambda e: (e[0], e[1], e[2].labels, e[2].ends_at or e[2].starts_at))
    return [event for _, _, event in emitted]
