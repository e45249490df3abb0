"""Laws of the inbox: bounded, in order, nothing lost."""

import threading

from ingest.arrivals import Arrivals
from ingest.inbox import Inbox
from telemetry import Message


def one(i: int, size: int = 0) -> Arrivals:
    return Arrivals.of(Message("t", b"x" * size, received=i), 1)


def numbers(taken: list[Arrivals]) -> list[int]:
    return [each.received for each in taken]


def test_take_gives_everything_in_order_of_arrival():
    inbox = Inbox()
    inbox.put(one(0))
    inbox.put(one(1))
    inbox.put(one(2))
    assert numbers(inbox.take(0)) == [0, 1, 2]
    assert inbox.take(0) == []


def test_a_full_inbox_refuses_until_it_is_emptied():
    inbox = Inbox(max_messages=2)
    assert inbox.put(one(0), 0)
    assert inbox.put(one(1), 0)
    assert not inbox.put(one(2), 0)
    assert len(inbox.take(0)) == 2
    assert inbox.put(one(2), 0)


def test_bytes_are_bounded_but_a_message_larger_than_the_bound_still_passes():
    inbox = Inbox(max_bytes=1000)
    assert inbox.put(one(0, 5000), 0)
    assert not inbox.put(one(1), 0)
    assert numbers(inbox.take(0)) == [0]


def test_put_goes_on_as_soon_as_there_is_room():
    inbox = Inbox(max_messages=1)
    inbox.put(one(0))
    putter = threading.Thread(target=inbox.put, args=(one(1),))
    putter.start()
    taken = []
    while len(taken) < 2:
        taken += inbox.take(10)
    putter.join()
    assert numbers(taken) == [0, 1]


def test_take_waits_for_the_first():
    inbox = Inbox()
    putter = threading.Thread(target=inbox.put, args=(one(0),))
    putter.start()
    assert len(inbox.take(10)) == 1
    putter.join()


def test_interrupt_ends_one_take():
    inbox = Inbox()
    inbox.interrupt()
    assert inbox.take(10) == []
    inbox.put(one(0))
    assert len(inbox.take(0)) == 1
