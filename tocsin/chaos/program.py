"""Program: a `tocsin run` of its own (as `child` says) that is started, ordered about, killed and stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from telemetry import crash_points
from tocsin.chaos.nursery import Forked, Nursery

_STOP_SECONDS = 30.0


class Program:
    """One process at a time. Its log and output grow over all its lives, in `log` and `output`."""

    def __init__(self, config: Path, *, cold: bool) -> None:
        """`cold`: each life is a new interpreter; otherwise it is forked from a `Nursery`. `close` it."""
        self._config = config
        self._nursery = None if cold else Nursery()
        self.log = config.parent / "tocsin.log"
        self.output = config.parent / "tocsin.output"
        self.clock_offset_s = 0.0
        self._process: subprocess.Popen[bytes] | Forked | None = None
        self._code = 0
        self._copying: threading.Thread | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, *, crash_at: str = "") -> None:
        """`crash_at`: point at which it kills itself, see telemetry.crash_points."""
        self.wait(0)
        with self.output.open("ab") as output:
            if self._nursery is None:
                self._process = self._interpreter(crash_at, output)
            else:
                self._process = self._nursery.start(
                    self._config, offset_s=self.clock_offset_s, crash_at=crash_at, output=output
                )
        self._copying = threading.Thread(target=self._copy_log, args=(self._process.stderr,), daemon=True)
        self._copying.start()

    def order(self, line: str) -> None:
        """See `child`; nobody hears it if it has died."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.write(line.encode() + b"\n")
                self._process.stdin.flush()

    def set_clock(self, offset_s: float) -> None:
        """Now, and in all lives to come."""
        self.clock_offset_s = offset_s
        self.order(f"clock {offset_s}")

    def kill(self) -> None:
        """kill -9; nothing if it does not run."""
        if self._process is not None:
            self._process.kill()
            self.wait(_STOP_SECONDS)

    def terminate(self) -> None:
        """Ask it to stop; `wait` for it."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, seconds: float, *, pause: Callable[[float], None] = time.sleep) -> int | None:
        """Its exit code, negative for a signal; None if it still runs after that many seconds."""
        process = self._process
        if process is None:
            return self._code
        deadline = time.monotonic() + seconds
        while (code := process.poll()) is None:
            if time.monotonic() > deadline:
                return None
            pause(0.005)
        if self._copying is not None:
            self._copying.join()
        for pipe in (process.stdin, process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self._process, self._code = None, code
        return code

    def stop(self) -> int:
        """SIGTERM, and its exit code; -9 if it had to be killed."""
        self.terminate()
        code = self.wait(_STOP_SECONDS)
        if code is None:
            self.kill()
            return -signal.SIGKILL
        return code

    def close(self) -> None:
        """Nothing of it is left."""
        self.kill()
        if self._nursery is not None:
            self._nursery.close()

    def confessions(self) -> list[str]:
        """What it says of itself in its log and output that must never be."""
        text = self.log.read_text(errors="replace") + self.output.read_text(errors="replace")
        words = ("Traceback (most recent call last)", "this is a bug", "DOES NOT ADD UP")
        return [f"tocsin says: {line.strip()}" for line in text.splitlines() if any(word in line for word in words)]

    def _interpreter(self, crash_at: str, output: IO[bytes]) -> subprocess.Popen[bytes]:
        environment = {name: value for name, value in os.environ.items() if name != crash_points.VARIABLE}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "tocsin.chaos.child", str(self._config), str(self.clock_offset_s)],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.PIPE,  # a file would be full with the disk
            cwd=self._config.parent,
            env=environment | ({crash_points.VARIABLE: crash_at} if crash_at else {}),
            start_new_session=True,  # Ctrl-C in the terminal stops us first, and we stop it
        )

    def _copy_log(self, stderr: IO[bytes]) -> None:
        with self.log.open("ab", buffering=0) as log:
            log.write(b"--- start\n")
            for line in stderr:
                log.write(line)
