"""Which series exist, as of each message: numbering, budgets, the words of text metrics.

All decisions are a function of the journal alone: not of what the series table already holds from an earlier run, so
that decoding the same journal again gives the same rows. `admitted[id]` is the offset of the message that brought the
series in; ids are given in that order, so that one high-water mark says which series of a table are known.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from ingest.rejection import Refused
from ingest.streams import STATE, LimitsConfig
from telemetry import Series, SeriesTable

_HOUR = 3_600 * 10**9
_KNOWN = -1
"""Admitted before the first message that we decode."""


class Admission:
    """Gives ids to series within the limits. Not thread-safe."""

    def __init__(self, table: SeriesTable, limits: LimitsConfig) -> None:
        self._table, self._limits = table, limits
        self._count = 0
        self._admitted = np.empty(1_024, np.int64)
        self._of_device: Counter[str] = Counter()
        self._hour, self._new = 0, 0
        self._words: dict[Series, dict[str, int]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def admitted(self) -> NDArray[np.int64]:
        """(n,) offset of the message that brought each series in; -1: before our time. Valid until the next `admit`."""
        return self._admitted[: self._count]

    def admit(self, series: Series, offset: int, received: int) -> int:
        """The id of a series that the message at `offset` has.

        Raises Refused(too_many_series | too_many_series_of_device | too_many_new_series).
        """
        id_ = self._table.find(series)
        if id_ is not None and id_ < self._count:
            return id_
        limits, device = self._limits, series.device
        if self._count >= limits.max_series:
            raise Refused("too_many_series", f"there are {self._count} series already (limits.max_series)")
        if device and self._of_device[device] >= limits.max_series_per_device:
            raise Refused(
                "too_many_series_of_device",
                f"device {device!r} has {limits.max_series_per_device} series already (limits.max_series_per_device): "
                "does a name hold something that changes all the time?",
            )
        hour = received // _HOUR
        if hour != self._hour:
            self._hour, self._new = hour, 0
        if self._new >= limits.max_new_series_per_hour:
            raise Refused("too_many_new_series", "too many new series this hour (limits.max_new_series_per_hour)")
        self._new += 1
        if id_ is None:
            id_ = self._table.add(series)
        self.admit_up_to(id_ + 1, offset)
        return id_

    def admit_up_to(self, count: int, offset: int = _KNOWN) -> None:
        """Takes the first `count` series of the table as brought in by the message at `offset`."""
        if count > len(self._admitted):
            self._admitted = np.concatenate([self._admitted, np.empty(max(count, len(self._admitted)), np.int64)])
        for id_ in range(self._count, count):
            self._of_device[self._table[id_].device] += 1
        self._admitted[self._count : count] = offset
        self._count = max(count, self._count)

    def rows_again(self, base: Series, found: float | str, offset: int) -> list[tuple[int, float]]:
        """The same rows that a number or word (`state_rows`) of the message at `offset` gave the first time.

        Raises Refused(not_admitted) if there were none.
        """
        if not isinstance(found, str):
            id_ = self._table.find(base)
            rows = [] if id_ is None else [(id_, found)]
        else:
            id_ = self.words(base).get(found)
            rows = [(i, float(i == id_)) for i in self.words(base).values() if self._known(i, offset)]
        if id_ is None or not self._known(id_, offset):
            raise Refused("not_admitted", "the series was refused when this message was decoded first")
        return rows

    def _known(self, id_: int, offset: int) -> bool:
        return id_ < self._count and int(self._admitted[id_]) <= offset

    def words(self, base: Series) -> dict[str, int]:
        """Word ⇄ id of the state series of a text metric (`base`: without the label state); the caller only reads.

        Has all that the table knows: also those not admitted yet at some message.
        """
        known = self._words.get(base)
        if known is None:
            known = {}
            for id_ in self._table.with_label("device", base.device).tolist():
                series = self._table[id_]
                word = series.label(STATE)
                if word and series.metric == base.metric and _without_state(series) == base.labels:
                    known[word] = id_
            if len(self._words) >= self._limits.max_series:
                self._words.clear()
            self._words[base] = known
        return known

    def state_rows(self, base: Series, word: str, offset: int, received: int) -> list[tuple[int, float]]:
        """(id, value) of a text value: 1 for its word, 0 for each other word that the metric has had.

        Raises Refused as `admit`, and Refused(too_many_states).
        """
        words = self.words(base)
        id_ = words.get(word)
        if id_ is None or id_ >= self._count:
            if sum(i < self._count for i in words.values()) >= self._limits.max_states:
                raise Refused(
                    "too_many_states",
                    f"{base} has {self._limits.max_states} words already (limits.max_states): {word[:40]!r} is one too "
                    "many; exclude the field, or map its words under fields.values",
                )
            id_ = self.admit(with_state(base, word), offset, received)
            words[word] = id_
        return [(i, float(i == id_)) for i in words.values() if i < self._count]

    def state(self) -> dict[str, int]:
        """Everything but `admitted`, JSON-able."""
        return {"count": self._count, "hour": self._hour, "new": self._new}

    def restore(self, state: dict[str, int], admitted: NDArray[np.int64] | None = None) -> None:
        """Takes over what `state` and `admitted` gave, for the same table. Without `admitted`: before our time."""
        self._count = 0
        self._of_device.clear()
        self._words.clear()
        self.admit_up_to(min(state["count"], len(self._table)))
        self._hour, self._new = state["hour"], state["new"]
        if admitted is not None:
            self._admitted[: self._count] = admitted[: self._count]


def with_state(base: Series, word: str) -> Series:
    """The state series of a word."""
    return Series.from_labels(base.metric, {**dict(base.labels), STATE: word})


def _without_state(series: Series) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in series.labels if name != STATE)
