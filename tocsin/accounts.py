"""Accounts: what came of everything that each stage received, from the counters that the stages keep themselves."""

from __future__ import annotations

import threading
from collections import Counter

from telemetry import DUPLICATE, LATE, RECORDED, Counters, ReadingBatch
from tocsin.status import AccountRow

Tally = Counter[str]


def tally_of(batch: ReadingBatch) -> Tally:
    """Rows by kind: live, recorded, late, other (retained, historical), duplicate."""
    flags = batch.flags
    duplicate = (flags & DUPLICATE) != 0
    late = ((flags & LATE) != 0) & ~duplicate
    live, recorded = flags == 0, flags == RECORDED
    other = ~(duplicate | late | live | recorded)
    kinds = {"live": live, "recorded": recorded, "late": late, "other": other, "duplicate": duplicate}
    return Counter({kind: int(rows.sum()) for kind, rows in kinds.items()})


class Accounts:
    """Rows that the head of the feed handed out, for all consumers and for each that began elsewhere."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lock = threading.Lock()
        self._read: Tally = Counter()
        self._handed: dict[str, Tally] = {}
        self._begin: dict[str, int] = {}

    def begin(self, sink: str, offset: int) -> None:
        """The sink starts at this journal offset."""
        self._begin[sink] = offset
        self._handed[sink] = Counter()

    def read(self, batch: ReadingBatch) -> None:
        """The head has handed out this batch."""
        tally = tally_of(batch)
        with self._lock:
            self._read += tally
            for sink, begin in self._begin.items():
                if len(batch) and batch.offset[0] < begin:
                    self._handed[sink] += tally_of(batch.select(batch.offset >= begin))
                else:
                    self._handed[sink] += tally

    def read_again(self, sink: str, batch: ReadingBatch) -> None:
        """The sink has read rows from before the offset at which the head began."""
        with self._lock:
            self._handed[sink] += tally_of(batch)

    def rows(self) -> tuple[AccountRow, ...]:
        """Every stage; a negative part or an unequal sum is an error, and shown as one."""
        c = self._counters
        # What is further down the path is looked at first, so that nothing seems to come out that never went in.
        done = {
            sink: [(part, c.get(f"{sink}.{part}")) for part in ("stored", "late", "duplicate", "other", "parked")]
            for sink in self._begin
        }
        with self._lock:
            read, handed = Counter(self._read), {name: Counter(tally) for name, tally in self._handed.items()}
        messages = [(part, c.get(f"ingest.messages_{part}")) for part in ("decoded", "rejected", "empty", "ignored")]
        rejected, readings = c.get("ingest.rejected"), c.get("ingest.readings")
        rows = [
            AccountRow(stage="messages", received=c.get("ingest.messages"), parts=tuple(messages)),
            AccountRow(
                stage="readings",
                received=readings,
                parts=(
                    ("live", read["live"]),
                    ("recorded", read["recorded"]),
                    ("late", read["late"]),
                    ("duplicate", read["duplicate"]),
                    ("other", read["other"]),
                    ("rejected", rejected),
                    ("in flight", readings - read.total() - rejected),
                ),
            ),
        ]
        for sink, tally in handed.items():
            waiting = tally.total() - sum(n for _, n in done[sink])
            rows.append(AccountRow(stage=sink, received=tally.total(), parts=(*done[sink], ("in flight", waiting))))
        return tuple(rows)
