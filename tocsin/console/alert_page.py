"""The page of one alert: what happened, why, and who was told. Not here: what is known of it (`alert_story`)."""

from __future__ import annotations

import asyncio

from nicegui import ui

from telemetry import TocsinError, format_duration
from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.alert_chart import Drawing, draw, parts_of, question_of
from tocsin.console.alert_rows import coarse
from tocsin.console.alert_story import Story, find_story, moments, outcome, receipts
from tocsin.console.chart_view import ChartView
from tocsin.console.explore_state import ExploreState
from tocsin.console.expression_values import Part
from tocsin.console.legend import Legend
from tocsin.console.parts import Text, badge, box, empty_state, link, panel, path
from tocsin.console.promql_text import promql
from tocsin.words import local, number

_EVERY_SECONDS = 5.0
_INDENT_PX = 18


def register(backend: Backend) -> None:
    """/alerts/…"""

    @ui.page("/alerts/{key}")
    async def alert(key: str) -> None:
        story = await asyncio.to_thread(find_story, backend, key)
        with frame.page(backend, story.item.label("alertname") if story else "Alert", at="/alerts"):
            if story is None:
                with empty_state("There is no such alert", "It was resolved before it fired, or its event has gone."):
                    link("all alerts", "/alerts")
                return
            await _Alert(backend, key, story).begin()


class _Alert:
    """The page of one client."""

    def __init__(self, backend: Backend, key: str, story: Story) -> None:
        self._backend, self._key, self._story = backend, key, story
        self._head = box("page-head")
        with box("two"):
            with box("stack"):
                with panel("Around the event") as end:
                    with end:
                        self._explore = Text("open in Explore", "hidden btn", tag="a")
                    self._note = Text("", "muted break", tag="p")
                    self._chart = ChartView("what the rule compares, around the event")
                    self._legend = Legend(self._chart.toggle)
                with panel("What happened"):
                    self._timeline = box("timeline")
                with panel("Receivers"):
                    self._receipts = box("timeline")
            with box("stack"):
                with panel("Rule"):
                    self._rule()
                with panel(
                    "Each part of the expression", note=f"at {local(story.at):%H:%M:%S}, when it {_came(story)}"
                ):
                    self._parts = box("parts")
                with panel("Labels"):
                    _pairs(story.item.labels)
                if story.item.annotations:
                    with panel("Annotations"):
                        _pairs(story.item.annotations)
                self._earlier()

    async def begin(self) -> None:
        self._show()
        ui.timer(0.05, self._explain, once=True)
        if not self._story.ends_at:
            ui.timer(_EVERY_SECONDS, self._look_again)

    async def _look_again(self) -> None:
        story = await asyncio.to_thread(find_story, self._backend, self._key)
        if story is not None and (story.published, story.item.state) != (self._story.published, self._story.item.state):
            self._story = story
            self._show()
            await self._draw()

    def _show(self) -> None:
        story, now = self._story, self._backend.clock.now()
        self._head.clear()
        with self._head:
            badge("resolved" if story.ends_at else story.item.state)
            Text(story.item.label("alertname") or story.item.rule, tag="h1")
            if device := story.item.label("device"):
                link(device, "/device", "break", name=device)
            lasted = (story.ends_at or now) - story.starts_at
            Text(f"for {coarse(lasted)}, value {number(story.item.value)}", "muted")
            Text(story.item.summary, "break")
        self._timeline.clear()
        with self._timeline:
            for moment in moments(story):
                _line(moment.time, moment.state, moment.text, moment.key if moment.key != self._key else "")
        self._receipts.clear()
        with self._receipts:
            for event, receipt in receipts(story):
                state, text = outcome(receipt)
                _line(event.detected_at, state, f"{receipt.receiver} of {event.state}: {text}")
            if not receipts(story):
                told = (
                    "no receiver is configured: add one under receivers:"
                    if story.event
                    else "receivers hear of it when it fires"
                )
                Text(told, "muted", tag="p")

    def _rule(self) -> None:
        story, rule = self._story, self._story.rule
        if rule is None:
            Text(f"{story.item.rule}: no rule of the configuration has this name now", "muted", tag="p")
            return
        link(rule.id, "/rules", q=rule.alert)
        promql(rule.expr)
        holds = [f"for {format_duration(rule.hold)}"] if rule.hold else []
        holds += [f"keep firing for {format_duration(rule.keep)}"] if rule.keep else []
        holds += [f"no data: {rule.no_data}"]
        Text(" · ".join(holds), "muted", tag="p")

    def _earlier(self) -> None:
        others = [
            e for e in self._story.earlier if self._story.event is None or e.starts_at != self._story.event.starts_at
        ]
        if others:
            with panel("Other firings of the same alert"), box("chips"):
                for event in others:
                    link(f"{local(event.starts_at):%m-%d %H:%M:%S}", f"/alerts/{event.id}", "chip")

    async def _explain(self) -> None:
        await self._draw()
        story = self._story
        if story.rule is None:
            self._say("the rule is gone: nothing can be evaluated")
            return
        try:
            question = question_of(self._backend, story)
            parts = await asyncio.to_thread(parts_of, self._backend, story.rule, question)
        except TocsinError as error:
            self._say(str(error))
            return
        with self._parts:
            for part in parts:
                _part(part)

    def _say(self, text: str) -> None:
        with self._parts:
            Text(text, "muted", tag="p")

    async def _draw(self) -> None:
        rule = self._story.rule
        if rule is None:
            self._note.set_text("the rule is gone: its curve is not known")
            return
        try:
            question = question_of(self._backend, self._story)
            drawing = await asyncio.to_thread(draw, self._backend, self._story, rule, question)
        except TocsinError as error:
            self._note.set_text(str(error))
            return
        self._chart.show(drawing.options)
        self._note.set_text("" if drawing.curves else "no readings in this time")
        self._legend.show(drawing.curves)
        self._explore.classes(replace="btn")
        self._explore.props["href"] = _address(drawing)


def _address(drawing: Drawing) -> str:
    return ExploreState(drawing.queries).between(drawing.start, drawing.end).address()


def _came(story: Story) -> str:
    return {"firing": "fired", "resolved": "was resolved"}.get(story.item.state, "became pending")


def _line(time: int, state: str, text: str, key: str = "") -> None:
    """`key`: of the event whose page it leads to."""
    with box("moment"):
        Text(f"{local(time):%Y-%m-%d %H:%M:%S}", "when muted")
        with box("", tag="span"):
            badge(state)
        with box("text break"):
            Text(text)
            if key:
                link(" · the values then", f"/alerts/{key}")


def _part(part: Part) -> None:
    with box("part"):
        with box("grow").style(f"padding-left: {part.depth * _INDENT_PX}px"):
            promql(part.text)
        with box("gave"):
            for labels, value in part.elements:
                with box(""):
                    Text(number(value), tag="b").props["title"] = labels
            if part.remark:
                Text(part.remark, "muted")
            if part.more:
                Text(f"and {part.more} of others", "muted")


def _pairs(pairs: tuple[tuple[str, str], ...]) -> None:
    with box("facts", tag="dl"):
        for name, value in pairs:
            Text(name, tag="dt")
            with box("", tag="dd"):
                if name == "device":
                    link(value, path("/device", name=value))
                else:
                    Text(value)
