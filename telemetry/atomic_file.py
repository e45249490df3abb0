"""Replacing a small file so that a crash leaves either the old or the new content, whole."""

from __future__ import annotations

import os
from pathlib import Path

from telemetry.crash_points import reached


def replace_file(path: Path, data: bytes) -> None:
    """Durable on return: write anew, fsync, rename, fsync the directory. Raises OSError; then the old file stands."""
    new = path.with_suffix(".new")
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]
        os.fsync(fd)
    finally:
        os.close(fd)
    reached(f"{path.suffix[1:]}.written")
    new.replace(path)
    reached(f"{path.suffix[1:]}.replaced")
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
