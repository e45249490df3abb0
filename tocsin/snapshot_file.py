"""Snapshots: all state of the feed and of the rules, with the journal offset it belongs to, each in one atomic file.

The last two are kept, named by their offset: a damaged one is passed over for the one before it, and without any, the
journal is read from its start. Not here: what is in the state.
"""

from __future__ import annotations

import io
import logging
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from telemetry.atomic_file import replace_file
from telemetry.cursor import read_cursor
from tocsin.data_dir import DataDir

_log = logging.getLogger("tocsin.pipeline")
_MAGIC = b"tocsin-snapshot-1\n"
_SUFFIX = ".snapshot"
_KEPT = 2

Arrays = dict[str, NDArray[Any]]


class Snapshots:
    """Those of one data directory, for one thread; made with the rules that `rules` identifies."""

    def __init__(self, directory: Path, *, rules: str) -> None:
        self._directory, self._rules = directory, rules
        self._ours: list[int] = []
        """Offsets of those that may be of use, ascending."""
        self._twice = False

    @property
    def needed(self) -> int:
        """From this offset on, the journal is needed to go on from the oldest snapshot.

        0 until there are two, or one that was written twice: with nothing new, there will be no second.
        """
        return self._ours[0] if len(self._ours) == _KEPT or self._twice else 0

    def save(self, offset: int, arrays: Arrays) -> None:
        """The state at `offset`, durable on return; then those before the last are deleted. Raises OSError."""
        body = io.BytesIO()
        everything: dict[str, Any] = {**arrays, "rules": np.frombuffer(self._rules.encode(), np.uint8)}
        np.savez(body, **everything)
        data = body.getvalue()
        replace_file(self._path(offset), _MAGIC + zlib.crc32(data).to_bytes(4, "little") + data)
        self._twice = self._ours == [offset]
        self._ours = sorted({*self._ours, offset})[-_KEPT:]
        for stale in set(snapshot_offsets(self._directory)) - set(self._ours):
            self._path(stale).unlink(missing_ok=True)

    def load(self, *, end: int) -> Arrays | None:
        """The newest that is whole, of these rules, and not beyond `end`, where the journal ends.

        None says: compute the state anew from the journal.
        """
        offsets = [offset for offset in snapshot_offsets(self._directory) if offset <= end]
        while offsets:
            arrays = _read(self._path(offsets[-1]))
            if arrays is None:
                offsets.pop()
                continue
            if arrays.pop("rules").tobytes() != self._rules.encode():
                _log.info("the rules have changed: evaluating the journal again from its start")
                return None
            self._ours = offsets[-_KEPT:]
            return arrays
        return None

    def _path(self, offset: int) -> Path:
        return self._directory / f"{offset:020d}{_SUFFIX}"


def state_before(directory: Path, offset: int) -> Arrays | None:
    """The newest whole state at or before `offset`, of whatever rules; for those who only look."""
    for found in reversed([known for known in snapshot_offsets(directory) if known <= offset]):
        arrays = _read(directory / f"{found:020d}{_SUFFIX}")
        if arrays is not None:
            return arrays
    return None


def snapshot_offsets(directory: Path) -> list[int]:
    """Offsets of the snapshots that are there, ascending."""
    return sorted(int(path.stem) for path in directory.glob(f"{'[0-9]' * 20}{_SUFFIX}"))


def read_to(data: DataDir) -> int:
    """The offset before which, as cursors and snapshots tell, all was in the journal once; 0 if nothing tells."""
    cursors = [read_cursor(path) for path in data.cursor("rules").parent.glob("*.json")]
    return max((*cursors, *snapshot_offsets(data.snapshots)), default=0)


def _read(path: Path) -> Arrays | None:
    try:
        data = path.read_bytes()
    except OSError as error:
        _log.warning("the snapshot %s cannot be read (%s): taking an older one, or the journal", path, error.strerror)
        return None
    head = len(_MAGIC) + 4
    if data[: len(_MAGIC)] == _MAGIC and zlib.crc32(data[head:]) == int.from_bytes(data[len(_MAGIC) : head], "little"):
        try:
            with np.load(io.BytesIO(data[head:]), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            if "rules" in arrays:
                return arrays
        except (ValueError, OSError, EOFError, zipfile.BadZipFile):
            pass  # of another version, or a checksum that is right by chance
    _log.warning("the snapshot %s is damaged: taking an older one, or the journal", path)
    return None
