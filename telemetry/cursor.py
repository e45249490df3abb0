"""Cursor: how far one consumer has come in the journal, durably."""

from __future__ import annotations

import json
import os
from pathlib import Path


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
        """Durable on return: write anew, fsync, rename, fsync the directory."""
        new = self._path.with_suffix(".new")
        with new.open("wb") as file:
            file.write(json.dumps({"offset": offset}).encode())
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        self.offset = offset
