"""Ground truth: which alert must fire for which device and when, and whether that is what happened.

Here: expectations of a scenario, their file, the verdict. Not here: rules; they only have to use the same alert names.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from simulators.faults import chosen, occurrences
from simulators.scenario import Scenario
from telemetry import AlertEvent, AlertState


@dataclass(frozen=True, slots=True)
class Expected:
    """One alert that must fire exactly once; all times are event times, ns since the epoch (UTC)."""

    alert: str
    device: str
    from_ns: int
    """It begins to fire in [from_ns, until_ns]."""
    until_ns: int
    resolve_by_ns: int
    """It is resolved at or before this time, and does not fire again until then."""


@dataclass(frozen=True, slots=True)
class Verdict:
    expected: int
    """Expectations that were due by the end of the run."""
    detected: int
    missed: int
    """expected - detected"""
    false: int
    """Firings that no expectation covers: out of nothing, too early, too late, or a second time."""
    unresolved: int
    """Detected, but not resolved in time."""
    undecided: int
    """Expectations that were not due yet when the run ended; not counted in `expected`."""
    details: tuple[str, ...]
    """One line for each thing that is wrong."""

    @property
    def passed(self) -> bool:
        return not (self.missed or self.false or self.unresolved)


def expectations(scenario: Scenario, *, epoch_ns: int, until: int = 0) -> list[Expected]:
    """Every alert that the faults must raise, by time.

    `until` (ns since the start) ends an endless scenario; without it the scenario's own duration does.
    """
    found = []
    until = until or scenario.duration
    for index, fault in enumerate(scenario.faults):
        if not fault.expect:
            continue
        devices = scenario.fleet_of(fault).all_devices()
        names = [devices[d].name for d in chosen(scenario, index)]
        for start, end in occurrences(fault, until):
            for expect in fault.expect:
                begin = epoch_ns + start
                times = (begin + expect.after, begin + expect.within, epoch_ns + end + expect.resolve_within)
                found += [Expected(expect.alert, name, *times) for name in names]
    return sorted(found, key=lambda e: (e.from_ns, e.alert, e.device))


def write_expectations(path: Path, expected: Iterable[Expected]) -> None:
    """As a JSON array of objects with the fields of Expected."""
    path.write_text(json.dumps([asdict(e) for e in expected], indent=1) + "\n")


def read_expectations(path: Path) -> list[Expected]:
    return [Expected(**fields) for fields in json.loads(path.read_text())]


def judge(expected: Sequence[Expected], events: Iterable[AlertEvent], *, end_ns: int | None = None) -> Verdict:
    """Compare what had to happen with what happened, by event time. The order of the events does not matter.

    An event that comes twice (same id) counts once. `end_ns` is the event time up to which the run was complete:
    expectations that are due later are neither detected nor missed, and what fires for them is not false.
    """
    firings, resolutions = _by_alert(events)
    covers: defaultdict[tuple[str, str], list[Expected]] = defaultdict(list)
    for e in expected:
        covers[e.alert, e.device].append(e)
    details: list[str] = []
    decided = detected = unresolved = undecided = covered = 0
    for key, wanted in covers.items():
        starts = firings.get(key, set())
        for e in wanted:
            inside = sorted(start for start in starts if e.from_ns <= start <= e.until_ns)
            starts = starts - set(inside[:1])
            covered += len(inside[:1])
            if end_ns is not None and e.resolve_by_ns > end_ns:
                undecided += 1
                continue
            decided += 1
            if not inside:
                details.append(f"missed: {_line(e)}")
                continue
            detected += 1
            if not any(end <= e.resolve_by_ns for end in resolutions.get((*key, inside[0]), ())):
                unresolved += 1
                details.append(f"not resolved in time: {_line(e)}")
        details += [_false(*key, start) for start in sorted(starts)]
    for key, starts in firings.items():
        if key not in covers:
            details += [_false(*key, start) for start in sorted(starts)]
    false = sum(map(len, firings.values())) - covered
    return Verdict(decided, detected, decided - detected, false, unresolved, undecided, tuple(details))


def _by_alert(
    events: Iterable[AlertEvent],
) -> tuple[dict[tuple[str, str], set[int]], dict[tuple[str, str, int], set[int]]]:
    """Start times of firings by (alert, device), and end times by (alert, device, start)."""
    firings: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    resolutions: defaultdict[tuple[str, str, int], set[int]] = defaultdict(set)
    for event in events:
        labels = dict(event.labels)
        key = labels.get("alertname", ""), labels.get("device", "")
        if event.state is AlertState.FIRING:
            firings[key].add(event.starts_at)
        else:
            resolutions[*key, event.starts_at].add(event.ends_at)
    return firings, resolutions


def _line(e: Expected) -> str:
    return f"{e.alert} of {e.device}, from {e.from_ns} until {e.until_ns}, resolved by {e.resolve_by_ns}"


def _false(alert: str, device: str, start: int) -> str:
    return f"false: {alert} of {device} at {start}"
