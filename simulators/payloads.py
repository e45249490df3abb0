"""Payloads: columns of values become the bytes that devices send, well-formed or damaged.

Here: formats and time notations. Not here: which values (fleet.py) and when they are damaged (faults.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from simulators.scenario import BooleanMetric, Fleet, Metric, NumberMetric

_UNIT_NS = {"ms": 10**6, "us": 10**3, "ns": 1}


class Encoder:
    """Writes the reports of one fleet. Text templates over whole columns: about a microsecond a message."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._metrics = list(fleet.metrics.values())
        members = [f"{_quote(name)}:{_slot(metric)}" for name, metric in fleet.metrics.items()]
        time = [] if fleet.time_field is None else [f"{_quote(fleet.time_field)}:%s"]
        if fleet.format == "nested":
            members = ['"values":{' + ",".join(members) + "}"]
        self._object = "{" + ",".join(time + members) + "}"

    @property
    def parts(self) -> int:
        """Messages of one report: one, or for scalars one for each metric."""
        return len(self._metrics) if self._fleet.format == "scalar" else 1

    @property
    def readings(self) -> int:
        """Values in one message."""
        if self._fleet.format == "scalar":
            return 1
        return len(self._metrics) * (self._fleet.records if self._fleet.format == "records" else 1)

    def encode(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> list[list[bytes]]:
        """Payloads, as [part][device].

        `times` (records, devices) in ns since the epoch, `values` (records, metrics, devices); states as their index.
        """
        if self._fleet.format == "scalar":
            columns = zip(self._metrics, values[0], strict=True)
            return [_format(_slot(metric), [_column(metric, column, bare=True)]) for metric, column in columns]
        records = [self._records(times[r], values[r]) for r in range(len(times))]
        if self._fleet.format == "records":
            return [[b"[" + b",".join(group) + b"]" for group in zip(*records, strict=True)]]
        return records

    def _records(self, times: NDArray[np.int64], values: NDArray[np.float64]) -> list[bytes]:
        columns = [_column(metric, column) for metric, column in zip(self._metrics, values, strict=True)]
        if self._fleet.time_field is not None:
            columns.insert(0, _times(times, self._fleet.time_unit))
        return _format(self._object, columns)


def damage(payload: bytes, variant: int, *, scalar: bool) -> bytes:
    """What a broken device or link makes of a payload: cut short, binary rubbish, or something else altogether."""
    if scalar:
        return (b"\xff\xfe\x00\x81", b"--.-", b"ERR 17")[variant % 3]
    return (payload[: len(payload) // 2], b"\xff\xfe\x00\x81\x13", b'{"ts":,}', b"sensor not ready")[variant % 4]


def _quote(name: str) -> str:
    return json.dumps(name).replace("%", "%%")


def _slot(metric: Metric) -> str:
    return f"%.{metric.decimals}f" if isinstance(metric, NumberMetric) else "%s"


def _column(metric: Metric, values: NDArray[np.float64], *, bare: bool = False) -> Iterable[object]:
    if isinstance(metric, NumberMetric):
        return values.tolist()  # type: ignore[no-any-return]  # numpy types tolist as Any
    if isinstance(metric, BooleanMetric):
        words = ["false", "true"]
    else:
        words = metric.states if bare else [json.dumps(state) for state in metric.states]
    return [words[int(value)] for value in values.tolist()]


def _times(times: NDArray[np.int64], unit: str) -> list[object]:
    if unit == "rfc3339":
        return [f'"{text}Z"' for text in np.datetime_as_string(times.astype("datetime64[ns]"), unit="ms").tolist()]
    if unit == "s":
        return [f"{ms // 1000}.{ms % 1000:03d}" for ms in (times // 10**6).tolist()]
    return (times // _UNIT_NS[unit]).tolist()  # type: ignore[no-any-return]  # numpy types tolist as Any


def _format(template: str, columns: list[Iterable[object]]) -> list[bytes]:
    return [(template % row).encode() for row in zip(*columns, strict=True)]
