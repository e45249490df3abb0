"""`tocsin run` with a clock that can be set and a disk that can be full: `python -m tocsin.chaos.child CONFIG OFFSET`.

The same pipeline in the same foreground, but for two things: our clock is the machine's plus OFFSET seconds, and orders
come line by line on standard input: `clock SECONDS` (the new offset), `disk full`, `disk free`. When the input ends,
the process dies: nothing outlives the campaign that has started it.

The full disk is the kernel's: a limit of no bytes on the size of files (RLIMIT_FSIZE) lets every write fail, whoever
writes, SQLite too. What Python reports as EFBIG then is turned into ENOSPC where tocsin looks at the number.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

from ingest.journal import Journal, Records
from telemetry import SystemClock, TocsinError
from tocsin.cli.options import set_up_logging
from tocsin.config import load_config
from tocsin.foreground import run_pipeline

SABOTAGE = "TOCSIN_CHAOS_SABOTAGE"
"""Environment variable; `acknowledge-and-drop`: every twentieth batch of messages is acknowledged and not kept. For
tests of the oracle: chaos must find it."""
_DROPPED = 20


class JumpingClock(SystemClock):
    """The machine's clock, and an offset that may change."""

    def __init__(self, offset_s: float) -> None:
        self.offset_ns = round(offset_s * 1e9)

    def now(self) -> int:
        return super().now() + self.offset_ns


class Disk:
    """May be full. Affects this process only."""

    def __init__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for name in ("write", "pwrite", "ftruncate", "posix_fallocate", "fsync", "fdatasync"):
            setattr(os, name, _honest(getattr(os, name)))

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, self._before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


def _honest(call: Callable[..., Any]) -> Callable[..., Any]:
    """The same call, which says that there is no space rather than that the file is too large."""

    def wrapped(*arguments: Any, **more: Any) -> Any:
        try:
            return call(*arguments, **more)
        except OSError as error:
            if error.errno == errno.EFBIG:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
            raise

    return wrapped


def _obey(clock: JumpingClock, disk: Disk) -> None:
    """Carry out the orders that come, until there can be no more."""
    for line in sys.stdin:
        match line.split():
            case ["clock", seconds]:
                clock.offset_ns = round(float(seconds) * 1e9)
            case ["disk", "full"]:
                disk.fill()
            case ["disk", "free"]:
                disk.free()
    os.kill(os.getpid(), signal.SIGKILL)


def _sabotage() -> None:
    """Break the promise that chaos is there to check."""
    append, calls = Journal.append_columns, count(1)

    def lossy(self: Journal, records: Records) -> int:
        return self.end if next(calls) % _DROPPED == 0 else append(self, records)

    Journal.append_columns = lossy  # type: ignore[method-assign]  # that is the sabotage


def main(config: str, offset_s: str) -> int:
    clock, disk = JumpingClock(float(offset_s)), Disk()
    threading.Thread(target=_obey, args=(clock, disk), name="chaos-orders", daemon=True).start()
    if os.environ.get(SABOTAGE) == "acknowledge-and-drop":
        _sabotage()
    set_up_logging()
    try:
        run_pipeline(load_config(Path(config)), dry_run=False, headless=True, clock=clock)
    except TocsinError as error:
        print(f"tocsin: error: {error}", file=sys.stderr)  # noqa: T201  # as the command line does
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
