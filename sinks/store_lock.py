"""The lock that gives a store its one writer, over all processes. An open file holds it, so the dead hold nothing."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from telemetry import TocsinError


def take_lock(path: Path) -> int:
    """An open descriptor; closing it releases the store. The lock file, `<path>.lock`, names the process that has it.

    Raises TocsinError: another process has it, or the directory cannot be written.
    """
    lock_path = Path(f"{path}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise TocsinError(
            f"cannot open the store {path} ({error.strerror}): check the permissions of its directory, or choose "
            "another data_dir"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(lock)
        raise TocsinError(
            f"the store {path} is in use by process {holder}: stop it or choose another data_dir"
        ) from error
    # A full disk must not keep anybody out: the number only helps to find the process.
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError:
        pass
    return lock
