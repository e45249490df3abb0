"""A box to try an expression on live data: values now and a chart of the last hour; or what is wrong, and where."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nicegui import ui

import rules
from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.console import choices
from tocsin.console.chart import Threshold, chart_options
from tocsin.console.chart_view import ChartView
from tocsin.console.controls import button
from tocsin.console.curves import find, mistake_of, name_of, since
from tocsin.console.explore_state import ExploreState
from tocsin.console.expression_values import comparisons
from tocsin.console.live_table import Column, LiveTable, Row, View
from tocsin.console.parts import Text, box, panel
from tocsin.console.promql_text import promql
from tocsin.console.suggest import SuggestField
from tocsin.words import number

_WINDOW = 3_600 * 10**9
_POINTS = 300
_MOST_ROWS = 100
_COLUMNS = (Column("series", "Series, now", "mono"), Column("value", "Value", "num"))


@dataclass(frozen=True, slots=True)
class Tried:
    """What an expression gives."""

    rows: list[Row]
    total: int
    options: dict[str, Any] | None
    mistake: str = ""
    """With line and column, where it has a place."""
    place: int | None = None
    note: str = ""
    """Why there is no curve."""


class Trying:
    """The panel on a page. `changed` is called when another expression has been tried."""

    def __init__(self, backend: Backend, text: str, changed: Callable[[], None]) -> None:
        self._backend, self._changed = backend, changed
        self.text = text
        self._asked = 0
        with panel("Try an expression") as end:
            with end:
                self._explore = Text("open in Explore", "hidden", tag="a")
            with box("line"):
                with box("grow"):
                    self._field = SuggestField(
                        "PromQL expression to try",
                        self._complete,
                        self._entered,
                        value=text,
                        placeholder="temperature > 80, or avg by (site) (temperature)",
                        area=True,
                    )
                button("Evaluate", self._again, "primary")
            self._mistake = box("").props("role=alert")
            with box("two trying hidden") as self._result:
                self._chart = ChartView("the expression over the last hour")
                self._table = LiveTable("values now", _COLUMNS, View("series", length=_MOST_ROWS), _nothing)
        if text:
            ui.timer(0.05, self._again, once=True)

    def _complete(self, text: str, caret: int) -> tuple[list[choices.Choice], int]:
        try:
            found = choices.completions(self._backend.table, text, caret)
        except TocsinError:
            return [], 0
        return found, len(found)

    async def _entered(self, _: str) -> None:
        await self._again()

    async def _again(self) -> None:
        text = self.text = self._field.text
        self._asked = mine = self._asked + 1
        self._changed()
        self._mistake.clear()
        self._field.set_bad(bad=False)
        if not text.strip():
            self._result.classes(replace="two trying hidden")
            self._explore.classes(replace="hidden")
            return
        with self._mistake:
            Text("evaluating …", "muted", tag="p")
        tried = await asyncio.to_thread(attempt, self._backend, text)
        if mine == self._asked:
            self._show(text, tried)

    def _show(self, text: str, tried: Tried) -> None:
        self._mistake.clear()
        self._field.set_bad(bad=bool(tried.mistake))
        if tried.mistake:
            self._result.classes(replace="two trying hidden")
            self._explore.classes(replace="hidden")
            with self._mistake:
                Text(tried.mistake, "wrong break", tag="p")
                if tried.place is not None:
                    promql(text, wrong_at=tried.place)
            return
        self._explore.classes(replace="btn")
        self._explore.props["href"] = ExploreState((text,)).address()
        self._result.classes(replace="two trying")
        if tried.options is not None:
            self._chart.show(tried.options)
        self._table.show(tried.rows, min(tried.total, _MOST_ROWS))
        with self._mistake:
            if not tried.total:
                Text("right, but it gives nothing now: no series is so", "muted", tag="p")
            elif tried.total > _MOST_ROWS:
                Text(f"{tried.total:,} elements, of which {_MOST_ROWS} are listed", "muted", tag="p")
            if tried.note:
                Text(tried.note, "muted break", tag="p")


async def _nothing(_: View) -> None:
    """The table shows all it has."""


def attempt(backend: Backend, text: str) -> Tried:
    """Evaluate now, and over the last hour. Blocking."""
    now = backend.clock.now()
    try:
        expression = rules.parse(text)
        stored = rules.Stored(backend.table, backend.store.read_many, own_staleness=backend.own_staleness())
        answer = rules.query_instant(text, stored, now)
    except rules.ExpressionError as error:
        return Tried([], 0, None, str(mistake_of(text, error)), error.offset)
    except TocsinError as error:
        return Tried([], 0, None, str(error))
    rows: list[Row] = []
    for i, (labels, _, value) in enumerate(answer.elements[:_MOST_ROWS]):
        rows.append({"key": i, "series": name_of(labels) or "(no labels)", "value": number(float(value[-1]))})
    found = find(backend, text, now - _WINDOW, now, _POINTS)
    axis = found.curves[0].axis if found.curves else ""
    levels = [Threshold(f"{c.op} {number(c.level)}", c.level, axis) for c in comparisons(expression)] if axis else []
    options = chart_options(found.curves, since(found.curves, now - _WINDOW, now), now, thresholds=levels)
    note = str(found.mistake) if found.mistake is not None else ""
    return Tried(rows, len(answer.elements), options, note=note)
