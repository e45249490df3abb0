"""Samples of recording rules as records of the journal. Here: the payload, there and back. Not here: who writes them.

A record holds samples of one time: `{"time": ns, "series": [[{"__name__": "site:power:sum", "site": "n"}, 12.5], …]}`.
Values may be NaN, Infinity and -Infinity, as Python's json writes them: a rule may record any of these.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ingest.rejection import Refused
from ingest.value import label
from telemetry import Series

TOPIC = "$tocsin/recorded"
"""Of the records, for those who look at them; what they are, their flag says."""
_SERIES = 1_000
"""In one record at most, so that records are no larger than large messages."""


def encode_samples(time: int, samples: Sequence[tuple[Mapping[str, str], float]]) -> Iterator[bytes]:
    """The payloads of samples (labels with `__name__`, value) at `time`, ns."""
    for start in range(0, len(samples), _SERIES):
        record = {"time": time, "series": samples[start : start + _SERIES]}
        yield json.dumps(record, separators=(",", ":")).encode()


def decode_samples(payload: bytes) -> tuple[int, list[tuple[dict[str, str], float]]]:
    """Time and samples of a payload. Raises Refused(bad_samples): then another version has written it."""
    try:
        record: Any = json.loads(payload)
        return int(record["time"]), [(dict(labels), float(value)) for labels, value in record["series"]]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Refused("bad_samples", "recorded samples of another version of tocsin cannot be read") from error


def series_of(labels: dict[str, str]) -> Series:
    """The series that has these labels. Raises Refused(bad_name | bad_label)."""
    own = {name: label(f"the label {name}", text) for name, text in labels.items() if name != "__name__"}
    try:
        return Series.recorded(labels.get("__name__", ""), own)
    except ValueError as error:
        raise Refused("bad_name", str(error)) from error
