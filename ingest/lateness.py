"""Which rows are late and which are duplicates, by what their series has had before. Here: the state of all series."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from telemetry import DUPLICATE, HISTORICAL, LATE, RECORDED, RETAINED, ReadingBatch

REMEMBERED = 8
"""Readings of each series in which duplicates are looked for."""
_NEVER = np.iinfo(np.int64).min


class Lateness:
    """Flags rows in the order of their arrival; how that order is cut into batches makes no difference.

    A live row that is newer than all before it of its series moves on the series' newest time. Any other row is a
    DUPLICATE if its time and value are among the last `REMEMBERED` readings of the series, else LATE, unless it is
    newer than the newest. Rows that are RETAINED or HISTORICAL never move the newest time: the age of such a reading
    says nothing about those that come. The same time with another value is a correction: LATE, so that it is stored.
    Rows that are RECORDED are passed over: each comes once, and what devices report is not measured against them. So
    are those that are DUPLICATE already, as rows of a message that came before.
    """

    def __init__(self) -> None:
        self._newest = np.full(1_024, _NEVER, np.int64)
        self._times = np.full((1_024, REMEMBERED), _NEVER, np.int64)
        self._values = np.zeros((1_024, REMEMBERED), np.float64)
        self._next = np.zeros(1_024, np.uint8)
        """Where in the ring the next reading goes."""

    def flag(self, batch: ReadingBatch) -> NDArray[np.uint8]:
        """(n,) the flags of the batch with LATE and DUPLICATE added; remembers its rows."""
        passed = (batch.flags & (RECORDED | DUPLICATE)) != 0
        if passed.any():
            result = batch.flags.copy()
            result[~passed] = self.flag(batch.select(~passed))
            return result
        n = len(batch)
        if n == 0:
            return batch.flags.copy()
        self._make_room(int(batch.series.max()) + 1)
        order = np.argsort(batch.series, kind="stable")
        series, time, value = batch.series[order], batch.time[order], batch.value[order]
        flags = batch.flags[order]
        starts = np.flatnonzero(np.concatenate(([True], series[1:] != series[:-1])))
        rows = np.diff(starts, append=n)
        before = np.empty(n, np.int64)
        before[1:] = time[:-1]
        before[starts] = self._newest[series[starts]]
        in_order = (time > before) & (flags & (RETAINED | HISTORICAL) == 0)
        simple = np.logical_and.reduceat(in_order, starts)
        self._take(series, time, value, starts[simple], rows[simple])
        for start, end in zip(starts[~simple].tolist(), (starts + rows)[~simple].tolist(), strict=True):
            self._take_one_by_one(int(series[start]), time[start:end], value[start:end], flags[start:end])
        result = np.empty(n, np.uint8)
        result[order] = flags
        return result

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Everything, as arrays with one row for each series."""
        return {"newest": self._newest, "times": self._times, "values": self._values, "next": self._next}

    def restore(self, state: dict[str, NDArray[np.generic]]) -> None:
        """Takes over what `state` gave."""
        self._newest = state["newest"].astype(np.int64)
        self._times = state["times"].astype(np.int64)
        self._values = state["values"].astype(np.float64)
        self._next = state["next"].astype(np.uint8)

    def _take(
        self,
        series: NDArray[np.int32],
        time: NDArray[np.int64],
        value: NDArray[np.float64],
        starts: NDArray[np.intp],
        rows: NDArray[np.intp],
    ) -> None:
        """Remembers groups of rows that are all live and in order; each group is one series."""
        ids, ends = series[starts], starts + rows
        self._newest[ids] = time[ends - 1]
        for back in range(min(REMEMBERED, int(rows.max(initial=0))), 0, -1):
            has = rows >= back
            group, row = ids[has], ends[has] - back
            slot = (self._next[group] + rows[has] - back) % REMEMBERED
            self._times[group, slot] = time[row]
            self._values[group, slot] = value[row]
        self._next[ids] = (self._next[ids] + rows) % REMEMBERED

    def _take_one_by_one(
        self, id_: int, time: NDArray[np.int64], value: NDArray[np.float64], flags: NDArray[np.uint8]
    ) -> None:
        """Remembers and flags (in place) the rows of one series, in order."""
        newest, slot = int(self._newest[id_]), int(self._next[id_])
        ring = list(zip(self._times[id_].tolist(), self._values[id_].tolist(), strict=True))
        for row, (t, v, flag) in enumerate(zip(time.tolist(), value.tolist(), flags.tolist(), strict=True)):
            live = not flag & (RETAINED | HISTORICAL)
            if live and t > newest:
                newest = t
            elif (t, v) in ring:
                flags[row] = flag | DUPLICATE
                continue
            elif t <= newest:
                flags[row] = flag | LATE
            ring[slot] = (t, v)
            slot = (slot + 1) % REMEMBERED
        self._newest[id_], self._next[id_] = newest, slot
        self._times[id_], self._values[id_] = zip(*ring, strict=True)

    def _make_room(self, count: int) -> None:
        have = len(self._newest)
        if count <= have:
            return
        more = max(count - have, have // 2)
        self._newest = np.concatenate([self._newest, np.full(more, _NEVER, np.int64)])
        self._times = np.concatenate([self._times, np.full((more, REMEMBERED), _NEVER, np.int64)])
        self._values = np.concatenate([self._values, np.zeros((more, REMEMBERED))])
        self._next = np.concatenate([self._next, np.zeros(more, np.uint8)])
