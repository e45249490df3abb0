"""Backend: what the HTTP API, the console and terminal views look at. A pipeline that runs here, or only its files.

Here: where each of them finds what it shows. Not here: how it is shown.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TypeVar, cast

from ingest.dead_letters import DeadLetters
from rules import Alert, RuleGroup
from sinks.alert_history import AlertHistory
from sinks.store import Store
from telemetry import Clock, SeriesTable
from tocsin.data_dir import DataDir
from tocsin.devices import DeviceRow, Devices, Surroundings
from tocsin.live_events import LiveEvents
from tocsin.no_data import StreamFlow, flows, unknown_flow
from tocsin.pipeline import Pipeline
from tocsin.pipeline_status import PipelineStatus
from tocsin.staleness_file import load_staleness
from tocsin.status import Snapshot
from tocsin.stopped_status import stopped_snapshot
from tocsin.stream_record import load_streams

_LOOK_AGAIN = 10 * 10**9
_Opened = TypeVar("_Opened", Store, AlertHistory, DeadLetters)


class Backend(Protocol):
    """One tocsin. Any thread may call anything; nothing here writes, but for `dead_letters_to_change`."""

    data: DataDir
    clock: Clock
    groups: Sequence[RuleGroup]
    """The rules, as they were loaded."""
    live: LiveEvents | None
    """None: nothing runs here, so that nothing new comes."""

    @property
    def table(self) -> SeriesTable:
        """The series, up to date; raises TocsinError while there are none yet."""

    @property
    def store(self) -> Store:
        """Raises TocsinError while there is none yet, as `history` and `dead_letters` do."""

    @property
    def history(self) -> AlertHistory:
        """Alert events of the past, and how far receivers have been told."""

    @property
    def dead_letters(self) -> DeadLetters:
        """What was refused."""

    def snapshot(self) -> Snapshot:
        """Its state at this instant."""

    def alerts(self) -> Sequence[Alert]:
        """All that are pending or firing; of files alone, those that fire as far as receivers were told."""

    def rule_errors(self) -> Mapping[str, str]:
        """By rule id: why it cannot be evaluated."""

    def rule_costs(self) -> Mapping[str, float]:
        """By rule id: the share of a processor that it took in the last seconds; empty if nothing runs here."""

    def own_staleness(self) -> Mapping[int, int]:
        """By series id, where it is not the usual one: how long a sample is seen, ns."""

    def dead_letters_to_change(self) -> AbstractContextManager[DeadLetters]:
        """For those who replay or purge. Raises TocsinError."""

    def devices(self) -> Sequence[DeviceRow]:
        """All devices, by name, at most a second old; of files alone, by what is stored. Raises TocsinError."""

    def flows(self) -> Sequence[StreamFlow]:
        """How far the messages of each stream come; of files alone, only which streams there are."""


class RunningBackend:
    """A pipeline of this process."""

    def __init__(self, pipeline: Pipeline, status: PipelineStatus) -> None:
        self._pipeline, self._status = pipeline, status
        self.data, self.clock = pipeline.data, pipeline.clock
        self.groups: Sequence[RuleGroup] = pipeline.groups
        self.live: LiveEvents | None = pipeline.live

    @property
    def table(self) -> SeriesTable:
        return self._pipeline.table

    @property
    def store(self) -> Store:
        return self._pipeline.store

    @property
    def history(self) -> AlertHistory:
        return self._pipeline.outbox

    @property
    def dead_letters(self) -> DeadLetters:
        return self._pipeline.dead_letters

    def dead_letters_to_change(self) -> AbstractContextManager[DeadLetters]:
        return nullcontext(self.dead_letters)

    def snapshot(self) -> Snapshot:
        return self._status.snapshot()

    def alerts(self) -> Sequence[Alert]:
        return self._pipeline.evaluation.active()

    def rule_errors(self) -> Mapping[str, str]:
        return self._pipeline.evaluation.errors

    def rule_costs(self) -> Mapping[str, float]:
        return self._pipeline.evaluation.costs()

    def own_staleness(self) -> Mapping[int, int]:
        return self._pipeline.own_staleness()

    def devices(self) -> Sequence[DeviceRow]:
        around = Surroundings(
            stored=lambda ids: self.store.latest(ids)[0],
            staleness=self.own_staleness(),
            streams=self._pipeline.streams_of_series,
            firing=_firing(self.alerts()),
        )
        return self._pipeline.devices.rows(self.clock.now(), around)

    def flows(self) -> Sequence[StreamFlow]:
        return flows(self.snapshot(), self._pipeline.readings_by_stream())


class StoredBackend:
    """The files of a tocsin that need not run; opened when they are first asked for."""

    def __init__(self, data: DataDir, clock: Clock, groups: Sequence[RuleGroup] = ()) -> None:
        self.data, self.clock, self.groups = data, clock, groups
        self.live: LiveEvents | None = None
        self._table: SeriesTable | None = None
        self._devices: Devices | None = None
        self._opening = threading.RLock()
        self._opened: dict[Path, Store | AlertHistory | DeadLetters] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for opened in self._opened.values():
            opened.close()

    @property
    def table(self) -> SeriesTable:
        with self._opening:
            if self._table is None:
                self._table = SeriesTable(self.data.require(self.data.series, "series"), read_only=True)
            else:
                self._table.refresh()
            return self._table

    @property
    def store(self) -> Store:
        return self._once(self.data.require(self.data.store, "readings"), lambda path: Store(path, read_only=True))

    @property
    def history(self) -> AlertHistory:
        return self._once(self.data.require(self.data.alerts, "alerts"), AlertHistory)

    @property
    def dead_letters(self) -> DeadLetters:
        path = self.data.require(self.data.dead_letters, "dead letters")
        return self._once(path, lambda path: DeadLetters(path, read_only=True))

    @contextmanager
    def dead_letters_to_change(self) -> Iterator[DeadLetters]:
        letters = DeadLetters(self.data.require(self.data.dead_letters, "dead letters"))
        try:
            yield letters
        finally:
            letters.close()

    def snapshot(self) -> Snapshot:
        return stopped_snapshot(self.data, now=self.clock.now())

    def alerts(self) -> Sequence[Alert]:
        firing = self.history.firing() if self.data.alerts.exists() else []
        return [Alert(e.rule, e.labels, e.annotations, "firing", e.starts_at, e.value) for e in firing]

    def rule_errors(self) -> Mapping[str, str]:
        return {}

    def rule_costs(self) -> Mapping[str, float]:
        return {}

    def own_staleness(self) -> Mapping[int, int]:
        return load_staleness(self.data)

    def devices(self) -> Sequence[DeviceRow]:
        around = Surroundings(
            stored=lambda ids: self.store.latest(ids)[0],
            staleness=self.own_staleness(),
            firing=_firing(self.alerts()),
        )
        table = self.table
        with self._opening:
            if self._devices is None:
                self._devices = Devices(table, look_again=_LOOK_AGAIN)
        return self._devices.rows(self.clock.now(), around)

    def flows(self) -> Sequence[StreamFlow]:
        streams, _ = load_streams(self.data)
        return [unknown_flow(stream.name, stream.topic) for stream in streams]

    def _once(self, path: Path, open_: Callable[[Path], _Opened]) -> _Opened:
        with self._opening:
            if path not in self._opened:
                self._opened[path] = open_(path)
            return cast("_Opened", self._opened[path])


def _firing(alerts: Sequence[Alert]) -> Mapping[str, int]:
    """How many fire, by device."""
    return Counter(dict(alert.labels).get("device", "") for alert in alerts if alert.state == "firing")
