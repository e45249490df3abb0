"""The legend below a chart: what each line is, and its last, smallest, mean and largest value in the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nicegui import ui

from tocsin.console.chart import ChartCurve, look
from tocsin.console.curves import summary
from tocsin.console.parts import Text, box
from tocsin.words import number

_FIGURES = ("last", "min", "mean", "max")


class Legend:
    """A row for each curve; a click on its name hides the curve, or shows it again."""

    def __init__(self, toggle: Callable[[str], None]) -> None:
        self._toggle = toggle
        self._names: list[str] = []
        self._cells: list[list[Text]] = []
        self._body = box("legend")

    def show(self, curves: Sequence[ChartCurve], more: int = 0) -> None:
        """The figures of these; rows are made anew only if there are other curves."""
        names = [curve.name for curve in curves] + [f"{more}"]
        if names != self._names:
            self._names = names
            self._body.clear()
            with self._body:
                self._rows(curves, more)
        for cells, curve in zip(self._cells, curves, strict=True):
            for cell, value in zip(cells, summary(curve), strict=True):
                cell.set_text("–" if value != value else number(value))  # noqa: PLR0124  # NaN

    def _rows(self, curves: Sequence[ChartCurve], more: int) -> None:
        self._cells = []
        with box("grid", tag="table"):
            with box("", tag="thead"), box("", tag="tr"):
                Text("Series", tag="th")
                for name in _FIGURES:
                    Text(name, "num" + ("" if name == "last" else " wide-only"), tag="th")
            with box("", tag="tbody"):
                for i, curve in enumerate(curves):
                    self._row(i, curve.name)
        if more:
            text = f"and {more:,} more series that are not drawn: choose a device, or aggregate with avg by (site) (…)"
            Text(text, "muted legend-more", tag="p")

    def _row(self, i: int, name: str) -> None:
        with box("", tag="tr"):
            with box("", tag="td"), box("legend-name", tag="button").props("type=button aria-pressed=true") as button:
                _swatch(i)
                Text(name)
            self._cells.append([Text("", "num" + ("" if f == "last" else " wide-only"), tag="td") for f in _FIGURES])

        def toggled() -> None:
            hidden = button.props["aria-pressed"] == "true"
            button.props["aria-pressed"] = "false" if hidden else "true"
            self._toggle(name)

        button.on("click", lambda _: toggled())


def _swatch(i: int) -> None:
    """A piece of the line, with its dashes."""
    colour, dashes = look(i)
    with ui.element("svg").classes("swatch").props('width=22 height=10 viewBox="0 0 22 10" aria-hidden=true'):
        line = ui.element("line").props("x1=0 y1=5 x2=22 y2=5 stroke-width=2.5")
        line.props["stroke"] = colour
        if not isinstance(dashes, str):
            line.props["stroke-dasharray"] = " ".join(map(str, dashes))
