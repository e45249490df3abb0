"""Explore: series and expressions over time, minutes or months; all that is chosen stands in the address.

Here: the page, and drawing anew when something changes. Not here: reading (`explore_reading`), the fields (`picker`).
"""

from __future__ import annotations

import asyncio
import json

from nicegui import ui

from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.chart_view import ChartView
from tocsin.console.curves import Outdated
from tocsin.console.explore_reading import MOST_ROWS, Picture, mistakes, rows, take
from tocsin.console.explore_state import ExploreState
from tocsin.console.legend import Legend
from tocsin.console.live_table import Column, LiveTable, View
from tocsin.console.parts import box, empty_state, link
from tocsin.console.picker import Expressions, Picker
from tocsin.console.time_bar import TimeBar
from tocsin.console.welcome import Stock, stock, welcome

_LIVE_SECONDS = 1.0
_PATIENCE_SECONDS = 0.4
_DEFAULT_WIDTH = 1_200
_COLUMNS = (
    Column("time", "Time (UTC)", "mono"),
    Column("series", "Series"),
    Column("value", "Value", "num"),
    Column("min", "Min", "num", wide=True),
    Column("max", "Max", "num", wide=True),
)


def register(backend: Backend) -> None:
    """The first page."""

    @ui.page("/")
    def explore() -> None:
        with frame.page(backend, "Explore", at="/"):
            Explore(backend)


class Explore:
    """One page that is open. At most one reading of the store is under way; what is outdated by then is not shown."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._client = ui.context.client
        request = self._client.request
        self.state = ExploreState.read(request.query_params.multi_items())
        width = request.cookies.get("tocsin-width", "")
        self._width = int(width) if width.isdecimal() and len(width) < 6 else _DEFAULT_WIDTH
        self._wanted, self._drawing = 0, False
        with box("panel explore-fields", tag="section").props('aria-label="What is shown"'):
            self._picker = Picker(backend, self._add)
            self._expressions = Expressions(backend, self._set_queries)
        self._bar = TimeBar(self._change, self._save_js)
        with box("panel explore-chart", tag="section").props('aria-label="Chart"') as self._panel:
            self._chart = ChartView("Chart of the chosen series", on_window=self._zoomed)
            self._legend = Legend(self._chart.toggle)
        self._note = box("explore-note")
        with box("panel flush explore-table", tag="section") as self._table_panel:
            self._table = LiveTable("Values", _COLUMNS, View("time", length=MOST_ROWS), self._no_view)
        self._said: object = None
        self._sync()
        self._timer = ui.timer(_LIVE_SECONDS, self._draw, active=self.state.live, immediate=False)
        self._shown = True
        frame.on_shown(self._look)
        self._client.on_connect(self._draw)
        self._client.on_delete(self._forget)

    def _save_js(self) -> str:
        return self._chart.save_js("tocsin")

    def _change(self, state: ExploreState) -> None:
        """Show something else, and let the address say so."""
        if state != self.state:
            self.state = state
            self._sync()
            self._client.run_javascript(f"history.pushState(null, '', {json.dumps(state.address())})")
        self._ask()

    def _sync(self) -> None:
        """The fields say what the state says."""
        state = self.state
        self._expressions.show(state.queries)
        self._bar.show(state)
        chosen = bool(state.queries)
        self._panel.set_visibility(chosen)
        self._table_panel.set_visibility(chosen and state.table)

    def _add(self, query: str) -> None:
        if query not in self.state.queries:
            self._set_queries([*self.state.queries, query])

    def _set_queries(self, queries: list[str]) -> None:
        self._change(self.state.with_queries(queries))

    def _zoomed(self, start: int, end: int) -> None:
        self._change(self.state.between(start, end))

    async def _no_view(self, view: View) -> None:
        """The table has one page."""

    def _forget(self) -> None:
        self._wanted += 1

    def _look(self, shown: bool) -> None:
        self._shown = shown
        self._ask()

    def _ask(self) -> None:
        """Draw what the state says now; what is being read for another one is dropped."""
        self._wanted += 1
        self._timer.active = self._shown and self.state.live and bool(self.state.queries)
        ui.timer(0, self._draw, once=True)

    async def _draw(self) -> None:
        if self._drawing:
            return  # it draws anew if it is outdated when it is done
        self._drawing = True
        try:
            while not self._client.is_deleted:
                mine, state = self._wanted, self.state
                try:
                    there = Stock() if state.queries else await asyncio.to_thread(stock, self._backend)
                    picture = await self._read(state, mine)
                except Outdated:
                    continue
                if mine == self._wanted:
                    self._show(state, picture, there)
                    return
        finally:
            self._drawing = False

    async def _read(self, state: ExploreState, mine: int) -> Picture:
        """In a thread; if it takes long, the page says that it is at it."""
        reading = asyncio.ensure_future(asyncio.to_thread(self._take, state, mine))
        await asyncio.wait([reading], timeout=_PATIENCE_SECONDS)
        if not reading.done():
            self._panel.classes(add="reading")
        try:
            return await reading
        finally:
            self._panel.classes(remove="reading")

    def _take(self, state: ExploreState, mine: int) -> Picture:
        return take(self._backend, state, self._width, lambda: self._wanted == mine)

    def _show(self, state: ExploreState, picture: Picture, there: Stock) -> None:
        if self._client.is_deleted:
            return
        self._expressions.complain(list(mistakes(picture.found)))
        curves = picture.inside()
        self._bar.tell(picture, state, [one.step for one in picture.found])
        if state.queries:
            self._chart.show(picture.options())
            self._legend.show(curves, sum(one.more for one in picture.found))
            if state.table:
                found = rows(curves)
                self._table.show(list(found), len(found))
        self._advise(
            state, there, empty=not any(len(curve.time) for curve in curves), broken=any(mistakes(picture.found))
        )

    def _advise(self, state: ExploreState, there: Stock, *, empty: bool, broken: bool) -> None:
        """Below, where there is nothing to see: what to do next."""
        says = (bool(state.queries), there if not state.queries else None, empty and not broken)
        if says == self._said:
            return
        self._said = says
        self._note.clear()
        with self._note:
            if not state.queries:
                welcome(there, self._add)
            elif empty and not broken:
                with empty_state("Nothing in this time", "Choose a longer one, or look whether anything arrives:"):
                    link("Pipeline", "/pipeline", "btn")
