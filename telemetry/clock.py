"""The wall clock, read here and nowhere else. Everything downstream takes time as an argument."""

from __future__ import annotations

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Our time."""

    def now(self) -> int:
        """ns since the epoch (UTC)."""
        ...

    def sleep(self, seconds: float, wake: threading.Event) -> bool:
        """Wait until `seconds` have passed or `wake` is set; True if it was set."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float, wake: threading.Event) -> bool:
        return wake.wait(max(0.0, seconds))


class ManualClock:
    """A clock for tests: stands still until it is moved; sleeping moves it."""

    def __init__(self, now: int = 1_700_000_000_000_000_000) -> None:
        self.time = now

    def now(self) -> int:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += round(seconds * 1e9)

    def sleep(self, seconds: float, wake: threading.Event) -> bool:
        if wake.is_set():
            return True
        self.advance(max(0.0, seconds))
        return False
