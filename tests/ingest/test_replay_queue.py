"""Laws of replay: every letter goes through once more, as it was received first; none is lost, none goes twice."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.block import RETAIN, SAMPLES
from ingest.dead_letters import DeadLetters, Selection
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.journal import REPLAYED, Journal, JournalError
from ingest.recorded import encode_samples
from ingest.rejection import Rejection
from ingest.replay_queue import Appended, ReplayQueue, State
from ingest.replayed import Arrivals
from ingest.streams import LimitsConfig, StreamConfig
from telemetry import DUPLICATE, LATE, LIVE, RETAINED, Counters, Message, ReadingBatch, RetryLater, SeriesTable, Tick

NOW = 1_700_000_000_000_000_000
SECOND = 10**9
EVERYTHING = Selection()


class Rig:
    """A journal, what decodes it, and the dead letters; `restart` with another configuration is a new life."""

    def __init__(self, directory: Path, **limits: int) -> None:
        self.directory = directory
        self.open(StreamConfig(name="s", topic="t/{device}"), **limits)

    def open(self, *streams: StreamConfig, **limits: int) -> None:
        self.journal = Journal(self.directory / "journal")
        self.table, self.counters = SeriesTable(), Counters()
        self.letters = DeadLetters(self.directory / "letters")
        self.letters.begin(self.journal.end)
        self.queue = ReplayQueue(self.letters)
        self.queue.settle(self.journal)
        decoder = Decoder(streams, LimitsConfig(**limits), self.table, counters=self.counters)
        self.feed = Feed(self.journal, decoder, self.table, dead_letters=self.letters, counters=self.counters)

    def close(self) -> None:
        self.journal.close()
        self.letters.close()

    def restart(self, *streams: StreamConfig, **limits: int) -> None:
        """Decodes the journal from its start, as after a change of the configuration."""
        self.close()
        self.open(*(streams or [StreamConfig(name="s", topic="t/{device}")]), **limits)

    def receive(self, *payloads: str | bytes, topic: str = "t/d1", **more: object) -> None:
        messages = []
        for payload in payloads:
            received = NOW + self.journal.end * SECOND + len(messages)
            data = payload.encode() if isinstance(payload, str) else payload
            messages.append(Message(topic, data, received=received, **more))  # type: ignore[arg-type]
        self.journal.append(messages)

    def drain(self) -> ReadingBatch:
        batches = [ReadingBatch.empty()]
        while items := self.feed.poll(0):
            batches += [item for item in items if isinstance(item, ReadingBatch)]
        return ReadingBatch.concatenate(batches)

    def replay(self, selection: Selection = EVERYTHING) -> int:
        """Asks for it, and does it to the end."""
        id_, _ = self.queue.request(selection, now=NOW)
        while self.queue.append(self.journal):
            self.drain()
            assert self.queue.judge(self.feed.offset)
        return id_

    def replayed(self) -> list[tuple[int, str, bytes, int]]:
        """What is in the journal again: received, topic, payload, flags."""
        records = self.journal.read(0)
        return [
            (int(records.received[i]), records.topics[i], records.payloads[i], int(records.flags[i]) & ~REPLAYED)
            for i in np.flatnonzero(records.flags & REPLAYED).tolist()
        ]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.close()


def states(rig: Rig, replay: int) -> list[tuple[int, str, str]]:
    return [(o.letter, o.state.value, o.reason) for o in rig.queue.outcomes(replay)]


def test_after_the_mending_letters_go_through_with_their_first_times(rig: Rig):
    rig.receive("1", "2", topic="u/d1")
    rig.receive('{"v": 3}')
    rig.drain()
    rig.restart(StreamConfig(name="s", topic="t/{device}"), StreamConfig(name="u", topic="u/{device}", metric="v"))
    rig.drain()
    replay = rig.replay()
    assert states(rig, replay) == [(1, "decoded", ""), (2, "decoded", "")]
    assert rig.replayed() == [(NOW, "u/d1", b"1", 0), (NOW + 1, "u/d1", b"2", 0)]
    assert rig.letters.count() == {}
    rig.restart(StreamConfig(name="u", topic="u/{device}", metric="v"))
    again = rig.drain()
    assert again.time[again.offset >= 3].tolist() == [NOW, NOW + 1], (
        "an arrival is an event time where there is no other"
    )


def test_what_is_refused_again_is_a_letter_again_and_only_one(rig: Rig):
    rig.receive("{bad", "{worse")
    rig.drain()
    for _ in range(2):
        replay = rig.replay()
        letters = {letter.id: letter for letter in rig.letters.list()}
        assert [letter.payload for letter in letters.values()] == [b"{worse", b"{bad"]
        assert [(o.state, o.reason) for o in rig.queue.outcomes(replay)] == [(State.REFUSED, "bad_json")] * 2
        assert [letters[o.again].payload for o in rig.queue.outcomes(replay)] == [b"{bad", b"{worse"]
        assert {letter.received for letter in letters.values()} == {NOW, NOW + 1}
        rig.restart()
        rig.drain()
    assert rig.letters.count() == {"bad_json": 2}


def test_a_retained_message_is_retained_when_it_is_replayed(rig: Rig):
    rig.receive("7", topic="u/d1", retain=True, qos=1)
    rig.drain()
    assert rig.letters.list()[0].flags & RETAIN
    rig.letters.purge(EVERYTHING)
    rig.letters.add([Rejection(5, NOW, "t/d1", b'{"v": 1}', "x", "", "", flags=RETAIN | 1 << 2)])
    rig.queue.request(EVERYTHING, now=NOW)
    rig.queue.append(rig.journal)
    batch = rig.drain()
    assert (batch.value.tolist(), batch.flags.tolist()) == ([1], [RETAINED])


def test_a_message_with_several_letters_is_appended_once_whichever_of_them_is_asked_for(rig: Rig):
    rig.receive(b'{"a": "nan", "b": 1, "c": ' + b"9" * 50 + b"}", "{bad")
    rig.drain()
    assert rig.letters.count() == {"bad_json": 1, "not_finite": 1, "number_too_long": 1}
    replay = rig.replay(Selection(reason="not_finite"))
    assert len(rig.replayed()) == 1
    assert [state for _, state, _ in states(rig, replay)] == ["refused", "refused"]
    assert rig.letters.count() == {"bad_json": 1, "not_finite": 1, "number_too_long": 1}


def test_readings_that_are_stored_already_come_once_more_as_late_and_never_as_duplicates(rig: Rig):
    """Sinks that had passed the message's first place have not seen what it holds with a mended configuration."""
    rig.receive("5", topic="u/d1")
    rig.drain()
    rig.restart(StreamConfig(name="u", topic="u/{device}", metric="v"))
    assert rig.drain().flags.tolist() == [LIVE]
    rig.queue.request(EVERYTHING, now=NOW)
    rig.queue.append(rig.journal)
    subscription = rig.feed.subscribe(1)
    rig.drain()
    step = subscription.read(0)
    assert step is not None
    assert (step.batch.value.tolist(), step.batch.flags.tolist()) == ([5], [LATE])
    rig.receive("5", topic="u/d1")
    records = rig.journal.read(rig.journal.end - 1)
    assert not records.flags[0] & REPLAYED
    assert rig.drain().flags.tolist() == [LIVE]


def test_an_ordinary_message_is_still_a_duplicate(rig: Rig):
    rig.receive('{"time": 1700000000, "v": 1}', '{"time": 1700000000, "v": 1}')
    assert rig.drain().flags.tolist() == [LIVE, DUPLICATE]


def test_series_that_a_limit_has_refused_are_admitted_when_it_is_raised(tmp_path: Path):
    rig = Rig(tmp_path, max_series=2, max_states=1)
    rig.receive('{"door": "open", "a": 1}', '{"door": "shut"}', '{"b": 2}')
    rig.drain()
    assert rig.letters.count() == {"too_many_series": 1, "too_many_states": 1}
    state = rig.feed.state()
    table = rig.table
    rig.restart(max_series=100, max_states=8)
    for series in table:
        rig.table.add(series)
    rig.feed.restore(state)
    rig.replay()
    assert rig.letters.count() == {}
    rig.receive('{"door": "shut", "b": 3}')
    batch = rig.drain()
    found = {str(rig.table[int(s)]): v for s, v in zip(batch.series, batch.value, strict=True)}
    assert found == {'door{device="d1", state="open"}': 0, 'door{device="d1", state="shut"}': 1, 'b{device="d1"}': 3}
    rig.close()


def test_recorded_samples_are_replayed_as_such(rig: Rig):
    [payload] = encode_samples(NOW, [({"__name__": "r", "site": "n"}, 1.5)])
    rig.letters.add([Rejection(1, NOW, "$tocsin/recorded", payload, "too_many_series", "", "", flags=SAMPLES)])
    rig.letters.add([Rejection(2, NOW - 1, "t/d1", b'{"v": 1}', "x", "", "")])
    rig.queue.request(EVERYTHING, now=NOW)
    assert [rig.queue.append(rig.journal) for _ in range(3)] == [Appended(1, 0), Appended(0, 1), None]
    assert [flags for *_, flags in rig.replayed()] == [0, SAMPLES]
    assert rig.counters.get("ingest.messages_rejected") == 0
    rig.drain()
    assert [str(series) for series in rig.table] == ['v{device="d1"}', 'r{site="n"}']


def test_a_payload_that_was_cut_comes_whole_from_the_journal_or_stays(rig: Rig):
    long = b'{"v": 1, "x": [' + b" " * 600_000 + b"]}"
    rig.receive(long)
    rig.drain()
    [letter] = rig.letters.list()
    assert letter.reason == "payload_too_large"
    rig.restart(max_payload_bytes=1 << 20)
    rig.drain()
    rig.replay()
    assert [payload for _, _, payload, _ in rig.replayed()] == [long]
    assert rig.letters.count() == {}

    rig.letters.add([Rejection(99, NOW, "t/d1", long, "payload_too_large", "", "s")])
    replay = rig.replay()
    assert [(o.state, o.reason) for o in rig.queue.outcomes(replay)] == [(State.REFUSED, "incomplete")]
    assert rig.queue.progress(replay).is_done
    assert rig.letters.count() == {"payload_too_large": 1}
    assert len(rig.replayed()) == 1


def test_letters_that_come_after_the_request_are_not_meant(rig: Rig):
    rig.receive("{bad")
    rig.drain()
    rig.queue.request(EVERYTHING, now=NOW)
    rig.receive("{later")
    rig.drain()
    rig.queue.append(rig.journal)
    assert [payload for _, _, payload, _ in rig.replayed()] == [b"{bad"]


def test_the_oldest_are_appended_first_and_few_at_a_time(rig: Rig):
    rig.letters.add([Rejection(i, NOW + i * 7 % 450, "t/d1", b"%d" % i, "x", "", "") for i in range(450)])
    rig.queue.request(EVERYTHING, now=NOW)
    written = []
    while (appended := rig.queue.append(rig.journal)) is not None:
        written.append(appended.messages)
    assert sum(written) == 450
    assert max(written) <= 200
    received = [at for at, *_ in rig.replayed()]
    assert received == sorted(received)


def test_a_full_store_loses_nothing_to_a_letter_that_is_refused_again(tmp_path: Path):
    rig = Rig(tmp_path)
    rig.letters.close()
    rig.letters = DeadLetters(tmp_path / "letters", counters=rig.counters, max_count=3)
    rig.queue = ReplayQueue(rig.letters)
    rig.feed._dead_letters = rig.letters
    rig.receive("{1", "{2", "{3")
    rig.drain()
    rig.replay(Selection(ids=(3,)))
    assert {letter.payload for letter in rig.letters.list()} == {b"{1", b"{2", b"{3"}
    assert rig.counters.get("ingest.dead_letters_dropped") == 0
    rig.close()


class Failing:
    """A journal in which an append fails, before or after it is durable."""

    def __init__(self, journal: Journal, when: str) -> None:
        self.journal, self.when = journal, when

    @property
    def end(self) -> int:
        return self.journal.end

    def read(self, offset: int, limit: int = 10_000):
        return self.journal.read(offset, limit)

    def append_replayed(self, messages: Sequence[Message], *, samples: bool) -> int:
        if self.when == "before":
            raise JournalError("no space left")
        if self.when == "in the middle":
            self.journal.append_replayed(messages[: len(messages) // 2], samples=samples)
            raise JournalError("the disk is gone")
        self.journal.append_replayed(messages, samples=samples)
        raise JournalError("nobody knows")


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from([b"{bad", b'{"v": "nan", "w": 1}', b'{"v": 2}', b"x"]), min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(["before", "in the middle", "after"]), st.booleans()), max_size=4),
)
def test_whatever_interrupts_a_replay_each_letter_is_appended_once_and_none_is_lost(
    tmp_path_factory, payloads, crashes
):
    rig = Rig(tmp_path_factory.mktemp("rig"))
    # several of a kind, received in the same instant: they can only be told apart by their number
    for _ in payloads:
        rig.journal.append_tick(NOW)
    rig.letters.add([Rejection(i, NOW, "t/d1", payload, "x", "", "") for i, payload in enumerate(payloads)])
    rig.queue.request(EVERYTHING, now=NOW)
    for when, restarted in crashes:
        with suppress(JournalError):  # not raised once nothing is left to be appended
            rig.queue.append(Failing(rig.journal, when))
        if restarted:
            rig.restart()
    while rig.queue.append(rig.journal):
        pass
    assert sorted(payload for _, _, payload, _ in rig.replayed()) == sorted(payloads)
    assert not rig.queue._next_messages()
    rig.drain()
    assert rig.queue.judge(rig.feed.offset)
    refused = sum(payload != b'{"v": 2}' for payload in payloads)
    assert sum(rig.letters.count().values()) == refused
    rig.close()


def test_a_database_that_fails_after_the_append_repeats_nothing(rig: Rig):
    rig.letters.add([Rejection(i, NOW, "t/d1", b'{"v": 1}', "x", "", "") for i in range(3)])
    rig.queue.request(EVERYTHING, now=NOW)
    rig.letters._db.execute(
        "CREATE TRIGGER full BEFORE DELETE ON dead_letters WHEN old.id = 2 BEGIN SELECT raise(ABORT, 'full'); END"
    )
    with pytest.raises(RetryLater, match="full"):
        rig.queue.append(rig.journal)
    assert len(rig.replayed()) == 3
    rig.letters._db.execute("DROP TRIGGER full")
    assert rig.queue.append(rig.journal) is None
    assert len(rig.replayed()) == 3
    assert rig.letters.count() == {}


def test_a_purge_beats_a_replay_that_has_not_begun(rig: Rig):
    rig.receive("{bad")
    rig.drain()
    replay, letters = rig.queue.request(EVERYTHING, now=NOW)
    rig.letters.purge(EVERYTHING)
    assert letters == 1
    assert rig.queue.append(rig.journal) is None
    assert rig.queue.progress(replay).is_done
    assert rig.replayed() == []


def test_outcomes_are_bounded_by_dropping_those_of_old_replays(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("ingest.replay_queue._MAX_OUTCOMES", 3)
    replays = []
    for i in range(4):
        rig.letters.add([Rejection(2 * i + j, NOW, "t/d1", b'{"v": 1}', "x", "", "") for j in range(2)])
        replays.append(rig.replay())
    assert [len(rig.queue.outcomes(replay)) for replay in replays] == [0, 0, 2, 2]
    assert len(sqlite3.connect(rig.directory / "letters").execute("SELECT 1 FROM outcomes").fetchall()) == 4


# --- our clock ---


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["live", "tick", "replayed"]), max_size=14), st.lists(st.integers(1, 4), min_size=1))
def test_the_rules_see_replayed_readings_arrive_when_they_are_replayed_however_batches_are_cut(
    tmp_path_factory, kinds, cuts
):
    rig = Rig(tmp_path_factory.mktemp("rig"))
    clock, expected = NOW, []
    for i, kind in enumerate(kinds):
        clock += SECOND
        value = f'{{"v": {i}}}'.encode()
        if kind == "tick":
            rig.journal.append_tick(clock)
        elif kind == "live":
            rig.journal.append([Message("t/d1", value, received=clock)])
            expected.append((clock, i))
        else:
            rig.journal.append_replayed([Message("t/d1", value, received=NOW - i * SECOND)], samples=False)
            heard = [NOW + (j + 1) * SECOND for j in range(i) if kinds[j] != "replayed"]
            before = [NOW - j * SECOND for j in range(i + 1) if kinds[j] == "replayed"]
            expected.append((heard[-1] if heard else before[0], i))
    found, at = [], 0
    while items := rig.feed.poll(0, limit=cuts[at % len(cuts)]):
        at += 1
        if at % 3 == 0:
            state = rig.feed.state()
            rig.feed._arrivals = Arrivals()
            rig.feed.restore(state)
        for item in items:
            if not isinstance(item, Tick):
                found += list(zip(item.received.tolist(), item.value.astype(int).tolist(), strict=True))
    if kinds and kinds[0] != "replayed":
        assert found == expected
    assert [i for _, i in found] == [i for _, i in expected]
    rig.close()


# --- together with others ---


def test_large_messages_are_appended_few_at_a_time(rig: Rig):
    rig.letters.add([Rejection(i, NOW + i, "t/d1", b"x" * 200_000, "x", "", "") for i in range(50)])
    rig.queue.request(EVERYTHING, now=NOW)
    appended = rig.queue.append(rig.journal)
    assert appended is not None
    assert 1 < appended.messages * 200_000 <= 4 << 20


def test_nothing_is_added_between_the_append_and_the_deletion(rig: Rig):
    """Else what is refused again would need a place beside what it was, and a full store would drop another letter."""
    rig.letters.add([Rejection(0, NOW, "t/d1", b"{bad", "x", "", "")])
    rig.queue.request(EVERYTHING, now=NOW)
    seen: list[dict[str, int]] = []

    class Quick(Failing):
        def append_replayed(self, messages: Sequence[Message], *, samples: bool) -> int:
            self.feed = threading.Thread(
                target=lambda: (
                    rig.letters.add([Rejection(9, NOW, "t", b"", "y", "", "")]),
                    seen.append(rig.letters.count()),
                )
            )
            self.feed.start()
            self.feed.join(0.1)
            return self.journal.append_replayed(messages, samples=samples)

    journal = Quick(rig.journal, "")
    rig.queue.append(journal)
    journal.feed.join()
    assert seen == [{"y": 1}]


def test_only_what_came_after_a_letter_can_be_its_refusal(rig: Rig):
    """Offsets are given anew when a disk has lost the end of the journal."""
    rig.letters.add(
        [Rejection(0, NOW - 1, "t/d0", b"lost", "old", "", ""), Rejection(7, NOW, "t/d1", b'{"v": 1}', "x", "", "")]
    )
    replay, _ = rig.queue.request(Selection(reason="x"), now=NOW)
    rig.queue.append(rig.journal)
    assert rig.queue.judge(1)
    assert [(o.state, o.offset) for o in rig.queue.outcomes(replay)] == [(State.DECODED, 0)]


def test_the_marks_of_a_message_stay_with_it(rig: Rig):
    rig.receive("{a", qos=1, dup=True)
    rig.receive("{b", qos=2)
    rig.drain()
    before = [int(flags) for flags in rig.journal.read(0).flags]
    rig.replay()
    assert [flags for *_, flags in rig.replayed()] == before
