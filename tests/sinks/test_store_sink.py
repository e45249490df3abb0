"""What the store's sink writes, and that its thread compacts and retains."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from sinks.compaction import Layout
from sinks.consumer import Consumer, ConsumerState
from sinks.sink import Sink
from sinks.store import Store
from sinks.store_sink import StoreConfig, StoreSink
from telemetry import (
    DUPLICATE,
    HISTORICAL,
    LATE,
    RETAINED,
    Counters,
    Cursor,
    ManualClock,
    ReadingBatch,
    RetryLater,
)

NOW = ManualClock().now()
TINY = Layout(block_rows=8, hot_rows=10, fan=2)


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, "did not happen within 10 s"
        threading.Event().wait(0.005)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.db", layout=TINY)


def test_duplicates_are_left_out_and_all_other_rows_are_durable_on_return(store: Store):
    sink: Sink = StoreSink(store, retention=0, clock=ManualClock())
    flags = [0, LATE, RETAINED, HISTORICAL, DUPLICATE, LATE | DUPLICATE]

    sink.write(ReadingBatch.of([1] * 6, [10, 9, 8, 7, 10, 9], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], flags=flags))

    with Store(store.path, read_only=True) as viewer:
        read_time, value = viewer.read(1)
    assert read_time.tolist() == [7, 8, 9, 10]
    assert value.tolist() == [4.0, 3.0, 2.0, 1.0]
    sink.close()


def test_writing_a_batch_again_changes_nothing(store: Store):
    sink = StoreSink(store, retention=0, clock=ManualClock())
    batch = ReadingBatch.of([1, 2, 1], [1, 1, 2], [1.0, 2.0, 3.0])
    sink.write(batch)
    sink.write(batch.select(slice(0, 1)))
    sink.write(batch)
    sink.write(ReadingBatch.empty())

    assert store.count() == 3
    sink.close()


def test_the_thread_compacts_what_is_written(store: Store):
    sink = StoreSink(store, retention=0, clock=ManualClock(), pause=0.01)
    for i in range(20):
        sink.write(ReadingBatch.of([1, 2, 3], [i] * 3, [0.5] * 3))

    eventually(lambda: store.stats().log_rows < 10)

    assert store.count() == 60
    sink.close()


def test_the_thread_forgets_what_is_older_than_the_retention(store: Store):
    store.append(np.array([1, 1], np.int32), np.array([NOW - 100, NOW - 10]), np.array([1.0, 2.0]))
    sink = StoreSink(store, retention=50, clock=ManualClock(NOW))

    eventually(lambda: store.count() == 1)

    assert store.span() == (NOW - 10, NOW - 10)
    sink.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RetryLater("the disk is full"), "compacting the store: the disk is full"),
        (KeyError("a bug"), "compacting the store: unexpected KeyError: 'a bug'"),
    ],
)
def test_a_failing_compaction_is_told_once_and_tried_again_and_writing_goes_on(
    store: Store, caplog: pytest.LogCaptureFixture, error: Exception, words: str
):
    class Failing(Store):
        tries = 0

        def compact(self, *, flush: bool = False) -> bool:
            self.tries += 1
            raise error

    store.close()
    failing = Failing(store.path, layout=TINY)
    with caplog.at_level(logging.WARNING, "tocsin.sinks"):
        sink = StoreSink(failing, retention=0, clock=ManualClock(), pause=0.001)
        sink.write(ReadingBatch.of([1], [1], [1.0]))
        eventually(lambda: failing.tries > 3)
        sink.close()

    assert [record.getMessage() for record in caplog.records] == [words]


@dataclass(frozen=True)
class Step:
    batch: ReadingBatch
    next: int


class Steps:
    """A source over `count` steps of a hundred rows."""

    def __init__(self, count: int) -> None:
        values = np.random.default_rng(1).random(100 * count)
        self.batch = ReadingBatch.of([i % 50 for i in range(100 * count)], list(range(100 * count)), values.tolist())
        self.steps = [Step(self.batch.select(slice(100 * i, 100 * i + 100)), i + 1) for i in range(count)]
        self.at = 0

    def read(self, timeout: float) -> Step | None:
        if self.at == len(self.steps):
            time.sleep(min(timeout, 0.001))
            return None
        self.at += 1
        return self.steps[self.at - 1]


def carried(
    store: Store, tmp_path: Path, trouble: Callable[[], None], cure: Callable[[], None], words: str
) -> Consumer:
    """A hundred steps through a consumer, with trouble in the middle; the consumer, when all is stored exactly once."""
    steps, counters = Steps(100), Counters()
    sink = StoreSink(store, retention=0, clock=ManualClock(), pause=0.001)
    consumer = Consumer(
        sink, steps, Cursor(tmp_path / "cursor"), counters, park=never_parked, end=lambda: 100, batch_rows=100
    )
    trouble()
    consumer.start()
    eventually(lambda: words in consumer.status.last_error)
    assert consumer.status.state is ConsumerState.RETRYING
    assert consumer.status.lag > 0
    cure()
    eventually(lambda: consumer.status.offset == 100)
    assert counters.snapshot() == {("store.stored", ""): 10_000}
    assert consumer.status.last_error == ""
    assert store.count() == 10_000
    time_of_7, value_of_7 = store.read(7)
    mine = steps.batch.select(steps.batch.series == 7)
    assert (time_of_7.tolist(), value_of_7.tolist()) == (mine.time.tolist(), mine.value.tolist())
    assert consumer.stop()
    return consumer


def never_parked(rows: ReadingBatch, why: str) -> None:
    raise AssertionError(f"{len(rows)} rows were parked: {why}")


def test_a_full_disk_stops_the_store_and_its_compaction_until_there_is_room(tmp_path: Path):
    store = Store(tmp_path / "store.db", layout=Layout(block_rows=64, hot_rows=200, fan=2))

    def set_pages(pages: int) -> None:
        with store._file._writing:
            store._file._writer.execute(f"pragma max_page_count = {pages}")

    carried(store, tmp_path, lambda: set_pages(12), lambda: set_pages(100_000), "is full: free some space or shorten")


def test_a_store_that_another_program_has_locked_is_waited_for(tmp_path: Path):
    store = Store(tmp_path / "store.db", layout=TINY)
    store._file._writer.execute("pragma busy_timeout = 10")
    other = sqlite3.connect(store.path, isolation_level=None)
    try:
        carried(
            store,
            tmp_path,
            lambda: other.execute("begin immediate") and None,
            lambda: other.execute("rollback") and None,
            "another program keeps the store",
        )
    finally:
        other.close()


def test_the_configuration_has_defaults_and_refuses_what_it_does_not_know():
    assert StoreConfig() == StoreConfig(retention="30d")
    assert StoreConfig(retention="0").retention == 0
    assert StoreConfig(retention="90m").retention == 90 * 60 * 10**9
    for wrong in ({"retention": "3 weeks"}, {"retention": -1}, {"size": 3}):
        with pytest.raises(ValidationError):
            StoreConfig.model_validate(wrong)
