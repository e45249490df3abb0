"""Evaluation over the files of a directory, with a clock of its own, and disks that are full when a test says so."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ingest.dead_letters import DeadLetters
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.journal import SAMPLES, Journal, JournalFull, Records
from ingest.streams import LimitsConfig, StreamConfig
from rules import GONE, STALE, Engine, RuleGroup, load_rules
from rules.samples import bits
from sinks.alert_history import AlertHistory
from sinks.outbox import Outbox
from telemetry import (
    RECORDED,
    AlertEvent,
    Counters,
    Cursor,
    ManualClock,
    Message,
    RetryLater,
    Series,
    SeriesTable,
    Tick,
)
from tocsin.data_dir import DataDir
from tocsin.evaluation import Evaluation, rules_fingerprint
from tocsin.recording import Recorder
from tocsin.snapshot_file import Snapshots

S = 10**9
START = ManualClock().now()


class FullCursor(Cursor):
    """Cannot be saved while `full`."""

    full = True
    attempts = 0

    def save(self, offset: int) -> None:
        self.attempts += 1
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().save(offset)


class FullJournal(Journal):
    """Takes no recorded samples while `full`."""

    full = False

    def append_samples(self, payloads: Sequence[bytes], time: int) -> int:
        if self.full:
            raise JournalFull("no space left: free some")
        return super().append_samples(payloads, time)


class FullOutbox(Outbox):
    """Takes nothing while `full`."""

    full = False
    attempts = 0

    def publish(self, events: Sequence[AlertEvent], *, offset: int) -> list[AlertEvent]:
        self.attempts += 1
        if self.full:
            raise RetryLater("the disk is full: free some")
        return super().publish(events, offset=offset)


class Rig:
    """Evaluation over the files of a directory; a new one is what a restart makes."""

    def __init__(
        self, directory: Path, rules: list[dict[str, Any]], *, clock: ManualClock | None = None, start: bool = True
    ) -> None:
        """The rules are evaluated every second, where readings do not drive them."""
        self.data = DataDir(directory)
        self.data.create()
        self.clock, self.counters = clock or ManualClock(), Counters()
        self.journal = FullJournal(self.data.journal)
        self.table = SeriesTable(self.data.series)
        self.letters = DeadLetters(self.data.dead_letters)
        self.outbox = FullOutbox(self.data.alerts, clock=self.clock)
        self.cursor = FullCursor(self.data.cursor("rules"))
        self.groups = loaded(rules)
        recorder = Recorder(self.journal, self.table, clock=self.clock, counters=self.counters)
        self.feed = Feed(
            self.journal,
            decoder(self.table, self.counters),
            self.table,
            dead_letters=self.letters,
            counters=self.counters,
            on_batch=recorder.meet,
        )
        self.evaluation = Evaluation(
            self.feed,
            Engine(self.groups[0].rules, self.table),
            self.outbox,
            recorder,
            cursor=self.cursor,
            end=self.journal.end,
            snapshots=Snapshots(self.data.snapshots, rules=rules_fingerprint(self.groups, [])),
            clock=self.clock,
            counters=self.counters,
        )
        self.evaluation.recover()
        if start:
            self.evaluation.start()

    def receive(self, value: float, device: str = "d1") -> None:
        self.clock.advance(1)
        self.journal.append([Message(f"{device}/temperature", f"{value}".encode(), received=self.clock.now())])

    def tick(self) -> None:
        self.clock.advance(1)
        self.journal.append_tick(self.clock.now())

    def stop(self) -> None:
        self.evaluation.stop()
        self.close()

    def close(self) -> None:
        """Without `stop` before it, this is what a kill does: what was not written is lost."""
        self.journal.close()
        self.outbox.close()
        self.letters.close()

    @property
    def published(self) -> list[str]:
        return [f"{event.state} {event.value:g}" for event in self.events]

    @property
    def events(self) -> list[AlertEvent]:
        """All that were ever published, in order."""
        history = AlertHistory(self.data.alerts)
        try:
            return history._events("1 ORDER BY seq")
        finally:
            history.close()

    @property
    def recorded(self) -> list[str]:
        """Samples in the journal, in its order: `t x{device="d1"} 5`, t in s since the start of a manual clock."""
        table = SeriesTable()
        records = self.journal.read(0)
        batch = decoder(table, Counters()).decode(records).batch
        batch = batch.select(batch.flags == RECORDED)
        rows = zip(batch.series.tolist(), batch.time.tolist(), batch.value.tolist(), strict=True)
        return [sample(table[series], at, value) for series, at, value in rows]


def loaded(rules: list[dict[str, Any]]) -> list[RuleGroup]:
    groups, problems = load_rules({"groups": [{"name": "g", "interval": "1s", "rules": rules}]}, file="rules")
    assert not problems
    return groups


class _Nowhere:
    def add(self, rejections: object) -> None:
        pass


class _Received:
    """The journal as it were if nothing had been recorded: those records are gaps of no rows."""

    def __init__(self, journal: Journal) -> None:
        self._journal, self.start, self.wait = journal, journal.start, journal.wait

    def read(self, offset: int, limit: int = 10_000) -> Records:
        records = self._journal.read(offset, limit)
        made = (records.flags & SAMPLES) != 0
        topics = ["$nothing" if m else topic for m, topic in zip(made, records.topics, strict=True)]
        return replace(records, flags=np.where(made, 0, records.flags).astype(np.uint8), topics=topics)


def decoder(table: SeriesTable, counters: Counters) -> Decoder:
    return Decoder([StreamConfig(name="s", topic="{device}/{metric}")], LimitsConfig(), table, counters=counters)


def sample(series: Series, time: int, value: float) -> str:
    return f"{(time - START) / S:g} {series} {value:g}"


def evaluated_at_once(
    journal: Journal, groups: Sequence[RuleGroup], *, without_recorded: bool = False
) -> tuple[list[AlertEvent], list[str]]:
    """Events and samples that the rules make of all that is in the journal, in one go and with nothing remembered."""
    table, counters = SeriesTable(), Counters()
    log = _Received(journal) if without_recorded else journal
    feed = Feed(log, decoder(table, counters), table, dead_letters=_Nowhere(), counters=counters)
    engine = Engine([rule for group in groups for rule in group.rules], table)
    events: list[AlertEvent] = []
    samples: list[str] = []
    while items := feed.poll(0):
        for item in items:
            events += engine.tick(item) if isinstance(item, Tick) else engine.apply(item)
            for labels, at, value in engine.take_recorded():
                own = dict(labels)
                series = Series.recorded(own.pop("__name__"), own)
                if bits(value) not in (bits(STALE), bits(GONE)):
                    samples.append(sample(series, at, value))
    return events, samples


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)
