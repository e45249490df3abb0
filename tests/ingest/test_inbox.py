"""Laws of the inbox: bounded, in order, nothing lost."""

import threading

from ingest.inbox import Delivery, Inbox
from telemetry import Message


def delivery(i: int, size: int = 0) -> Delivery:
    return Delivery(Message("t", b"x" * size, received=i), i, 1)


def test_take_gives_everything_in_order_of_arrival():
    inbox = Inbox()
    inbox.put([delivery(0), delivery(1)])
    inbox.put([delivery(2)])
    assert [d.mid for d in inbox.take(0)] == [0, 1, 2]
    assert inbox.take(0) == []


def test_a_full_inbox_refuses_until_it_is_emptied():
    inbox = Inbox(max_messages=2)
    assert inbox.put([delivery(0)], 0)
    assert inbox.put([delivery(1)], 0)
    assert not inbox.put([delivery(2)], 0)
    assert len(inbox.take(0)) == 2
    assert inbox.put([delivery(2)], 0)


def test_bytes_are_bounded_but_a_message_larger_than_the_bound_still_passes():
    inbox = Inbox(max_bytes=1000)
    assert inbox.put([delivery(0, 5000)], 0)
    assert not inbox.put([delivery(1)], 0)
    assert [d.mid for d in inbox.take(0)] == [0]


def test_put_goes_on_as_soon_as_there_is_room():
    inbox = Inbox(max_messages=1)
    inbox.put([delivery(0)])
    putter = threading.Thread(target=inbox.put, args=([delivery(1)],))
    putter.start()
    taken = []
    while len(taken) < 2:
        taken += inbox.take(10)
    putter.join()
    assert [d.mid for d in taken] == [0, 1]


def test_take_waits_for_the_first():
    inbox = Inbox()
    putter = threading.Thread(target=inbox.put, args=([delivery(0)],))
    putter.start()
    assert len(inbox.take(10)) == 1
    putter.join()


def test_interrupt_ends_one_take():
    inbox = Inbox()
    inbox.interrupt()
    assert inbox.take(10) == []
    inbox.put([delivery(0)])
    assert len(inbox.take(0)) == 1
