"""Readings in a data directory, for those who look at one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rules import RuleGroup
from sinks.store import Store
from telemetry import ManualClock, Series, SeriesTable
from tests.tocsin.fake_backend import FakeBackend
from tocsin.status import Snapshot

NOW = 1_700_000_000 * 10**9
SECOND = 10**9
Readings = Mapping[Series, Sequence[tuple[float, float]]]
"""By series: (seconds before NOW, value), the oldest first."""


def stored_backend(directory: Path, readings: Readings, groups: Sequence[RuleGroup] = ()) -> FakeBackend:
    """A backend over these; its clock says NOW."""
    backend = FakeBackend(directory, lambda: Snapshot(time=NOW, started=NOW), clock=ManualClock(NOW), groups=groups)
    table = SeriesTable(backend.data.series)
    with Store(backend.data.store) as store:
        for series, rows in readings.items():
            id_ = table.add(series)
            time = np.array([NOW - round(ago * SECOND) for ago, _ in rows], np.int64)
            store.append(np.full(len(rows), id_, np.int32), time, np.array([value for _, value in rows], np.float64))
    table.sync()
    return backend
