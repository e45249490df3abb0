"""Summaries of a run of the embedded store, made while its blocks are. Not here: what a summary is (sinks.rollups)."""

from __future__ import annotations

from sinks.columns import Columns, strips_of
from sinks.columns import concatenate as joined
from sinks.rollups import WIDTHS, Summaries, concatenate, encode, summarise, widened

_CHUNK = 8192
"""Summaries that are kept and read together."""

_TOGETHER = 1 << 16
"""Rows that are summed up together."""

Chunk = tuple[int, int, int, int, int, int, bytes]
"""width, run, s0, s1, t0, t1, data: a row of the table `summary`, without id."""


class RunSummaries:
    """The summaries of one run, for the widths where that pays; those are complete."""

    def __init__(self, run: int, rows_per_summary: int) -> None:
        """rows_per_summary: readings that a summary must stand for, in the mean, to be worth keeping."""
        self._run, self._worth, self._rows = run, rows_per_summary, 0
        self._coming: list[Columns] = []
        self._held: dict[int, list[Summaries]] = {width: [] for width in WIDTHS}
        self._judged = False

    def add(self, rows: Columns) -> None:
        """The rows of the next block."""
        if self._held:
            self._coming.append(rows)
            if sum(part.rows for part in self._coming) >= _TOGETHER:
                self._sum_up()

    def chunks(self, *, last: bool = False) -> list[Chunk]:
        """What there is to write by now; `last`: all of it."""
        self._sum_up()
        if not self._judged:
            self._judged = True
            sizes = {width: sum(len(part.n) for part in held) for width, held in self._held.items()}
            self._held = {w: held for w, held in self._held.items() if sizes[w] * self._worth <= self._rows}
        found: list[Chunk] = []
        for width, held in self._held.items():
            if not held or not (last or sum(len(part.n) for part in held) >= _CHUNK):
                continue
            rows = concatenate(held)
            parts = [rows.take(slice(begin, begin + _CHUNK)) for begin in range(0, len(rows.n), _CHUNK)]
            found += [_chunk(self._run, width, part) for part in parts]
            held.clear()
        return found

    def _sum_up(self) -> None:
        if not self._coming:
            return
        rows = joined(self._coming)
        self._coming.clear()
        self._rows += rows.rows
        found = summarise(strips_of(rows), WIDTHS[0])
        for width, held in self._held.items():
            held.append(found if width == WIDTHS[0] else widened(found, width // WIDTHS[0]))


def _chunk(run: int, width: int, rows: Summaries) -> Chunk:
    s0, s1, t0, t1 = int(rows.series[0]), int(rows.series[-1]), int(rows.first.min()), int(rows.last.max())
    return width, run, s0, s1, t0, t1, encode(rows, width)
