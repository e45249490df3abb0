"""Cursor: how far one consumer has come in the journal, durably."""

from __future__ import annotations

import json
from pathlib import Path

from telemetry.atomic_file import replace_file


class Cursor:
    """The next journal offset that a consumer wants; kept in a small file of its own, replaced atomically.

    Never ahead of what the consumer has made durable: after a crash it may be behind, so consumers are idempotent.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self.offset: int = json.loads(path.read_bytes())["offset"]
        except FileNotFoundError:
            self.offset = 0

    def save(self, offset: int) -> None:
        """Durable on return."""
        replace_file(self._path, json.dumps({"offset": offset}).encode())
        self.offset = offset
