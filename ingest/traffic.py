"""When a message of each topic filter came last, and with which QoS. Here: one dictionary look-up a message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ingest.arrivals import Arrivals
from ingest.block import QOS_SHIFT, RETAIN
from ingest.topics import TopicPattern

_HOUR = 3_600 * 10**9
_MAX_TOPICS = 100_000


@dataclass(slots=True)
class Heard:
    """The newest messages of a topic filter; times of our clock, ns; 0: none. Retained ones do not count."""

    qos0: int = 0
    qos1: int = 0
    longest_gap: int = 0
    """Between two messages, ns."""

    @property
    def newest(self) -> int:
        return max(self.qos0, self.qos1)

    @property
    def some_qos0(self) -> bool:
        """Of the last hour with messages, some came with QoS 0."""
        return self.qos0 > 0 and self.newest - self.qos0 <= _HOUR

    @property
    def only_qos0(self) -> bool:
        """Of the last hour with messages, all came with QoS 0."""
        return self.qos0 > 0 and (self.qos1 == 0 or self.newest - self.qos1 > _HOUR)


class Traffic:
    """Which topic filters are heard. `note` belongs to one thread; others may look."""

    def __init__(self, filters: Sequence[str]) -> None:
        """Raises ValueError for what is no topic filter."""
        self.heard: Mapping[str, Heard] = {name: Heard() for name in filters}
        self._patterns = [(TopicPattern.parse(name), heard) for name, heard in self.heard.items()]
        self._known: dict[str, tuple[int, ...]] = {}
        """Topic → which filters have it."""

    def note(self, arrivals: Arrivals) -> None:
        """Messages have come; retained ones do not count."""
        now, flags = arrivals.received, set(arrivals.flags)
        for flag in flags:
            if flag & RETAIN:
                continue
            topics = arrivals.topics
            if len(flags) > 1:
                topics = [topic for topic, has in zip(topics, arrivals.flags, strict=True) if has == flag]
            self._heard(topics, flag >> QOS_SHIFT & 3, now)

    def _heard(self, topics: Sequence[str], qos: int, now: int) -> None:
        found = set(map(self._known.get, topics))
        if None in found:
            found = {self._filters_of(topic) for topic in topics}
        for number in {number for numbers in found if numbers is not None for number in numbers}:
            heard = self._patterns[number][1]
            if heard.newest:
                heard.longest_gap = max(heard.longest_gap, now - heard.newest)
            if qos:
                heard.qos1 = now
            else:
                heard.qos0 = now

    def _filters_of(self, topic: str) -> tuple[int, ...]:
        found = self._known.get(topic)
        if found is None:
            levels = topic.split("/")
            found = tuple(i for i, (pattern, _) in enumerate(self._patterns) if pattern.match(levels) is not None)
            if len(self._known) >= _MAX_TOPICS:
                self._known.clear()
            self._known[topic] = found
        return found
