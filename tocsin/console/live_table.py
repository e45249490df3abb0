"""LiveTable: a table that is kept up to date without losing scroll, selection or focus. Beside it, its browser side.

Here: columns, and telling the browser only what has changed. Not here: which rows there are.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nicegui.element import Element
from nicegui.events import GenericEventArguments

from tocsin.console.parts import SIGNS

Row = dict[str, object]
"""By column; with `key`, which tells it from all others."""
_SIGNS = SIGNS | {"reporting": "●", "silent": "◌", "never": "○", "inactive": "○", "error": "✕"}


@dataclass(frozen=True, slots=True)
class Column:
    """One column."""

    name: str
    title: str
    kind: Literal["text", "num", "state", "spark", "mono"] = "text"
    href: str = ""
    """The field of a row that holds the address it leads to; empty: no link."""
    sortable: bool = False
    wide: bool = False
    """Left out on a narrow screen."""


@dataclass(frozen=True, slots=True)
class View:
    """Which part of all rows is shown."""

    sort: str
    descending: bool = False
    start: int = 0
    length: int = 100


class LiveTable(Element, component="live_table.js"):
    """Shows what `show` is given; tells by `changed` that another view is wanted, by `chosen` what is ticked."""

    def __init__(
        self,
        label: str,
        columns: Sequence[Column],
        view: View,
        changed: Callable[[View], Awaitable[None]],
        chosen: Callable[[list[Any]], None] | None = None,
    ) -> None:
        super().__init__()
        self.view = view
        self._changed, self._told = changed, chosen
        self.chosen: list[Any] = []
        """Keys of the rows that are ticked."""
        self._props["label"] = label
        self._props["columns"] = [asdict(column) for column in columns]
        self._props["rows"] = []
        self._props["total"] = 0
        self._props["signs"] = _SIGNS
        self._props["selectable"] = chosen is not None
        self._names = {column.name for column in columns if column.sortable}
        self._tell_view()
        self.on("order", self._order)
        self.on("page", self._page)
        self.on("choose", self._choose)

    def show(self, rows: list[Row], total: int) -> None:
        """These, of so many; nothing is sent if they are as before."""
        if rows != self._props["rows"] or total != self._props["total"]:
            self._props["rows"], self._props["total"] = rows, total
            self.update()

    def unchoose(self) -> None:
        """Nothing is ticked."""
        self.chosen = []
        self.run_method("clear")

    def go_to(self, view: View) -> None:
        """Show another part; whoever calls it fetches the rows."""
        self.view = view
        self._tell_view()
        self.update()

    def _tell_view(self) -> None:
        view = self.view
        self._props["sort"], self._props["descending"] = view.sort, view.descending
        self._props["start"], self._props["length"] = view.start, view.length

    async def _order(self, event: GenericEventArguments) -> None:
        sort = event.args.get("sort")
        if sort in self._names:
            await self._go(View(sort, event.args.get("descending") is True, 0, self.view.length))

    async def _page(self, event: GenericEventArguments) -> None:
        if isinstance(event.args, int) and event.args >= 0:
            await self._go(View(self.view.sort, self.view.descending, event.args, self.view.length))

    async def _go(self, view: View) -> None:
        self.go_to(view)
        await self._changed(view)

    def _choose(self, event: GenericEventArguments) -> None:
        self.chosen = list(event.args)
        if self._told is not None:
            self._told(self.chosen)
