"""Laws of the feed: flags depend on the order of arrival alone, and every consumer sees the same rows."""

import threading
from collections import deque
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.block import DUP, RETAIN, TICK, Records
from ingest.dead_letters import DeadLetters
from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.flag_log import FlagLog
from ingest.journal import Journal
from ingest.lateness import REMEMBERED, Lateness
from ingest.rejection import Rejection
from ingest.streams import LimitsConfig, StreamConfig
from ingest.subscription import Subscription
from telemetry import (
    DUPLICATE,
    HISTORICAL,
    LATE,
    LIVE,
    RETAINED,
    Counters,
    Message,
    ReadingBatch,
    RetryLater,
    SeriesTable,
    Tick,
)

NOW = 1_700_000_000_000_000_000
SECOND = 10**9
STREAMS = [StreamConfig(name="s", topic="t/{device}")]


class MemoryJournal:
    """A journal without files; reads may be cut short at given offsets, as at the end of a block."""

    def __init__(self, messages: list[Message | Tick] | None = None, *, block: int = 1_000_000) -> None:
        self.start = 0
        self.block = block
        self._entries: list[Message | Tick] = []
        self._grown = threading.Condition()
        self.append(messages or [])

    def append(self, messages: list[Message | Tick]) -> None:
        with self._grown:
            self._entries += messages
            self._grown.notify_all()

    def wait(self, offset: int, timeout: float) -> bool:
        with self._grown:
            return self._grown.wait_for(lambda: len(self._entries) > offset, timeout)

    def read(self, offset: int, limit: int = 10_000) -> Records:
        offset = max(offset, self.start)
        end = min(offset + limit, (offset // self.block + 1) * self.block)
        found = self._entries[offset:end]
        return Records(
            offset,
            np.array([e.time if isinstance(e, Tick) else e.received for e in found], np.int64),
            np.array([TICK if isinstance(e, Tick) else RETAIN * e.retain | DUP * e.dup for e in found], np.uint8),
            ["" if isinstance(e, Tick) else e.topic for e in found],
            [b"" if isinstance(e, Tick) else e.payload for e in found],
            np.array([0 if isinstance(e, Tick) else e.mid for e in found], np.uint16),
        )


class NoDeadLetters:
    """Remembers rejections; refuses them while it is told to."""

    def __init__(self) -> None:
        self.kept: list[Rejection] = []
        self.full = False

    def add(self, rejections: object) -> None:
        if self.full:
            raise RetryLater("full")
        self.kept += rejections  # type: ignore[operator]


class Rig:
    """A feed over a journal in memory."""

    def __init__(self, journal: MemoryJournal | Journal, table: SeriesTable | None = None, **more: int) -> None:
        self.table, self.counters, self.dead = table or SeriesTable(), Counters(), NoDeadLetters()
        self.decoder = Decoder(STREAMS, LimitsConfig(), self.table, counters=self.counters)
        self.feed = Feed(journal, self.decoder, self.table, dead_letters=self.dead, counters=self.counters, **more)

    def drain(self, limit: int = 10_000) -> list[ReadingBatch | Tick]:
        items: list[ReadingBatch | Tick] = []
        while got := self.feed.poll(0, limit=limit):
            items += got
        return items


def message(device: str, seconds: float, value: object, *, retain: bool = False) -> Message:
    time = NOW + round(seconds * SECOND)
    payload = b'{"ts":%d,"v":%s}' % (time // 10**6, str(value).encode())
    return Message(f"t/{device}", payload, retain=retain, received=NOW)


def rows(items: list[ReadingBatch | Tick]) -> list[tuple[int, ...]]:
    """(offset, series, time, value, flags) of readings, (offset, -1, time) of ticks, in order."""
    found: list[tuple[int, ...]] = []
    for item in items:
        if isinstance(item, Tick):
            found.append((item.offset, -1, item.time))
        else:
            columns = (item.offset, item.series, item.time, item.value, item.flags)
            found += zip(*(c.tolist() for c in columns), strict=True)
    return found


def flags(*messages: Message) -> list[int]:
    return [row[-1] for row in rows(Rig(MemoryJournal(list(messages))).drain())]


# --- what the flags mean -----------------------------------------------------------------------------------------


def test_readings_in_order_are_live():
    assert flags(message("a", 0, 1), message("b", 0, 1), message("a", 1, 1), message("a", 2, 2)) == [LIVE] * 4


def test_a_reading_older_than_the_newest_of_its_series_is_late():
    assert flags(message("a", 2, 1), message("a", 1, 1), message("b", 1, 1)) == [LIVE, LATE, LIVE]


def test_the_same_time_and_value_again_is_a_duplicate():
    assert flags(message("a", 1, 1), message("a", 1, 1), message("a", 2, 1), message("a", 1, 1)) == [
        LIVE,
        DUPLICATE,
        LIVE,
        DUPLICATE,
    ]


def test_another_value_for_the_same_time_is_a_correction():
    assert flags(message("a", 1, 1), message("a", 1, 2), message("a", 1, 2)) == [LIVE, LATE, DUPLICATE]


def test_duplicates_are_found_among_the_last_readings_only():
    newer = [message("a", i, 1) for i in range(REMEMBERED)]
    assert flags(*newer, newer[0])[-1] == DUPLICATE
    assert flags(*newer, message("a", 90, 1), newer[0])[-1] == LATE


def test_a_retained_reading_neither_moves_the_newest_nor_becomes_live():
    retained = message("a", 5, 1, retain=True)
    assert flags(retained, retained, message("a", 1, 1), message("a", 5, 1)) == [
        RETAINED,
        RETAINED | DUPLICATE,
        LIVE,
        LIVE,
    ]
    assert flags(message("a", 6, 1), retained) == [LIVE, RETAINED | LATE]


# --- flags, against a slow and obvious reference -----------------------------------------------------------------


def reference(batch: ReadingBatch) -> list[int]:
    newest: dict[int, int] = {}
    last: dict[int, deque[tuple[int, float]]] = {}
    result = []
    for series, time, value, flag in zip(
        batch.series.tolist(), batch.time.tolist(), batch.value.tolist(), batch.flags.tolist(), strict=True
    ):
        seen = last.setdefault(series, deque(maxlen=REMEMBERED))
        behind = series in newest and time <= newest[series]
        if flag == LIVE and not behind:
            newest[series] = time
        elif (time, value) in seen:
            result.append(flag | DUPLICATE)
            continue
        elif behind:
            flag |= LATE  # noqa: PLW2901  # obvious
        seen.append((time, value))
        result.append(flag)
    return result


ROWS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.integers(0, 14),
        st.sampled_from([0.0, 1.0]),
        st.sampled_from([LIVE, LIVE, LIVE, LIVE, RETAINED, HISTORICAL]),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(ROWS, st.lists(st.integers(0, 60), max_size=5))
def test_flags_are_those_of_the_reference_however_the_rows_are_cut(
    given_rows: list[tuple[int, int, float, int]], cuts: list[int]
):
    series, time, value, flag = ([row[i] for row in given_rows] for i in range(4))
    batch = ReadingBatch.of(series, time, value, flags=flag)
    edges = sorted({0, len(batch), *(min(cut, len(batch)) for cut in cuts)})
    lateness = Lateness()
    found = [flag for a, b in pairwise(edges) for flag in lateness.flag(batch.select(slice(a, b))).tolist()]
    assert found == reference(batch)


def test_many_rows_of_many_series_in_order_are_remembered_exactly():
    random = np.random.default_rng(7)
    series = random.integers(0, 3_000, 40_000)
    time = np.arange(40_000) - np.where(random.random(40_000) < 0.001, 30_000, 0)
    batch = ReadingBatch.of(series.tolist(), time.tolist(), random.integers(0, 2, 40_000).tolist())
    lateness = Lateness()
    twice = ReadingBatch.concatenate([batch, batch])
    assert [*lateness.flag(batch), *lateness.flag(batch)] == reference(twice)


# --- the head ----------------------------------------------------------------------------------------------------

# With two fields, the rows of a message may get different flags.
VALUES = st.sampled_from([1, 2, '1,"w":1', '2,"w":1', '"OPEN"', '"SHUT"', "null", "}"])
ENTRIES = st.lists(
    st.one_of(
        st.builds(
            message, st.sampled_from("ab"), st.integers(-6, 0), VALUES, retain=st.sampled_from([False, False, True])
        ),
        st.integers(0, 5).map(lambda s: Tick(NOW + s * SECOND)),
    ),
    max_size=40,
)


@settings(max_examples=80)
@given(ENTRIES, st.integers(1, 9), st.integers(1, 9))
def test_batches_and_ticks_come_in_order_however_the_journal_is_read(
    entries: list[Message | Tick], limit: int, block: int
):
    whole, cut = Rig(MemoryJournal(entries)), Rig(MemoryJournal(entries, block=block))
    expected, found = rows(whole.drain()), rows(cut.drain(limit))
    assert found == expected
    assert [row[0] for row in found] == sorted(row[0] for row in found)
    assert cut.dead.kept == whole.dead.kept
    assert cut.feed.offset == len(entries)


@settings(max_examples=80)
@given(ENTRIES, st.integers(1, 9), st.integers(0, 40), st.integers(1, 4_000))
def test_every_subscription_sees_the_rows_of_the_head_from_the_ring_or_from_the_journal(
    entries: list[Message | Tick], limit: int, offset: int, ring_bytes: int
):
    rig = Rig(MemoryJournal(entries, block=7), ring_bytes=ring_bytes)
    offset = min(offset, len(entries))
    keen, lagging = rig.feed.subscribe(offset), rig.feed.subscribe(offset)
    expected: list[tuple[int, ...]] = []
    kept_up: list[tuple[int, ...]] = []
    while items := rig.feed.poll(0, limit=limit):
        expected += [row for row in rows(items) if row[0] >= offset and row[1] >= 0]
        kept_up += read_all(keen)
    assert kept_up == expected
    assert read_all(lagging) == expected
    assert keen.offset == lagging.offset == max(rig.feed.offset, offset)


def read_all(subscription: Subscription) -> list[tuple[int, ...]]:
    found: list[tuple[int, ...]] = []
    while step := subscription.read(0):
        assert step.next == subscription.offset
        found += rows([step.batch])
    return found


@settings(max_examples=60)
@given(ENTRIES, st.integers(0, 40))
def test_a_restored_feed_goes_on_as_if_nothing_had_happened(entries: list[Message | Tick], cut: int):
    cut = min(cut, len(entries))
    expected = rows(Rig(MemoryJournal(entries)).drain())
    one = Rig(MemoryJournal(entries[:cut]))
    slow = one.feed.subscribe(0)
    before = rows(one.drain(limit=5))
    two = Rig(MemoryJournal(entries), table=one.table)
    two.feed.restore({name: column.copy() for name, column in one.feed.state().items()})
    resumed = two.feed.subscribe(slow.offset)
    assert before + rows(two.drain()) == expected
    assert read_all(resumed) == [row for row in expected if row[1] >= 0]


def test_a_step_that_was_handed_out_but_not_finished_has_the_same_flags_after_a_restart():
    entries = [message("a", -i, i) for i in range(20)]
    one = Rig(MemoryJournal(entries))
    unfinished = one.feed.subscribe(0)
    expected = [row for _ in range(5) for row in rows(one.feed.poll(0, limit=2))]
    assert rows([unfinished.read(0).batch]) == expected
    expected += rows(one.drain())
    two = Rig(MemoryJournal(entries), table=one.table)
    two.feed.restore(one.feed.state())
    assert read_all(two.feed.subscribe(0)) == expected


def test_a_waiting_subscription_is_woken_by_the_head():
    journal = MemoryJournal()
    rig = Rig(journal)
    subscription = rig.feed.subscribe(0)
    found: list[tuple[int, ...]] = []
    reader = threading.Thread(target=lambda: found.extend(rows([subscription.read(120).batch])), daemon=True)
    reader.start()
    journal.append([message("a", 0, 1)])
    assert rig.feed.poll(30)
    reader.join(30)
    assert [row[0] for row in found] == [0]


def test_poll_gives_nothing_when_nothing_comes():
    assert Rig(MemoryJournal()).feed.poll(0) == []
    assert Rig(MemoryJournal()).feed.subscribe(0).read(0) is None


def test_what_cannot_be_made_durable_is_handed_out_later_and_counted_once():
    rig = Rig(MemoryJournal([message("a", 0, 1), Message("x", b"?", received=NOW)]))
    rig.dead.full = True
    for _ in range(3):
        with pytest.raises(RetryLater):
            rig.feed.poll(0)
    with pytest.raises(RetryLater):
        rig.feed.state()
    assert rig.feed.offset == 0
    assert rig.feed.subscribe(0).read(0) is None
    rig.dead.full = False
    assert len(rows(rig.drain())) == 1
    assert [r.reason for r in rig.dead.kept] == ["unknown_topic"]
    assert rig.counters.get("ingest.messages") == 2


def test_records_that_are_gone_are_counted_and_the_rest_is_read():
    journal = MemoryJournal([message("a", -i, i) for i in range(10)])
    rig = Rig(journal, ring_bytes=1)
    lagging = rig.feed.subscribe(0)
    rig.feed.poll(0, limit=1)
    rig.feed.poll(0, limit=1)
    journal.start = 5
    assert read_all(lagging) == []  # what the head has not decoded is none of its business
    assert [row[0] for row in rows(rig.drain(limit=2))] == [5, 6, 7, 8, 9]
    assert rig.counters.get("ingest.lost") == 3
    assert [row[0] for row in read_all(lagging)] == [5, 6, 7, 8, 9]
    assert rig.counters.get("ingest.subscription_lost") == 5


def test_a_feed_that_starts_behind_the_beginning_knows_the_words_of_before():
    entries = [message("a", 0, '"OPEN"'), message("a", 1, '"SHUT"'), message("a", 2, '"OPEN"')]
    one = Rig(MemoryJournal(entries))
    expected = rows(one.drain())
    two = Rig(MemoryJournal(entries), table=one.table, offset=2)
    assert rows(two.drain()) == expected[-2:]


def test_flags_are_kept_only_for_those_who_may_still_ask():
    rig = Rig(MemoryJournal([message("a", -i % 50, i) for i in range(100)]))
    subscription = rig.feed.subscribe(0)
    rig.feed.poll(0, limit=60)
    rig.feed.poll(0, limit=1)
    kept = len(rig.feed._flags)
    assert kept > 50
    read_all(subscription)
    rig.feed.poll(0, limit=1)
    assert len(rig.feed._flags) >= kept  # read, but not durable yet
    subscription.settled = subscription.offset
    rig.drain()
    assert len(rig.feed._flags) < kept
    subscription.close()
    assert rig.feed._subscriptions == []


def test_kept_flags_are_bounded_and_the_forgotten_are_counted():
    log = FlagLog(max_rows=10)
    late = ReadingBatch.of([0] * 4, [1] * 4, [1.0] * 4, flags=[LATE] * 4)
    assert [log.add(late, 4), log.add(late, 8), log.add(late, 12)] == [0, 0, 4]
    assert len(log) == 8


# --- with the real journal, table and dead letters ---------------------------------------------------------------


def test_series_and_dead_letters_are_durable_before_their_rows_are_handed_out(tmp_path: Path):
    journal = Journal(tmp_path / "journal")
    table = SeriesTable(tmp_path / "series")
    dead = DeadLetters(tmp_path / "dead.sqlite")
    counters = Counters()
    decoder = Decoder(STREAMS, LimitsConfig(), table, counters=counters)
    feed = Feed(journal, decoder, table, dead_letters=dead, counters=counters)
    journal.append([message("a", 0, 1), message("b", 0, "}"), message("a", -1, '"OPEN"', retain=True)])
    journal.append_tick(NOW)
    journal.append([message("a", 0, 1)])
    assert [row[0] for row in rows(feed.poll(5) + feed.poll(0))] == [0, 2, 3, 4]
    assert [str(s) for s in SeriesTable(tmp_path / "series", read_only=True)] == [
        'v{device="a"}',
        'v{device="a", state="OPEN"}',
    ]
    other = DeadLetters(tmp_path / "dead.sqlite", read_only=True)
    assert [(letter.offset, letter.reason) for letter in other.list()] == [(1, "bad_json")]
    assert [row[-1] for row in read_all(feed.subscribe(0))] == [LIVE, RETAINED, DUPLICATE]
    for closing in (journal, dead, other):
        closing.close()
