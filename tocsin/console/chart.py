"""Curves, thresholds and spans of time → the options of an ECharts chart. Pure functions: data in, data out.

Options hold data only. What users and devices have named stands in values that ECharts draws as text on a canvas, never
in keys, formatters or HTML. Not here: where curves come from, the element on the page (`chart_view`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_CURVES = 24
"""In one chart: so many can be told apart by colour and dashes."""
MAX_AXES = 4
COLOURS = ("#3a7fc4", "#d9770a", "#18936b", "#9a62c7", "#c94f4f", "#3fa7b8", "#a3891b", "#7c8794")
"""Told apart by people with any kind of colour vision, on white and on black; dashes tell the rest."""
DASHES: tuple[str | list[int], ...] = ("solid", [7, 4], [2, 3])
_TEXT, _LINE, _ALARM = "#8791a0", "rgba(128, 138, 152, 0.22)", "#d0493e"
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)
_SYMBOLS_UP_TO = 60
_AXIS_WIDTH, _NAME_WIDTH = 52, 150
"""Pixels."""
_FONT = "Roboto, system-ui, sans-serif"
_TIMES = {
    "year": "{yyyy}",
    "month": "{d} {MMM}",
    "day": "{d} {MMM}",
    "hour": "{HH}:{mm}",
    "minute": "{HH}:{mm}",
    "second": "{HH}:{mm}:{ss}",
    "millisecond": "{HH}:{mm}:{ss}.{SSS}",
    "none": "{yyyy}-{MM}-{dd} {HH}:{mm}:{ss}",
}


@dataclass(frozen=True)
class ChartCurve:
    """One line; with `low` and `high`, the band that its readings were in."""

    name: str
    time: NDArray[np.int64]
    """(n,) ns since the epoch (UTC), ascending"""
    value: NDArray[np.float64]
    """(n,)"""
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    axis: str = ""
    """Curves with the same text, such as the metric or its unit, share an axis."""
    gap: int = 300 * 10**9
    """ns: no line is drawn between points further apart."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A level that a rule compares with."""

    name: str
    value: float
    axis: str


@dataclass(frozen=True, slots=True)
class Span:
    """A time of which something is to be said: an alert that fired."""

    name: str
    start: int
    end: int


def chart_options(
    curves: Sequence[ChartCurve],
    start: int,
    end: int,
    *,
    window: tuple[int, int] | None = None,
    thresholds: Sequence[Threshold] = (),
    spans: Sequence[Span] = (),
    width: int = 1_200,
) -> dict[str, Any]:
    """A chart from `start` to `end` (ns), of which `window` is shown first; the rest is there to be panned to.

    `width`: about how many pixels it has, so that names of spans do not stand upon one another.
    """
    shown = curves[:MAX_CURVES]
    axes = list(dict.fromkeys(curve.axis for curve in shown))[:MAX_AXES] or [""]
    index = {axis: i for i, axis in enumerate(axes)}
    series: list[dict[str, Any]] = []
    names: list[str] = []
    for i, curve in enumerate(shown):
        name = curve.name if curve.name not in names else f"{curve.name} ({i + 1})"
        names.append(name)
        series += _lines(curve, name, i, index.get(curve.axis, 0))
    first, last = window or (start, end)
    for axis, i in index.items():
        levels = [level for level in thresholds if level.axis == axis]
        series.append(_marks(i, levels, spans if not i else (), (first, last), width))
    return {
        "animation": False,
        "backgroundColor": "transparent",
        "textStyle": {"fontFamily": _FONT},
        "grid": {
            "left": _AXIS_WIDTH * ((len(axes) + 1) // 2),
            "right": max(16, _AXIS_WIDTH * (len(axes) // 2)),
            "top": 28,
            "bottom": 28,
        },
        "legend": {"show": False, "data": names},
        "tooltip": {
            "trigger": "axis",
            "renderMode": "richText",  # drawn, not HTML
            "confine": True,
            "order": "valueDesc",
            "axisPointer": {"type": "line", "lineStyle": {"color": _TEXT, "type": "dashed"}},
            "backgroundColor": "#1d2530",
            "borderColor": "#1d2530",
            "borderWidth": 0,
            "padding": [6, 9],
            "textStyle": {"color": "#e8ecf2", "fontSize": 12, "fontFamily": _FONT},
            ":valueFormatter": "tocsin.number",
        },
        "dataZoom": [
            {
                "type": "inside",
                "filterMode": "filter",
                "startValue": first / 1e6,
                "endValue": last / 1e6,
                "minValueSpan": 1_000,
                "throttle": 60,
            }
        ],
        "xAxis": {
            "type": "time",
            "min": start / 1e6,
            "max": end / 1e6,
            "axisLabel": {"color": _TEXT, "fontSize": 11, "hideOverlap": True, "formatter": _TIMES},
            "axisLine": {"lineStyle": {"color": _LINE}},
            "axisTick": {"lineStyle": {"color": _LINE}},
            "splitLine": {"show": True, "lineStyle": {"color": _LINE, "width": 0.5}},
        },
        "yAxis": [
            _y_axis(axis, i, [at for at, curve in enumerate(shown) if curve.axis == axis]) for axis, i in index.items()
        ],
        "series": series,
    }


def look(i: int) -> tuple[str, str | list[int]]:
    """Colour and dashes of the curve with that number."""
    return COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]


def nice_step(ns: int) -> int:
    """The shortest round length of time that is not shorter, ns; whole days beyond one."""
    day = 86_400 * 10**9
    return next((s * 10**9 for s in _STEPS if s * 10**9 >= ns), -(-ns // day) * day)


def _lines(curve: ChartCurve, name: str, i: int, axis: int) -> list[dict[str, Any]]:
    colour, dashes = look(i)
    time, value, low, high = with_gaps(curve)
    line: dict[str, Any] = {
        "type": "line",
        "name": name,
        "yAxisIndex": axis,
        "data": points(time, value),
        "showSymbol": len(curve.time) <= _SYMBOLS_UP_TO,
        "symbol": "circle",
        "symbolSize": 4,
        "step": "end" if low is None and is_switch(curve.value) else False,
        "connectNulls": False,
        "lineStyle": {"width": 1.5, "color": colour, "type": dashes},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
        "z": 3,
    }
    if low is None or high is None:
        return [line]
    band = {
        "type": "line",
        "name": name,  # shown and hidden with its line
        "yAxisIndex": axis,
        "stack": f"band {i}",
        "stackStrategy": "all",
        "showSymbol": False,
        "silent": True,
        "tooltip": {"show": False},
        "lineStyle": {"opacity": 0},
        "itemStyle": {"color": colour},
        "emphasis": {"disabled": True},
        "z": 1,
    }
    return [
        line,
        {**band, "data": points(time, low)},
        {**band, "data": points(time, high - low), "areaStyle": {"color": colour, "opacity": 0.18}},
    ]


def with_gaps(
    curve: ChartCurve,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Time, value, low and high with one NaN in the middle of each gap."""
    at = np.flatnonzero(np.diff(curve.time) > curve.gap) + 1
    middle = curve.time[at - 1] + (curve.time[at] - curve.time[at - 1]) // 2 if len(at) else at

    def filled(values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        return None if values is None else np.insert(values, at, np.nan)

    return (
        np.insert(curve.time, at, middle),
        np.insert(curve.value, at, np.nan),
        filled(curve.low),
        filled(curve.high),
    )


def points(time: NDArray[np.int64], value: NDArray[np.float64]) -> list[list[float | None]]:
    """[[ms, value] …]; null where it is no finite number, which neither JSON nor a canvas knows."""
    finite = np.isfinite(value)
    return [
        [t, v if ok else None] for t, v, ok in zip((time / 1e6).tolist(), value.tolist(), finite.tolist(), strict=True)
    ]


def is_switch(value: NDArray[np.float64]) -> bool:
    """Whether it is 0 or 1 all the time: such a line has steps, not slopes."""
    return len(value) > 0 and bool(np.isin(value, (0.0, 1.0)).all())


def _marks(
    axis: int, thresholds: Sequence[Threshold], spans: Sequence[Span], window: tuple[int, int], width: int
) -> dict[str, Any]:
    """A series without points, so that hiding a curve does not hide what is marked."""
    label = {"color": _ALARM, "fontSize": 11, "formatter": "{b}"}
    return {
        "type": "line",
        "name": f"marks {axis}",
        "yAxisIndex": axis,
        "data": [],
        "silent": True,
        "tooltip": {"show": False},
        "markLine": {
            "silent": True,
            "symbol": "none",
            "animation": False,
            "lineStyle": {"color": _ALARM, "type": [4, 3], "width": 1},
            "label": {**label, "position": "insideEndTop" if axis % 2 else "insideStartTop"},
            "data": [{"yAxis": t.value, "name": t.name} for t in thresholds],
        },
        "markArea": {
            "silent": True,
            "itemStyle": {"color": _ALARM, "opacity": 0.12, "borderColor": _ALARM, "borderWidth": 0.5},
            "label": {**label, "position": "insideTopLeft", "overflow": "truncate"},
            "data": _areas(spans, window, width),
        },
    }


def _areas(spans: Sequence[Span], window: tuple[int, int], width: int) -> list[list[dict[str, Any]]]:
    """With their names, as far as there is room: not upon one another, and not over the right edge."""
    room = (window[1] - window[0]) * _NAME_WIDTH // max(width, _NAME_WIDTH)
    areas: list[list[dict[str, Any]]] = []
    named = spans[0].start - room if spans else 0
    for span in spans:
        begin: dict[str, Any] = {"name": span.name, "xAxis": span.start / 1e6}
        at_edge = span.start > window[1] - room
        if span.start - named < room * (2 if at_edge else 1):
            begin["label"] = {"show": False}
        else:
            named = span.start
            begin["label"] = {"show": True, "position": "insideTopRight" if at_edge else "insideTopLeft"}
        areas.append([begin, {"xAxis": span.end / 1e6}])
    return areas


def _y_axis(name: str, i: int, curves: Sequence[int]) -> dict[str, Any]:
    """In the colour of its curve."""
    left = i % 2 == 0
    return {
        "type": "value",
        "name": name,
        "nameTextStyle": {"color": _TEXT, "fontSize": 11, "align": "left" if left else "right"},
        "scale": True,
        "position": "left" if left else "right",
        "offset": _AXIS_WIDTH * (i // 2),
        "axisLabel": {
            "color": look(curves[0])[0] if len(curves) == 1 else _TEXT,
            "fontSize": 11,
            ":formatter": "tocsin.tick",
        },
        "axisLine": {"show": False},
        "axisTick": {"show": False},
        "splitLine": {"show": i == 0, "lineStyle": {"color": _LINE}},
    }
