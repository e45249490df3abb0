"""Laws of messages that come more than once: stored once, evaluated once, whatever is between, whoever restarts."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.decode import Decoder
from ingest.feed import Feed
from ingest.repeats import MessageIds
from ingest.streams import LimitsConfig, StreamConfig
from telemetry import DUPLICATE, LIVE, Counters, Message, SeriesTable
from tests.ingest.test_feed import NOW, SECOND, MemoryJournal, NoDeadLetters, Rig, rows

HOUR = 3_600 * SECOND


def sent(value: float | str, mid: int, *, after: int = 0, dup: bool = False, topic: str = "t/a") -> Message:
    """A value that has no time of its own; `after`: seconds."""
    return Message(topic, b'{"v": %s}' % str(value).encode(), qos=1, dup=dup, received=NOW + after * SECOND, mid=mid)


def again(message: Message, *, after: int = 1) -> Message:
    return replace(message, dup=True, received=message.received + after * SECOND)


class Ids:
    """A feed of streams that say where the id of a message stands."""

    def __init__(self, messages: list[Message], message_id: object = "id", **more: object) -> None:
        config = {"name": "s", "topic": "t/{device}/v", "message_id": message_id, **more}
        self.table, counters = SeriesTable(), Counters()
        decoder = Decoder([StreamConfig.model_validate(config)], LimitsConfig(), self.table, counters=counters)
        self.journal, self.dead = MemoryJournal(messages), NoDeadLetters()
        self.feed = Feed(self.journal, decoder, self.table, dead_letters=self.dead, counters=counters)

    def flags(self) -> list[int]:
        found: list[int] = []
        while items := self.feed.poll(0):
            found += [row[-1] for row in rows(items)]
        return found


def said(id_: object, *, after: int = 0, topic: str = "t/a/v", v: object = 1) -> Message:
    return Message(topic, json.dumps({"id": id_, "v": v}).encode(), received=NOW + after * SECOND)


def flags(*messages: Message, block: int = 1_000_000) -> list[int]:
    return [row[-1] for row in rows(Rig(MemoryJournal(list(messages), block=block)).drain())]


# ---- what the broker redelivers


def test_what_the_broker_redelivers_is_a_duplicate_although_it_has_no_time_of_its_own():
    first, second = sent(20, 1), sent(21, 2, after=1)

    assert flags(first, second, again(first, after=5), again(second, after=5), sent(21, 3, after=9)) == [
        LIVE, LIVE, DUPLICATE, DUPLICATE, LIVE,
    ]  # fmt: skip


def test_a_message_that_is_redelivered_twice_is_stored_once():
    first = sent(20, 1)

    assert flags(first, again(first), again(first, after=2)) == [LIVE, DUPLICATE, DUPLICATE]


@pytest.mark.parametrize(
    "other",
    [
        sent(20, 1, after=1),
        sent(20, 2, after=1, dup=True),
        sent(21, 1, after=1, dup=True),
        sent(20, 1, after=1, dup=True, topic="t/b"),
    ],
    ids=["without the flag", "of another identifier", "with another payload", "on another topic"],
)
def test_what_was_not_received_before_is_new(other: Message):
    """As when the first delivery of a message with the flag was lost on its way to us."""
    assert flags(sent(20, 1), other) == [LIVE, LIVE]


def test_the_last_message_with_the_identifier_counts():
    first = sent(20, 1)

    assert flags(first, sent(21, 1, after=1), again(first, after=2)) == [LIVE, LIVE, LIVE]


def test_a_message_of_qos_0_is_never_a_redelivery():
    first = replace(sent(20, 0), qos=0)

    assert flags(first, again(first)) == [LIVE, LIVE]


def test_a_redelivery_of_what_is_trimmed_from_the_journal_is_new():
    first = sent(20, 1)
    journal = MemoryJournal([first, sent(21, 2, after=1)])
    rig = Rig(journal)
    assert [row[-1] for row in rows(rig.drain())] == [LIVE, LIVE]
    journal.start = 1

    journal.append([again(first, after=5), again(sent(21, 2, after=1), after=5)])

    assert [row[-1] for row in rows(rig.drain())] == [LIVE, DUPLICATE]


def test_a_restart_between_a_message_and_its_redelivery_is_invisible():
    first = sent(20, 7)
    journal = MemoryJournal([sent(19, 6), first])
    former = Rig(journal)
    former.drain()
    rig = Rig(journal, former.table)
    rig.feed.restore(former.feed.state())

    journal.append([again(first)])

    assert [row[-1] for row in rows(rig.drain())] == [DUPLICATE]


def test_a_redelivered_reading_does_not_make_the_next_one_late():
    """It counts as if it had never come: its time of arrival is no time of a reading."""
    first = sent(20, 1)

    assert flags(first, again(first, after=60), sent(22, 2, after=30)) == [LIVE, DUPLICATE, LIVE]


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.booleans()), max_size=30),
    st.integers(1, 7),
    st.integers(1, 7),
)
@settings(deadline=None)
def test_redeliveries_are_those_that_a_slow_look_finds_however_the_stream_is_cut(
    stream: list[tuple[int, int, bool]], block: int, limit: int
):
    messages = [sent(value, mid, after=i, dup=dup) for i, (mid, value, dup) in enumerate(stream)]
    expected = []
    for i, message in enumerate(messages):
        with_its_mid = [m for m in messages[:i] if m.mid == message.mid]
        repeated = message.dup and with_its_mid and with_its_mid[-1].payload == message.payload
        expected.append(DUPLICATE if repeated else LIVE)

    found = [row[-1] for row in rows(Rig(MemoryJournal(messages, block=block)).drain(limit))]

    assert found == expected


def test_many_redeliveries_read_each_part_of_the_journal_once():
    messages = [sent(i, i + 1, after=i) for i in range(5_000)]
    reads = []

    class Journal(MemoryJournal):
        def read(self, offset: int, limit: int = 10_000):
            reads.append(offset)
            return super().read(offset, limit)

    journal = Journal(messages)
    rig = Rig(journal)
    rig.drain()
    reads.clear()

    journal.append([again(m, after=9_000) for m in messages])

    assert [row[-1] for row in rows(rig.drain())] == [DUPLICATE] * 5_000
    assert len(reads) <= 5


# ---- what senders send twice


def test_a_message_whose_id_came_before_is_a_duplicate():
    other_frame = Message("t/a/v", b'{"id": "x", "v": 1, "rssi": -80}', received=NOW + SECOND)

    assert Ids([said("x"), other_frame, said("y", after=2)], fields={"include": ["v"]}).flags() == [
        LIVE, DUPLICATE, LIVE,
    ]  # fmt: skip


def test_the_id_is_no_reading():
    subject = Ids([said(7)])
    subject.flags()

    assert [series.metric for series in subject.table] == ["v"]


def test_ids_are_of_one_device_and_several_fields_make_one_together():
    assert Ids([said(1), said(1, topic="t/b/v"), said(1, after=1)]).flags() == [LIVE, LIVE, DUPLICATE]
    both = [Message("t/a/v", b'{"id": %d, "of": "%s", "v": 1}' % m, received=NOW + i) for i, m in enumerate(
        [(1, b"p"), (1, b"q"), (2, b"p"), (1, b"q")]
    )]  # fmt: skip

    assert Ids(both, ["id", "of"]).flags() == [LIVE, LIVE, LIVE, DUPLICATE]


@pytest.mark.parametrize("parts", [("ab", "c"), ("a", "bc"), ("1:a", "b")])
def test_ids_of_several_parts_are_not_mixed_up(parts: tuple[str, str]):
    ids = MessageIds()
    ids.remember(("a", "b", "c"), 0)

    assert not ids.came_before(parts, 1)


def test_messages_without_an_id_are_all_new():
    plain = [Message("t/a/v", b'{"v": 1}', received=NOW + i * SECOND) for i in range(3)]

    assert Ids(plain).flags() == [LIVE] * 3


def test_an_id_counts_for_an_hour():
    assert Ids([said("x"), said("x", after=3_599), said("x", after=3_600)]).flags() == [LIVE, DUPLICATE, LIVE]


def test_what_was_refused_in_part_may_come_again_whole():
    limits = said("x", v={"w": "ON", "z": 1})
    broken = replace(limits, payload=b'{"id": "x", "v": {"z": 1, "w": ["no reading"], "e": 1' + b"0" * 40 + b"}}")
    subject = Ids([broken, replace(limits, received=NOW + SECOND)])

    flags = subject.flags()

    assert len(subject.dead.kept) == 1
    assert DUPLICATE not in flags


def test_a_restart_between_two_messages_with_one_id_is_invisible():
    former = Ids([said("x"), said("y", after=1)])
    former.flags()
    subject = Ids([])
    subject.table = former.table
    decoder = Decoder([StreamConfig(name="s", topic="t/{device}/v", message_id=("id",))], LimitsConfig(), former.table,
                      counters=Counters())  # fmt: skip
    subject.feed = Feed(former.journal, decoder, former.table, dead_letters=NoDeadLetters(), counters=Counters())
    subject.feed.restore(former.feed.state())

    former.journal.append([said("x", after=2), said("z", after=3)])

    assert subject.flags() == [DUPLICATE, LIVE]


def test_the_oldest_ids_are_forgotten():
    ids = MessageIds(max_ids=3)
    for i in range(5):
        ids.remember((str(i),), i)

    assert len(ids) == 3
    assert [ids.came_before((str(i),), 5) for i in range(5)] == [False, False, True, True, True]


def test_a_lagging_consumer_is_told_of_the_same_duplicates():
    first = sent(20, 1)
    rig = Rig(MemoryJournal([first, again(first), sent(21, 2, after=3)]), ring_bytes=1)
    subscription = rig.feed.subscribe(0)
    rig.drain(limit=1)
    seen: list[int] = []
    while (step := subscription.read(0)) is not None:
        seen += step.batch.flags.tolist()

    assert seen == np.array([LIVE, DUPLICATE, LIVE]).tolist()
