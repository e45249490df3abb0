"""Times as the receivers of alerts expect them in text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZERO_TIME = "0001-01-01T00:00:00Z"
"""Go's zero time: what Alertmanager writes for "not yet"."""


def rfc3339(time: int) -> str:
    """`time` (ns since the epoch) as Go's RFC3339Nano: UTC, as many decimals as it needs, at most nine."""
    seconds, fraction = divmod(time, 10**9)
    # Not fromtimestamp(): it depends on what the C library can do with years before 1970.
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    return text + (f".{fraction:09d}".rstrip("0") if fraction else "") + "Z"
