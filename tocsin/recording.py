"""Recording: carries the samples of recording rules into the journal, from where every sink gets them.

Here: which samples are written, so that each is written once over any number of crashes. Not here: how they are
evaluated (`rules`), how a record looks (`ingest.recorded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ingest.recorded import encode_samples
from rules import GONE, STALE, Recorded
from rules.samples import bits
from telemetry import RECORDED, Clock, Counters, ReadingBatch, Series, SeriesTable
from telemetry.crash_points import reached

_MARKERS = frozenset({bits(STALE), bits(GONE)})
_Key = tuple[Series, int]


class Log(Protocol):
    """What a recorder needs of a journal."""

    @property
    def end(self) -> int: ...
    def append_samples(self, payloads: Sequence[bytes], time: int, /) -> int: ...


class Recorder:
    """For the thread of evaluation.

    After a restart, rules are evaluated again at what lay before the end of the journal, and most of the samples that
    this brings about stand there already, each behind what it was evaluated at. So samples are kept back until all of
    that has been read, and only those are written then that were not found. Counters: `rules.recorded` (samples),
    `rules.records` (records of the journal that hold them).
    """

    def __init__(self, journal: Log, table: SeriesTable, *, clock: Clock, counters: Counters) -> None:
        self._journal, self._table = journal, table
        self._clock, self._counters = clock, counters
        self._end: int | None = journal.end
        """Of the journal at the start; None once all before it has been read"""
        self._since = 0
        self._waiting: dict[_Key, float] = {}
        self._found: set[_Key] = set()

    @property
    def is_settled(self) -> bool:
        """Whether all samples so far are in the journal: only then may state be saved that is behind them."""
        return self._end is None and not self._waiting

    def begin(self, since: int) -> None:
        """Samples of what lies before this offset of the journal are of the past: written, or never to be."""
        self._since = since

    def meet(self, batch: ReadingBatch) -> None:
        """What comes out of the journal."""
        if self._end is None:
            return
        for i in np.flatnonzero(((batch.flags & RECORDED) != 0) & (batch.offset >= self._since)).tolist():
            key = self._table[int(batch.series[i])], int(batch.time[i])
            if self._waiting.pop(key, None) is None:
                self._found.add(key)

    def add(self, samples: Sequence[Recorded], behind: int) -> None:
        """Samples that the item of the journal has brought about that ends before the offset `behind`."""
        if behind <= self._since:
            return
        for labels, time, value in samples:
            if np.isnan(value) and bits(value) in _MARKERS:
                continue
            key = _series(labels), time
            if key in self._found:
                self._found.remove(key)
            else:
                self._waiting[key] = value

    def write(self, offset: int) -> None:
        """Make durable what waits, in one append, when all before `offset` has been met and evaluated.

        Raises JournalError: then it waits on.
        """
        if self._end is not None:
            if offset < self._end:
                return
            self._end = None
            self._found.clear()
        if not self._waiting:
            return
        by_time: dict[int, list[tuple[dict[str, str], float]]] = {}
        for (series, time), value in self._waiting.items():
            by_time.setdefault(time, []).append(({"__name__": series.metric, **dict(series.labels)}, value))
        payloads = [payload for time, samples in by_time.items() for payload in encode_samples(time, samples)]
        self._journal.append_samples(payloads, self._clock.now())
        reached("recorder.written")
        self._counters.add("rules.records", len(payloads))
        self._counters.add("rules.recorded", len(self._waiting))
        self._waiting.clear()


def _series(labels: tuple[tuple[str, str], ...]) -> Series:
    own = dict(labels)
    return Series(own.pop("__name__"), tuple(sorted(own.items())))
