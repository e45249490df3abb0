"""Laws of arrivals: columns say what the messages said, and nobody is confused with the one beside it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingest.arrivals import Arrivals, as_records
from ingest.block import columns_of
from telemetry import Message
from tests.ingest.deliveries import deliveries

MESSAGES = st.lists(
    st.builds(
        Message,
        topic=st.text(max_size=3),
        payload=st.binary(max_size=3),
        qos=st.integers(0, 1),
        retain=st.booleans(),
        dup=st.booleans(),
    ),
    max_size=6,
)


def together(messages: list[Message], received: int, epoch: int = 1) -> Arrivals:
    """As they are read at once; those of QoS 1 have identifiers from 1 on."""
    arrivals = Arrivals(epoch, received)
    for i, message in enumerate(messages):
        mid = i + 1 if message.qos else 0
        single = Arrivals.of(
            Message(message.topic, message.payload, message.qos, message.retain, message.dup, mid=mid), 1
        )
        arrivals.topics += single.topics
        arrivals.payloads += single.payloads
        arrivals.flags += single.flags
        arrivals.mids += single.mids
    return arrivals


@given(st.lists(MESSAGES.filter(len), min_size=1, max_size=4))
def test_the_records_are_those_of_the_messages_in_their_order(reads: list[list[Message]]):
    arrived = [together(messages, 1_000 * i) for i, messages in enumerate(reads)]

    records, expected = as_records(arrived), columns_of([each.message for each in deliveries(arrived)])

    for column in ("received", "flags", "mids"):
        assert getattr(records, column).tolist() == getattr(expected, column).tolist()
    assert (records.topics, records.payloads) == (expected.topics, expected.payloads)
    assert records.mids.dtype == expected.mids.dtype


def test_messages_that_are_read_at_once_have_times_of_their_own():
    """Else the second of two values without a time would correct the first instead of following it."""
    arrived = together([Message("t", b"1"), Message("t", b"2"), Message("t", b"3")], 500)

    assert as_records([arrived]).received.tolist() == [500, 501, 502]


@given(MESSAGES)
def test_every_message_of_qos_1_is_acknowledged_in_order_and_no_other(messages: list[Message]):
    arrived = together(messages, 0)

    mids = [i + 1 for i, message in enumerate(messages) if message.qos]

    assert arrived.acknowledgements() == b"".join(b"\x40\x02" + mid.to_bytes(2, "big") for mid in mids)
    assert arrived.confirmable == len(mids)


@given(MESSAGES)
def test_what_nobody_sends_again_is_what_came_with_qos_0(messages: list[Message]):
    kept = deliveries([together(messages, 0).of_qos_0()])

    assert [each.message.payload for each in kept] == [message.payload for message in messages if not message.qos]
