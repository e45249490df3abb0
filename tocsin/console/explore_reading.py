"""What Explore draws for one state: curves, thresholds, alerts, for a chart of some width. Blocking.

Not here: the state (`explore_state`), the page (`explore`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tocsin.backend import Backend
from tocsin.console.chart import MAX_CURVES, ChartCurve, Span, Threshold, chart_options
from tocsin.console.curves import Found, find
from tocsin.console.explore_state import ExploreState
from tocsin.console.overlays import spans, thresholds
from tocsin.words import exact, iso

MOST_ROWS = 500
_MOST_POINTS = 2_000
_FEWEST_POINTS = 100


@dataclass(frozen=True)
class Picture:
    """All that is drawn, and the time it is of."""

    found: tuple[Found, ...]
    thresholds: tuple[Threshold, ...]
    spans: tuple[Span, ...]
    window: tuple[int, int]
    """ns; shown at first"""
    extent: tuple[int, int]
    """ns; what there is to be panned to"""
    now: int
    width: int
    """Pixels of the chart"""

    @property
    def curves(self) -> list[ChartCurve]:
        return [curve for one in self.found for curve in one.curves]

    def options(self) -> dict[str, Any]:
        """Of the chart."""
        start, end = self.extent
        return chart_options(
            self.curves, start, end, window=self.window, thresholds=self.thresholds, spans=self.spans, width=self.width
        )

    def inside(self) -> list[ChartCurve]:
        """The curves, as far as they lie in the window."""
        return [cut(curve, *self.window) for curve in self.curves]


def take(backend: Backend, state: ExploreState, width: int, wanted: Callable[[], bool]) -> Picture:
    """For a chart of so many pixels. Raises Outdated once it is not wanted any more."""
    now = backend.clock.now()
    first, last = state.window(now)
    length = last - first
    start, end = first - length, max(last, min(last + length, now))
    points = min(max(width, _FEWEST_POINTS), _MOST_POINTS) * (end - start) // length
    found: list[Found] = []
    room = MAX_CURVES
    for text in state.queries:
        one = find(backend, text, start, min(end, now), points, most=room, wanted=wanted)
        room -= len(one.curves)
        found.append(one)
    levels = thresholds(backend.groups, found)
    marked = spans(backend, found, start, end, now)
    return Picture(tuple(found), tuple(levels), tuple(marked), (first, last), (start, end), now, width)


def cut(curve: ChartCurve, start: int, end: int) -> ChartCurve:
    """The part from `start` to `end` (ns), both included."""
    there = slice(*np.searchsorted(curve.time, (start, end + 1)))
    low, high = (None if part is None else part[there] for part in (curve.low, curve.high))
    return ChartCurve(curve.name, curve.time[there], curve.value[there], low, high, curve.axis, curve.gap)


def rows(curves: list[ChartCurve], most: int = MOST_ROWS) -> list[dict[str, object]]:
    """For a table: the newest points of all curves, the newest first."""
    newest = [(curve, i) for curve in curves for i in range(max(0, len(curve.time) - most), len(curve.time))]
    newest.sort(key=lambda at: (-int(at[0].time[at[1]]), at[0].name))
    return [
        {
            "key": f"{curve.name} {curve.time[i]}",
            "time": iso(int(curve.time[i])),
            "series": curve.name,
            "value": exact(float(curve.value[i])),
            "min": "" if curve.low is None else exact(float(curve.low[i])),
            "max": "" if curve.high is None else exact(float(curve.high[i])),
        }
        for curve, i in newest[:most]
    ]


def mistakes(found: tuple[Found, ...]) -> Iterator[str]:
    """One line for each expression; empty where it is right."""
    for one in found:
        yield str(one.mistake) if one.mistake else ""
