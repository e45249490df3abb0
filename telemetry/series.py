"""Series and the table that gives them numbers.

Here: identity of a series, its validation, look-up by labels, durable numbering. Not here: any reading.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
MAX_LABEL_VALUE = 256
"""Characters; longer values are refused, since they are free text and not identities."""


@dataclass(frozen=True, slots=True)
class Series:
    """A metric of a device, or what a rule has made of many: one stream of readings. Naming rules are Prometheus'."""

    metric: str
    labels: tuple[tuple[str, str], ...]
    """Sorted by name; has `device`, unless a recording rule has made the series."""

    @classmethod
    def of(cls, metric: str, **labels: str) -> Series:
        """A valid series, labels sorted; empty values mean "no such label", as in Prometheus.

        Raises ValueError saying what is wrong with the name or label.
        """
        return cls.from_labels(metric, labels)

    @classmethod
    def from_labels(cls, metric: str, labels: dict[str, str]) -> Series:
        """As `of`, for labels whose names are not Python identifiers."""
        series = cls.recorded(metric, labels)
        if not series.device:
            raise ValueError("a series needs the label device")
        return series

    @classmethod
    def recorded(cls, metric: str, labels: dict[str, str]) -> Series:
        """As `from_labels`, for what a recording rule has made: it may be of no one device."""
        if not METRIC_NAME.fullmatch(metric):
            raise ValueError(f"{metric!r} is not a metric name: use letters, digits, _ and :")
        for name, value in labels.items():
            if not LABEL_NAME.fullmatch(name) or name == "__name__":
                raise ValueError(f"{name!r} is not a label name: use letters, digits and _")
            if len(value) > MAX_LABEL_VALUE:
                raise ValueError(f"label {name} is longer than {MAX_LABEL_VALUE} characters")
        return cls(metric, tuple(sorted((n, v) for n, v in labels.items() if v)))

    @property
    def device(self) -> str:
        """Empty if it is of none."""
        return self.label("device")

    def label(self, name: str) -> str:
        """The value of a label (`__name__`: the metric); empty if it has no such label."""
        if name == "__name__":
            return self.metric
        return next((v for n, v in self.labels if n == name), "")

    def __str__(self) -> str:
        inner = ", ".join(f"{n}={json.dumps(v, ensure_ascii=False)}" for n, v in self.labels)
        return f"{self.metric}{{{inner}}}"


class SeriesTable:
    """Append-only numbering Series ⇄ id (0, 1, 2 …), with an index by label; ids are stable for ever.

    With a path, the numbering is a file of JSON lines, `sync()` makes new series durable, and reopening gives the same
    ids. Additions come from one thread; other threads may look up while it adds. Other processes may open it read-only.
    """

    def __init__(self, path: Path | None = None, *, read_only: bool = False) -> None:
        self._path, self._read_only = path, read_only
        self._series: list[Series] = []
        self._ids: dict[Series, int] = {}
        self._by_label: dict[tuple[str, str], list[int]] = {}
        self._unsynced: list[str] = []
        self._read_to = 0
        if path is not None:
            self.refresh()

    def __len__(self) -> int:
        return len(self._series)

    def __getitem__(self, id_: int) -> Series:
        return self._series[id_]

    def __iter__(self) -> Iterator[Series]:
        return iter(self._series)

    def find(self, series: Series) -> int | None:
        return self._ids.get(series)

    def add(self, series: Series) -> int:
        """The id of `series`, numbering it if it is new."""
        found = self._ids.get(series)
        if found is not None:
            return found
        if self._path is not None:
            self._unsynced.append(json.dumps([series.metric, dict(series.labels)], ensure_ascii=False) + "\n")
        return self._append(series)

    def with_label(self, name: str, value: str) -> NDArray[np.int32]:
        """(k,) ascending ids of the series whose label (or `__name__`) has that value."""
        return np.array(self._by_label.get((name, value), ()), np.int32)

    def values(self, name: str) -> list[str]:
        """Sorted values of a label (or `__name__`)."""
        return sorted(value for (n, value) in list(self._by_label) if n == name)

    def sync(self) -> None:
        """Write and fsync the series added since the last call; does nothing when there are none."""
        if not self._unsynced or self._path is None:
            return
        if self._read_only:
            raise ValueError("this series table was opened read-only")
        with self._path.open("ab") as file:
            file.truncate(self._read_to)  # what a write that failed half-way has left
            file.seek(self._read_to)
            file.write("".join(self._unsynced).encode())
            file.flush()
            os.fsync(file.fileno())
            self._read_to = file.tell()
        self._unsynced.clear()

    def refresh(self) -> None:
        """Read what the file holds beyond what we have; a line torn by a crash is cut off (by its owner)."""
        if self._path is None or not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            metric, labels = json.loads(line)
            self._append(Series(metric, tuple(sorted(labels.items()))))
        self._read_to += whole
        if whole < len(data) and not self._read_only:
            os.truncate(self._path, self._read_to)

    def _append(self, series: Series) -> int:
        id_ = len(self._series)
        self._series.append(series)
        self._ids[series] = id_
        for key in (("__name__", series.metric), *series.labels):
            self._by_label.setdefault(key, []).append(id_)
        return id_
