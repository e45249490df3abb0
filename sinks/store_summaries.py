"""How the embedded store draws long times: from the summaries of its runs, where these are exact.

A summary counts readings that a younger run may have overwritten, or that were forgotten since. So it is used only
where no other one of the same series and span has readings in between; elsewhere the readings are summed up again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sinks.columns import Columns, Strips, splice, strips_of
from sinks.rollups import Summaries, concatenate, decode, in_order, kept_for, summarise, widened
from sinks.store_blocks import blocks_of, strips_in

_CHUNKS = """
select s.data from run r cross join summary s on s.width = :width and s.run = r.id and s.s1 >= :low
where r.level >= 0 and s.s0 <= :high and s.t1 >= :first and s.t0 <= :last
"""
_WITH_SUMMARIES = "select upto from run where level >= 0 and id in (select run from summary where width = ?)"
_APART = 24
"""Spans between two doubtful ones from which on they are looked up apart …"""
_LOOK_UPS = 8
"""… unless that makes too many look-ups."""

_HALF = 1 << 31

Int64s = NDArray[np.int64]


class SummaryReader:
    """Reads summaries in one snapshot of the store."""

    def __init__(self, db: sqlite3.Connection, log: Strips, wanted: NDArray[np.int32], oldest: int) -> None:
        """log: its rows of the wanted series; oldest: ns, readings before it have been forgotten."""
        self._db, self._log, self._wanted, self._oldest = db, log, wanted, oldest

    def summaries(self, width: int, first: int, last: int) -> Summaries:
        """Of the readings with first <= time <= last (ns, whole spans), one for each series and span of that width."""
        kept = kept_for(width)
        if not kept or not self._has_summaries():
            return summarise(self._strips(self._wanted, max(first, self._oldest), last), width)
        return widened(self._exact(kept, max(first, self._oldest), last), width // kept)

    def newest(self, width: int, first: int, last: int) -> Strips:
        """The last readings of each series and span, of a width that is kept, with first <= time <= last."""
        first = max(first, self._oldest)
        if not self._has_summaries():
            return self._strips(self._wanted, first, last)
        rows = self._exact(width, first, last)
        return strips_of(Columns(rows.series, rows.last, rows.value))

    def _exact(self, kept: int, first: int, last: int) -> Summaries:
        """Sorted by series and time; of one span there may be several."""
        rows = in_order(concatenate([*self._kept(kept, first, last), *self._made(kept, first, last)]))
        spans = _codes(rows)
        shared = (spans[1:] == spans[:-1]) & (rows.first[1:] <= rows.last[:-1])
        doubtful = np.unique(np.concatenate((spans[1:][shared], spans[rows.first < first])))
        if len(doubtful):
            surely = rows.take(~np.isin(spans, doubtful))
            rows = in_order(concatenate([surely, *self._mended(doubtful, kept, first, last)]))
        return rows

    def _has_summaries(self) -> bool:
        return bool(self._db.execute("select 1 from sqlite_master where name = 'summary'").fetchone())

    def _kept(self, width: int, first: int, last: int) -> Iterator[Summaries]:
        wanted = self._wanted
        keys = {"width": width, "low": int(wanted[0]), "high": int(wanted[-1]), "first": first, "last": last}
        for (data,) in self._db.execute(_CHUNKS, keys):
            rows = decode(data, width)
            of = wanted[np.minimum(np.searchsorted(wanted, rows.series), len(wanted) - 1)] == rows.series
            yield rows.take(of & (rows.last >= first) & (rows.first <= last))

    def _made(self, width: int, first: int, last: int) -> Iterator[Summaries]:
        """Of the runs that have none, and of the log."""
        having = {upto for (upto,) in self._db.execute(_WITH_SUMMARIES, (width,))}
        for id_ in blocks_of(self._db, self._wanted, first, last, without=having):
            yield summarise(strips_in(self._db, id_, self._wanted).within(first, last), width)
        yield summarise(self._log.within(first, last), width)

    def _mended(self, doubtful: Int64s, width: int, first: int, last: int) -> Iterator[Summaries]:
        """Of the readings of these series and spans."""
        series, span = (doubtful >> 32).astype(np.int32), (doubtful & 0xFFFFFFFF) - _HALF
        order = np.argsort(span, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(span[order]) > _APART) + 1)
        for group in groups if len(groups) <= _LOOK_UPS else [order]:
            begin, end = (int(span[group[0]]) - 1) * width + 1, int(span[group[-1]]) * width
            strips = self._strips(np.unique(series[group]), max(first, begin), min(last, end))
            rows = summarise(strips, width)
            yield rows.take(np.isin(_codes(rows), doubtful))

    def _strips(self, wanted: NDArray[np.int32], first: int, last: int) -> Strips:
        parts = [strips_in(self._db, id_, wanted) for id_ in blocks_of(self._db, wanted, first, last)]
        return splice([part.within(first, last) for part in (*parts, self._log.of(wanted))])


def _codes(rows: Summaries) -> Int64s:
    """(k,) one number for each series and span; a span of the least width has less than 32 bits."""
    codes: Int64s = (rows.series.astype(np.int64) << 32) + (rows.span + _HALF)
    return codes
