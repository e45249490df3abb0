"""Laws of the second try: what a sink takes by now is written, what it refuses again is told, nobody else waits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.second_try import SecondTry
from telemetry import LATE, Counters, Cursor, ReadingBatch
from tests.sinks.test_consumer import FakeSink, Journal, consumer, first_seen, rows

Told = list[tuple[list[float], str]]


def telling(told: list[Told], *, faults: int = 0):
    """A `Done` that remembers, and fails at first."""
    left = [faults]

    def done(refused: Sequence[tuple[ReadingBatch, str]]) -> None:
        if left[0]:
            left[0] -= 1
            raise OSError("disk full")
        told.append([(part.value.tolist(), why) for part, why in refused])

    return done


def again(n: int, *, first: float = 100.0) -> ReadingBatch:
    """n rows that were parked."""
    return ReadingBatch.of(
        [0] * n, list(range(n)), [first + i for i in range(n)], flags=[LATE * (i % 2) for i in range(n)]
    )


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.frozensets(st.integers(100, 111).map(float), max_size=4),
    st.frozensets(st.integers(100, 111).map(float), max_size=4),
    st.lists(st.sampled_from(["", "", "retry", "half", "bug"]), max_size=12),
    st.integers(0, 2),
)
def test_each_row_is_written_or_told_and_the_counters_add_up(tmp_path_factory, n, new, poison, known, script, faults):
    sink, counters = FakeSink(poison=poison, known_poison=known, script=script), Counters()
    source = Journal(rows([0] * new), [3, 6])
    c = consumer(sink, source, Cursor(tmp_path_factory.mktemp("c") / "c"), counters)
    c.second_try = SecondTry("fake", counters, pause_s=0)
    told: list[Told] = []
    lot = again(n)
    assert c.second_try.offer(lot, telling(told, faults=faults))
    assert not c.second_try.offer(lot, telling([])), "one at a time"
    assert c.waiting == n
    for _ in range(200):
        c._advance()
        if not c.second_try.waiting and c.status.offset == new:
            break
    [refused] = told
    bad = {value: why for values, why in refused for value in values}
    expected = (poison | known) & set(lot.value.tolist())
    assert set(bad) == expected
    assert all(why == ("not representable" if value in known else "field type conflict") for value, why in bad.items())
    written = [v for v in first_seen(sink.rows) if v >= 100]
    assert written == [v for v in lot.value.tolist() if v not in expected]
    assert [v for v in first_seen(sink.rows) if v < 100] == source.batch.value.tolist()
    assert counters.get("fake.replayed") == n
    assert counters.get("fake.parked") == len(expected)
    assert counters.get("fake.late") == sum(1 for v in written if v % 2)
    assert counters.get("fake.stored") == new + sum(1 for v in written if not v % 2)
    assert c.waiting == 0
    assert c.status.last_error == ""


def test_they_are_written_before_new_rows(tmp_path: Path):
    sink = FakeSink()
    c = consumer(sink, Journal(rows([0] * 3), []), Cursor(tmp_path / "c"), Counters())
    c.second_try.offer(again(2), telling([]))
    c._advance()
    assert sink.rows == [100, 101, 0, 1, 2]


def test_new_rows_do_not_wait_for_a_lot_that_cannot_be_written(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    sink = FakeSink(script=["retry"])
    c = consumer(sink, Journal(rows([0] * 3), []), Cursor(tmp_path / "c"), Counters())
    told: list[Told] = []
    c.second_try.offer(again(2), telling(told))
    c._advance()
    assert (sink.rows, told) == ([0, 1, 2], [])
    assert c.status.last_error == "points to be tried again wait: the far side is down"
    c._advance()
    assert told == [], "it pauses"
    assert [record.getMessage() for record in caplog.records] == [
        "fake: points to be tried again wait: the far side is down"
    ]


def test_a_stop_in_the_middle_tells_nobody(tmp_path: Path):
    sink = FakeSink()
    c = consumer(sink, Journal(rows([]), []), Cursor(tmp_path / "c"), Counters())
    told: list[Told] = []
    c.second_try.offer(again(2), telling(told))
    c.stop()
    c.second_try.advance(c._write, stopped=c._stop.is_set)
    assert (sink.rows, told) == ([], [])
