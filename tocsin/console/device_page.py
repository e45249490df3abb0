"""The page of one device: its series, their curves, its alerts, what of it was refused, what its streams promise.

Not here: rows and curves (`device_rows`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from nicegui import ui

from ingest.dead_letters import DeadLetter, Selection
from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.alert_rows import AlertItem, active_items, coarse, recent_items
from tocsin.console.chart import chart_options
from tocsin.console.chart_view import ChartView
from tocsin.console.choices import selector
from tocsin.console.curves import find, since
from tocsin.console.device_rows import SPARK_NS, about, last_values, rate, signed_span, spark_path
from tocsin.console.explore_state import ExploreState
from tocsin.console.legend import Legend
from tocsin.console.live_table import Column, LiveTable, Row, View
from tocsin.console.parts import Text, badge, box, command, empty_state, link, panel
from tocsin.devices import DeviceRow
from tocsin.status import StreamRow
from tocsin.words import count, local

_EVERY_SECONDS = 2.0
_MOST_SERIES = 200
_MOST_ALERTS, _MOST_LETTERS = 20, 10
_WINDOW, _POINTS, _MOST_CURVES = 3_600 * 10**9, 400, 8
_LOOKED_THROUGH = 500
_COLUMNS = (
    Column("metric", "Series", href="href"),
    Column("labels", "Labels", wide=True),
    Column("spark", "Last 15 minutes", "spark"),
    Column("value", "Last value", "num"),
    Column("time", "At", "num"),
)


def register(backend: Backend) -> None:
    """/device?name=…"""

    @ui.page("/device")
    async def device(name: str = "") -> None:
        with frame.page(backend, name or "Device", at="/devices"):
            await _Device(backend, name).begin()


@dataclass(frozen=True, slots=True)
class _Look:
    row: DeviceRow | None
    rows: list[Row]
    series: int
    alerts: Sequence[AlertItem]
    letters: Sequence[DeadLetter]
    streams: Sequence[StreamRow]
    now: int


class _Device:
    """The page of one client."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name
        self._said: dict[str, object] = {}

    async def begin(self) -> None:
        try:
            look = await asyncio.to_thread(self._look)
        except TocsinError as error:
            with empty_state("No device has been heard yet", str(error)):
                return
        if look.row is None:
            self._tell_that_it_is_not_there(look.letters)
            return
        self._build()
        self._show(look)
        ui.timer(0.05, self._draw, once=True)
        ui.timer(_EVERY_SECONDS, self._refresh)

    def _tell_that_it_is_not_there(self, letters: Sequence[DeadLetter]) -> None:
        Text(self._name, tag="h1")
        if letters:
            with panel("It has given no reading that could be used"), box("timeline"):
                _list_letters(letters)
            return
        with empty_state("There is no such device", "It has given no reading yet; names are case-sensitive."):
            link("all devices", "/devices")
            command("mosquitto_pub -t mydevice/temperature -m 21.5")

    def _build(self) -> None:
        self._head = box("page-head")
        with box("two"):
            with box("stack"):
                with panel("The last hour") as end:
                    with end:
                        link("open in Explore", self._explore(), "btn")
                    self._chart = ChartView(f"the last hour of {self._name}")
                    self._legend = Legend(self._chart.toggle)
                with panel("Series", classes="flush"):
                    self._table = LiveTable("series", _COLUMNS, View("metric", length=_MOST_SERIES), _nothing)
            with box("stack"):
                with panel("Device"):
                    self._facts = box("facts", tag="dl")
                with panel("Alerts"):
                    self._alerts = box("timeline")
                with panel("Streams"):
                    self._streams = box("stack")
                with panel("Dead letters of its topics"):
                    self._letters = box("timeline")

    def _explore(self) -> str:
        return ExploreState((selector("", device=self._name),)).address()

    async def _refresh(self) -> None:
        try:
            self._show(await asyncio.to_thread(self._look))
        except TocsinError:
            return  # it was there a moment ago, and comes back with the next look

    async def _draw(self) -> None:
        now = self._backend.clock.now()
        text = selector("", device=self._name)
        found = await asyncio.to_thread(find, self._backend, text, now - _WINDOW, now, _POINTS, most=_MOST_CURVES)
        self._chart.show(chart_options(found.curves, since(found.curves, now - _WINDOW, now), now))
        self._legend.show(found.curves)

    def _look(self) -> _Look:
        backend, name = self._backend, self._name
        now = backend.clock.now()
        row = next((row for row in backend.devices() if row.device == name), None)
        if row is None:
            return _Look(None, [], 0, (), self._refused(), (), now)
        table = backend.table
        ids = table.with_label("device", name).tolist()
        values = last_values(table, backend.store, ids)[:_MOST_SERIES]
        curves = backend.store.read_many([id_ for id_, _, _ in values], now - SPARK_NS, now + 1)
        rows: list[Row] = []
        for id_, at, value in values:
            series = table[id_]
            others = {label: own for label, own in series.labels if label != "device"}
            rows.append(
                {
                    "key": id_,
                    "metric": series.metric,
                    "href": ExploreState((selector(series.metric, device=name, **others),)).address(),
                    "labels": ", ".join(f"{label}={own}" for label, own in others.items()),
                    "spark": spark_path(*curves[id_], now - SPARK_NS, now + 1),
                    "spark_label": f"curve of {series.metric}",
                    "value": value,
                    "time": f"{local(at):%H:%M:%S}" if now - at < 86_400 * 10**9 else f"{local(at):%Y-%m-%d}",
                }
            )
        alerts = [item for item in (*active_items(backend), *recent_items(backend)) if item.label("device") == name]
        streams = [stream for stream in backend.snapshot().streams if stream.name in row.streams]
        return _Look(row, rows, len(ids), alerts[:_MOST_ALERTS], self._refused(), streams, now)

    def _refused(self) -> Sequence[DeadLetter]:
        """Of the newest dead letters, those with a level of the topic that is its name."""
        if not self._backend.data.dead_letters.exists():
            return ()
        newest = self._backend.dead_letters.list(Selection(), limit=_LOOKED_THROUGH)
        return [letter for letter in newest if self._name in letter.topic.split("/")][:_MOST_LETTERS]

    def _show(self, look: _Look) -> None:
        if look.row is None:
            return
        self._table.show(look.rows, len(look.rows))
        row, now = look.row, look.now
        if self._is_new("head", (row.state, row.firing)):
            self._head.clear()
            with self._head:
                badge({"reporting": "ok", "silent": "waiting"}.get(row.state, "stopped"), row.state)
                Text(row.device, tag="h1")
                if row.firing:
                    badge("firing", f"{count(row.firing)} firing")
        facts = _facts(row, now)
        if self._is_new("facts", facts):
            self._facts.clear()
            with self._facts:
                for name, said in facts:
                    Text(name, tag="dt")
                    Text(said, tag="dd")
        if self._is_new("alerts", [(item.key, item.state) for item in look.alerts]):
            self._alerts.clear()
            with self._alerts:
                _list_alerts(look.alerts)
        if self._is_new("streams", look.streams):
            self._streams.clear()
            with self._streams:
                _list_streams(look.streams)
        if self._is_new("letters", [letter.id for letter in look.letters]):
            self._letters.clear()
            with self._letters:
                _list_letters(look.letters)

    def _is_new(self, name: str, what: object) -> bool:
        """Whether a part of the page has to be made anew."""
        if name in self._said and self._said[name] == what:
            return False
        self._said[name] = what
        return True


async def _nothing(_: View) -> None:
    """The table shows all it has."""


def _facts(row: DeviceRow, now: int) -> list[tuple[str, str]]:
    facts = [*row.labels, ("series", count(row.series))]
    facts.append(("last seen", f"{coarse(now - row.last_seen)} ago" if row.last_seen else "never"))
    facts.append(("reports every", "not known yet" if row.interval is None else about(row.interval)))
    behind = "not known yet" if row.skew is None else f"{signed_span(row.skew)}, the way here included"
    return [*facts, ("clock behind", behind), ("readings", rate(row.rate))]


def _list_alerts(alerts: Sequence[AlertItem]) -> None:
    for item in alerts:
        with box("moment"):
            Text(f"{local(item.since):%Y-%m-%d %H:%M:%S}", "when muted")
            with box("", tag="span"):
                badge(item.state)
            link(item.label("alertname") or item.rule, f"/alerts/{item.key}", "text")
    if not alerts:
        Text("none now, and none lately", "muted", tag="p")


def _list_streams(streams: Sequence[StreamRow]) -> None:
    for stream in streams:
        with box(""):
            with box("line"):
                Text(stream.name, tag="b")
                Text(stream.topic, "mono muted break")
                if stream.guarantee:
                    badge({"G2": "ok", "G0": "waiting"}.get(stream.guarantee, "trouble"), stream.guarantee)
            for note in stream.notes:
                Text(f"· {note}", "muted break", tag="p")
    if not streams:
        Text("not heard since tocsin was started", "muted", tag="p")


def _list_letters(letters: Sequence[DeadLetter]) -> None:
    for letter in letters:
        with box("moment"):
            Text(f"{local(letter.received):%Y-%m-%d %H:%M:%S}", "when muted")
            link(letter.reason, "/dead-letters", q=f"id={letter.id}")
            Text(letter.detail, "text break muted")
    if not letters:
        Text("none of the newest", "muted", tag="p")
