"""Laws of upkeep: what is deleted is what nobody would read again after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tocsin.pipeline_rig import prepare, receive, running, settle, until


def test_the_journal_is_kept_for_what_stands_in_the_files_of_its_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = {"segment_bytes": 4096, "retention_bytes": 0}
    pipeline = prepare(tmp_path, journal=journal, receivers=[])
    [consumer], [cursor] = pipeline.consumers, pipeline._cursors
    monkeypatch.setattr(cursor, "save", lambda offset: None)
    with running(pipeline):
        receive(pipeline, *range(300))
        settle(pipeline)
        until(lambda: consumer.status.offset >= 300)
        pipeline.evaluation.snapshot_offset = pipeline.journal.end  # as after two snapshots
        pipeline.tend()
        assert cursor.offset == pipeline.journal.start == 0, "after a crash, the store would go on from there"
        cursor.offset = consumer.status.offset
        pipeline.tend()
        assert pipeline.journal.start > 0
        assert pipeline.room.held == 0
