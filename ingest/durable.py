"""What the journal asks of the operating system: whole writes, durable directories, one writer, clear errors."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from telemetry import TocsinError


class JournalError(TocsinError):
    """The journal cannot be written or read; what was committed stays as it is."""


class JournalFull(JournalError):
    """There is no room left on the disk, or a quota is used up."""


def write_all(fd: int, data: bytes) -> None:
    """One write; more only if the system takes less than all. Raises OSError."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, memoryview(data)[written:])


def sync_directory(directory: Path) -> None:
    """Makes the creation and deletion of files in it durable. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def lock(directory: Path) -> int:
    """Takes the writer's lock until the descriptor is closed or the process ends.

    Raises TocsinError naming the process that holds it; OSError.
    """
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(fd)
        raise TocsinError(
            f"the journal in {directory} is in use by another tocsin (process {holder}): "
            "stop that one, or give this one a data directory of its own"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return fd


def journal_error(error: OSError, what: str) -> JournalError:
    """The error for the user: what failed, why, and what to do."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return JournalFull(f"{what}: no space left: free some, or lower journal.retention_bytes")
    advice = "check the permissions" if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) else "check the disk"
    return JournalError(f"{what} ({error.strerror or error}): {advice}")
