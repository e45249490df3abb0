"""Which blocks of the embedded store may hold a reading, and their rows. Not here: what is made of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sinks.blocks import decode, decode_strips
from sinks.columns import Columns, Strips

_FEW_SERIES = 8
"""Up to so many, blocks are looked up by series; above, the keys of all blocks in their range are read."""

# CROSS JOIN keeps SQLite from turning the loops round, which would scan every block. In a run, a series lies in the
# blocks that end with it and in the first one that ends behind it. `upto` puts the youngest run last, so that its
# readings win.
BLOCKS_OF_ONE = """
select b.id, r.upto from run r cross join block b on b.run = r.id and b.s1 >= :series
    and b.s1 <= coalesce((select min(s1) from block where run = r.id and s1 > :series), :series)
where r.level >= 0 and b.s0 <= :series and b.t1 >= :first and b.t0 <= :last
"""
_KEYS = """
select b.id, r.upto, b.s0, b.s1, b.t0, b.t1, b.n from run r cross join block b on b.run = r.id and b.s1 >= :low
where r.level >= 0 and b.s0 <= :high and b.t1 >= :first and b.t0 <= :last
order by r.upto, b.s1, b.s0, b.t1
"""


class Keys(NamedTuple):
    """Keys of blocks, the oldest run first, in order within a run; each (n,) int64."""

    id: NDArray[np.int64]
    upto: NDArray[np.int64]
    s0: NDArray[np.int64]
    s1: NDArray[np.int64]
    t0: NDArray[np.int64]
    t1: NDArray[np.int64]
    rows: NDArray[np.int64]


def blocks_of(
    db: sqlite3.Connection, wanted: NDArray[np.int32], first: int, last: int, *, without: Collection[int] = ()
) -> list[int]:
    """Ids of the blocks that may hold a reading, the oldest run first; not of the runs `without`, given by `upto`."""
    if len(wanted) > _FEW_SERIES:
        keys = keys_of(db, int(wanted[0]), int(wanted[-1]), first, last)
        holds = np.searchsorted(wanted, keys.s0, "left") < np.searchsorted(wanted, keys.s1, "right")
        if without:
            holds &= ~np.isin(keys.upto, list(without))
        ids: list[int] = keys.id[holds].tolist()
        return ids
    found: dict[int, int] = {}
    for series in wanted.tolist():
        found.update(db.execute(BLOCKS_OF_ONE, {"series": series, "first": first, "last": last}).fetchall())
    return sorted((id_ for id_, upto in found.items() if upto not in without), key=found.__getitem__)


def keys_of(db: sqlite3.Connection, low: int, high: int, first: int, last: int) -> Keys:
    """Of the blocks that share a part of the range of series, and of times, with these."""
    rows = db.execute(_KEYS, {"low": low, "high": high, "first": first, "last": last}).fetchall()
    return Keys(*np.array(rows, np.int64).reshape(-1, len(Keys._fields)).T)


def block(db: sqlite3.Connection, id_: int, wanted: NDArray[np.int32] | None = None) -> Columns:
    """Its rows, of all series or of those wanted."""
    return decode(db.execute("select data from block where id = ?", (id_,)).fetchone()[0], wanted)


def strips_in(db: sqlite3.Connection, id_: int, wanted: NDArray[np.int32]) -> Strips:
    """The rows of the series wanted."""
    return decode_strips(db.execute("select data from block where id = ?", (id_,)).fetchone()[0], wanted)


def blocks(db: sqlite3.Connection, ids: Sequence[int]) -> Iterator[Columns]:
    """The rows of each."""
    return (block(db, id_) for id_ in ids)
