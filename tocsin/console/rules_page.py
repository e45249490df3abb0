"""The page of rules: groups, state, health, text. Here: the page. Not here: its rows; the box to try one (`trying`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nicegui import ui

from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.controls import field, remember
from tocsin.console.filtering import parse_filter
from tocsin.console.parts import Text, badge, box, command, empty_state, link, panel, path
from tocsin.console.promql_text import promql
from tocsin.console.rule_rows import GroupItem, RuleItem, counted, groups_of, rules_in
from tocsin.console.trying import Trying
from tocsin.words import count

_EVERY_SECONDS = 2.0
_MOST_RULES = 200
_BADGES = {"error": "trouble", "recording": "ok"}


def register(backend: Backend) -> None:
    """/rules"""

    @ui.page("/rules")
    async def rules(q: str = "", expr: str = "") -> None:
        with frame.page(backend, "Rules", at="/rules"):
            await _Rules(backend, q, expr).begin()


class _Rules:
    """The page of one client."""

    def __init__(self, backend: Backend, q: str, expr: str) -> None:
        self._backend, self._q = backend, q
        with box("page-head"):
            Text("Rules", tag="h1")
            self._counts = Text("", "muted")
            field(q, "filter: state=firing name=High* words", self._filter, label="Filter of rules", search=True)
        self._trying = Trying(backend, expr, self._remember)
        self._list = box("stack")
        self._drawn: object = None
        self._rows: dict[tuple[str, str], _Rule] = {}

    async def begin(self) -> None:
        await self._refresh()
        ui.timer(_EVERY_SECONDS, self._refresh)

    async def _refresh(self) -> None:
        groups = await asyncio.to_thread(groups_of, self._backend, parse_filter(self._q))
        self._counts.set_text(", ".join(f"{count(n)} {state}" for state, n in counted(groups).items()))
        names = [(group.file, item.id) for group in groups for item in group.rules]
        if names != self._drawn:
            self._drawn = names
            self._rows = {}
            self._list.clear()
            with self._list:
                self._draw(groups)
        for group in groups:
            for item in group.rules:
                if (row := self._rows.get((group.file, item.id))) is not None:
                    row.show(item)

    def _draw(self, groups: Sequence[GroupItem]) -> None:
        if not groups and rules_in(self._backend.groups):
            with panel(), empty_state("No rule passes the filter", "Words must all be there; name=value compares."):
                return
        if not groups:
            with (
                panel(),
                empty_state("There are no rules", "Name rule files under rules: in the configuration; try one:"),
            ):
                command("tocsin demo")
            return
        room = _MOST_RULES
        for group in groups:
            if room <= 0:
                break
            with panel(group.name, note=f"{group.file} · interval {group.interval}".strip(" ·"), classes="flush"):
                for item in group.rules[:room]:
                    self._rows[group.file, item.id] = _Rule(item)
            room -= len(group.rules)
        if room < 0:
            Text(f"{count(-room)} more rules: the filter finds them", "muted", tag="p")

    async def _filter(self, text: str) -> None:
        self._q = text
        await self._refresh()
        self._remember()

    def _remember(self) -> None:
        remember("/rules", q=self._q, expr=self._trying.text)


class _Rule:
    """One rule on the page; `show` changes only what is different."""

    def __init__(self, item: RuleItem) -> None:
        with box("rule"):
            self._state = box("", tag="span")
            with box("rule-name"):
                Text(item.name)
                self._more = Text("", "rule-more muted", tag="div")
            promql(item.expr)
            with box("rule-end"):
                self._alerts = box("rule-end")
                link("try it", path("/rules", expr=item.expr))
            self._error = Text("", "wrong break", tag="p")
        self._shown: RuleItem | None = None

    def show(self, item: RuleItem) -> None:
        before, self._shown = self._shown, item
        if before == item:
            return
        self._more.set_text(" · ".join(filter(None, (item.evaluation, *item.extra, item.cost))))
        self._error.set_text(f"✕ {item.error}" if item.error else "")
        if before is None or before.state != item.state:
            self._state.clear()
            with self._state:
                badge(_BADGES.get(item.state, item.state), item.state)
        if before is None or (before.firing, before.pending) != (item.firing, item.pending):
            self._alerts.clear()
            with self._alerts:
                for state, n in (("firing", item.firing), ("pending", item.pending)):
                    if n:
                        link(f"{count(n)} {state}", "/alerts", q=f'rule="{item.id}" state={state}')
