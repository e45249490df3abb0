"""Laws of the full journal: it stops, or gives up what everyone has read; never what somebody needs, never silently."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

from ingest.config import JournalConfig
from ingest.journal import Journal, JournalFull
from ingest.room import Outlook
from telemetry import Counters, Message

SEGMENT = 4096


class Limited:
    """A journal, and a disk with room for so many of its files."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch, *, files: int = 1_000, **config: object) -> None:
        self.files, self._directory = files, directory
        self.counters = Counters()
        settings = JournalConfig.model_validate({"segment_bytes": SEGMENT, **config})
        self.journal = Journal(directory, config=settings, counters=self.counters)
        whole = os.posix_fallocate

        def allocate(fd: int, offset: int, size: int) -> None:
            if len(list(directory.glob("*.journal"))) > self.files:  # the new one is there already
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            whole(fd, offset, size)

        patch.setattr(os, "posix_fallocate", allocate)

    def fill(self, records: int = 200) -> int:
        """Appends one by one until the journal is full, or so many; returns how many were taken."""
        for i in range(records):
            try:
                self.journal.append([Message("t", b"x" * 500, received=i)])
            except JournalFull:
                return i
        return records

    def received(self) -> Iterator[int]:
        offset = 0
        while len(records := self.journal.read(offset)):
            yield from records.received.tolist()
            offset = records.next


FULL = [("disk", {"files": 4}), ("max_bytes", {"max_bytes": 4 * SEGMENT, "retention_bytes": 3 * SEGMENT})]


@pytest.mark.parametrize(("reason", "limits"), FULL)
@pytest.mark.parametrize("on_full", ["stop", "drop_oldest_consumed"])
def test_what_somebody_needs_is_never_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, limits: dict[str, int], on_full: str
) -> None:
    at = Limited(tmp_path, monkeypatch, on_full=on_full, **limits)
    taken = at.fill()
    assert 20 < taken < 40
    assert at.journal.start == 0
    at.journal.trim(1)  # all but the first record are still needed
    assert at.fill() == 0
    assert list(at.received()) == list(range(taken))
    assert at.journal.end == taken
    assert at.counters.get("journal.full", reason) >= 2
    assert at.counters.get("journal.dropped_consumed") == 0
    at.journal.close()


def test_drop_oldest_consumed_goes_on_over_what_everyone_has_read_and_tells_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    at = Limited(tmp_path, monkeypatch, files=4, on_full="drop_oldest_consumed")
    taken = at.fill()
    needed = taken // 2 - 2
    at.journal.trim(needed)
    assert at.journal.start == 0, "retention would keep it"
    more = at.fill()
    assert more > 5
    assert 0 < at.journal.start <= needed
    assert at.counters.get("journal.dropped_consumed", "disk") == at.journal.start
    assert "no room (disk): deleted records 0 to " in caplog.text
    assert "which everyone has read" in caplog.text
    assert at.journal.read(needed).first == needed
    at.journal.close()


def test_stop_keeps_what_retention_keeps_and_goes_on_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Limited(tmp_path, monkeypatch, files=4)
    taken = at.fill()
    at.journal.trim(taken)
    assert at.fill() == 0
    assert at.journal.start == 0
    at.files += 1
    assert at.fill(3) == 3
    assert at.journal.end == taken + 3
    at.journal.close()


@pytest.mark.parametrize("on_full", ["stop", "drop_oldest_consumed"])
def test_a_full_journal_lets_go_at_once_of_what_retention_does_not_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_full: str
) -> None:
    at = Limited(tmp_path, monkeypatch, on_full=on_full, max_bytes=4 * SEGMENT, retention_bytes=3 * SEGMENT)
    at.journal.needed = 1_000
    assert at.fill(200) == 200
    assert at.counters.get("journal.full") == at.counters.get("journal.dropped_consumed") == 0
    assert at.journal.size <= 4 * SEGMENT
    at.journal.close()


def test_a_limit_below_what_retention_keeps_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"must be at least retention_bytes \+ segment_bytes"):
        JournalConfig(max_bytes=8 << 30, retention_bytes=8 << 30)


def test_room_is_reserved_and_given_back_and_its_zeros_are_no_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path, config=JournalConfig(segment_bytes=1 << 20))
    journal.append([Message("t", b"1")])
    [file] = tmp_path.glob("*.journal")
    assert file.stat().st_size == 1 << 20
    assert file.stat().st_blocks * 512 >= 1 << 20
    for reader in (Journal(tmp_path, read_only=True), Journal(tmp_path, read_only=True)):
        assert reader.read(0).payloads == [b"1"]
        journal.append([Message("t", b"2")])
        reader.refresh()
        assert (reader.end, reader.recovered.gaps) == (journal.end, ())
    killed = file.read_bytes()
    journal.close()
    assert file.stat().st_size < 1 << 10
    torn = journal.size
    file.write_bytes(killed[:torn] + b"torn" + killed[torn + 4 :])
    reopened = Journal(tmp_path, config=JournalConfig(segment_bytes=1 << 20))
    assert (reopened.end, reopened.recovered.cut_bytes, reopened.recovered.gaps) == (3, 4, ())
    assert file.stat().st_size == 1 << 20
    reopened.close()


def test_a_file_system_that_reserves_nothing_is_good_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_fd: int, _offset: int, _size: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    for end in (1, 2):
        journal = Journal(tmp_path)
        journal.append([Message("t", b"1")])
        assert journal.end == end
        journal.close()


# --- when it will be full ---

MB = 1 << 20


def outlook(held: list[int], *, step: float = 5.0, size: int = 100 * MB, kept: int = 0) -> tuple[float, float | None]:
    """Growth and seconds after having looked every `step` s; the room ends at 1000 MB."""
    watch = Outlook(kept=kept)
    for i, bytes_held in enumerate(held):
        now = max(size, bytes_held)
        room = watch.look(i * step, size=now, held=bytes_held, free=1000 * MB - now)
    return room.growth, room.seconds


def test_a_sink_that_is_down_fills_the_journal_at_the_rate_at_which_it_grows() -> None:
    growth, seconds = outlook([i * 5 * MB for i in range(40)])
    assert growth == pytest.approx(MB)
    assert seconds == pytest.approx(1000 - 195)


def test_what_goes_up_and_down_fills_nothing() -> None:
    assert outlook([(i % 7) * 10 * MB for i in range(200)]) == (0, None)
    assert outlook([900 * MB - i * MB for i in range(200)]) == (0, None)


def test_the_first_minute_tells_nothing() -> None:
    assert outlook([i * 5 * MB for i in range(12)]) == (0, None)


def test_a_disk_too_small_for_retention_is_filled_by_what_everyone_has_read() -> None:
    watch = Outlook(kept=2000 * MB)
    for i in range(40):
        room = watch.look(5.0 * i, size=i * 5 * MB, held=0, free=1000 * MB - i * 5 * MB)
    assert room.growth == pytest.approx(MB)
    assert room.seconds == pytest.approx(1000 - 195)


def test_the_room_of_a_journal_counts_what_consumers_hold_and_its_own_limit(tmp_path: Path) -> None:
    config = JournalConfig(segment_bytes=SEGMENT, retention_bytes=SEGMENT, max_bytes=1 << 20)
    journal = Journal(tmp_path, config=config)
    for i in range(100):
        journal.append([Message("t", b"x" * 500, received=i)])
    journal.trim(50)
    room = journal.room(0.0)
    assert room.size == journal.size
    assert 50 * 500 < room.held < 50 * 700
    assert room.free <= (1 << 20) - room.size
    journal.trim(100)
    assert journal.room(5.0).held == 0
    journal.close()
