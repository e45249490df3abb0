"""A tocsin for the HTTP side whose state a test sets, over real files in a directory of the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rules import Alert, RuleGroup
from telemetry import Clock, SystemClock
from tocsin.backend import StoredBackend
from tocsin.data_dir import DataDir
from tocsin.live_events import LiveEvents
from tocsin.status import Snapshot


class FakeBackend(StoredBackend):
    """Series, store, alert history and dead letters are those of the directory; the rest is what it is given."""

    def __init__(
        self,
        directory: Path,
        snapshot: Callable[[], Snapshot],
        *,
        clock: Clock | None = None,
        groups: Sequence[RuleGroup] = (),
    ) -> None:
        super().__init__(DataDir(directory), clock or SystemClock(), groups)
        self._told = snapshot
        self.live = LiveEvents()
        self.active: list[Alert] = []
        self.errors: dict[str, str] = {}

    def snapshot(self) -> Snapshot:
        return self._told()

    def alerts(self) -> Sequence[Alert]:
        return self.active

    def rule_errors(self) -> Mapping[str, str]:
        return self.errors
