"""Laws of the answer to "connected, but no data: why?"."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tocsin.no_data import StreamFlow, flows, unknown_flow
from tocsin.status import JournalRow, SessionRow, SinkRow, Snapshot, StreamRow

NOW = 1_700_000_000 * 10**9
SESSION = SessionRow(url="mqtt://b:1883", state="connected", since=NOW)
ROW = StreamRow(name="plant", topic="plant/{device}/x", messages=5, rejected=0, last_message=NOW, guarantee="G2")
STORE = SinkRow(name="store", state="running", lag=0, written=9)
WELL = Snapshot(time=NOW, started=NOW, session=SESSION, streams=(ROW,), sinks=(STORE,))


def flow_of(snapshot: Snapshot, stored: int = 9) -> StreamFlow:
    [flow] = flows(snapshot, {"plant": stored})
    return flow


def counted(**by_reason: int) -> Snapshot:
    counters: dict[str, Any] = {f"ingest.{name}_of_stream": {"plant": n, "other": 99} for name, n in by_reason.items()}
    return replace(WELL, counters=counters)


def test_when_all_is_well_nothing_is_said() -> None:
    flow = flow_of(WELL)
    assert flow.why == ""
    assert (flow.seen, flow.decoded, flow.matched, flow.stored) == (5, 5, 5, 9)


def test_messages_are_counted_as_far_as_they_come() -> None:
    flow = flow_of(counted(refused=2, barren=1))
    assert (flow.seen, flow.decoded, flow.matched) == (5, 3, 2)


def _row(**changed: Any) -> Snapshot:
    return replace(WELL, streams=(replace(ROW, **changed),))


@pytest.mark.parametrize(
    ("snapshot", "stored", "why"),
    [
        (replace(WELL, journal=JournalRow(start=0, end=1, bytes=1, error="full")), 9, "the journal cannot be written"),
        (
            replace(WELL, session=replace(SESSION, state="refused", last_error="bad")),
            9,
            "not connected to mqtt://b:1883",
        ),
        (_row(messages=0), 0, "an earlier stream takes them"),
        (_row(messages=0, last_message=0), 0, "no message has come on plant/{device}/x"),
        (_row(messages=0, last_message=0, guarantee="none", notes=("no right to read",)), 0, "no right to read"),
        (counted(refused=5), 0, "all 5 messages were refused"),
        (counted(barren=5), 0, "none of 5 messages has a field that the stream wants"),
        (counted(refused=2, barren=3), 0, "none of 3 messages"),
        (WELL, 0, "only readings that are not stored"),
        (replace(WELL, sinks=(replace(STORE, state="retrying", error="disk full"),)), 9, "the store takes nothing now"),
        (_row(rejected=3, last_error="bad_time: late"), 9, "3 of its readings were refused, the last ones because of"),
    ],
)
def test_the_first_thing_that_stops_the_messages_is_named(snapshot: Snapshot, stored: int, why: str) -> None:
    assert why in flow_of(snapshot, stored).why


def test_of_a_tocsin_that_does_not_run_it_says_that() -> None:
    assert "does not run" in unknown_flow("plant", "plant/#").why
