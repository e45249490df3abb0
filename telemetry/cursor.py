"""Cursor: how far one consumer has come in the journal, durably."""

from __future__ import annotations

import json
import logging
import zlib
from pathlib import Path

from telemetry.atomic_file import replace_file
from telemetry.crash_points import reached

_log = logging.getLogger("tocsin.telemetry")


class Cursor:
    """The next journal offset that a consumer wants; kept in a small file of its own, replaced atomically.

    Never ahead of what the consumer has made durable: after a crash it may be behind, so consumers are idempotent. One
    that is damaged begins at 0 again, for the same reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.offset = read_cursor(path)

    def save(self, offset: int) -> None:
        """Durable on return. Raises OSError."""
        replace_file(self._path, json.dumps({"offset": offset, "crc32": _check(offset)}).encode())
        reached("cursor.saved")
        self.offset = offset


def read_cursor(path: Path) -> int:
    """The offset that stands in a cursor's file; 0 if there is none, or if it is damaged."""
    try:
        record = json.loads(path.read_bytes())
        offset = record["offset"]
        if isinstance(offset, int) and offset >= 0 and record["crc32"] == _check(offset):
            return offset
    except FileNotFoundError:
        return 0
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    _log.warning("%s is damaged: going through the journal again from its start; nothing is lost", path)
    return 0


def _check(offset: int) -> int:
    return zlib.crc32(str(offset).encode())
