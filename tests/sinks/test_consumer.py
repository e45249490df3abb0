"""Laws of the consumer: every row is written at least once or parked, in order, and the counters add up exactly."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.backoff import MAX_RETRY_AFTER_S, Backoff, retry_after_seconds
from sinks.consumer import Consumer, ConsumerState
from sinks.sink import RejectedRows
from telemetry import (
    DUPLICATE,
    HISTORICAL,
    LATE,
    RECORDED,
    RETAINED,
    Counters,
    Cursor,
    ManualClock,
    ReadingBatch,
    Rejected,
    RetryLater,
)


@dataclass(frozen=True)
class Step:
    batch: ReadingBatch
    next: int


class Journal:
    """A source over fixed rows: row i is message i; steps are cut at the given places."""

    def __init__(self, batch: ReadingBatch, cuts: list[int], offset: int = 0) -> None:
        self.batch, self.ends, self.at = batch, sorted({*cuts, len(batch)}), offset
        self.faults: list[Exception] = []

    def read(self, timeout: float) -> Step | None:
        if self.faults:
            raise self.faults.pop()
        if self.at >= len(self.batch):
            time.sleep(min(timeout, 0.001))  # as a real source, which waits for more
            return None
        end = next(e for e in self.ends if e > self.at)
        step = Step(self.batch.select(slice(self.at, end)), end)
        self.at = end
        return step


@dataclass
class FakeSink:
    """Refuses the poison values, and fails as the script says: one entry for each write."""

    name: str = "fake"
    poison: frozenset[float] = frozenset()
    known_poison: frozenset[float] = frozenset()
    script: list[str] = field(default_factory=list)
    rows: list[float] = field(default_factory=list)
    closed: bool = False

    def write(self, batch: ReadingBatch) -> None:
        assert len(batch)
        assert not (batch.flags & DUPLICATE).any()
        fault = self.script.pop(0) if self.script else ""
        if fault == "retry":
            raise RetryLater("the far side is down", 7.0)
        if fault == "bug":
            raise KeyError("a bug")
        values = batch.value.tolist()
        if fault == "half":
            self.rows += [v for v in values[: len(values) // 2] if v not in self.poison | self.known_poison]
            raise RetryLater("the far side stopped in the middle")
        known = np.isin(batch.value, list(self.known_poison))
        if known.any():
            raise RejectedRows("not representable", known, reason="unrepresentable")
        if self.poison & set(values):
            raise Rejected("field type conflict")
        self.rows += values

    def close(self) -> None:
        self.closed = True


@dataclass
class Parked:
    faults: int = 0
    rows: list[tuple[float, str]] = field(default_factory=list)

    def __call__(self, rows: ReadingBatch, reason: str) -> None:
        if self.faults:
            self.faults -= 1
            raise OSError("disk full")
        self.rows += [(v, reason) for v in rows.value.tolist()]


def rows(flags: list[int]) -> ReadingBatch:
    n = len(flags)
    return ReadingBatch.of([0] * n, list(range(n)), [float(i) for i in range(n)], flags=flags)


def consumer(sink: FakeSink, source: Journal, cursor: Cursor, counters: Counters, **more) -> Consumer:
    more.setdefault("park", Parked())
    more.setdefault("clock", ManualClock())
    return Consumer(sink, source, cursor, counters, **more)


def run_to_end(c: Consumer, source: Journal) -> None:
    while c.status.offset < len(source.batch):
        try:
            c._advance()
        except RetryLater as error:
            c._wait_after(error)


def until(condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.001)


def first_seen(values: list[float]) -> list[float]:
    return list(dict.fromkeys(values))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_row_is_written_or_parked_in_order_and_the_counters_add_up(data):
    kinds = [0, 0, LATE, LATE | RETAINED, HISTORICAL, DUPLICATE, DUPLICATE | LATE, RECORDED]
    flags = data.draw(st.lists(st.sampled_from(kinds)))
    n = len(flags)
    some = st.frozensets(st.integers(0, max(0, n - 1)).map(float), max_size=5)
    sink = FakeSink(
        poison=data.draw(some),
        known_poison=data.draw(some),
        script=data.draw(st.lists(st.sampled_from(["", "retry", "half", "bug"]), max_size=20)),
    )
    source = Journal(rows(flags), data.draw(st.lists(st.integers(1, max(1, n)), max_size=6)))
    source.faults = data.draw(st.lists(st.just(RetryLater("the journal is being reopened")), max_size=2))
    parked = Parked(faults=data.draw(st.integers(0, 2)))
    counters = Counters()
    with tempfile.TemporaryDirectory() as folder:
        cursor = Cursor(Path(folder) / "cursor")
        batch_rows = data.draw(st.integers(1, 50))
        c = consumer(sink, source, cursor, counters, park=parked, batch_rows=batch_rows)
        run_to_end(c, source)
        c._save(every_s=0)
        assert Cursor(Path(folder) / "cursor").offset == n

    fresh = [float(i) for i in range(n) if not flags[i] & DUPLICATE]
    bad = sink.poison | sink.known_poison
    skipped = {v for v in fresh if v in sink.known_poison and flags[int(v)] == RECORDED}
    assert first_seen(sink.rows) == [v for v in fresh if v not in bad]
    assert sorted(v for v, _ in parked.rows) == [v for v in fresh if v in bad - skipped]
    for value, reason in parked.rows:
        assert reason == ("not representable" if value in sink.known_poison else "field type conflict")
    good = [flags[int(v)] for v in fresh if v not in bad]
    assert counters.get("fake.stored") == good.count(0) + good.count(RECORDED)
    assert counters.get("fake.late") == sum(1 for f in good if f & LATE)
    assert counters.get("fake.other") == sum(1 for f in good if f not in (0, RECORDED) and not f & LATE)
    assert counters.get("fake.duplicate") == n - len(fresh)
    assert counters.get("fake.parked") == len(parked.rows) == c.status.rows_parked
    assert counters.get("fake.parked", "unrepresentable") == len((sink.known_poison & set(fresh)) - skipped)
    assert counters.get("fake.skipped", "unrepresentable") == counters.get("fake.skipped") == len(skipped)
    assert c.status.rows_written + c.status.rows_parked + len(skipped) == len(fresh)
    assert c.status.last_error == ""


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.lists(st.integers(1, 40), max_size=8),
    st.lists(st.tuples(st.integers(1, 6), st.booleans()), max_size=5),
)
def test_a_crash_repeats_rows_and_never_skips_any(n, cuts, crashes):
    batch = rows([0] * n)
    sink = FakeSink(script=["", "half", "", "half"])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cursor"

        class Strict(Cursor):
            def save(self, offset: int) -> None:
                assert {float(i) for i in range(offset)} <= set(sink.rows), "the cursor is ahead of the sink"
                super().save(offset)

        for steps, saved in crashes:
            cursor = Strict(path)
            c = consumer(sink, Journal(batch, cuts, cursor.offset), cursor, Counters(), batch_rows=3)
            for _ in range(steps):
                c._advance()
            if saved:
                c._save(every_s=0)
        cursor = Strict(path)
        last = Journal(batch, cuts, cursor.offset)
        run_to_end(consumer(sink, last, cursor, Counters(), batch_rows=3), last)
    assert first_seen(sink.rows) == batch.value.tolist()


def test_the_thread_carries_everything_and_stop_saves_the_cursor_and_closes_the_sink(tmp_path):
    sink, source, cursor = FakeSink(), Journal(rows([0] * 1000), list(range(10, 1000, 10))), Cursor(tmp_path / "c")
    c = consumer(sink, source, cursor, Counters(), end=lambda: 1000)
    assert c.status.lag == 1000
    c.start()
    until(lambda: c.status.lag == 0)
    assert c.stop()

    assert sink.closed
    assert Cursor(tmp_path / "c").offset == 1000
    assert c.status.state is ConsumerState.STOPPED
    assert len(sink.rows) == 1000


def test_stop_is_quick_in_the_middle_of_a_long_wait(tmp_path):
    class Down(FakeSink):
        def write(self, batch: ReadingBatch) -> None:
            raise RetryLater("the far side is down", 3000.0)

    cursor = Cursor(tmp_path / "c")
    counters = Counters()
    c = Consumer(Down(), Journal(rows([0] * 5), []), cursor, counters, park=Parked())
    c.start()
    until(lambda: c.status.state is ConsumerState.RETRYING)
    began = time.monotonic()
    assert c.stop()

    assert time.monotonic() - began < 1.0
    assert cursor.offset == 0
    assert counters.snapshot() == {}


def test_stop_does_not_wait_for_a_far_side_that_hangs(tmp_path):
    class Hangs(FakeSink):
        def write(self, batch: ReadingBatch) -> None:
            entered.append(True)
            until(lambda: bool(released))

    entered: list[bool] = []
    released: list[bool] = []
    c = Consumer(Hangs(), Journal(rows([0]), []), Cursor(tmp_path / "c"), Counters(), park=Parked())
    c.start()
    until(lambda: bool(entered))
    assert not c.stop(timeout=0.01)
    released.append(True)
    assert c.stop()


def test_a_stop_before_the_start_is_harmless(tmp_path):
    assert consumer(FakeSink(), Journal(rows([]), []), Cursor(tmp_path / "c"), Counters()).stop()


def test_one_outage_is_one_log_line_and_the_status_says_why(tmp_path, caplog):
    sink, source, clock = FakeSink(script=["retry"] * 4), Journal(rows([0] * 3), []), ManualClock()
    c = consumer(sink, source, Cursor(tmp_path / "c"), Counters(), clock=clock)
    began = clock.now()
    seen = []
    wait = c._wait_after
    c._wait_after = lambda error: (wait(error), seen.append(c.status))[0]
    with caplog.at_level(logging.INFO, "tocsin.sinks"):
        run_to_end(c, source)

    assert [r.getMessage() for r in caplog.records] == [
        "fake: the far side is down; trying again, nothing is lost",
        "fake: works again after 4 failed tries",
    ]
    assert [(s.state, s.last_error, s.attempts) for s in seen] == [
        (ConsumerState.RETRYING, "the far side is down", i) for i in (1, 2, 3, 4)
    ]
    assert c.status.last_error == ""
    assert (clock.now() - began) / 1e9 >= 4 * 7.0, "Retry-After was not honoured"


def test_a_source_that_fails_in_the_middle_loses_nothing(tmp_path):
    class Torn(Journal):
        def read(self, timeout: float) -> Step | None:
            if self.at == 4 and not self.failed:
                self.failed = True
                raise RetryLater("segment is being reopened")
            return super().read(timeout)

    source, sink = Torn(rows([0] * 10), list(range(10))), FakeSink()
    source.failed = False
    c = consumer(sink, source, Cursor(tmp_path / "c"), Counters())
    run_to_end(c, source)
    assert sink.rows == source.batch.value.tolist()


def test_a_failure_of_our_own_after_the_write_repeats_the_rows(tmp_path):
    class Failing(Counters):
        failures = 1

        def add(self, name: str, n: int = 1, reason: str = "") -> None:
            if self.failures:
                self.failures -= 1
                raise MemoryError
            super().add(name, n, reason)

    source, sink, counters = Journal(rows([0] * 10), [4]), FakeSink(), Failing()
    c = consumer(sink, source, Cursor(tmp_path / "c"), counters)
    with pytest.raises(MemoryError):
        c._advance()
    run_to_end(c, source)
    assert sink.rows == source.batch.value.tolist() * 2
    assert counters.get("fake.stored") == 10


def test_a_cursor_that_cannot_be_saved_holds_no_row_back_and_is_shown(tmp_path):
    class Full(Cursor):
        def save(self, offset: int) -> None:
            raise OSError(28, "No space left on device")

    source, sink = Journal(rows([0] * 10), []), FakeSink()
    c = consumer(sink, source, Full(tmp_path / "c"), Counters())
    run_to_end(c, source)
    c._save(every_s=0)
    assert len(sink.rows) == 10
    assert "No space left on device" in c.status.last_error


def test_backoff_doubles_up_to_its_cap_and_honours_retry_after():
    backoff = Backoff(seed=1, first_s=1.0, cap_s=8.0)
    delays = [backoff.failed() for _ in range(2000)]
    for delay, whole in zip(delays, [1, 2, 4, *[8] * 1997], strict=True):
        assert whole / 2 <= delay <= whole
    assert backoff.failed(100.0) == 100.0
    assert backoff.failed(1e12) == MAX_RETRY_AFTER_S
    backoff.succeeded()
    assert backoff.failed() <= 1.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        ("0", 0.0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after_seconds(header, now=1_700_000_000_000_000_000) == seconds
