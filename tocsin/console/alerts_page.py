"""The page of alerts: what fires, what is pending, what was resolved lately. Here: the page. Not here: its rows."""

from __future__ import annotations

import asyncio

from nicegui import ui

from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.alert_rows import AlertItem, active_items, counted, listed, recent_items, table_row
from tocsin.console.controls import button, field, remember
from tocsin.console.filtering import parse_filter
from tocsin.console.live_table import Column, LiveTable, Row, View
from tocsin.console.parts import Text, box, command, empty_state, panel, path
from tocsin.words import count, local

_EVERY_SECONDS = 1.0
_COLUMNS = (
    Column("state", "State", "state", sortable=True),
    Column("name", "Alert", href="href", sortable=True),
    Column("device", "Device", href="device_href", sortable=True),
    Column("severity", "Severity", sortable=True),
    Column("value", "Value", "num", sortable=True),
    Column("age", "For", "num", sortable=True),
    Column("since", "Since", "num", sortable=True, wide=True),
    Column("summary", "Summary", wide=True),
    Column("labels", "Other labels", wide=True),
)
_SHOWN = {"now": "Now", "firing": "Firing", "pending": "Pending", "recent": "Recent"}


def register(backend: Backend) -> None:
    """/alerts"""

    @ui.page("/alerts")
    async def alerts(q: str = "", show: str = "now", sort: str = "", down: str = "") -> None:
        with frame.page(backend, "Alerts", at="/alerts"):
            show = show if show in _SHOWN else "now"
            await _Alerts(backend, q, show, View(sort or _usual_sort(show), bool(down))).begin()


def _usual_sort(show: str) -> str:
    return "since" if show == "recent" else "state"


class _Alerts:
    """The page of one client."""

    def __init__(self, backend: Backend, q: str, show: str, view: View) -> None:
        self._backend, self._q, self._show = backend, q, show
        self._items: list[AlertItem] = []
        with box("page-head"):
            Text("Alerts", tag="h1")
            with box("seg").props('role=group aria-label="Which alerts"'):
                self._tabs = {name: self._tab(name, title) for name, title in _SHOWN.items()}
            field(
                q, "filter: severity=critical device=pump-* words", self._filter, label="Filter of alerts", search=True
            )
        with panel(classes="flush"):
            self._table = LiveTable("alerts", _COLUMNS, view, self._view_changed)
            self._nothing = box("")

    def _tab(self, name: str, title: str) -> Text:
        async def choose() -> None:
            self._show = name
            self._table.go_to(View(_usual_sort(name)))
            await self._refresh()
            self._remember()

        return button(title, choose, "on" if name == self._show else "")

    async def begin(self) -> None:
        await self._refresh()
        ui.timer(_EVERY_SECONDS, self._refresh)

    async def _refresh(self) -> None:
        try:
            rows, total, counts = await asyncio.to_thread(self._look)
        except TocsinError as error:
            self._empty("No alerts can be shown", str(error))
            return
        for name, tab in self._tabs.items():
            n = counts.get(name)
            tab.set_text(_SHOWN[name] + (f" {count(n)}" if n is not None else ""))
            tab.classes(replace="btn on" if name == self._show else "btn")
        self._table.show(rows, total)
        self._tell_if_empty(total)

    def _look(self) -> tuple[list[Row], int, dict[str, int]]:
        """Rows to show, how many there are, and how many of each kind."""
        backend, view = self._backend, self._table.view
        active, now = active_items(backend), backend.clock.now()
        states = counted(active)
        counts = {"now": len(active), "firing": states["firing"], "pending": states["pending"]}
        if self._show == "recent":
            chosen = recent_items(backend)
        else:
            chosen = [item for item in active if self._show in ("now", item.state)]
        found = listed(chosen, parse_filter(self._q), view.sort, descending=view.descending)
        return [_row(item, now) for item in found[view.start : view.start + view.length]], len(found), counts

    def _tell_if_empty(self, total: int) -> None:
        if total:
            self._nothing.clear()
        elif self._q:
            self._empty(
                "No alert passes the filter", "Words must all be there; name=value compares a label, * is anything."
            )
        elif self._show == "recent":
            self._empty("No alert has been resolved yet", "What fires is under Now.")
        elif not any(group.rules for group in self._backend.groups):
            self._empty(
                "There are no rules yet",
                "Write a rule file, name it under rules: in the configuration, restart.",
                "tocsin config init",
            )
        else:
            self._empty("Nothing fires", "That is how it should be. What was resolved lately is under Recent.")

    def _empty(self, title: str, text: str, line: str = "") -> None:
        said = f"{title}\n{text}"
        if self._nothing.props.get("data-said") == said and self._nothing.default_slot.children:
            return
        self._nothing.props["data-said"] = said
        self._nothing.clear()
        with self._nothing, empty_state(title, text):
            if line:
                command(line)

    async def _filter(self, text: str) -> None:
        self._q = text
        self._table.go_to(View(self._table.view.sort, self._table.view.descending))
        await self._refresh()
        self._remember()

    async def _view_changed(self, _: View) -> None:
        await self._refresh()
        self._remember()

    def _remember(self) -> None:
        view = self._table.view
        remember(
            "/alerts",
            q=self._q,
            show=self._show if self._show != "now" else "",
            sort=view.sort if view.sort != _usual_sort(self._show) else "",
            down="1" if view.descending else "",
        )


def _row(item: AlertItem, now: int) -> Row:
    device = item.label("device")
    return {
        **table_row(item, now),
        "since": f"{local(item.since):%m-%d %H:%M:%S}",
        "href": f"/alerts/{item.key}",
        "device_href": path("/device", name=device) if device else "",
    }
