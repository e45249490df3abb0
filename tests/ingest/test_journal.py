"""Laws of the journal: what was appended is read back, whatever the order of appends, reads, reopenings and trims."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.config import JournalConfig
from ingest.journal import DUP, QOS_SHIFT, RETAIN, TICK, Journal, JournalError, JournalFull, Records
from telemetry import Message, TocsinError

SMALL = JournalConfig(segment_bytes=4096)
DAY = 86_400 * 10**9


@pytest.fixture(params=[0, 1_000, 16 << 20], ids=["from the files", "some from memory", "from memory"], autouse=True)
def _tail(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything holds whether what was just written is read from the files or from memory."""
    monkeypatch.setattr("ingest.journal._TAIL_BYTES", request.param)


def message(i: int, payload: bytes = b"", **fields: object) -> Message:
    return Message(topic=f"site/dev{i}", payload=payload or b"%d" % i, qos=1, received=1000 + i, **fields)


def rows(records: Records) -> list[tuple[int, int, int, str, bytes]]:
    return [
        (records.first + i, int(records.received[i]), int(records.flags[i]), records.topics[i], records.payloads[i])
        for i in range(len(records))
    ]


def row(offset: int, m: Message) -> tuple[int, int, int, str, bytes]:
    flags = (RETAIN if m.retain else 0) | (DUP if m.dup else 0) | m.qos << QOS_SHIFT
    return (offset, m.received, flags, m.topic, m.payload)


def read_all(journal: Journal, offset: int = 0, limit: int = 10_000) -> list[tuple[int, int, int, str, bytes]]:
    found = []
    while len(records := journal.read(offset, limit)):
        assert len(records) <= limit
        assert records.received.dtype == np.int64
        assert records.flags.dtype == np.uint8
        assert len(records.received) == len(records.flags) == len(records.topics) == len(records.payloads)
        found += rows(records)
        offset = records.next
    return found


messages = st.builds(
    Message,
    topic=st.text(max_size=20),
    payload=st.binary(max_size=300),
    qos=st.integers(0, 2),
    retain=st.booleans(),
    dup=st.booleans(),
    received=st.integers(-(2**63), 2**63 - 1),
)
steps = st.lists(
    st.one_of(
        st.lists(messages, max_size=30),
        st.integers(0, 2**40),  # a tick
        st.sampled_from(["reopen", "follow"]),
        st.tuples(st.integers(0, 300), st.integers(1, 50)),  # a read
    ),
    max_size=40,
)


@settings(max_examples=60)
@given(steps)
def test_a_journal_reads_like_the_list_of_what_was_appended(tmp_path_factory: pytest.TempPathFactory, script: list):
    directory = tmp_path_factory.mktemp("journal")
    expected: list[tuple[int, int, int, str, bytes]] = []
    journal = Journal(directory, config=SMALL)
    follower = Journal(directory, read_only=True)
    for step in script:
        match step:
            case "reopen":
                journal.close()
                journal = Journal(directory, config=SMALL)
                assert journal.recovered.records == len(expected)
                assert (journal.recovered.cut_bytes, journal.recovered.gaps) == (0, ())
            case "follow":
                follower.refresh()
                assert read_all(follower) == expected
            case list():
                assert journal.append(step) == len(expected)
                expected += [row(len(expected) + i, m) for i, m in enumerate(step)]
            case int():
                assert journal.append_tick(step) == len(expected)
                expected.append((len(expected), step, TICK, "", b""))
            case offset, limit:
                found = rows(journal.read(offset, limit))
                assert found == expected[offset : offset + len(found)]
                assert found or offset >= len(expected)
        assert (journal.start, journal.end) == (0, len(expected))
    for limit in (1, 7, 10_000):
        assert read_all(journal, limit=limit) == expected
    journal.close()


def test_one_read_spans_blocks_up_to_its_limit(tmp_path: Path):
    journal = Journal(tmp_path)
    for i in range(100):
        journal.append([message(i)])
    assert len(journal.read(10, 50)) == 50
    assert len(journal.read(10)) == 90
    journal.close()


def test_a_huge_batch_becomes_several_bounded_blocks(tmp_path: Path):
    journal = Journal(tmp_path)
    batch = [message(i) for i in range(25_000)] + [message(i, b"x" * (3 << 20)) for i in range(8)]
    journal.append(batch)
    assert read_all(journal) == [row(i, m) for i, m in enumerate(batch)]
    journal.close()


def test_topics_that_are_no_valid_unicode_survive(tmp_path: Path):
    journal = Journal(tmp_path)
    journal.append([Message("a/\ud800", b"1"), Message("ä/\x00", b"2"), Message("", b"3")])
    assert journal.read(0).topics == ["a/\ud800", "ä/\x00", ""]
    journal.close()


def test_append_returns_after_one_write_and_one_sync_and_a_new_file_is_in_its_directory_for_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls: list[str] = []

    def noted(name: str) -> Callable[..., object]:
        whole = getattr(os, name)

        def call(fd: int, *rest: object) -> object:
            target = Path(f"/proc/self/fd/{fd}").readlink()
            result = whole(fd, *rest)
            calls.append(f"{name} {target.suffix or 'directory'}")
            return result

        return call

    journal = Journal(tmp_path)
    for name in ("write", "fsync", "fdatasync"):
        monkeypatch.setattr(os, name, noted(name))
    journal.append([message(0), message(1)])
    created = ["write .journal", "fsync .journal", "fsync directory"]
    assert calls == [*created, "write .journal", "fdatasync .journal"]
    calls.clear()
    journal.append([message(i) for i in range(1000)])
    assert calls == ["write .journal", "fdatasync .journal"]
    journal.close()


def test_a_second_writer_is_told_who_holds_the_journal(tmp_path: Path):
    journal = Journal(tmp_path)
    with pytest.raises(TocsinError, match=f"in use by another tocsin .process {os.getpid()}."):
        Journal(tmp_path)
    Journal(tmp_path, read_only=True)
    journal.close()
    Journal(tmp_path).close()


def test_a_reader_without_a_journal_is_told_so(tmp_path: Path):
    with pytest.raises(JournalError, match="there is no journal in"):
        Journal(tmp_path / "nothing", read_only=True)
    assert not (tmp_path / "nothing").exists()


def test_a_read_only_journal_refuses_to_write(tmp_path: Path):
    Journal(tmp_path).close()
    with pytest.raises(JournalError, match="not open for writing"):
        Journal(tmp_path, read_only=True).append([message(0)])


def test_files_are_readable_by_their_owner_only(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    journal.append([message(0)])
    assert {p.stat().st_mode & 0o077 for p in [tmp_path / "journal", *(tmp_path / "journal").iterdir()]} == {0}
    journal.close()


def test_wait_returns_when_the_record_is_there(tmp_path: Path):
    journal = Journal(tmp_path)
    assert not journal.wait(0, 0.0)
    writer = threading.Thread(target=lambda: journal.append([message(0)]))
    writer.start()
    assert journal.wait(0, 10.0)
    assert not journal.wait(1, 0.0)
    writer.join()
    journal.close()


def test_a_follower_waits_for_the_writer_of_another_process(tmp_path: Path):
    journal = Journal(tmp_path)
    follower = Journal(tmp_path, read_only=True)
    writer = threading.Thread(target=lambda: journal.append([message(0)]))
    writer.start()
    assert follower.wait(0, 10.0)
    assert rows(follower.read(0)) == [row(0, message(0))]
    writer.join()
    journal.close()


def test_a_follower_sees_new_files_and_forgets_trimmed_ones(tmp_path: Path):
    journal = Journal(tmp_path, config=JournalConfig(segment_bytes=4096, retention_bytes=0))
    follower = Journal(tmp_path, read_only=True)
    for i in range(300):
        journal.append([message(i, b"x" * 100)])
        if i % 7 == 0:
            follower.refresh()
            assert follower.end == i + 1
    journal.trim(200)
    follower.refresh()
    assert 0 < follower.start == journal.start <= 200
    assert read_all(follower) == read_all(journal)
    journal.close()


def test_readers_in_other_threads_see_only_whole_committed_records(tmp_path: Path):
    journal = Journal(tmp_path, config=SMALL)
    total = 3000
    problems: list[str] = []

    def reader() -> None:
        offset = 0
        while offset < total and journal.wait(offset, 20.0):
            records = journal.read(offset)
            for i, payload in enumerate(records.payloads):
                if payload != b"%d" % (offset + i):
                    problems.append(f"{offset + i}: {payload!r}")
            offset = records.next
        if offset != total:
            problems.append(f"stopped at {offset}")

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(0, total, 10):
        journal.append([message(i + k) for k in range(10)])
    for thread in threads:
        thread.join()
    assert problems == []
    journal.close()


# --- retention ---


def filled(directory: Path, config: JournalConfig) -> Journal:
    journal = Journal(directory, config=config)
    for i in range(400):
        journal.append([Message("t", b"x" * 100, received=i * DAY // 40)])  # ten days
    return journal


def test_nothing_that_a_consumer_still_needs_is_trimmed(tmp_path: Path):
    journal = filled(tmp_path, JournalConfig(segment_bytes=4096, retention_bytes=0, retention_age=0))
    assert journal.trim(0) == 0
    before = sum(p.stat().st_size for p in tmp_path.glob("*.journal"))
    freed = journal.trim(250)
    assert 200 < journal.start <= 250
    assert freed > 0
    assert before - sum(p.stat().st_size for p in tmp_path.glob("*.journal")) >= freed
    assert [r[0] for r in read_all(journal, journal.start)] == list(range(journal.start, 400))
    assert journal.read(0, 5).first == journal.start
    journal.trim(400)
    assert journal.start < 400, "the file that is being written stays"
    journal.close()


def test_retention_by_bytes_keeps_as_much_as_it_may(tmp_path: Path):
    journal = filled(tmp_path, JournalConfig(segment_bytes=4096, retention_bytes=20_000))
    journal.trim(400)
    assert 20_000 - 4096 < journal.size <= 20_000
    journal.close()


def test_retention_by_age_counts_from_the_newest_record(tmp_path: Path):
    journal = filled(tmp_path, JournalConfig(segment_bytes=4096, retention_age="2d"))
    journal.trim(400)
    newest = 399 * DAY // 40
    oldest = int(journal.read(journal.start, 1).received[0])
    assert 2 * DAY <= newest - oldest < 3 * DAY
    journal.close()


def test_offsets_go_on_after_everything_old_was_trimmed_and_reopened(tmp_path: Path):
    config = JournalConfig(segment_bytes=4096, retention_bytes=0)
    journal = filled(tmp_path, config)
    journal.trim(400)
    start = journal.start
    journal.close()
    journal = Journal(tmp_path, config=config)
    assert (journal.start, journal.end) == (start, 400)
    assert journal.append([message(0)]) == 400
    journal.close()


# --- failing disks ---


def failing(error: int, after: Callable[[], None] = lambda: None) -> Callable[..., int]:
    def call(*_args: object) -> int:
        after()
        raise OSError(error, os.strerror(error))

    return call


@pytest.mark.parametrize("broken", ["write", "fdatasync"])
@pytest.mark.parametrize("committed", [0, 3])
def test_after_a_failed_write_nothing_of_it_is_committed_and_a_new_file_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str, committed: int
):
    journal = Journal(tmp_path)
    for i in range(committed):
        journal.append([message(i)])
    with monkeypatch.context() as patch:
        patch.setattr(os, broken, failing(errno.EIO))
        with pytest.raises(JournalError, match="check the disk"):
            journal.append([message(77)])
    assert journal.end == committed
    files = set(tmp_path.glob("*.journal"))
    assert journal.append([message(88)]) == committed
    assert set(tmp_path.glob("*.journal")) - files, "the file whose fsync failed must not be written to again"
    expected = [row(i, message(i)) for i in range(committed)] + [row(committed, message(88))]
    assert read_all(journal) == expected
    journal.close()
    journal = Journal(tmp_path)
    assert read_all(journal) == expected
    assert journal.recovered.gaps == ()
    journal.close()


def test_an_uncommitted_block_that_cannot_be_cut_off_stays_invisible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(tmp_path)
    journal.append([message(0)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing(errno.EIO))
        patch.setattr(os, "ftruncate", failing(errno.EIO))
        with pytest.raises(JournalError):
            journal.append([message(77), message(78)])
    journal.append([message(1)])
    expected = [row(0, message(0)), row(1, message(1))]
    assert read_all(journal) == expected
    journal.close()
    reopened = Journal(tmp_path)
    assert read_all(reopened) == expected
    assert (reopened.end, reopened.recovered.records, reopened.recovered.gaps) == (2, 2, ())
    reopened.close()


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int):
    journal = Journal(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing(error))
        with pytest.raises(JournalFull, match="no space left: free some"):
            journal.append([message(0)])
    assert list(tmp_path.glob("*.journal")) == []
    assert journal.append([message(0)]) == 0
    journal.close()


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = Journal(tmp_path)
    whole = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: whole(fd, bytes(data[: max(1, len(data) // 2)])))
        journal.append([message(0), message(1)])
    assert read_all(journal) == [row(0, message(0)), row(1, message(1))]
    journal.close()


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=12))
def test_failures_between_appends_lose_and_double_nothing(
    tmp_path_factory: pytest.TempPathFactory, script: list[tuple[int, bool]]
):
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal(directory, config=SMALL)
    expected: list[tuple[int, int, int, str, bytes]] = []
    for count, fails in script:
        batch = [message(len(expected) + i, b"y" * 300) for i in range(count)]
        with pytest.MonkeyPatch.context() as patch:
            if fails:
                patch.setattr(os, "fdatasync", failing(errno.EIO))
                with pytest.raises(JournalError):
                    journal.append(batch)
            else:
                journal.append(batch)
                expected += [row(len(expected) + i, m) for i, m in enumerate(batch)]
        assert read_all(journal) == expected
    journal.close()
    journal = Journal(directory, config=SMALL)
    assert read_all(journal) == expected
    assert (journal.recovered.records, journal.recovered.gaps) == (len(expected), ())
    journal.close()
