"""Laws of the dead letters: kept once with their reason, bounded, readable by others."""

import sqlite3
from pathlib import Path

import pytest

from ingest.block import RETAIN
from ingest.dead_letters import MAX_PAYLOAD_BYTES, DeadLetter, DeadLetters, ReasonCount, Selection
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
    letters.add([rejection(1, flags=RETAIN), rejection(2, "time_too_old", rows=3)])
    assert letters.list() == [
        DeadLetter(2, 2, 1_002, "t/d1", b"?", 1, "time_too_old", "it is bad", "s", 3),
        DeadLetter(1, 1, 1_001, "t/d1", b"?", 1, "bad_json", "it is bad", "s", 1, flags=RETAIN),
    ]
    assert [letter.offset for letter in letters.list(limit=1)] == [2]
    assert [letter.offset for letter in letters.list(Selection(reason="bad_json"))] == [1]
    assert letters.count() == {"bad_json": 1, "time_too_old": 1}
    letters.close()


def test_decoding_a_message_again_keeps_it_once(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1), rejection(1, "bad_text")])
    letters.add([rejection(1), rejection(1, "bad_text"), rejection(2)])
    assert letters.count() == {"bad_json": 2, "bad_text": 1}
    letters.close()


def test_what_was_purged_does_not_come_back_when_its_message_is_decoded_again(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1), rejection(2)])
    assert letters.purge(Selection(ids=(1,))) == 1
    letters.close()
    letters = DeadLetters(path)
    letters.begin(end=10)
    letters.add([rejection(1), rejection(2), rejection(3)])
    assert [letter.offset for letter in letters.list()] == [3, 2]
    letters.close()


def test_what_comes_at_offsets_that_the_disk_has_lost_is_new(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1), rejection(5)])
    letters.begin(end=3)
    letters.add([rejection(1, "bad_text"), rejection(4)])
    assert [letter.offset for letter in letters.list()] == [5, 4, 1]
    letters.close()


def test_of_one_message_every_point_that_a_sink_refuses_is_kept_and_kept_once(path: Path):
    letters = DeadLetters(path)
    points = [rejection(1, "refused_by_x", topic=t, payload=p, sink="x") for t in ("a", "b") for p in (b"1", b"2")]
    letters.add([rejection(9)])
    letters.add(points)
    letters.add(points)
    assert letters.count() == {"bad_json": 1, "refused_by_x": 4}
    letters.close()


SELECTIONS = {
    "everything": (Selection(), {1, 2, 3, 4}),
    "ids": (Selection(ids=(2, 4, 77)), {2, 4}),
    "no ids": (Selection(ids=()), set()),
    "reason": (Selection(reason="bad_text"), {2}),
    "stream": (Selection(stream="other"), {3}),
    "topic": (Selection(topic="t/+/x"), {3, 4}),
    "since": (Selection(since=1_003), {3, 4}),
    "until": (Selection(until=1_003), {1, 2}),
    "offset": (Selection(offset=3), {3}),
    "all of these": (Selection(topic="#", since=1_002, reason="bad_json"), {3, 4}),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_a_selection_means_the_same_for_lists_counts_and_purges(path: Path, name: str):
    selection, expected = SELECTIONS[name]
    letters = DeadLetters(path)
    letters.add(
        [
            rejection(1),
            rejection(2, "bad_text"),
            rejection(3, topic="t/d3/x", stream="other"),
            rejection(4, topic="t/d4/x", rows=5),
        ]
    )
    assert {letter.id for letter in letters.list(selection)} == expected
    assert sum(row.letters for row in letters.summary(selection)) == len(expected)
    assert letters.purge(selection) == len(expected)
    assert {letter.id for letter in letters.list()} == {1, 2, 3, 4} - expected
    letters.close()


def test_the_summary_has_readings_and_times_of_each_reason(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1, rows=2), rejection(2, "bad_text"), rejection(7, rows=3)])
    assert letters.summary() == [
        ReasonCount("bad_json", letters=2, readings=5, first=1_001, last=1_007),
        ReasonCount("bad_text", letters=1, readings=1, first=1_002, last=1_002),
    ]
    letters.close()


def test_an_id_is_never_given_twice(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1)])
    letters.purge(Selection())
    letters.add([rejection(2)])
    assert [letter.id for letter in letters.list()] == [2]
    assert letters.find(1) is None
    letters.close()


def test_what_another_process_has_purged_makes_room(path: Path):
    letters, other = DeadLetters(path, max_count=3), DeadLetters(path)
    letters.add([rejection(i) for i in range(3)])
    assert other.purge(Selection(until=1_002)) == 2
    letters.add([rejection(3), rejection(4)])
    assert [letter.offset for letter in letters.list()] == [4, 3, 2]
    other.close()
    letters.close()


def test_long_payloads_are_cut_and_say_so(path: Path):
    letters = DeadLetters(path)
    letters.add([rejection(1, payload=b"x" * 1_000_000)])
    (letter,) = letters.list()
    assert (len(letter.payload), letter.size) == (MAX_PAYLOAD_BYTES, 1_000_000)
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
    assert counters.get("ingest.dead_letters_dropped") == 3
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
    sqlite3.connect(path.parent / "old").execute("CREATE TABLE dead_letters (id INTEGER)").connection.close()
    with pytest.raises(TocsinError, match="of another version of tocsin"):
        DeadLetters(path.parent / "old")
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
