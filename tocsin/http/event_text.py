"""What is written of live events for one watcher: which of them he wants, as the text of Server-Sent Events.

Not here: when and to whom (`events`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from telemetry import DUPLICATE, HISTORICAL, LATE, RECORDED, RETAINED, AlertEvent, ReadingBatch, Series, SeriesTable
from tocsin.http.alert_bodies import Event, event_fields
from tocsin.live_events import Happening
from tocsin.words import number

MOST_READINGS = 1_000
"""Written of what comes at once; the others count as missed."""
_FLAGS = {LATE: "late", RETAINED: "retained", HISTORICAL: "historical", DUPLICATE: "duplicate", RECORDED: "recorded"}
_MOST_KNOWN = 20_000


@dataclass(frozen=True, slots=True)
class Filter:
    """What a watcher wants; nothing given: everything."""

    what: Literal["all", "readings", "alerts"] = "all"
    metrics: frozenset[str] = frozenset()
    """Of readings: one of these."""
    devices: frozenset[str] = frozenset()
    """One of these."""
    labels: tuple[tuple[str, str], ...] = ()
    """All of these."""

    @property
    def takes_all_series(self) -> bool:
        return not (self.metrics or self.devices or self.labels)

    def takes_series(self, series: Series) -> bool:
        return (not self.metrics or series.metric in self.metrics) and self._takes(series.labels)

    def takes_event(self, event: AlertEvent) -> bool:
        return self.what != "readings" and self._takes(event.labels)

    def _takes(self, labels: Sequence[tuple[str, str]]) -> bool:
        is_wanted = not self.devices or any(name == "device" and said in self.devices for name, said in labels)
        return is_wanted and all(pair in labels for pair in self.labels)


class EventText:
    """For one watcher, and one thread at a time."""

    def __init__(self, table: SeriesTable, wanted: Filter) -> None:
        self._table, self._filter = table, wanted
        self._wanted = np.zeros(0, np.bool_)
        """By series."""
        self._known: dict[int, bytes] = {}
        """Beginning of the text of a reading, by series."""

    def of(self, found: Iterable[Happening], missed: int) -> bytes:
        """The text of all that is wanted; b"" if nothing is."""
        parts: list[bytes] = []
        readings: list[bytes] = []
        too_many = 0
        for happening in found:
            if isinstance(happening, AlertEvent):
                if self._filter.takes_event(happening):
                    parts.append(_alert(happening))
            elif self._filter.what != "alerts":
                rows = self._rows(happening)
                room = MOST_READINGS - len(readings)
                too_many += max(0, len(rows) - room)
                readings += self._readings(happening, rows[:room])
        if readings:
            parts.insert(0, b"event: readings\ndata: [%b]\n\n" % b",".join(readings))
        if missed or too_many:
            parts.append(b'event: missed\ndata: {"batches":%d,"readings":%d}\n\n' % (missed, too_many))
        return b"".join(parts)

    def _rows(self, batch: ReadingBatch) -> NDArray[np.intp]:
        if self._filter.takes_all_series:
            return np.arange(len(batch))
        if len(batch) and int(batch.series.max()) >= len(self._wanted):
            begin, end = len(self._wanted), len(self._table)
            new = [self._filter.takes_series(self._table[id_]) for id_ in range(begin, end)]
            self._wanted = np.concatenate([self._wanted, np.array(new, np.bool_)])
        return np.flatnonzero(self._wanted[batch.series])

    def _readings(self, batch: ReadingBatch, rows: NDArray[np.intp]) -> list[bytes]:
        batch = batch.select(rows)
        times, received = (_instants(column) for column in (batch.time, batch.received))
        return [
            b'%b,"time":"%b","received":"%b","value":%b,"flags":%b}'
            % (self._beginning(id_), time.encode(), at.encode(), _value(value), _flags(flags))
            for id_, time, at, value, flags in zip(
                batch.series.tolist(), times, received, batch.value.tolist(), batch.flags.tolist(), strict=True
            )
        ]

    def _beginning(self, id_: int) -> bytes:
        known = self._known.get(id_)
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            series = self._table[id_]
            labels = {name: _speakable(said) for name, said in series.labels}
            known = b'{"metric":%b,"labels":%b' % (orjson.dumps(series.metric), orjson.dumps(labels))
            self._known[id_] = known
        return known


def _alert(event: AlertEvent) -> bytes:
    told = Event.model_validate(event_fields(event)).model_dump_json()
    return b"event: alert\nid: %b\ndata: %b\n\n" % (event.id.encode(), told.encode())


def _instants(ns: NDArray[np.int64]) -> list[str]:
    found: list[str] = np.datetime_as_string(ns.astype("datetime64[ns]"), unit="ns", timezone="UTC").tolist()
    return found


def _value(value: float) -> bytes:
    return orjson.dumps(value if math.isfinite(value) else number(value))


def _flags(flags: int) -> bytes:
    return orjson.dumps([word for bit, word in _FLAGS.items() if flags & bit]) if flags else b"[]"


def _speakable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
