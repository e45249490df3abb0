"""How long to wait before the next try: exponential with jitter, and at least what the other side asked for."""

from __future__ import annotations

import random
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3600.0
"""We honour what the other side asks for up to an hour, so that a broken server cannot silence us for a week."""


class Backoff:
    """Delays that double from `first_s` to `cap_s`, each cut by up to half: many clients shall not knock in step."""

    def __init__(self, *, seed: int, first_s: float = 0.25, cap_s: float = 30.0) -> None:
        self._random = random.Random(seed)  # noqa: S311  # spreads load, guards nothing
        self._first_s, self._cap_s = first_s, cap_s
        self.failures = 0
        """Failures in a row."""

    def failed(self, retry_after: float | None = None) -> float:
        """Count one more failure; seconds to wait."""
        delay = min(self._cap_s, self._first_s * 2.0 ** min(self.failures, 60)) * self._random.uniform(0.5, 1.0)
        self.failures += 1
        return max(delay, min(retry_after or 0.0, MAX_RETRY_AFTER_S))

    def succeeded(self) -> None:
        self.failures = 0


def retry_after_seconds(header: str | None, *, now: int) -> float | None:
    """Seconds that a Retry-After header asks for (RFC 9110 10.2.3: a number of seconds, or a date); None if neither.

    `now`: our clock, ns since the epoch.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, when.timestamp() - now / 1e9)
