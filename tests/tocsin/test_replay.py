"""Laws of the replay beside a pipeline: messages go to the journal, points to the sink that refused them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.dead_letters import DeadLetters, Selection
from ingest.journal import REPLAYED, Journal
from ingest.rejection import Rejection
from ingest.replay_queue import ReplayQueue, State
from sinks.second_try import SecondTry
from telemetry import HISTORICAL, LATE, Counters, ReadingBatch, Series, SeriesTable
from tocsin.points import parking, rows_of
from tocsin.replay import Replay

NOW = 1_700_000_000_000_000_000
EVERYTHING = Selection()
ODD = Series.of("t", device="d1", place='so"uth, {x}=\\ ☃')


def until(condition: Callable[[], bool], deadline_s: float = 10.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


class Rig:
    def __init__(self, directory: Path) -> None:
        self.journal = Journal(directory / "journal")
        self.letters = DeadLetters(directory / "letters")
        self.queue = ReplayQueue(self.letters)
        self.table, self.counters = SeriesTable(), Counters()
        self.table.add(Series.of("other", device="d1"))
        self.table.add(ODD)
        self.sink = SecondTry("influx", self.counters, pause_s=0)
        self.decoded = 0
        self.replay = Replay(
            self.queue,
            self.journal,
            self.table,
            decoded_to=lambda: self.decoded,
            sinks={"influx": self.sink},
            counters=self.counters,
        )

    def park(self, rows: ReadingBatch, sink: str = "influx") -> None:
        parking(self.letters, self.table, sink)(rows, "it says no")

    def states(self, id_: int) -> list[tuple[int, str, str]]:
        return [(o.letter, o.state.value, o.reason) for o in self.queue.outcomes(id_)]


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


ROWS = ReadingBatch.of(
    [1, 1, 0, 1],
    [NOW - 3, NOW - 2, NOW - 2, NOW - 1],
    [0.1 + 0.2, float("nan"), float("-inf"), -0.0],
    received=[NOW, NOW + 1, NOW + 1, NOW + 2],
    flags=[0, LATE, HISTORICAL, 0],
    offset=[7, 8, 8, 9],
)


def test_points_come_back_exactly_as_they_were_parked(rig: Rig):
    rig.park(ROWS)
    found, ids, unknown = rows_of(reversed(rig.letters.list()), rig.table)
    assert (ids, unknown) == ([1, 2, 3, 4], [])
    for name in ("series", "time", "received", "flags", "offset"):
        assert getattr(found, name).tolist() == getattr(ROWS, name).tolist(), name
    assert list(map(repr, found.value.tolist())) == list(map(repr, ROWS.value.tolist()))


def test_a_sink_gets_its_own_points_and_what_it_refuses_again_stays_with_its_new_words(rig: Rig):
    rig.park(ROWS)
    rig.park(ROWS.select(slice(0, 1)), sink="other")
    id_, _ = rig.queue.request(Selection(reason="refused_by_influx"), now=NOW)
    rig.replay.advance()
    assert rig.sink.waiting == 4

    def write(piece, tally, park):
        nan = piece.value != piece.value
        park(piece.select(nan), "NaN, still")
        return []

    rig.sink.advance(write, stopped=lambda: False)
    assert rig.states(id_) == [
        (1, "written", ""),
        (2, "refused", "refused_by_influx"),
        (3, "written", ""),
        (4, "written", ""),
    ]
    assert {letter.id: letter.detail for letter in rig.letters.list()} == {2: "NaN, still", 5: "it says no"}
    assert rig.queue.progress(id_).is_done
    rig.replay.advance()
    assert rig.sink.waiting == 0, "it is not tried again and again"
    again, _ = rig.queue.request(Selection(ids=(2,)), now=NOW)
    rig.replay.advance()
    rig.sink.advance(lambda piece, tally, park: [], stopped=lambda: False)
    assert rig.states(again) == [(2, "written", "")]


def test_a_crash_between_write_and_note_writes_the_points_once_more(rig: Rig):
    rig.park(ROWS)
    rig.queue.request(EVERYTHING, now=NOW)
    rig.replay.advance()
    rig.sink._lot = None  # what a new process knows of it
    rig.replay.advance()
    assert rig.sink.waiting == 4


def test_points_of_a_sink_or_series_that_is_gone_stay_and_say_so(rig: Rig):
    rig.park(ROWS.select(slice(0, 1)), sink="gone")
    rig.letters.add([Rejection(1, NOW, "t", b"{}", "refused_by_influx", "", "", sink="influx")])
    id_, _ = rig.queue.request(EVERYTHING, now=NOW)
    rig.replay.advance()
    assert rig.states(id_) == [(1, "refused", "no_such_sink"), (2, "refused", "no_such_series")]
    assert rig.letters.count() == {"refused_by_gone": 1, "refused_by_influx": 1}
    assert rig.queue.progress(id_).is_done


def test_messages_are_received_once_more_and_the_next_ones_wait_until_they_are_decoded(rig: Rig):
    rig.letters.add([Rejection(i, NOW + i, "t/d1", b"{}", "x", "", "") for i in range(250)])
    id_, _ = rig.queue.request(EVERYTHING, now=NOW)
    assert rig.replay.advance()
    assert rig.replay.advance()
    first = rig.journal.end
    assert first == 200
    assert rig.queue.progress(id_).states == {State.APPENDED: 200}
    rig.decoded = first
    while rig.replay.advance():
        rig.decoded = rig.journal.end
    assert rig.queue.progress(id_).states == {State.DECODED: 250}
    assert rig.counters.reasons("ingest.received") == {"replayed": 250}
    assert all(rig.journal.read(0).flags & REPLAYED)


def test_the_thread_takes_up_a_request_of_another_process(rig: Rig, tmp_path: Path):
    rig.letters.add([Rejection(0, NOW, "t/d1", b"{}", "x", "", "")])
    rig.decoded = 1
    rig.replay.start()
    other = DeadLetters(tmp_path / "letters")
    asked = ReplayQueue(other)
    id_, _ = asked.request(EVERYTHING, now=NOW)
    until(lambda: asked.progress(id_).is_done)
    assert [o.state for o in asked.outcomes(id_)] == [State.DECODED]
    rig.replay.stop()
    other.close()


def test_the_thread_survives_a_failing_journal_and_tells_it_once(rig: Rig, caplog: pytest.LogCaptureFixture):
    rig.letters.add([Rejection(0, NOW, "t/d1", b"{}", "x", "", "")])
    rig.queue.request(EVERYTHING, now=NOW)
    rig.journal.close()
    rig.replay.start()
    until(lambda: bool(caplog.records))
    rig.replay.stop()
    [record] = caplog.records
    assert "dead letters that are to be replayed wait: the journal in" in record.getMessage()
    assert rig.letters.count() == {"x": 1}
