"""One chart of many series for the terminal, readable at 80 columns. Plotext is imported here only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import plotext
from numpy.typing import NDArray

from tocsin.curve import MAX_CURVES, Curve
from tocsin.words import local, number

__all__ = ["MAX_CURVES", "Curve", "draw"]

_COLOURS = ("cyan", "orange", "green+", "magenta", "blue+", "red", "gray", "orange+")
_SIGNS = "●○■□▲△◆◇"
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


def draw(curves: Sequence[Curve], *, start: int, end: int, width: int, height: int, colour: bool) -> str:
    """The chart of the first eight curves from `start` to `end` (ns), and a legend that says what is hidden."""
    shown = curves[:MAX_CURVES]
    figure = plotext.figure
    figure.clear()
    figure.theme("colorless")
    figure.plot_size(width, max(8, height - len(shown) - 2))
    values = [_drawable(curve, start, columns=2 * width) for curve in shown]
    for i, (x, y) in enumerate(values):
        if len(x):
            marker = _marker(i, len(shown), colour=colour)
            signal = figure.signal(x.tolist(), y.tolist(), marker=marker)
            signal.lines()
            for gap in _gaps(x):
                signal.line(gap, False)
            figure.draw(signal)
    _set_rulers(figure, values, start, end, width)
    lines = figure.build().string().splitlines()
    text = "\n".join(line if colour else plotext.uncolorize(line) for line in lines)
    return text.rstrip() + "\n" + "\n".join(_legend(curves, shown, width, colour=colour))


def _drawable(curve: Curve, start: int, *, columns: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds since `start` and values, thinned to the smallest and largest value of each column of dots."""
    kept = np.isfinite(curve.value)
    x, y = (curve.time[kept] - start) / 1e9, curve.value[kept]
    if len(x) <= 4 * columns:
        return x, y
    column = ((x - x[0]) / max(x[-1] - x[0], 1e-9) * (columns - 1)).astype(np.int64)
    by_value = np.lexsort((y, column))
    first = np.flatnonzero(np.diff(column[by_value], prepend=-1))
    last = np.append(first[1:], len(x)) - 1
    rows = np.unique(np.concatenate((by_value[first], by_value[last])))
    return x[rows], y[rows]


def _gaps(x: NDArray[np.float64]) -> list[int]:
    """Points before which nothing came for long: no line is drawn over that."""
    steps = np.diff(x)
    return [int(i) + 1 for i in np.flatnonzero(steps > 10 * np.median(steps))] if len(steps) > 2 else []


def _marker(i: int, n: int, *, colour: bool) -> Any:
    if colour:
        return plotext.marker("braille", _COLOURS[i])
    return "braille" if n == 1 else _SIGNS[i]


def _set_rulers(
    figure: Any, values: list[tuple[NDArray[np.float64], NDArray[np.float64]]], start: int, end: int, width: int
) -> None:
    seconds = (end - start) / 1e9
    figure.ruler("x").lim(0, seconds)
    ticks = list(_time_ticks(start, seconds, at_most=max(2, width // 14)))
    figure.ruler("x").ticks([at for at, _ in ticks], [text for _, text in ticks])
    every = np.concatenate([y for _, y in values]) if values else np.empty(0)
    low, high = (float(every.min()), float(every.max())) if len(every) else (0.0, 1.0)
    margin = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    figure.ruler("y").lim(low - margin, high + margin)
    levels = _nice_levels(low, high)
    figure.ruler("y").ticks(levels, [number(level) for level in levels])


def _time_ticks(start: int, seconds: float, *, at_most: int) -> Iterator[tuple[float, str]]:
    """Seconds since `start` and local time at round instants."""
    step = next((s for s in _STEPS if seconds / s <= at_most), math.ceil(seconds / at_most / 86_400) * 86_400)
    moment = local(start)
    offset = moment.utcoffset()
    since_midnight = start / 1e9 + (offset.total_seconds() if offset else 0)
    at = -since_midnight % step
    form = "%H:%M:%S" if step < 60 else "%H:%M" if seconds <= 86_400 else "%d %b" if step >= 86_400 else "%d %H:%M"
    while at <= seconds:
        yield at, local(start + round(at * 1e9)).strftime(form)
        at += step


def _nice_levels(low: float, high: float) -> list[float]:
    """Four to eight round values from low to high."""
    if high <= low:
        return [low]
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(n for n in (1, 2, 5, 10) if n * power >= rough)
    first = math.ceil(low / step)
    return [i * step for i in range(first, math.floor(high / step) + 1)]


def _legend(curves: Sequence[Curve], shown: Sequence[Curve], width: int, *, colour: bool) -> Iterator[str]:
    for i, curve in enumerate(shown):
        last = f"  {number(float(curve.value[-1]))}" if len(curve.value) else "  no readings"
        room = width - len(last) - 4
        name = curve.name if len(curve.name) <= room else curve.name[: room - 1] + "…"
        sign = "━" if colour else "•" if len(shown) == 1 else _SIGNS[i]
        mark = plotext.colorize(sign, _COLOURS[i]).string() if colour else sign
        yield f"  {mark} {name}{last}"
    if len(curves) > len(shown):
        hidden = len(curves) - len(shown)
        yield f"  and {hidden} more series, not drawn: narrow the selector, or use --csv"
