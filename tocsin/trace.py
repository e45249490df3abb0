"""The whole way of one message or alert, told after the fact from the files of the data directory.

Here: putting together what journal, store, dead letters, cursors and outbox say. Not here: decoding the message anew
(retracing), words and JSON (cli/trace).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

import rules
from ingest.block import DUP, QOS_SHIFT, REPLAYED, RETAIN, SAMPLES, TICK, Records
from ingest.dead_letters import DeadLetter, DeadLetters, Selection
from sinks.alert_receipts import AlertReceipts, PublishedEvent
from sinks.store import Store
from telemetry import LIVE, AlertEvent, ReadingBatch, Series, TocsinError, read_cursor
from tocsin.data_dir import DataDir
from tocsin.journal_range import offset_at
from tocsin.retracing import Retraced, Retracing
from tocsin.rule_record import RuleText, load_rule

_RULES = "rules"
_STORE = "store"
_MAX_LETTERS = 1_000
_MAX_LATER = 3
_MAX_SAME_INSTANT = 10_000
_MAX_SERIES = 20
_LAST_READINGS = 3
_LOOK_BACK_NS = 3_600 * 10**9


class Kept(StrEnum):
    """Whether the store has a reading."""

    STORED = "stored"
    OTHER = "other value"
    """A reading of the same series and time has another value: the one that came last counts."""
    MISSING = "not stored"
    WAITING = "waiting"
    """The store has not come to it yet."""


@dataclass(frozen=True, slots=True)
class Row:
    """One reading of a message."""

    series: Series
    time: int
    """Event time, ns."""
    value: float
    flags: int
    """Of a ReadingBatch."""
    kept: Kept
    stored: float | None
    """What the store has for this series and time."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message, or some of its readings, could not be used."""

    reason: str
    detail: str
    readings: int
    letter: int | None
    """The dead letter; None: there is none by now (purged, replayed, or dropped for its age), or not yet."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A consumer of the journal, by its cursor."""

    name: str
    offset: int
    """It has passed all before."""
    passed: bool
    """Whether it has passed the message."""
    lag: int
    """Records that it has still to go to the end of the journal."""
    parked: tuple[DeadLetter, ...] = ()
    """Readings of the message that it has refused, with its words."""


@dataclass(frozen=True, slots=True)
class MessageTrace:
    """The way of one record of the journal."""

    offset: int
    records: Records
    """One record."""
    rows: tuple[Row, ...]
    refusals: tuple[Refusal, ...]
    looked_back: int | None
    """As `Retraced.looked_back`."""
    rules: Reader
    sinks: tuple[Reader, ...]
    alerts: tuple[PublishedEvent, ...]
    """That it has brought about: detected when it was received."""
    later: tuple[PublishedEvent, ...]
    """The next ones of its devices."""

    @property
    def received(self) -> int:
        """ns."""
        return int(self.records.received[0])

    @property
    def is_tick(self) -> bool:
        return bool(self.records.flags[0] & TICK)

    @property
    def is_samples(self) -> bool:
        """Whether it holds what recording rules have made."""
        return bool(self.records.flags[0] & SAMPLES)

    @property
    def qos(self) -> int:
        return int(self.records.flags[0]) >> QOS_SHIFT & 3

    @property
    def marks(self) -> list[str]:
        flags = int(self.records.flags[0])
        return [word for bit, word in ((RETAIN, "retained"), (DUP, "dup"), (REPLAYED, "replayed")) if flags & bit]


@dataclass(frozen=True, slots=True)
class Readings:
    """The last stored readings of one series before something happened."""

    series: Series
    time: tuple[int, ...]
    """ns, ascending."""
    value: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class AlertTrace:
    """The way of one alert."""

    asked: str
    """Id of the event that was asked for."""
    events: tuple[PublishedEvent, ...]
    """Its firing and its resolving, as far as they have happened and are kept."""
    sources: tuple[int | None, ...]
    """For each event: offset of the record that showed it; None: not from the journal, or gone from it."""
    by_tick: tuple[bool, ...]
    """For each event: whether that was a tick of the clock."""
    rule: RuleText | None
    """As it is now; None: it is gone."""
    readings: tuple[Readings, ...]
    """Of the series that the rule looks at, of the alert's device: the last before the event that was asked for."""


class Tracer:
    """What a data directory tells. Read-only; for one thread; `close` it. Raises TocsinError throughout."""

    def __init__(self, data: DataDir) -> None:
        self._data = data
        self._open = ExitStack()
        self._retracing = Retracing(data)
        self._table, self._journal = self._retracing.table, self._retracing.journal
        self._store: Store | None = None
        self._alerts: AlertReceipts | None = None
        self._letters: DeadLetters | None = None
        try:
            if data.store.exists():
                self._store = self._open.enter_context(Store(data.store, read_only=True))
            if data.alerts.exists():
                self._alerts = AlertReceipts(data.alerts)
                self._open.callback(self._alerts.close)
            if data.dead_letters.exists():
                self._letters = DeadLetters(data.dead_letters, read_only=True)
                self._open.callback(self._letters.close)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._open.close()

    def message(self, offset: int) -> MessageTrace:
        """The record at this offset of the journal."""
        records = self._retracing.record(offset)
        if records is None:
            raise TocsinError(self._absence(offset))
        readers = list(self._readers(offset))
        retraced = self._retracing.between(offset, offset + 1)
        letters = self._letters_of(offset, int(records.received[0]))
        store = next((reader for reader in readers if reader.name == _STORE), None)
        rows = tuple(self._rows(retraced.batch, passed=store is not None and store.passed))
        alerts, later = self._alerts_of(records, rows)
        return MessageTrace(
            offset,
            records,
            rows,
            tuple(_refusals(retraced, [letter for letter in letters if not letter.sink])),
            retraced.looked_back,
            next(reader for reader in readers if reader.name == _RULES),
            tuple(
                Reader(r.name, r.offset, r.passed, r.lag, tuple(x for x in letters if x.sink == r.name))
                for r in readers
                if r.name != _RULES
            ),
            alerts,
            later,
        )

    def alert(self, prefix: str) -> AlertTrace:
        """The alert that has an event whose id begins so."""
        found = self._alerts.with_id(prefix) if self._alerts else []
        if len(found) != 1:
            raise TocsinError(_no_single(prefix, found))
        asked = found[0].event
        events = self._alerts.of_same_alert(asked) if self._alerts else []
        sources = [self._source(published) for published in events]
        rule = load_rule(self._data, asked.rule)
        return AlertTrace(
            asked.id,
            tuple(events),
            tuple(source for source, _ in sources),
            tuple(by_tick for _, by_tick in sources),
            rule,
            tuple(self._last_readings(asked, rule)),
        )

    def near(self, device: str, time: int, limit: int) -> list[int]:
        """Offsets of messages of a device, the nearest to `time` (ns) first."""
        return self._retracing.near(device, time, limit)

    def _absence(self, offset: int) -> str:
        journal = self._journal
        if offset >= journal.end:
            return f"there is no record {offset} yet: the journal ends before {journal.end}"
        why = "was trimmed, see journal.retention_age" if offset < journal.start else "is damaged or lost there"
        known = f"; of it there are dead letters: `tocsin dead-letters show {self._any_letter(offset)}`"
        return f"record {offset} is gone: the journal {why}" + (known if self._any_letter(offset) else "")

    def _any_letter(self, offset: int) -> int | None:
        found = self._letters.list(Selection(offset=offset), limit=1) if self._letters else []
        return found[0].id if found else None

    def _letters_of(self, offset: int, received: int) -> list[DeadLetter]:
        if self._letters is None:
            return []
        found = self._letters.list(Selection(offset=offset), limit=_MAX_LETTERS)
        return sorted((x for x in found if x.received == received), key=lambda letter: letter.id)

    def _readers(self, offset: int) -> Iterator[Reader]:
        """The rules, and every sink that has ever saved how far it is."""
        names = {path.stem for path in (self._data.path / "cursors").glob("*.json")} | {_RULES, _STORE}
        for name in sorted(names, key=lambda name: (name != _RULES, name != _STORE, name)):
            at = read_cursor(self._data.cursor(name))
            yield Reader(name, at, at > offset, max(0, self._journal.end - at))

    def _rows(self, batch: ReadingBatch, *, passed: bool) -> Iterator[Row]:
        """`passed`: whether the store has got so far."""
        for i in range(len(batch)):
            id_, time, value = int(batch.series[i]), int(batch.time[i]), float(batch.value[i])
            stored = self._stored(id_, time)
            if stored is None:
                kept = Kept.MISSING if passed else Kept.WAITING
            else:
                same = stored == value or (np.isnan(stored) and np.isnan(value))
                kept = Kept.STORED if same else Kept.OTHER
            yield Row(self._table[id_], time, value, int(batch.flags[i]), kept, stored)

    def _stored(self, series: int, time: int) -> float | None:
        if self._store is None or series >= self._retracing.known:
            return None
        _, value = self._store.read(series, time, time + 1)
        return float(value[0]) if len(value) else None

    def _alerts_of(
        self, records: Records, rows: Sequence[Row]
    ) -> tuple[tuple[PublishedEvent, ...], tuple[PublishedEvent, ...]]:
        """What the record has brought about, and what came next of its devices."""
        if self._alerts is None:
            return (), ()
        received, is_tick = int(records.received[0]), bool(records.flags[0] & TICK)
        devices = {row.series.device for row in rows} - {""}
        drives = is_tick or any(row.flags == LIVE for row in rows)
        caused = [
            published
            for published in (self._alerts.detected_at(received) if drives else ())
            if is_tick or _device(published.event) in devices
        ]
        later = self._alerts.after(received, devices, _MAX_LATER) if devices else []
        return tuple(caused), tuple(later)

    def _source(self, published: PublishedEvent) -> tuple[int | None, bool]:
        """Offset of the record that showed the event, and whether it is a tick."""
        time, device = published.event.detected_at, _device(published.event)
        begin = offset_at(self._journal, time)
        end = at = min(begin, published.offset)
        tick: int | None = None
        while at < min(published.offset, begin + _MAX_SAME_INSTANT):
            records = self._journal.read(at, published.offset - at)
            same = np.flatnonzero(records.received == time)
            ticks = same[(records.flags[same] & TICK) != 0]
            tick = records.first + int(ticks[0]) if tick is None and len(ticks) else tick
            end = min(records.first + int(same[-1]) + 1, published.offset) if len(same) else end
            if not len(records) or records.received[-1] > time:
                break
            at = records.next
        batch = self._retracing.between(begin, end).batch if end > begin else ReadingBatch.empty()
        live = batch.select((batch.flags == LIVE) & (batch.received == time))
        for id_, offset in zip(live.series.tolist(), live.offset.tolist(), strict=True):
            if self._table[id_].device == device:
                return offset, False
        return tick, tick is not None

    def _last_readings(self, event: AlertEvent, rule: RuleText | None) -> Iterator[Readings]:
        if self._store is None:
            return
        device, until = _device(event), event.ends_at or event.starts_at
        ids: Iterable[int] = self._table.with_label("device", device).tolist() if device else ()
        if rule is not None:
            looked_at = rules.looked_at(rule.expr, self._table).tolist()
            ids = [id_ for id_ in looked_at if not device or self._table[id_].device in (device, "")]
        chosen = sorted(id_ for id_ in ids if id_ < self._retracing.known)[:_MAX_SERIES]
        for id_, (time, value) in self._store.read_many(chosen, until - _LOOK_BACK_NS, until + 1).items():
            last = slice(-_LAST_READINGS, None)
            yield Readings(self._table[id_], tuple(time[last].tolist()), tuple(value[last].tolist()))


def _device(event: AlertEvent) -> str:
    return dict(event.labels).get("device", "")


def _refusals(retraced: Retraced, letters: Sequence[DeadLetter]) -> Iterator[Refusal]:
    """Dead letters as they were kept; and what is refused today without being there."""
    for letter in letters:
        yield Refusal(letter.reason, letter.detail, letter.readings, letter.id)
    kept = {letter.reason for letter in letters}
    for rejection in retraced.rejections:
        if rejection.reason not in kept:
            yield Refusal(rejection.reason, rejection.detail, rejection.rows, None)


def _no_single(prefix: str, found: Sequence[PublishedEvent]) -> str:
    if not found:
        return f"there is no alert event {prefix!r}: `tocsin alerts --all --json` shows the ids of those there are"
    ids = ", ".join(published.event.id[: len(prefix) + 4] for published in found)
    return f"several alert events begin with {prefix!r}: {ids}; write more of it"
