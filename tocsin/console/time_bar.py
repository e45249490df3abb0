"""The bar above the chart: from when to when, live, table, and what can be taken away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlencode

from nicegui import ui
from nicegui.events import GenericEventArguments

from telemetry.duration import format_duration, parse_duration
from tocsin.console.controls import button
from tocsin.console.explore_reading import Picture
from tocsin.console.explore_state import SHORTEST, ExploreState
from tocsin.console.parts import Text, box
from tocsin.words import iso

_RANGES = ("5m", "15m", "1h", "6h", "1d", "7d", "30d", "90d", "1y")
_BETWEEN = """() => {
  const [from, to] = ["time-from", "time-to"].map((id) => document.getElementById(id).value);
  if (from && to) emit(new Date(from).toISOString(), new Date(to).toISOString());
}"""


class TimeBar:
    """`change` is called with the state that is wanted."""

    def __init__(self, change: Callable[[ExploreState], None], save_js: Callable[[], str]) -> None:
        self._change = change
        self._state = ExploreState()
        self._window, self._now = (0, 1), 1
        with box("time-bar"):
            with box("seg").props('role=group aria-label="Time range"'):
                self._ranges = {text: self._range(text) for text in _RANGES}
            with box("seg"):
                button("⟨", lambda: self._move(-1), title="Earlier").props["aria-label"] = "Earlier"
                out = button("Zoom out", self._zoom_out, title="Twice the time (z)")
                out.props["data-hotkey"] = "z"
                button("⟩", lambda: self._move(1), title="Later").props["aria-label"] = "Later"
            self._between()
            self._told = Text("", "muted time-told clip")
            with box("time-end"):
                self._live = self._switch("Live", "l", _live)
                self._table = self._switch("Table", "v", lambda s: replace(s, table=not s.table))
                with box("seg"):
                    self._csv = Text("CSV", "btn", tag="a").props("download")
                    self._csv.props["title"] = "All readings of this time, as CSV"
                    png = Text("PNG", "btn", tag="button").props("type=button")
                    png.props["title"] = "The chart as a picture"
                    self._png, self._save_js = png, save_js
        self._has_save = False

    def show(self, state: ExploreState) -> None:
        """What is chosen."""
        self._state = state
        if not self._has_save:
            self._png.on("click", js_handler=self._save_js())
            self._has_save = True
        for text, made in self._ranges.items():
            _press(made, on=parse_duration(text) == state.since)
        _press(self._live, on=state.live)
        _press(self._table, on=state.table)

    def tell(self, picture: Picture, state: ExploreState, steps: list[int]) -> None:
        """What is shown now, and how fine."""
        self._window, self._now = picture.window, picture.now
        start, end = picture.window
        step = max(steps, default=0)
        fine = f", a point for each {format_duration(step)}" if step else ""
        moved = "" if state.since else f"{iso(start)[:19].replace('T', ' ')} – {iso(end)[:19].replace('T', ' ')} UTC"
        self._told.set_text((moved or f"last {format_duration(state.since)}") + fine)
        self._csv.props["href"] = csv_address(picture)

    def _range(self, text: str) -> Text:
        made = button(text, lambda: self._change(self._state.last(parse_duration(text))), title=f"The last {text}")
        made.props["aria-pressed"] = "false"
        return made

    def _switch(self, text: str, key: str, changed: Callable[[ExploreState], ExploreState]) -> Text:
        made = button(text, lambda: self._change(changed(self._state)), title=f"{text} ({key})")
        made.props["data-hotkey"] = key
        return made

    def _between(self) -> None:
        with ui.element("details").classes("between"):
            Text("Custom", "btn", tag="summary")
            with box("between-fields panel"):
                for name, label in (("time-from", "From"), ("time-to", "To")):
                    with box("picker-field", tag="label"):
                        Text(label, "field-label")
                        ui.element("input").classes("field").props(f"type=datetime-local step=1 id={name}")
                apply = Text("Show", "btn primary", tag="button").props("type=button")
                apply.on("click", self._set_between, js_handler=_BETWEEN)

    def _set_between(self, event: GenericEventArguments) -> None:
        start, end = (str(text) for text in event.args)
        wanted = ExploreState.read([("from", start), ("to", end)])
        if wanted.start:
            self._change(self._state.between(wanted.start, wanted.end))

    def _move(self, way: int) -> None:
        start, end = self._window
        half = (end - start) // 2
        self._go(start + way * half, end + way * half)

    def _zoom_out(self) -> None:
        start, end = self._window
        half = (end - start) // 2
        self._go(start - half, end + half)

    def _go(self, start: int, end: int) -> None:
        """To a time that does not lie ahead of us."""
        now = self._now
        self._change(self._state.last(end - start) if end >= now else self._state.between(start, end))


def csv_address(picture: Picture) -> str:
    """Where the same comes as CSV, without what cannot be evaluated."""
    start, end = picture.window
    step = max((one.step for one in picture.found), default=0) // 10**9
    pairs = [("query", one.text) for one in picture.found if not one.mistake]
    pairs += [("start", iso(start)), ("end", iso(end)), ("step", str(step))]
    return f"/api/v1/tocsin/readings.csv?{urlencode(pairs)}"


def _live(state: ExploreState) -> ExploreState:
    """What is live lasts until now."""
    length = state.since or max(state.end - state.start, SHORTEST)
    return replace(state.last(length), live=not state.live)


def _press(made: Text, *, on: bool) -> None:
    made.classes(add="on" if on else "", remove="" if on else "on")
    made.props["aria-pressed"] = "true" if on else "false"
