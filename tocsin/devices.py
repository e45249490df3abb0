"""Devices: when each was heard last, how often it reports, how far off its clock is. From the readings as they pass.

Here: what is known of the series, summed up by device when somebody looks. Not here: taking notes of each batch
(`series_activity`), how it is shown.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ingest.streams import DEFAULT_STALENESS
from telemetry import ReadingBatch, SeriesTable
from tocsin.series_activity import SECOND, SeriesActivity

State = Literal["reporting", "silent", "never"]
_MISSED = 3
"""A device is silent after as many intervals."""
_LEAST_SILENCE = 15 * SECOND
_ROWS_AGE = SECOND


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device."""

    device: str
    labels: tuple[tuple[str, str], ...]
    """Those that all its series have in common, without `device`; sorted."""
    streams: tuple[str, ...]
    """On which it has been heard since the start; sorted."""
    series: int
    """How many it has."""
    last_seen: int
    """Our clock at its newest reading, ns; 0: never. If not heard since the start: time of the newest one stored."""
    last_time: int
    """Event time of its newest reading, ns; 0: none."""
    interval: int | None
    """Learned: how long from one reading to the next of its busiest series, median of the latest, ns."""
    skew: int | None
    """Receipt minus event time of live readings, smoothed, ns: how far its clock is behind, and the way to us."""
    rate: float
    """Readings a second over the last minute."""
    state: State
    """silent: nothing for three intervals; if none is known yet, for as long as its readings count in rules."""
    firing: int
    """Alerts with its name that fire."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What others know of devices."""

    stored: Callable[[NDArray[np.int32]], NDArray[np.int64]] | None = None
    """Times of the newest stored readings of some series, 0 where there is none; asked once for each unheard."""
    staleness: Mapping[int, int] = field(default_factory=dict)
    """By series where it is not the usual one, ns."""
    streams: Mapping[int, str] = field(default_factory=dict)
    """Name by series; only ever added to."""
    firing: Mapping[str, int] = field(default_factory=dict)
    """Alerts by device."""


class Devices:
    """The book of devices. `readings` belongs to one thread; any other may look."""

    def __init__(self, table: SeriesTable, *, look_again: int | None = None) -> None:
        """`look_again`: how long what the store has of unheard series stays true, ns; None: while we run."""
        self.activity = SeriesActivity()
        self._table = table
        self._look_again, self._looked_at = look_again, 0
        self._lock = threading.Lock()
        """Guards all below; never held while readings are noted."""
        self._names: list[str] = []
        self._numbers: dict[str, int] = {}
        self._labels: list[tuple[tuple[str, str], ...]] = []
        self._streams: list[set[str]] = []
        self._streams_known = 0
        self._stream_names: list[str] = []
        self._stream = np.zeros(0, np.int32)
        """By series: number of its stream, -1: not known."""
        self._device = np.zeros(0, np.int32)
        """By series: number of its device, -1 if it is of none."""
        self._stored = np.zeros(0, np.int64)
        """By series: time of its newest reading in the store; -1: not looked up."""
        self._rows: tuple[int, Sequence[DeviceRow]] | None = None

    def readings(self, batch: ReadingBatch) -> None:
        """They have been received, in the order of their arrival."""
        self.activity.readings(batch)

    def rows(self, now: int, surroundings: Surroundings) -> Sequence[DeviceRow]:
        """All devices of the series table, by name; at most a second old."""
        with self._lock:
            if self._rows is None or not 0 <= now - self._rows[0] < _ROWS_AGE or len(self._device) != len(self._table):
                self._index()
                self._rows = now, self._build(now, surroundings)
            return self._rows[1]

    def by_stream(self, streams: Mapping[int, str]) -> Mapping[str, int]:
        """Readings since the start, without duplicates, by stream; `streams` as in Surroundings."""
        with self._lock:
            self._index()
            self._note_streams(streams)
            count = self.activity.counts(len(self._stream))
            sums = np.bincount(self._stream + 1, weights=count, minlength=len(self._stream_names) + 1)
            return dict(zip(self._stream_names, sums[1:].astype(np.int64).tolist(), strict=True))

    def _index(self) -> None:
        """Take up the series that are new in the table."""
        begin, end = len(self._device), len(self._table)
        numbers = [self._number(id_) for id_ in range(begin, end)]
        self._device = np.concatenate([self._device, np.array(numbers, np.int32)])
        self._stored = np.concatenate([self._stored, np.full(end - begin, -1, np.int64)])
        self._stream = np.concatenate([self._stream, np.full(end - begin, -1, np.int32)])

    def _number(self, id_: int) -> int:
        series = self._table[id_]
        name = series.device
        if not name:
            return -1
        number = self._numbers.get(name)
        if number is None:
            number = self._numbers[name] = len(self._names)
            self._names.append(name)
            self._labels.append(tuple(pair for pair in series.labels if pair[0] != "device"))
            self._streams.append(set())
        else:
            self._labels[number] = tuple(pair for pair in self._labels[number] if pair in series.labels)
        return number

    def _build(self, now: int, around: Surroundings) -> Sequence[DeviceRow]:
        n = len(self._device)
        known, rates = self.activity.columns(n), self.activity.rates(now, n)
        self._look_up(now, known.seen == 0, around)
        self._note_streams(around.streams)
        from_store = np.where(known.seen == 0, np.maximum(self._stored, 0), 0)
        seen = self._newest(known.seen)
        seen = np.where(seen > 0, seen, self._newest(from_store))
        interval, skew = self._least(_medians(known.distance)), self._least(known.skew)
        usual = np.full(n, DEFAULT_STALENESS, np.int64)
        own = np.array([(id_, ns) for id_, ns in around.staleness.items() if id_ < n], np.int64).reshape(-1, 2)
        usual[own[:, 0]] = own[:, 1]
        learned = np.maximum(_MISSED * SECOND * interval, _LEAST_SILENCE)
        silent = now - seen > np.where(np.isnan(learned), self._newest(usual), learned)
        columns = (
            self._sum(np.ones(n)),
            seen,
            self._newest(np.maximum(known.time, from_store)),
            interval,
            skew,
            self._sum(rates),
            silent,
        )
        rows = zip(self._names, self._labels, self._streams, *(column.tolist() for column in columns), strict=True)
        found = [
            DeviceRow(
                device=name,
                labels=labels,
                streams=tuple(sorted(streams)),
                series=int(series),
                last_seen=seen_at,
                last_time=timed_at,
                interval=None if math.isnan(between) else round(between * SECOND),
                skew=None if math.isnan(behind) else round(behind * SECOND),
                rate=rate,
                state="never" if not seen_at else "silent" if is_silent else "reporting",
                firing=around.firing.get(name, 0),
            )
            for name, labels, streams, series, seen_at, timed_at, between, behind, rate, is_silent in rows
        ]
        found.sort(key=lambda row: row.device)
        return found

    def _look_up(self, now: int, unheard: NDArray[np.bool_], around: Surroundings) -> None:
        """Of what was not heard since the start: what the store has."""
        if self._look_again is not None and now - self._looked_at >= self._look_again:
            self._stored[:], self._looked_at = -1, now
        ids = np.flatnonzero(unheard & (self._stored < 0)).astype(np.int32)
        if around.stored is not None and len(ids):
            self._stored[ids] = around.stored(ids)

    def _note_streams(self, streams: Mapping[int, str]) -> None:
        known = len(streams)
        for id_, stream in list(islice(streams.items(), self._streams_known, known)):
            if id_ >= len(self._device):
                return  # came meanwhile
            self._streams_known += 1
            if stream not in self._stream_names:
                self._stream_names.append(stream)
            self._stream[id_] = self._stream_names.index(stream)
            if self._device[id_] >= 0:
                self._streams[self._device[id_]].add(stream)

    def _newest(self, column: NDArray[np.int64]) -> NDArray[np.int64]:
        """By device, the largest of its series'."""
        found, of_some = np.zeros(len(self._names), np.int64), self._device >= 0
        np.maximum.at(found, self._device[of_some], column[of_some])
        return found

    def _least(self, column: NDArray[np.floating]) -> NDArray[np.float64]:
        """By device, the smallest of its series', NaN left out."""
        found, given = np.full(len(self._names), np.nan), (self._device >= 0) & ~np.isnan(column)
        np.fmin.at(found, self._device[given], column[given])
        return found

    def _sum(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """By device."""
        of_some = self._device >= 0
        sums = np.bincount(self._device[of_some], weights=column[of_some], minlength=len(self._names))
        return sums.astype(np.float64)


def _medians(distance: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) of (n, k), NaN left out, the lower one of two; NaN where there is nothing else."""
    known = (~np.isnan(distance)).sum(axis=1)
    ordered = np.sort(distance, axis=1)  # NaN goes last
    middle: NDArray[np.float32] = ordered[np.arange(len(ordered)), np.maximum(known - 1, 0) // 2]
    return middle
