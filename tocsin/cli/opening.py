"""What viewing commands open: the data of a tocsin that may be running, or not. Everything read-only."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from sinks.store import Store
from telemetry import Series, SeriesTable
from tocsin import data_dir
from tocsin.config_file import data_dir_of
from tocsin.data_dir import DataDir


def chosen_data(config_file: Path | None, directory: Path | None) -> DataDir:
    """Where the data is: as said, else where ./tocsin.yaml says, else ./tocsin-data."""
    if directory is not None:
        return DataDir(directory)
    if config_file is None and Path("tocsin.yaml").exists():
        config_file = Path("tocsin.yaml")
    return DataDir(data_dir.DEFAULT) if config_file is None else data_dir_of(config_file)


def open_series(data: DataDir) -> SeriesTable:
    """The series that were ever stored."""
    return SeriesTable(data.require(data.series, "series"), read_only=True)


def open_store(data: DataDir) -> Store:
    """The stored readings."""
    return Store(data.require(data.store, "readings"), read_only=True)


def labels_of(series: Series) -> dict[str, str]:
    """As Prometheus' API shows a series: with its metric as `__name__`."""
    return {"__name__": series.metric, **dict(series.labels)}


def json_number(value: float) -> Any:
    """JSON has neither NaN nor infinities: null."""
    return value if math.isfinite(value) else None
