"""The schedule: what goes wrong in which round. The same seed gives the same schedule.

Here: which troubles there are, and how they are dealt out. Not here: how one is made (`troubles`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TypeVar

from telemetry.crash_points import POINTS
from tocsin.chaos.far_side import RECEIVER_TROUBLES, SINK_TROUBLES

FAULTS = {
    "kill": "kill -9 at a random moment",
    "point": "kill -9 at a named point of the code",
    "stop": "an orderly stop and start",
    "broker": "the broker is restarted, or killed",
    "network": "the connection to the broker is cut, stalls, or loses what tocsin sends",
    "storm": "all devices lose their connection at once and come back",
    "sink": "the sink answers 401, 413, 422, 429, 503, slowly, not at all, or is not there",
    "receiver": "the receiver of alerts does the same",
    "disk": "the disk of tocsin is full",
    "clock": "the clock of tocsin jumps an hour ahead or back",
}
"""Name: what it is. Each kill is one of the first two."""
KILLS = ("kill", "point")
_SURROUNDINGS = {
    "stop": ("stop",),
    "broker": ("restart", "kill"),
    "network": ("cut", "stall", "lost-acknowledgements"),
    "storm": ("reconnect",),
    "disk": ("full",),
    "clock": ("ahead", "back"),
}
_BLOCKING = {"broker", "network", "disk"}
"""Nothing is acknowledged while they last, so few points are reached."""
_FAR = {"sink", "receiver"}
_AT_STOP = {"snapshot.written", "snapshot.replaced"}
"""Points that are reached for certain only when tocsin is asked to stop."""
_NEVER = {"dead_letter.replayed"}
"""Nobody replays dead letters meanwhile."""
_SELDOM = {"dead_letter.parked", "recorder.written", "outbox.committing", "outbox.committed", "delivery.sent"}
_RANDOM_KILLS = 0.4
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Trouble:
    """One thing that goes wrong."""

    fault: str
    mode: str
    seconds: float
    """How long it lasts before the kill of its round, or altogether if there is none."""

    @property
    def blocks(self) -> bool:
        return self.fault in _BLOCKING

    @property
    def is_far(self) -> bool:
        """Whether it befalls those whom tocsin tells."""
        return self.fault in _FAR

    def __str__(self) -> str:
        return f"{self.fault} {self.mode}" if self.mode != self.fault else self.fault


@dataclass(frozen=True, slots=True)
class Round:
    """Troubles that happen together, and a kill in their midst, if there is one."""

    number: int
    troubles: tuple[Trouble, ...]
    kill: str
    """`kill`, `point` or nothing."""
    crash_at: str = ""
    """The point, as telemetry.crash_points takes it; empty: at a random moment."""

    @property
    def point(self) -> str:
        return self.crash_at.partition(":")[0]

    @property
    def dies_at_stop(self) -> bool:
        return self.point in _AT_STOP


def rounds(faults: Sequence[str], *, seed: int) -> Iterator[Round]:
    """For ever: every kind of trouble comes in turn, each time in another order and company.

    Points are reached while messages flow, so what stops them comes with kills at random moments only.
    """
    rng = random.Random(seed)  # noqa: S311  # a schedule, no secret
    cards = [(fault, mode) for fault in faults for mode in _SURROUNDINGS.get(fault, ())]
    blocking = _dealt([card for card in cards if card[0] in _BLOCKING], rng)
    gentle = _dealt([card for card in cards if card[0] not in _BLOCKING], rng)
    far_sides = [_dealt([("sink", mode) for mode in SINK_TROUBLES if "sink" in faults], rng)]
    far_sides += [_dealt([("receiver", mode) for mode in RECEIVER_TROUBLES if "receiver" in faults], rng)]
    points = _dealt([name for name in POINTS if name not in _NEVER], rng)
    kills = [kill for kill in KILLS if kill in faults]
    for number in count(1):
        kill = rng.choices(kills, (_RANDOM_KILLS, 1 - _RANDOM_KILLS)[: len(kills)])[0] if kills else ""
        decks = (
            [gentle] if kill == "point" else [blocking, gentle] if kill or rng.random() < 0.5 else [gentle, blocking]
        )
        drawn = [next((card for deck in decks for card in deck), None)]
        drawn += [next(deck, None) for deck in far_sides]
        troubles = tuple(Trouble(*card, seconds=round(rng.uniform(0.3, 1.2), 2)) for card in drawn if card)
        at_point = kill == "point" and number > 1  # a process has to know of its point from the start
        yield Round(number, troubles, kill, crash_at=_crash_at(next(points), rng) if at_point else "")


def _crash_at(point: str, rng: random.Random) -> str:
    most = 1 if point in _AT_STOP else 2 if point in _SELDOM else 8
    return f"{point}:{rng.randint(1, most)}"


def _dealt(cards: Sequence[_Item], rng: random.Random) -> Iterator[_Item]:
    """All cards, shuffled; then again."""
    return chain.from_iterable(rng.sample(cards, len(cards)) for _ in count()) if cards else iter(())
