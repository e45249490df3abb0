"""Exported journals: records as JSON lines, gzipped. Here: the format, there and back, never all of it in memory.

The first line is an object {"format": "tocsin journal", "version": 1, …}, with what else the exporter has to say. Each
further line is a record, as `as_object` gives it, and the last {"end": offset, "records": n}: without it, a file has
been cut off.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ingest.block import DUP, QOS_SHIFT, REPLAYED, RETAIN, SAMPLES, TICK, Records
from telemetry import TocsinError

_FORMAT = {"format": "tocsin journal", "version": 1}
_MOST_LINE_BYTES = 512 << 20
_RECORDS_AT_ONCE = 2_000
_KINDS = {TICK: "tick", SAMPLES: "samples"}
_MARKS = {"retain": RETAIN, "dup": DUP, "replayed": REPLAYED}


class ExportError(TocsinError):
    """The file is not an exported journal, or not a whole one."""


def as_object(records: Records, i: int) -> dict[str, Any]:
    """Record i: `offset`, `received` (RFC 3339, ns), and of a message `topic`, `payload` (or, if it is no UTF-8 text,
    `payload_base64`), `qos`, and if they are set `retain`, `dup`, `replayed` (true) and `mid`. What is no message has a
    `kind`: tick or samples.
    """
    flags, payload = int(records.flags[i]), records.payloads[i]
    found: dict[str, Any] = {"offset": records.first + i, "received": _rfc3339(int(records.received[i]))}
    if flags == TICK:
        return found | {"kind": _KINDS[TICK]}
    if flags & SAMPLES:
        found["kind"] = _KINDS[SAMPLES]
    found["topic"] = records.topics[i]
    try:
        found["payload"] = payload.decode()
    except UnicodeDecodeError:
        found["payload_base64"] = base64.b64encode(payload).decode()
    found["qos"] = flags >> QOS_SHIFT & 3
    found |= {name: True for name, bit in _MARKS.items() if flags & bit}
    return found | ({"mid": int(records.mids[i])} if records.mids[i] else {})


def as_line(record: Mapping[str, Any]) -> str:
    """JSON that is safe to print: what a terminal would not show as it is, is escaped."""
    line = json.dumps(record, ensure_ascii=False)
    return line if line.isprintable() else json.dumps(record)


def write_export(path: Path, said: Mapping[str, Any], parts: Iterable[Records]) -> int:
    """Returns the number of records. Raises OSError, and whatever `parts` raises."""
    count = end = 0
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed,  # no name, no time: the same records give the same file
        io.TextIOWrapper(packed, "ascii") as file,
    ):
        file.write(json.dumps({**_FORMAT, **said}) + "\n")
        for records in parts:
            file.writelines(json.dumps(as_object(records, i)) + "\n" for i in range(len(records)))
            count, end = count + len(records), records.next
        file.write(json.dumps({"end": end, "records": count}) + "\n")
    return count


class Export:
    """A file that `write_export` made, open for reading once through."""

    def __init__(self, path: Path) -> None:
        """Raises ExportError."""
        self._path = path
        self._lines = self._read()
        self.said = next(self._lines, {})
        """The first line."""
        if any(self.said.get(key) != value for key, value in _FORMAT.items()):
            raise ExportError(f"{path} is not an exported journal of this version: `tocsin journal export` writes them")

    def parts(self) -> Iterator[Records]:
        """Consecutive records, some thousand at a time. Raises ExportError, for some damage only at the end."""
        held: list[_Row] = []
        count = 0
        try:
            for line in self._lines:
                if "end" in line:
                    if held:
                        yield _records(held)
                    if line["records"] != count or next(self._lines, None):  # at the very end, gzip has a checksum
                        raise ExportError(f"{self._path} has lost records: export it again")
                    return
                row = _row(line)
                if held and (row.offset != held[-1].offset + 1 or len(held) >= _RECORDS_AT_ONCE):
                    yield _records(held)
                    held = []
                held.append(row)
                count += 1
        except (KeyError, TypeError, ValueError) as error:
            raise ExportError(f"{self._path}, record {count + 1}: {error!r} is wrong: export it again") from error
        raise ExportError(f"{self._path} has been cut off: export it again")

    def _read(self) -> Iterator[dict[str, Any]]:
        try:
            with gzip.open(self._path, "rb") as file:
                while line := file.readline(_MOST_LINE_BYTES):
                    yield dict(json.loads(line))
        except (OSError, EOFError, zlib.error, ValueError, TypeError, RecursionError) as error:
            raise ExportError(f"cannot read {self._path} as an exported journal: {error}") from error


class _Row(NamedTuple):
    """A line of the file."""

    offset: int
    received: int
    flags: int
    topic: str
    payload: bytes
    mid: int


def _row(line: Mapping[str, Any]) -> _Row:
    """Raises KeyError, TypeError, ValueError."""
    row = _Row(
        int(line["offset"]),
        _nanoseconds(line["received"]),
        _flags(line),
        str(line.get("topic", "")),
        _payload(line),
        int(line.get("mid", 0)),
    )
    if row.offset < 0 or not 0 <= row.mid < 1 << 16 or not -(2**63) <= row.received < 2**63:
        raise ValueError("a number is out of range")
    return row


def _records(rows: Sequence[_Row]) -> Records:
    return Records(
        rows[0].offset,
        np.array([row.received for row in rows], np.int64),
        np.array([row.flags for row in rows], np.uint8),
        [row.topic for row in rows],
        [row.payload for row in rows],
        np.array([row.mid for row in rows], np.uint16),
    )


def _flags(line: Mapping[str, Any]) -> int:
    kind = line.get("kind")
    if kind == "tick":
        return TICK
    flags, qos = SAMPLES if kind == "samples" else 0, line["qos"]
    if qos not in (0, 1, 2):
        raise ValueError(f"there is no QoS {qos!r}")
    return flags | int(qos) << QOS_SHIFT | sum(bit for name, bit in _MARKS.items() if line.get(name))


def _payload(line: Mapping[str, Any]) -> bytes:
    if "payload_base64" in line:
        return base64.b64decode(line["payload_base64"], validate=True)
    return str(line.get("payload", "")).encode()


def _rfc3339(ns: int) -> str:
    return f"{datetime.fromtimestamp(ns // 10**9, UTC):%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}Z"


def _nanoseconds(text: str) -> int:
    moment, _, rest = text.partition(".")
    return round(datetime.fromisoformat(moment + "+00:00").timestamp()) * 10**9 + int(rest.removesuffix("Z"))
