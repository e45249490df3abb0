"""The straightforward way to evaluate rules: an object for each (rule, series), asked at each reading.

They are lean: they know nothing of stale or vanished data, ticks and snapshots, and windows are kept incrementally. On
streams without gaps they give the very events of the engine: deadlines, and samples that leave a window, count at
their own instants, and are shown by the next reading.
"""

from __future__ import annotations

from collections import deque

from telemetry import AlertEvent, AlertState


class Threshold:
    """`x > limit`, with `for`."""

    __slots__ = ("device", "events", "firing", "hold", "last", "limit", "name", "since", "started")

    def __init__(self, name: str, device: str, limit: float, hold: int, events: list[AlertEvent]) -> None:
        """hold: ns; events: where to tell of them."""
        self.name, self.device, self.limit, self.hold, self.events = name, device, limit, hold, events
        self.since: int | None = None
        self.started, self.last, self.firing = 0, 0.0, False

    def turn(self, at: int, value: float, received: int) -> None:
        """The value from the instant `at` on."""
        since = self.since
        if value > self.limit:
            if since is None:
                self.since = since = at
            if not self.firing and at >= since + self.hold:
                self.fire(since + self.hold, value if at == since + self.hold else self.last, received)
            self.last = value
        elif since is not None:
            if not self.firing and at > since + self.hold:
                self.fire(since + self.hold, self.last, received)
            self.since = None
            if self.firing:
                self.firing = False
                self.tell(AlertState.RESOLVED, self.last, self.started, at, received)

    reading = turn

    def fire(self, at: int, value: float, received: int) -> None:
        self.firing, self.started = True, at
        self.tell(AlertState.FIRING, value, at, 0, received)

    def tell(self, state: AlertState, value: float, begin: int, end: int, received: int) -> None:
        labels = (("alertname", self.name), ("device", self.device))
        self.events.append(AlertEvent(f"g/{self.name}", labels, state, value, begin, end, received))


class Window(Threshold):
    """A function of a window, compared with a limit."""

    __slots__ = ("duration", "samples")

    def __init__(
        self, name: str, device: str, limit: float, hold: int, events: list[AlertEvent], duration: int
    ) -> None:
        """duration: ns."""
        super().__init__(name, device, limit, hold, events)
        self.duration = duration
        self.samples: deque[tuple[int, float]] = deque()


class Average(Window):
    """`avg_over_time(x[duration]) > limit`: the samples, and their sum."""

    __slots__ = ("total",)

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # as Window's
        self.total = 0.0

    def reading(self, at: int, value: float, received: int) -> None:
        samples, duration = self.samples, self.duration
        while samples and (leaves := samples[0][0] + duration) <= at:
            self.total -= samples.popleft()[1]
            if leaves < at and samples:
                self.turn(leaves, self.total / len(samples), received)
        samples.append((at, value))
        self.total += value
        self.turn(at, self.total / len(samples), received)


class Maximum(Window):
    """`max_over_time(x[duration]) > limit`: only the samples after which no higher one came."""

    __slots__ = ()

    def reading(self, at: int, value: float, received: int) -> None:
        samples, duration = self.samples, self.duration
        while samples and (leaves := samples[0][0] + duration) <= at:
            samples.popleft()
            if leaves < at and samples:
                self.turn(leaves, samples[0][1], received)
        while samples and samples[-1][1] <= value:
            samples.pop()
        samples.append((at, value))
        self.turn(at, samples[0][1], received)


class Rate(Window):
    """`rate(x[duration]) > limit`: the samples, and what the counter had reached before it began anew."""

    __slots__ = ("dropped",)

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]  # as Window's
        self.dropped = 0.0

    def reading(self, at: int, value: float, received: int) -> None:
        samples, duration = self.samples, self.duration
        while samples and (leaves := samples[0][0] + duration) <= at:
            gone = samples.popleft()[1]
            if samples and samples[0][1] < gone:
                self.dropped -= gone
            if leaves < at and len(samples) > 1:
                self.turn(leaves, self.rate(leaves), received)
        if samples and value < samples[-1][1]:
            self.dropped += samples[-1][1]
        samples.append((at, value))
        if len(samples) > 1:
            self.turn(at, self.rate(at), received)

    def rate(self, now: int) -> float:
        """Per second, extrapolated as Prometheus does."""
        (first, value), (last, newest) = self.samples[0], self.samples[-1]
        rise = newest - value + self.dropped
        seconds = (last - first) / 1e9
        interval = seconds / (len(self.samples) - 1)
        before, after = (first - now + self.duration) / 1e9, (now - last) / 1e9
        if before >= interval * 1.1:
            before = interval / 2
        if rise > 0 and value >= 0:
            before = min(before, seconds * (value / rise))
        if after >= interval * 1.1:
            after = interval / 2
        return rise * ((seconds + before + after) / seconds) / (self.duration / 1e9)
