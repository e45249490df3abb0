"""A chart on a page. Here: the element, its zoom, its picture. Not here: what is drawn (`chart`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nicegui import ui
from nicegui.events import GenericEventArguments

_ZOOMED = "(e) => { const z = (e.batch ?? [e])[0]; if (z.start !== undefined) emit(z.start, z.end); }"
_SETTLED_SECONDS = 0.35


class ChartView:
    """ECharts, drawn in the browser from data that is sent to it."""

    def __init__(self, label: str, *, on_window: Callable[[int, int], object] | None = None, classes: str = "") -> None:
        """`on_window`: called with the window (ns) that the user has zoomed or panned to, once he rests."""
        self._span = (0, 1)
        self._element = ui.echart({"series": []}).classes(f"chart {classes}")
        self._element.props["role"] = "img"
        self._element.props["aria-label"] = label
        if on_window is not None:
            told = on_window

            def zoomed(event: GenericEventArguments) -> None:
                low, high = (min(max(float(percent), 0.0), 100.0) / 100 for percent in event.args)
                start, end = self._span
                told(start + round(low * (end - start)), start + round(high * (end - start)))

            self._element.on(
                "chart:datazoom",
                zoomed,
                throttle=_SETTLED_SECONDS,
                leading_events=False,
                js_handler=_ZOOMED,
            )

    def show(self, options: dict[str, Any]) -> None:
        """Draw these options of `chart_options`."""
        self._span = round(options["xAxis"]["min"] * 1e6), round(options["xAxis"]["max"] * 1e6)
        self._element.options.clear()
        self._element.options.update(options)
        self._element.update()

    def toggle(self, name: str) -> None:
        """Hide a curve, or show it again."""
        self._element.run_chart_method("dispatchAction", {"type": "legendToggleSelect", "name": name})

    def save_js(self, name: str) -> str:
        """A click handler in JavaScript that saves the chart as a PNG; `name` is ours, not a user's."""
        return f"() => tocsin.save({self._element.id}, '{name}')"
