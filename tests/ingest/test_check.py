"""Laws of checking a journal: it finds each damage and each gap, tells what is lost, and takes no crash for damage."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random

import pytest

from ingest.check import Finding, check, files_of
from ingest.config import JournalConfig
from ingest.journal import Journal
from telemetry import Message

SMALL = JournalConfig(segment_bytes=4096)
PER_BLOCK = 2


def written(directory: Path, blocks: int, *, close: bool = True) -> Journal:
    journal = Journal(directory, config=SMALL)
    for n in range(blocks):
        journal.append([Message("t", b"payload %d" % i, received=100 + n) for i in range(PER_BLOCK)])
    if close:
        journal.close()
    return journal


def findings(directory: Path) -> list[Finding]:
    return [finding for checked in check(files_of(directory)) for finding in checked.findings]


def test_a_whole_journal_is_counted_by_kind_and_nothing_is_found(tmp_path: Path) -> None:
    journal = written(tmp_path, 60, close=False)
    journal.append_tick(7)
    journal.append_samples([b"a", b"b", b"c"], 900)
    seen: list[int] = []
    files = list(check(files_of(tmp_path), seen.append))
    assert len(files) > 1
    assert sum((file.kinds for file in files), Counter()) == {"messages": 120, "ticks": 1, "samples": 3}
    assert (files[0].first, files[-1].next) == (0, 124) == (journal.start, journal.end)
    assert (min(file.oldest for file in files), max(file.newest for file in files)) == (7, 900)
    assert sum(file.bytes for file in files) == journal.size
    assert [finding for file in files for finding in file.findings] == []
    assert sum(seen) == sum(path.stat().st_size for path in files_of(tmp_path))
    journal.close()


@pytest.mark.slow
def test_every_flipped_bit_of_every_block_is_found_with_its_records(tmp_path: Path) -> None:
    written(tmp_path, 60)
    oldest, random = files_of(tmp_path)[0], Random(1)
    whole = oldest.read_bytes()
    behind = int(files_of(tmp_path)[1].stem)
    for at in [*range(64, len(whole), 7), *range(len(whole) - 300, len(whole))]:
        oldest.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << random.randrange(8)]) + whole[at + 1 :])
        found = findings(tmp_path)
        assert found, at
        lost = {offset for finding in found for offset in range(finding.first, finding.next)}
        readable = Journal(tmp_path, read_only=True)
        read, offset = set(), 0
        while offset < behind and len(records := readable.read(offset)):
            read |= set(range(records.first, records.next))
            offset = records.next
        assert lost == set(range(behind)) - read
        assert len(lost) in (0, PER_BLOCK)
        assert all(finding.position <= at < finding.position + finding.bytes for finding in found if finding.is_damage)


def test_a_missing_file_and_a_cut_one_are_gaps_between_their_neighbours(tmp_path: Path) -> None:
    written(tmp_path, 200)
    first, second, third, *_ = files_of(tmp_path)
    whole = second.read_bytes()
    second.write_bytes(whole[:1000])
    [cut] = findings(tmp_path)
    assert (cut.file, cut.next, cut.is_damage) == (second.name, int(third.stem), True)
    second.write_bytes(bytes(64) + whole[64:])
    [headless] = findings(tmp_path)
    assert headless.what == "its header is damaged"
    assert (headless.first, headless.next) == (int(second.stem), int(third.stem))
    second.unlink()
    [missing] = findings(tmp_path)
    assert (missing.file, missing.first, missing.next) == (third.name, int(second.stem), int(third.stem))
    assert first.exists()


def test_what_a_crash_leaves_behind_is_told_and_is_no_damage(tmp_path: Path) -> None:
    journal = written(tmp_path, 3, close=False)
    [file] = files_of(tmp_path)
    assert findings(tmp_path) == [], "room that is reserved"
    with file.open("r+b") as content:
        content.seek(journal.size)
        content.write(b"torn")
    [torn] = findings(tmp_path)
    assert (torn.position, torn.bytes, torn.is_damage) == (journal.size, 4, False)
    file.write_bytes(bytes(4096))
    [unborn] = findings(tmp_path)
    assert (unborn.what, unborn.is_damage) == ("its creation was interrupted", False)
    journal.close()
