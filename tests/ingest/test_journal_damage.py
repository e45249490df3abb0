"""Laws of the damaged journal: opening never crashes, nothing is invented or altered, what is intact survives."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.config import JournalConfig
from ingest.journal import Journal
from ingest.segment import HEADER_BYTES
from telemetry import Message

SMALL = JournalConfig(segment_bytes=4096)
BLOCKS = 4
PER_BLOCK = 2


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of openings, quickly: these laws are about what is in the files, not about when it is on the disk."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    monkeypatch.setattr(os, "fdatasync", lambda fd: None)


def payload(offset: int) -> bytes:
    return b"payload %d" % offset


def write(
    directory: Path, blocks: int = BLOCKS, *, config: JournalConfig = SMALL, size: int = 0, killed: bool = False
) -> Path:
    """Blocks of PER_BLOCK messages; returns the newest file, if `killed` with the room that was reserved."""
    journal = Journal(directory, config=config)
    for block in range(blocks):
        first = block * PER_BLOCK
        journal.append([Message("t", payload(i) + b" " * size, received=i) for i in range(first, first + PER_BLOCK)])
    file = max(directory.glob("*.journal"))
    as_it_stands = file.read_bytes()
    journal.close()
    if killed:
        file.write_bytes(as_it_stands)
    return file


def offsets(journal: Journal) -> list[int]:
    """Offsets of all records; fails if one is not what was appended under its offset."""
    found, offset = [], 0
    while len(records := journal.read(offset, 4)):
        for i in range(len(records)):
            at = records.first + i
            assert (records.payloads[i].rstrip(b" "), records.topics[i]) == (payload(at), "t")
            assert (int(records.received[i]), int(records.flags[i])) == (at, 0)
            found.append(at)
        assert records.first >= offset
        offset = records.next
    assert offset <= journal.end
    return found


def block_ends(file: Path) -> list[int]:
    """Sizes of the file after its header and after each block, found by truncation alone."""
    data = file.read_bytes()
    ends = []
    for size in range(len(data) + 1):
        file.write_bytes(data[:size])
        with_this = len(offsets(Journal(file.parent, read_only=True)))
        if with_this > len(ends) * PER_BLOCK:
            ends.append(size)
    file.write_bytes(data)
    return ends


def reopened(directory: Path) -> Journal:
    """Opened by a writer, appended to, and the new record read back."""
    journal = Journal(directory, config=SMALL)
    first = journal.end
    assert journal.append([Message("t", payload(first), received=first)]) == first
    assert offsets(journal)[-1] == first
    return journal


@pytest.mark.usefixtures("unsynced")
@pytest.mark.slow
@pytest.mark.parametrize("reserved", [0, 2_000])
def test_a_torn_tail_is_cut_off_and_everything_before_it_survives(tmp_path: Path, reserved: int):
    file = write(tmp_path)
    whole = file.read_bytes()
    ends = block_ends(file)
    for size in range(len(whole)):
        file.write_bytes(whole[:size] + bytes(reserved))
        survivors = PER_BLOCK * sum(end <= size for end in ends)
        journal = Journal(tmp_path, config=SMALL)
        assert offsets(journal) == list(range(survivors))
        assert journal.end == journal.recovered.records == survivors
        assert journal.recovered.gaps == ()
        if size >= HEADER_BYTES:
            torn = whole[max(end for end in (HEADER_BYTES, *ends) if end <= size) : size]
            assert journal.recovered.cut_bytes == len(torn.rstrip(b"\0"))
        journal.close()
        reopened(tmp_path).close()
        again = Journal(tmp_path, config=SMALL)
        assert offsets(again) == list(range(survivors + 1))
        assert again.recovered.cut_bytes == 0
        again.close()
        for other in tmp_path.glob("*.journal"):
            other.unlink()


@pytest.mark.usefixtures("unsynced")
@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_a_flipped_bit_costs_its_block_and_nothing_else(tmp_path: Path, killed: bool):
    ends = block_ends(write(tmp_path / "closed"))
    tmp_path /= "damaged"
    file = write(tmp_path, killed=killed)
    whole = file.read_bytes()
    rng = random.Random(1)
    for at in [*range(ends[-1]), *range(ends[-1], len(whole), 100)]:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        hit = None if at < HEADER_BYTES else sum(end <= at for end in ends)
        expected = [i for i in range(BLOCKS * PER_BLOCK) if i // PER_BLOCK != hit]
        assert offsets(Journal(tmp_path, config=SMALL, read_only=True)) == expected
        journal = Journal(tmp_path, config=SMALL)
        assert offsets(journal) == expected, "the file's header is written twice: damage to one copy costs nothing"
        lost = BLOCKS * PER_BLOCK - len(expected)
        if hit is None or hit >= BLOCKS - 1:  # at the end, damage looks like a torn append
            assert journal.recovered.gaps == ()
        else:
            assert sum(g.next - g.first for g in journal.recovered.gaps) == lost
        assert journal.recovered.records == len(expected)
        journal.close()
        reopened(tmp_path).close()


@pytest.mark.usefixtures("unsynced")
@pytest.mark.slow
def test_a_flipped_bit_in_an_older_file_costs_at_most_its_block(tmp_path: Path):
    write(tmp_path, 200)
    oldest, *_, newest = sorted(tmp_path.glob("*.journal"))
    assert oldest != newest
    whole = oldest.read_bytes()
    everything = set(range(200 * PER_BLOCK))
    rng = random.Random(2)
    for at in rng.sample(range(len(whole)), 60):
        oldest.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])
        journal = Journal(tmp_path, config=SMALL)
        lost = everything - set(offsets(journal))
        assert len(lost) in (0, PER_BLOCK)
        assert len({i // PER_BLOCK for i in lost}) <= 1
        assert journal.end == 200 * PER_BLOCK
        journal.close()
    oldest.write_bytes(whole)
    assert set(offsets(Journal(tmp_path, read_only=True))) == everything


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "cut", "headless"])
def test_a_bad_file_in_the_middle_is_a_counted_gap(tmp_path: Path, damage: str):
    write(tmp_path, 200)
    _, second, third, *_ = sorted(tmp_path.glob("*.journal"))
    first, behind = int(second.stem), int(third.stem)
    whole = second.read_bytes()
    match damage:
        case "missing":
            second.unlink()
        case "empty":
            second.write_bytes(b"")
        case "garbage":
            second.write_bytes(random.Random(3).randbytes(len(whole)))
        case "cut":
            second.write_bytes(whole[: len(whole) // 2])
        case "headless":
            second.write_bytes(bytes(64) + whole[64:])
    for read_only in (True, False):
        journal = Journal(tmp_path, config=SMALL, read_only=read_only)
        [gap] = journal.recovered.gaps
        assert gap.next == behind
        assert gap.first == first or (damage == "cut" and first < gap.first < behind)
        expected = [i for i in range(200 * PER_BLOCK) if not gap.first <= i < gap.next]
        assert offsets(journal) == expected
        assert journal.recovered.records == len(expected)
        assert journal.read(gap.first).first == gap.next, "the reader sees the gap"
        journal.close()


@pytest.mark.usefixtures("unsynced")
def test_offsets_of_a_newest_file_that_became_unreadable_are_never_given_again(tmp_path: Path):
    file = write(tmp_path)
    file.write_bytes(bytes(64) + file.read_bytes()[64:])
    journal = Journal(tmp_path, config=SMALL)
    assert journal.end > BLOCKS * PER_BLOCK
    [gap] = journal.recovered.gaps
    assert gap[:2] == (0, journal.end)
    first = journal.append([Message("t", payload(journal.end), received=journal.end)])
    assert offsets(journal) == [first]
    journal.close()
    again = Journal(tmp_path, config=SMALL)
    assert offsets(again) == [first]
    again.close()


@pytest.mark.usefixtures("unsynced")
@pytest.mark.parametrize("remain", [0, 1, 2], ids=["nothing", "a file", "files"])
def test_an_end_that_is_missing_is_a_gap_if_somebody_has_read_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, remain: int
):
    """No offset is given twice: who has read further would pass over what is written there."""
    write(tmp_path, 12, size=600)
    files, total = sorted(tmp_path.glob("*.journal")), 12 * PER_BLOCK
    assert len(files) > 3
    for file in files[remain:]:
        file.unlink()
    end = int(files[remain].stem)

    for known in (total, total + 1):
        journal = Journal(tmp_path, read_to=known)
        assert journal.append([Message("t", payload(known), received=known)]) == known
        assert offsets(journal) == [*range(end), *range(total, known + 1)]
        journal.close()

    assert f"records {end} to {total - 1} are lost (the end is missing" in caplog.text


@pytest.mark.usefixtures("unsynced")
def test_a_payload_that_looks_like_a_block_is_never_taken_for_one(tmp_path: Path):
    """Somebody who knows the format publishes a forged block; then the block that holds it is damaged."""
    write(tmp_path / "forgery", 1)
    forged = max((tmp_path / "forgery").glob("*.journal")).read_bytes()
    journal = Journal(tmp_path / "real", config=SMALL)
    journal.append([Message("t", forged, received=0)])
    journal.append([Message("t", payload(1), received=1)])
    journal.close()
    file = max((tmp_path / "real").glob("*.journal"))
    data = bytearray(file.read_bytes())
    data[70] ^= 1
    file.write_bytes(data)
    assert offsets(Journal(tmp_path / "real", read_only=True)) == [1]


@pytest.mark.usefixtures("unsynced")
def test_a_follower_waits_for_an_append_that_it_sees_half_written(tmp_path: Path):
    file = write(tmp_path)
    whole = file.read_bytes()
    for size in range(64, len(whole), 7):
        file.write_bytes(whole[:size])
        follower = Journal(tmp_path, read_only=True)
        seen = offsets(follower)
        assert file.stat().st_size == size, "a follower never changes a file"
        file.write_bytes(whole)
        follower.refresh()
        assert offsets(follower) == list(range(BLOCKS * PER_BLOCK))
        assert seen == list(range(len(seen)))


@pytest.mark.usefixtures("unsynced")
def test_opening_reads_only_the_newest_file_through(tmp_path: Path):
    write(tmp_path, 300, size=200)
    files = sorted(tmp_path.glob("*.journal"))
    assert len(files) > 10
    for file in files[:-1]:  # damage that only reading through would find
        data = bytearray(file.read_bytes())
        data[150] ^= 1
        file.write_bytes(data)
    journal = Journal(tmp_path, config=SMALL)
    assert journal.recovered.gaps == ()
    assert len(offsets(journal)) == 300 * PER_BLOCK - (len(files) - 1) * PER_BLOCK
    journal.close()


WRITER = """
import sys
from pathlib import Path
from ingest.config import JournalConfig
from ingest.journal import Journal
from telemetry import Message
journal = Journal(Path(sys.argv[1]), config=JournalConfig(segment_bytes=1 << 16))
while True:
    first = journal.end
    journal.append([Message("t", b"payload %d" % i, received=i) for i in range(first, first + 1 + first % 50)])
    print(journal.end, flush=True)
"""


@pytest.mark.parametrize("round_", range(2))
@pytest.mark.slow
def test_everything_acknowledged_is_there_after_kill_9(tmp_path: Path, round_: int):
    acknowledged = 0
    for kill in range(2):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
        )
        assert writer.stdout is not None
        for _ in range(20 + 61 * round_ + 17 * kill):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        for line in writer.stdout:
            if line.endswith("\n"):
                acknowledged = int(line)
        writer.wait()
        writer.stdout.close()
        journal = Journal(tmp_path)
        assert journal.end >= acknowledged > 0
        assert offsets(journal) == list(range(journal.end))
        assert journal.recovered.gaps == ()
        journal.close()
