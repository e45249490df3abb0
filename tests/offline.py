"""A pipeline without broker, disk and threads: messages in, readings and alert events out. For tests of examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ingest.block import TICK, Records
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.rejection import Rejection
from ingest.streams import LimitsConfig, StreamConfig
from rules import Engine, RuleGroup
from simulators.fleet import publications
from simulators.scenario import Scenario
from telemetry import DUPLICATE, LATE, AlertEvent, Counters, SeriesTable, Tick
from telemetry.batch import LIVE

SECOND = 10**9
EPOCH = 1_767_225_600 * SECOND
"""2026-01-01T00:00:00Z"""
_FLAGS = {LIVE: "", LATE: "late", DUPLICATE: "duplicate"}


@dataclass(frozen=True)
class Arrived:
    """A message, or a tick if it has no topic."""

    received: int
    """ns"""
    topic: str = ""
    payload: bytes = b""


class _Log:
    """A journal in memory."""

    start = 0

    def __init__(self, arrived: Sequence[Arrived]) -> None:
        self._arrived = arrived

    def read(self, offset: int, limit: int = 10_000) -> Records:
        some = self._arrived[offset : offset + limit]
        flags = [0 if a.topic else TICK for a in some]
        received = np.array([a.received for a in some], np.int64)
        return Records(
            offset,
            received,
            np.array(flags, np.uint8),
            [a.topic for a in some],
            [a.payload for a in some],
            np.zeros(len(some), np.uint16),
        )

    def wait(self, offset: int, timeout: float) -> bool:
        del timeout
        return offset < len(self._arrived)


@dataclass
class Outcome:
    """What came of the messages."""

    table: SeriesTable = field(default_factory=SeriesTable)
    counters: Counters = field(default_factory=Counters)
    readings: list[str] = field(default_factory=list)
    """`temperature{device="d1"} 21.5`, in the order of their arrival."""
    times: list[int] = field(default_factory=list)
    """Event time of each reading, ns."""
    flags: list[str] = field(default_factory=list)
    """`late`, `duplicate` or nothing, of each reading."""
    rejections: list[Rejection] = field(default_factory=list)
    events: list[AlertEvent] = field(default_factory=list)

    def add(self, rejections: Sequence[Rejection]) -> None:
        self.rejections += rejections


def run(
    arrived: Sequence[Arrived],
    streams: Sequence[StreamConfig],
    groups: Iterable[RuleGroup] = (),
    limits: LimitsConfig | None = None,
) -> Outcome:
    """Everything that a running pipeline would make of these messages and ticks."""
    outcome = Outcome()
    decoder = Decoder(streams, limits or LimitsConfig(), outcome.table, counters=outcome.counters)
    feed = Feed(_Log(arrived), decoder, outcome.table, dead_letters=outcome, counters=outcome.counters)
    engine = Engine([rule for group in groups for rule in group.rules], outcome.table, staleness=decoder.staleness)
    while items := feed.poll(0):
        for item in items:
            if isinstance(item, Tick):
                outcome.events += engine.tick(item)
                continue
            outcome.events += engine.apply(item)
            series = [outcome.table[i] for i in item.series.tolist()]
            outcome.readings += [f"{s} {v:g}" for s, v in zip(series, item.value.tolist(), strict=True)]
            outcome.times += item.time.tolist()
            outcome.flags += [_FLAGS[flag] for flag in item.flags.tolist()]
    return outcome


def with_ticks(messages: Iterable[Arrived], until: int) -> list[Arrived]:
    """The messages, in order, with a tick for every second from EPOCH to `until` (ns)."""
    ticks = [Arrived(at) for at in range(EPOCH, until + 1, SECOND)]
    return sorted([*messages, *ticks], key=lambda a: a.received)


def simulated(scenario: Scenario, *, quiet: int = 10 * SECOND) -> list[Arrived]:
    """What a scenario publishes, arriving at once, with ticks until `quiet` ns after its end."""
    sent = [Arrived(EPOCH + p.at_ns, p.topic, p.payload) for p in publications(scenario, epoch_ns=EPOCH)]
    return with_ticks(sent, EPOCH + scenario.duration + quiet)
