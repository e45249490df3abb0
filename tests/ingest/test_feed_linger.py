"""Laws of lingering: records that keep coming are read together, and none waits that comes after a silence."""

from __future__ import annotations

import threading

from tests.ingest.test_feed import MemoryJournal, Rig, message, rows

LONG = 1_000.0


class Watched(MemoryJournal):
    """Remembers what was waited for, and for how long."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[tuple[int, float]] = []
        self.waited = threading.Event()

    def wait(self, offset: int, timeout: float) -> bool:
        self.waits.append((offset, timeout))
        if len(self.waits) > 1:
            self.waited.set()
        return super().wait(offset, timeout)


def rig() -> tuple[Watched, Rig]:
    """Its first records have just been read."""
    journal = Watched()
    one = Rig(journal)
    journal.append([message("a", 0, 1)])
    assert rows(one.feed.poll(0, linger=LONG))
    assert journal.waits == [(0, 0)], "the first do not wait"
    journal.waits.clear()
    return journal, one


def test_records_that_follow_others_wait_for_more_until_there_are_enough():
    journal, one = rig()
    journal.append([message("a", 1, 2)])
    found: list[object] = []
    poll = threading.Thread(target=lambda: found.append(rows(one.feed.poll(0, limit=3, linger=LONG))))
    poll.start()
    assert journal.waited.wait(20)
    journal.append([message("a", 2, 3), message("a", 3, 4), message("a", 4, 5)])
    poll.join(20)

    assert [[row[0] for row in batch] for batch in found] == [[1, 2, 3]]
    assert [offset for offset, _ in journal.waits] == [1, 3]
    assert 0 < journal.waits[1][1] <= LONG


def test_records_that_come_after_a_silence_are_read_at_once():
    journal, one = rig()
    journal.append([message("a", 1, 2)])

    assert len(rows(one.feed.poll(0, linger=1e-9))) == 1
    assert len(journal.waits) == 1


def test_nobody_lingers_who_is_not_told_to():
    journal, one = rig()
    journal.append([message("a", 1, 2)])

    assert len(rows(one.feed.poll(0))) == 1
    assert len(journal.waits) == 1
