"""The snapshot: all state of the feed and of the rules, with the journal offset it belongs to, in one atomic file."""

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

_log = logging.getLogger("tocsin.pipeline")
_MAGIC = b"tocsin-snapshot-1\n"

Arrays = dict[str, NDArray[Any]]


def save_snapshot(path: Path, arrays: Arrays, *, rules: str) -> None:
    """Durable on return; the snapshot before it stays until then. `rules` identifies what it was computed with."""
    body = io.BytesIO()
    everything: dict[str, Any] = {**arrays, "rules": np.frombuffer(rules.encode(), np.uint8)}
    np.savez(body, **everything)
    data = body.getvalue()
    replace_file(path, _MAGIC + zlib.crc32(data).to_bytes(4, "little") + data)


def load_snapshot(path: Path, *, rules: str) -> Arrays | None:
    """The arrays, if there is a whole snapshot of these rules; None says: compute them anew from the journal."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    head = len(_MAGIC) + 4
    if data[: len(_MAGIC)] != _MAGIC or zlib.crc32(data[head:]) != int.from_bytes(data[len(_MAGIC) : head], "little"):
        _log.warning("the snapshot %s is damaged: reading the journal again from its start", path)
        return None
    try:
        with np.load(io.BytesIO(data[head:]), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        _log.warning("the snapshot %s cannot be read (%s): reading the journal again from its start", path, error)
        return None
    if arrays.pop("rules").tobytes() != rules.encode():
        _log.info("the rules have changed: evaluating the journal again from its start")
        return None
    return arrays
