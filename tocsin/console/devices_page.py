"""The page of devices: all of them, a page at a time. Here: the page. Not here: its rows; the page of one device."""

from __future__ import annotations

import asyncio

from nicegui import ui

from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.controls import button, field, remember
from tocsin.console.device_rows import counted, main_series, page_of, sparks, table_row
from tocsin.console.filtering import parse_filter
from tocsin.console.live_table import Column, LiveTable, Row, View
from tocsin.console.parts import Text, box, command, empty_state, panel, path
from tocsin.devices import DeviceRow
from tocsin.words import count

_EVERY_SECONDS = 2.0
_LENGTH = 50
_COLUMNS = (
    Column("state", "State", "state", sortable=True),
    Column("device", "Device", href="href", sortable=True),
    Column("spark", "Last 15 minutes", "spark"),
    Column("last_seen", "Last seen", "num", sortable=True),
    Column("interval", "Interval", "num", sortable=True),
    Column("rate", "Readings", "num", sortable=True),
    Column("skew", "Clock behind", "num", sortable=True, wide=True),
    Column("series", "Series", "num", sortable=True, wide=True),
    Column("firing", "Firing", "num", href="alerts_href", sortable=True),
    Column("labels", "Labels", wide=True),
    Column("streams", "Stream", wide=True),
)
_TABS = {"": "All", "reporting": "Reporting", "silent": "Silent", "firing": "With alerts"}


def register(backend: Backend) -> None:
    """/devices"""

    @ui.page("/devices")
    async def devices(q: str = "", show: str = "", sort: str = "device", down: str = "") -> None:
        with frame.page(backend, "Devices", at="/devices"):
            view = View(sort, bool(down), 0, _LENGTH)
            await _Devices(backend, q, show if show in _TABS else "", view).begin()


class _Devices:
    """The page of one client."""

    def __init__(self, backend: Backend, q: str, show: str, view: View) -> None:
        self._backend, self._q, self._show = backend, q, show
        with box("page-head"):
            Text("Devices", tag="h1")
            with box("seg").props('role=group aria-label="Which devices"'):
                self._tabs = {name: self._tab(name, title) for name, title in _TABS.items()}
            field(q, "filter: site=ams state=silent words", self._filter, label="Filter of devices", search=True)
        with panel(classes="flush"):
            self._table = LiveTable("devices", _COLUMNS, view, self._view_changed)
            self._nothing = box("")

    def _tab(self, name: str, title: str) -> Text:
        async def choose() -> None:
            self._show = name
            await self._from_the_start()

        return button(title, choose, "on" if name == self._show else "")

    async def begin(self) -> None:
        await self._refresh()
        ui.timer(_EVERY_SECONDS, self._refresh)

    async def _refresh(self) -> None:
        try:
            rows, total, counts = await asyncio.to_thread(self._look)
        except TocsinError as error:
            self._tell_if_empty(0, str(error))
            return
        for name, tab in self._tabs.items():
            tab.set_text(f"{_TABS[name]} {count(counts[name])}")
            tab.classes(replace="btn on" if name == self._show else "btn")
        self._table.show(rows, total)
        self._tell_if_empty(total)

    def _look(self) -> tuple[list[Row], int, dict[str, int]]:
        backend, view = self._backend, self._table.view
        devices, now = backend.devices(), backend.clock.now()
        counts = counted(devices) | {"": len(devices)}
        chosen = [row for row in devices if self._is_shown(row)] if self._show else devices
        page = page_of(
            chosen, parse_filter(self._q), view.sort,
            descending=view.descending, start=view.start, length=view.length,
        )  # fmt: skip
        drawn: dict[str, str] = {}
        if page.rows and backend.data.store.exists():
            table = backend.table
            drawn = sparks(backend.store, main_series(table, [row.device for row in page.rows]), now)
        return [_row(row, now, drawn.get(row.device, "")) for row in page.rows], page.total, counts

    def _is_shown(self, row: DeviceRow) -> bool:
        return row.firing > 0 if self._show == "firing" else row.state == self._show

    def _tell_if_empty(self, total: int, why: str = "") -> None:
        title, text = "", ""
        if not total and (self._q or self._show):
            title, text = "No device is so", "Words must all be there; name=value compares a label, * is anything."
        elif not total:
            title, text = "No device has been heard yet", why or "Send a reading; a device appears with its first one:"
        said = f"{title}\n{text}"
        if self._nothing.props.get("data-said") == said:
            return
        self._nothing.props["data-said"] = said
        self._nothing.clear()
        if title:
            with self._nothing, empty_state(title, text):
                if not (self._q or self._show):
                    command("mosquitto_pub -t mydevice/temperature -m 21.5")

    async def _filter(self, text: str) -> None:
        self._q = text
        await self._from_the_start()

    async def _from_the_start(self) -> None:
        view = self._table.view
        self._table.go_to(View(view.sort, view.descending, 0, view.length))
        await self._view_changed(self._table.view)

    async def _view_changed(self, _: View) -> None:
        await self._refresh()
        view = self._table.view
        remember(
            "/devices",
            q=self._q,
            show=self._show,
            sort=view.sort if view.sort != "device" else "",
            down="1" if view.descending else "",
        )


def _row(row: DeviceRow, now: int, spark: str) -> Row:
    return {
        **table_row(row, now, spark),
        "key": row.device,
        "href": path("/device", name=row.device),
        "alerts_href": path("/alerts", q=f'device="{row.device}"') if row.firing else "",
        "firing": f"▲ {row.firing}" if row.firing else "0",
        "spark_label": f"curve of {row.device}",
    }
