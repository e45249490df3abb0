"""Laws of the audit: what only passes by is no imbalance, what stays is one, and is told to every receiver."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinks.outbox import Outbox
from telemetry import Counters, ManualClock
from tests.tocsin.pipeline_rig import prepare, receive, running, until
from tests.tocsin.test_accounts import lose_before_the_sink_writes
from tocsin import audit
from tocsin.audit import Audit
from tocsin.own_alerts import OwnAlerts, journal_unwritable
from tocsin.status import AccountRow


class Books:
    """What the next readings of the accounts give: how many rows of the store are missing."""

    def __init__(self, *missing: int) -> None:
        self.missing = list(missing)

    def __call__(self) -> tuple[AccountRow, ...]:
        missing = self.missing.pop(0) if len(self.missing) > 1 else self.missing[0]
        return (
            AccountRow("readings", 10, (("live", 10),)),
            AccountRow("store", 10, (("stored", 10 - missing), ("in flight", 0))),
        )


def audited(tmp_path: Path, books: Books, *, tell: bool = True) -> tuple[Audit, Outbox]:
    outbox = Outbox(tmp_path / "alerts.db", ["log"])
    own = OwnAlerts(outbox, counters=Counters())
    return Audit(books, lambda: [journal_unwritable("the disk is full")], own, clock=ManualClock(), tell=tell), outbox


def test_what_balances_in_one_of_ten_looks_is_sound(tmp_path: Path) -> None:
    found, outbox = audited(tmp_path, Books(*([*[1] * 9, 0] * 8), 0))
    for _ in range(8):
        found.look()
        assert found.imbalances == {}
    outbox.close()


def test_what_balances_in_every_fifth_second_is_sound(tmp_path: Path) -> None:
    found, outbox = audited(tmp_path, Books(*([*[1] * 40, 0] * 3), 0))
    for _ in range(15):
        found.look()
        assert found.imbalances == {}
    outbox.close()


@pytest.mark.parametrize("missing", [1, -1])
def test_what_does_not_balance_for_five_seconds_is_told_until_it_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, missing: int
) -> None:
    books = Books(missing)
    found, outbox = audited(tmp_path, books)
    for _ in range(4):
        found.look()
    assert found.imbalances == {}
    for _ in range(3):
        found.look()
    assert list(found.imbalances) == ["store"]
    assert caplog.text.count("the books do not balance: store: 10 ≠") == 1
    (alert,) = outbox.firing()
    labels = {
        "alertname": "TocsinAccountingImbalance",
        "component": "accounting",
        "severity": "critical",
        "stage": "store",
    }
    assert (dict(alert.labels), alert.value) == (labels, missing)
    books.missing = [0]
    found.look()
    assert found.imbalances == {}
    assert "the books of store balance again" in caplog.text
    outbox.close()


def test_without_own_alerts_nobody_is_told_and_the_imbalance_is_seen_all_the_same(tmp_path: Path) -> None:
    found, outbox = audited(tmp_path, Books(1), tell=False)
    for _ in range(6):
        found.look()
    assert list(found.imbalances) == ["store"]
    assert outbox.firing() == []
    outbox.close()


def test_a_row_that_a_pipeline_loses_becomes_an_alert_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "_EVERY_SECONDS", 0.05)
    pipeline = prepare(tmp_path)
    lose_before_the_sink_writes(pipeline, [True])
    with running(pipeline):
        receive(pipeline, 40)
        until(lambda: bool(pipeline.audit.imbalances))
        until(lambda: len(pipeline.own_alerts.firing) == 1)
        (alert,) = pipeline.own_alerts.firing
        assert "store: 1 ≠ nothing" in dict(alert.annotations)["description"]


def test_a_sound_pipeline_raises_nothing_however_busy_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_EVERY_SECONDS", 0.01)
    with running(prepare(tmp_path)) as pipeline:
        for n in range(300):
            receive(pipeline, *[n % 90] * 5)
            assert pipeline.audit.imbalances == {}
