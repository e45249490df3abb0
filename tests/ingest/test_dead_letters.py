"""Laws of the dead letters: kept once with their reason, bounded, readable by others."""

import sqlite3
from pathlib import Path

import pytest

from ingest.dead_letters import MAX_PAYLOAD_BYTES, DeadLetter, DeadLetters
from ingest.rejection import Rejection
from telemetry import Counters, RetryLater, TocsinError


def rejection(offset: int, reason: str = "bad_json", **more: object) -> Rejection:
    fields = {"topic": "t/d1", "payload": b"?", "detail": "it is bad", "stream": "s", **more}
    return Rejection(offset=offset, received=1_000 + offset, reason=reason, **fields)  # type: ignore[arg-type]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dead letters?.sqlite"


def test_they_are_listed_newest_first_with_all_that_is_known(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1), rejection(2, "time_too_old", rows=3)])
    assert letters.list() == [
        DeadLetter(2, 1_002, "t/d1", b"?", 1, "time_too_old", "it is bad", "s", 3),
        DeadLetter(1, 1_001, "t/d1", b"?", 1, "bad_json", "it is bad", "s", 1),
    ]
    assert [letter.offset for letter in letters.list(limit=1)] == [2]
    assert [letter.offset for letter in letters.list(reason="bad_json")] == [1]
    assert letters.count() == {"bad_json": 1, "time_too_old": 1}
    letters.close()


def test_decoding_a_message_again_keeps_it_once(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1)])
    letters.add([rejection(1), rejection(1, "bad_text")])
    assert letters.count() == {"bad_json": 1, "bad_text": 1}
    letters.close()


def test_long_payloads_are_cut_and_say_so(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1, payload=b"x" * 100_000)])
    (letter,) = letters.list()
    assert (len(letter.payload), letter.size) == (MAX_PAYLOAD_BYTES, 100_000)
    letters.close()


def test_text_that_is_no_unicode_is_kept_readable(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1, topic="a/\ud800\x1b/b")])
    assert letters.list()[0].topic == "a/\\ud800\x1b/b"
    letters.close()


def test_the_oldest_go_first_and_are_counted_also_after_reopening(path: Path):
    counters = Counters()
    letters = DeadLetters(path, counters=counters, max_count=3)
    letters.add([rejection(i) for i in range(5)])
    letters.close()
    letters = DeadLetters(path, counters=counters, max_count=3)
    letters.add([rejection(5)])
    assert [letter.offset for letter in letters.list()] == [5, 4, 3]
    letters.add([rejection(0)])  # a replay from the start brings back what went
    assert [letter.offset for letter in letters.list()] == [5, 4, 3]
    assert counters.get("ingest.dead_letters_dropped") == 4
    letters.close()


def test_they_are_bounded_in_bytes_too(path: Path):
    letters = DeadLetters(path, max_bytes=2_500)
    letters.add([rejection(i, payload=b"x" * 1_000) for i in range(4)])
    assert [letter.offset for letter in letters.list()] == [3, 2]
    letters.close()


def test_another_reader_sees_what_was_added_while_it_is_open(path: Path):
    letters = DeadLetters(path)
    reader = DeadLetters(path, read_only=True)
    letters.add([rejection(1)])
    assert reader.count() == {"bad_json": 1}
    with pytest.raises(RetryLater, match="cannot write"):
        reader.add([rejection(2)])
    letters.close()
    reader.close()


def test_a_failed_addition_keeps_nothing_and_spoils_no_account(path: Path):
    letters = DeadLetters(path, max_count=2)
    letters._db.execute(
        "CREATE TRIGGER no_room BEFORE INSERT ON dead_letters WHEN new.offset = 2 "
        "BEGIN SELECT raise(ABORT, 'full'); END"
    )
    with pytest.raises(RetryLater, match="full"):
        letters.add([rejection(1), rejection(2)])
    assert letters.count() == {}
    letters.add([rejection(3), rejection(4)])
    assert [letter.offset for letter in letters.list()] == [4, 3]
    letters.close()


def test_a_file_that_is_none_of_ours_is_refused_clearly(path: Path):
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(TocsinError, match="cannot open the dead letters"):
        DeadLetters(path)
    with pytest.raises(TocsinError, match="cannot open the dead letters"):
        DeadLetters(path.parent / "none" / "x.sqlite", read_only=True)


def test_the_file_can_be_read_with_any_sqlite(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1)])
    other = sqlite3.connect(path)
    assert other.execute("SELECT topic, reason, readings FROM dead_letters").fetchall() == [("t/d1", "bad_json", 1)]
    other.close()
    letters.close()
