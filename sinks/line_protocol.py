"""InfluxDB's line protocol: columns of readings to bytes.

Here: escaping, numbers, times. Not here: how the bytes travel (influx.py).
Source: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import re
from typing import Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from telemetry import ReadingBatch, Series, SeriesTable

Precision = Literal["ns", "us", "ms", "s"]

_UNIT_NS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_RESERVED_TAGS = frozenset({"time", "_field", "_measurement"})
_AMBIGUOUS_BACKSLASH = re.compile(r"\\(?=[\\,= ]|\Z)")
_PICTURES = {code: chr(0x2400 + code) for code in range(0x20)} | {0x7F: "\u2421"}
_MAX_TIME = 2**63 - 2
"""The widest range of times (± this) that InfluxDB takes; the rest of int64 it keeps for itself."""


def representable(batch: ReadingBatch) -> NDArray[np.bool_]:
    """(n,) rows that the line protocol can carry: not NaN, not infinite, no time at the very ends of int64."""
    return np.isfinite(batch.value) & (batch.time >= -_MAX_TIME) & (batch.time <= _MAX_TIME)


def plain(text: str) -> str:
    r"""`text` without what a line cannot carry: control characters become their pictures (newline: U+240A), and `\`
    becomes U+29F5 where some servers take it for an escape and others do not: before `\`, `,`, `=`, space, and at the
    end.
    """
    return _AMBIGUOUS_BACKSLASH.sub("\u29f5", text.translate(_PICTURES))


def line_prefix(series: Series) -> bytes:
    """`metric,label=value,… value=` escaped: all of a line but its numbers. Measurement = metric, tags = labels."""
    measurement = re.sub(r"([, ])", r"\\\1", plain(series.metric))
    names = {name for name, _ in series.labels}
    tags = []
    for name, value in series.labels:
        key = name
        while key in _RESERVED_TAGS or (key != name and key in names):
            key += "_"
        if value:
            tags.append(f",{_escape_tag(key)}={_escape_tag(value)}")
    return f"{measurement}{''.join(tags)} value=".encode(errors="replace")


def _escape_tag(text: str) -> str:
    return re.sub(r"([,= ])", r"\\\1", plain(text))


class LineEncoder:
    """Encodes batches; keeps the escaped prefix of every series of the table."""

    def __init__(self, table: SeriesTable, *, precision: Precision = "ns") -> None:
        self._table = table
        self._unit_ns = _UNIT_NS[precision]
        self._prefixes: NDArray[np.object_] = np.empty(0, object)

    def encode(self, batch: ReadingBatch) -> bytes:
        """One line for each row, in order, each with its newline. Values are always written as floats, since the first
        value fixes a field's type for ever. All rows must be `representable`.
        """
        n = len(batch)
        if not n:
            return b""
        parts: list[bytes] = [b""] * (3 * n)
        parts[0::3] = self._prefixes_of(batch.series)
        parts[1::3] = _numbers(batch.value).split(b",")
        times = batch.time if self._unit_ns == 1 else batch.time // self._unit_ns
        parts[2::3] = (b" " + _numbers(times).replace(b",", b"\n, ") + b"\n").split(b",")
        return b"".join(parts)

    def _prefixes_of(self, ids: NDArray[np.int32]) -> list[bytes]:
        known = len(self._prefixes)
        if int(ids.max()) >= known:
            new = [line_prefix(self._table[i]) for i in range(known, len(self._table))]
            self._prefixes = np.append(self._prefixes, np.array(new, object))
        prefixes: list[bytes] = self._prefixes[ids].tolist()
        return prefixes


def _numbers(column: NDArray[np.int64] | NDArray[np.float64]) -> bytes:
    """The numbers in decimal, shortest exact notation, joined by commas."""
    return orjson.dumps(np.ascontiguousarray(column), option=orjson.OPT_SERIALIZE_NUMPY)[1:-1]
