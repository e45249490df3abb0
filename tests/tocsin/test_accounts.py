"""Laws of the accounts: they balance, and a row that is lost on purpose is missing in the books of that very stage."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.block import TICK, Records
from telemetry import ReadingBatch, RetryLater
from tests.tocsin.pipeline_rig import prepare, receive, running, settle, unbalanced, until
from tocsin.http.metrics import COUNTERS
from tocsin.pipeline import Pipeline

OF_STREAMS = {f"ingest.{what}" for what in ("of_stream", "rejected_of_stream", "refused_of_stream", "barren_of_stream")}
VALUES = (40, 60, 70, 30, 45)


def test_every_stage_balances_while_it_works_and_afterwards(tmp_path: Path) -> None:
    with running(prepare(tmp_path)) as pipeline:
        receive(pipeline, *VALUES)
        receive(pipeline, 1, 2, topic="$SYS/x")
        receive(pipeline, 1, topic="nobody/takes/this")
        settle(pipeline)
        assert unbalanced(pipeline) == {}
        rows = {row.stage: dict(row.parts) | {"received": row.received} for row in pipeline.accounts.rows()}
    assert list(rows) == ["session", "journal", "messages", "readings", "evaluation", "store", "log"]
    assert rows["session"]["qos 0"] == rows["messages"]["received"] == 8
    assert rows["messages"] == {"received": 8, "decoded": 5, "rejected": 1, "empty": 0, "ignored": 2}
    assert rows["readings"]["live"] == rows["evaluation"]["evaluated"] == rows["store"]["stored"] == 5
    assert rows["log"] == {"received": 2, "delivered": 2, "dead": 0, "in flight": 0}


def test_the_causes_of_what_was_refused_are_named_and_sum_up(tmp_path: Path) -> None:
    with running(prepare(tmp_path)) as pipeline:
        receive(pipeline, 1, 2, topic="nobody/takes/this")
        settle(pipeline)
        row = next(row for row in pipeline.accounts.rows() if row.stage == "readings")
    assert row.causes["rejected"] == {"unknown_topic": 2}
    assert dict(row.parts)["rejected"] == 2


def lose_in_session(p: Pipeline, _: list[bool]) -> None:
    take = p.receiver._inbox.take
    p.receiver._inbox.take = lambda timeout: take(timeout)[1:]  # type: ignore[method-assign]  # a mutant


def lose_in_journal(p: Pipeline, _: list[bool]) -> None:
    append = p.journal.append_columns

    def mutant(r: Records) -> Any:
        return append(Records(0, r.received[1:], r.flags[1:], r.topics[1:], r.payloads[1:], r.mids[1:]))

    p.journal.append_columns = mutant  # type: ignore[method-assign]  # a mutant


def lose_a_message_in_the_head(p: Pipeline, once: list[bool]) -> None:
    decode = p._decoder.decode

    def mutant(records: Records, **more: Any) -> Any:
        messages = [i for i, flag in enumerate(records.flags.tolist()) if not flag & TICK]
        if messages and once:
            once.clear()
            flags = records.flags.copy()
            flags[messages[0]] |= TICK
            records = replace(records, flags=flags)
        return decode(records, **more)

    p._decoder.decode = mutant  # type: ignore[method-assign]  # a mutant


def lose_a_reading_in_the_head(p: Pipeline, once: list[bool]) -> None:
    decode = p._decoder.decode

    def mutant(records: Records, **more: Any) -> Any:
        decoded = decode(records, **more)
        return replace(decoded, batch=_without_one(decoded.batch, once))

    p._decoder.decode = mutant  # type: ignore[method-assign]  # a mutant


def lose_in_evaluation(p: Pipeline, once: list[bool]) -> None:
    poll = p.feed.poll

    def mutant(timeout: float, **more: Any) -> Any:
        items = poll(timeout, **more)
        return [_without_one(item, once) if isinstance(item, ReadingBatch) else item for item in items]

    p.feed.poll = mutant  # type: ignore[method-assign]  # a mutant


def lose_before_the_sink_reads(p: Pipeline, once: list[bool]) -> None:
    source: Any = p.consumers[0]._source
    _lose_in_steps(source._subscription, once)


def lose_before_the_sink_writes(p: Pipeline, once: list[bool]) -> None:
    _lose_in_steps(p.consumers[0]._source, once)


def lose_in_the_outbox(p: Pipeline, _: list[bool]) -> None:
    p.outbox._add_deliveries = lambda *_: None  # type: ignore[method-assign]  # a mutant


def _lose_in_steps(source: Any, once: list[bool]) -> None:
    read = source.read

    def mutant(timeout: float) -> Any:
        step = read(timeout)
        return step if step is None else replace(step, batch=_without_one(step.batch, once))

    source.read = mutant


def _without_one(batch: ReadingBatch, once: list[bool]) -> ReadingBatch:
    if not len(batch) or not once:
        return batch
    once.clear()
    return batch.select(slice(1, None))


@pytest.mark.parametrize(
    ("lose", "stage"),
    [
        (lose_in_session, "session"),
        (lose_in_journal, "journal"),
        (lose_a_message_in_the_head, "journal"),
        (lose_a_reading_in_the_head, "readings"),
        (lose_in_evaluation, "evaluation"),
        (lose_before_the_sink_reads, "store"),
        (lose_before_the_sink_writes, "store"),
        (lose_in_the_outbox, "log"),
    ],
)
def test_what_is_lost_is_missing_where_it_was_lost(
    tmp_path: Path, lose: Callable[[Pipeline, list[bool]], None], stage: str
) -> None:
    pipeline = prepare(tmp_path)
    lose(pipeline, [True])
    with running(pipeline):
        receive(pipeline, *VALUES)
        settle(pipeline)
        until(lambda: stage in unbalanced(pipeline))
        found = unbalanced(pipeline)
    assert list(found) == [stage]
    assert found[stage].missing >= 1


def test_what_waits_for_a_full_disk_is_in_flight_and_not_missing(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    full = [True]
    sync, publish = pipeline.table.sync, pipeline.outbox.publish

    def no_sync() -> None:
        if full and pipeline.feed.undelivered_rows:
            raise OSError(28, "No space left on device")
        sync()

    def no_publish(*events: Any, **more: Any) -> Any:
        if full:
            raise RetryLater("the disk is full")
        return publish(*events, **more)

    pipeline.table.sync = no_sync  # type: ignore[method-assign]  # a full disk
    pipeline.outbox.publish = no_publish  # type: ignore[method-assign]  # a full disk
    with running(pipeline):
        receive(pipeline, *VALUES)
        until(lambda: pipeline.feed.undelivered_rows > 0)
        assert unbalanced(pipeline) == {}
        pipeline.table.sync = sync  # type: ignore[method-assign]  # as it was
        until(lambda: pipeline.evaluation.waiting > 0 or "disk is full" in pipeline.evaluation.last_error)
        assert unbalanced(pipeline) == {}
        full.clear()
        settle(pipeline)
        assert unbalanced(pipeline) == {}


def test_a_sink_that_lags_has_in_flight_what_it_has_not_written(tmp_path: Path) -> None:
    pipeline = prepare(tmp_path)
    sink, down = pipeline.consumers[0].sink, [True]
    write = sink.write

    def mutant(batch: ReadingBatch) -> None:
        if down:
            raise RetryLater("it is down", 0.05)
        write(batch)

    sink.write = mutant  # type: ignore[method-assign]  # a sink that is down
    with running(pipeline):
        receive(pipeline, *VALUES)
        until(lambda: pipeline.feed.offset >= pipeline.journal.end)
        receive(pipeline, *VALUES)
        until(lambda: pipeline.counters.get("rules.evaluated") == 10)
        assert unbalanced(pipeline) == {}
        row = next(row for row in pipeline.accounts.rows() if row.stage == "store")
        assert dict(row.parts)["in flight"] == row.received == 10
        down.clear()
        settle(pipeline)
        assert unbalanced(pipeline) == {}


def test_after_a_restart_the_books_begin_anew_and_balance(tmp_path: Path) -> None:
    with running(prepare(tmp_path)) as pipeline:
        receive(pipeline, *VALUES)
        settle(pipeline)
    pipeline = prepare(tmp_path)
    with running(pipeline):
        settle(pipeline)
        receive(pipeline, 99)
        settle(pipeline)
        assert unbalanced(pipeline) == {}
        assert next(row for row in pipeline.accounts.rows() if row.stage == "store").received == 1


def test_no_counter_is_kept_where_nobody_sees_it(tmp_path: Path) -> None:
    """Every counter is in the accounts, or stands by itself in /metrics."""
    accounted: set[str] = set()
    pipeline = prepare(tmp_path)
    try:
        counters = pipeline.counters
        get, reasons = counters.get, counters.reasons
        counters.get = lambda name, *more: accounted.add(name) or get(name, *more)  # type: ignore[method-assign, func-returns-value]  # listens
        counters.reasons = lambda name: accounted.add(name) or reasons(name)  # type: ignore[method-assign, func-returns-value]  # listens
        pipeline.accounts.rows()
    finally:
        pipeline.close()
    kept = {name for name in _counter_names() if not name.startswith("{")}
    assert kept - accounted - COUNTERS.keys() - OF_STREAMS == set()
    assert COUNTERS.keys() - kept - {"alerts.firing", "alerts.resolved"} == set()


def _counter_names() -> set[str]:
    rooms = (Path(__file__).parents[2] / room for room in ("ingest", "rules", "sinks", "tocsin"))
    sources = [path.read_text() for room in rooms for path in room.rglob("*.py")]
    added = re.compile(r"""add\(\s*"((?:ingest|rules|journal|alerts)\.[a-z_]+)\"""")
    return {name for text in sources for name in added.findall(text)}
