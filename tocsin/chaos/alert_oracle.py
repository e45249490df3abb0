"""The second oracle for alerts: what the rules of the plant must say, from the readings alone, one by one, slowly.

It shares nothing with the engine. Between two readings of a device the engine also follows our clock; where that may
decide (a deadline that passes while messages are held up), both outcomes are accepted. Everything else must be exact.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from telemetry import AlertEvent, AlertState
from tocsin.chaos.journaled import Journaled
from tocsin.chaos.plant import CROWD, HOLD_NS, THRESHOLD, WINDOW_NS, reading

_SECOND = 10**9
_JUMP_NS = 5 * _SECOND
_SETTLED_TICKS = 3
"""So many ticks in a row a fire must last, or be out, to be noticed for certain: the grid may skip one."""


class Sample(NamedTuple):
    """A temperature that counts: newer than all before it."""

    time: int
    value: float
    received: int

    @property
    def hot(self) -> bool:
        return self.value > THRESHOLD


class Verdict(NamedTuple):
    """What is wrong with the events, in words."""

    missing: list[str]
    unexpected: list[str]


class _Events(dict[tuple[str, str], list[AlertEvent]]):
    """By rule and device (or site), in event time."""

    def __init__(self, events: Sequence[AlertEvent]) -> None:
        super().__init__()
        for event in events:
            labels = dict(event.labels)
            who = labels.get("device") or labels.get("site", "")
            self.setdefault((event.rule.partition("/")[2], who), []).append(event)

    def times(self, alert: str, who: str, state: AlertState) -> list[int]:
        found = [e for e in self.get((alert, who), []) if e.state is state]
        return sorted(e.starts_at if state is AlertState.FIRING else e.ends_at for e in found)


def check(journaled: Journaled, events: Sequence[AlertEvent]) -> Verdict:
    """Compare `events` with what the journal's messages demand."""
    missing: list[str] = []
    unexpected: list[str] = []
    found = _Events(events)
    samples = _samples(journaled)
    for device, ours in samples.items():
        for alert, spans in (("Hot", _hot(ours)), ("HotForLong", _hot_for_long(ours)), ("HotLately", _lately(ours))):
            for state in AlertState:
                wanted = [span[state] for span in spans if state in span]
                problems = _compare(found.times(alert, device, state), wanted)
                missing += [f"{alert} {device} {state} {text}" for text in problems.missing]
                unexpected += [f"{alert} {device} {state} {text}" for text in problems.unexpected]
    sites = _sites(journaled)
    for site, ticks in sites.items():
        problems = _fires(ticks, found.get(("SiteHot", site), []))
        missing += [f"SiteHot {site} {text}" for text in problems.missing]
        unexpected += [f"SiteHot {site} {text}" for text in problems.unexpected]
    known = {*samples, *sites}
    unexpected += [f"{alert} of {who!r}, who does not exist" for alert, who in found if who not in known]
    return Verdict(missing, unexpected)


class Wanted(NamedTuple):
    """A transition at some time of [earliest, latest], ns; if not `required`, perhaps."""

    earliest: int
    latest: int
    required: bool = True


Span = dict[AlertState, Wanted]
"""One firing, and its end if it has one."""


def _samples(journaled: Journaled) -> dict[str, list[Sample]]:
    samples: dict[str, list[Sample]] = defaultdict(list)
    for (topic, payload), received in journaled.records:
        found = reading(payload) if topic else None
        if found is None:
            continue
        time, values = found
        ours = samples[topic.split("/")[2]]
        if not ours or time > ours[-1].time:
            ours.append(Sample(time, values["temperature"], received))
    return samples


def _hot(samples: Sequence[Sample]) -> list[Span]:
    """Begins and ends exactly with the reading that says so."""
    spans: list[Span] = []
    before = False
    for sample in samples:
        if sample.hot and not before:
            spans.append({AlertState.FIRING: _at(sample.time)})
        elif before and not sample.hot:
            spans[-1][AlertState.RESOLVED] = _at(sample.time)
        before = sample.hot
    return spans


def _hot_for_long(samples: Sequence[Sample]) -> list[Span]:
    """Begins when a run of hot readings has lasted, whatever the reading says that shows it; ends with a cold one."""
    spans: list[Span] = []
    run: list[Sample] = []
    for sample in samples:
        run = [*run, sample] if run or sample.hot else []
        if not run or (sample.hot and sample is not samples[-1]):
            continue
        due = run[0].time + HOLD_NS
        certain = sample.time > due
        if certain or sample.time == due or sample.hot or _held_up(run, due):
            spans.append({AlertState.FIRING: Wanted(due, due, required=certain)})
            if not sample.hot:
                spans[-1][AlertState.RESOLVED] = Wanted(sample.time, max(sample.time, due), required=certain)
        run = []
    return spans


def _held_up(run: Sequence[Sample], due: int) -> bool:
    """Whether by our clock the deadline may have passed between two arrivals."""
    for before, after in pairwise(run):
        waited = after.received - before.received
        if waited < 0 or before.time + waited >= due - _SECOND:
            return True
    return False


def _lately(samples: Sequence[Sample]) -> list[Span]:
    """Begins with a hot reading, ends when the window has left the last one: by a reading, or by our clock before."""
    spans: list[Span] = []
    firing = False
    last_hot = -WINDOW_NS
    for sample in samples:
        if sample.hot:
            if not firing:
                spans.append({AlertState.FIRING: _at(sample.time)})
            elif sample.time - last_hot > WINDOW_NS:
                # what was cold in between may have ended it by our clock
                spans[-1][AlertState.RESOLVED] = Wanted(last_hot + WINDOW_NS, sample.time, required=False)
                spans.append({AlertState.FIRING: Wanted(sample.time, sample.time, required=False)})
            firing, last_hot = True, sample.time
        elif firing and sample.time - WINDOW_NS >= last_hot:
            spans[-1][AlertState.RESOLVED] = Wanted(last_hot + WINDOW_NS, sample.time)
            firing = False
    if firing:
        spans[-1][AlertState.RESOLVED] = Wanted(last_hot + WINDOW_NS, last_hot + 3600 * _SECOND, required=False)
    return spans


def _at(time: int) -> Wanted:
    return Wanted(time, time)


def _compare(times: Sequence[int], wanted: Sequence[Wanted]) -> Verdict:
    """Each required one exactly once, each other one at most once, and nothing else."""
    missing = [f"at {w.earliest}" for w in wanted if w.required and not any(w.earliest <= t <= w.latest for t in times)]
    unexpected = [f"at {t}" for t in times if not any(w.earliest <= t <= w.latest for w in wanted)]
    unexpected += [f"at {t} again" for t, following in pairwise(times) if t == following]
    return Verdict(missing, unexpected)


class _Tick(NamedTuple):
    time: int
    seen: frozenset[bool]
    """Whether there was a fire: each answer that was true since the tick before; the grid may have looked then."""
    steady: bool
    """Whether our clock has gone on as usual lately."""


class _Site:
    """How hot its devices are, as the journal goes on."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[int, float]] = {}
        self._seen = {False}
        self.ticks: list[_Tick] = []

    def take(self, device: str, time: int, temperature: float) -> None:
        if time > self._newest.get(device, (0, 0.0))[0]:
            self._newest[device] = time, temperature
            self._seen.add(self._burns)

    def tick(self, time: int, *, steady: bool) -> None:
        self.ticks.append(_Tick(time, frozenset(self._seen), steady))
        self._seen = {self._burns}

    @property
    def _burns(self) -> bool:
        return sum(value > THRESHOLD for _, value in self._newest.values()) > CROWD


def _sites(journaled: Journaled) -> dict[str, list[_Tick]]:
    """For each site, what can be seen at each tick whether more than CROWD of its devices are hot."""
    sites: dict[str, _Site] = defaultdict(_Site)
    last, unsteady = 0, 0
    for (topic, payload), received in journaled.records:
        if topic:
            found = reading(payload)
            _, site, device, _ = topic.split("/")
            if found is not None:
                sites[site].take(device, found[0], found[1]["temperature"])
            continue
        unsteady = _SETTLED_TICKS if not 0 < received - last < _JUMP_NS else max(0, unsteady - 1)
        last = received
        for plant in sites.values():
            plant.tick(received, steady=unsteady == 0)
    return {name: site.ticks for name, site in sites.items()}


def _fires(ticks: Sequence[_Tick], events: Sequence[AlertEvent]) -> Verdict:
    """Each event was true by its tick, and each fire and each calm that lasts is noticed."""
    missing, unexpected = [], []
    at: dict[int, list[AlertEvent]] = defaultdict(list)
    for event in events:
        at[event.detected_at].append(event)
    unexpected += [f"{event.state}, no tick" for time in at.keys() - {t.time for t in ticks} for event in at[time]]
    firing, lasting = False, 0
    before: frozenset[bool] = frozenset()
    for tick in ticks:
        for event in at.get(tick.time, []):
            firing = event.state is AlertState.FIRING
            if firing not in tick.seen and tick.steady:
                unexpected.append(f"{event.state} at {tick.time}")
        sure = tick.steady and len(tick.seen) == 1
        lasting = lasting + 1 if sure and tick.seen == before else int(sure)
        before = tick.seen
        if lasting >= _SETTLED_TICKS and firing not in tick.seen:
            firing = not firing
            missing.append(f"{'firing' if firing else 'resolved'} by {tick.time}")
    return Verdict(missing, unexpected)
