"""The page of the pipeline: its picture with live figures, and of each stream, why there are data or not.

Not here: the figures (`pipeline_stages`, `tocsin.no_data`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nicegui import ui

from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.parts import SIGNS, Text, badge, box, command, empty_state, link, panel
from tocsin.console.pipeline_stages import Books, Picture, Rates, Stage, picture
from tocsin.no_data import StreamFlow
from tocsin.status import Snapshot
from tocsin.words import count, span

_EVERY_SECONDS = 2.0
_GUARANTEES = {
    "G2": "nothing acknowledged is lost",
    "G0": "may be lost on the way here",
    "none": "nothing is promised",
}


def register(backend: Backend) -> None:
    """/pipeline"""

    @ui.page("/pipeline")
    async def pipeline() -> None:
        with frame.page(backend, "Pipeline", at="/pipeline"):
            await _Pipeline(backend).begin()


class _Pipeline:
    """The page of one client."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._rates = backend, Rates()
        self._drawn: tuple[str, ...] = ()
        with box("page-head"):
            Text("Pipeline", tag="h1")
            self._words = Text("", "muted")
        self._alarm = box("")
        self._flow = box("flow")
        self._boxes: dict[str, _Box] = {}
        with panel("Streams", note="connected, but no data? Here is why", classes="flush"):
            self._streams = box("")

    async def begin(self) -> None:
        await self._refresh()
        ui.timer(_EVERY_SECONDS, self._refresh)

    async def _refresh(self) -> None:
        snapshot = await asyncio.to_thread(frame.pulse_of(self._backend).snapshot)
        flows = await asyncio.to_thread(self._backend.flows)
        self._rates.look(snapshot)
        self._tell(snapshot)
        self._draw(picture(snapshot, self._rates))
        self._list(flows, snapshot)

    def _tell(self, s: Snapshot) -> None:
        up = f"up {span(s.time - s.started, digits=0)}" if s.running else "not running: these are its files"
        self._words.set_text(f"version {s.version or '?'} · {up}")
        said = ", ".join(s.imbalances)
        if self._alarm.props.get("data-said", "") != said:
            self._alarm.props["data-said"] = said
            self._alarm.clear()
            if said:
                with self._alarm, box("banner trouble").props("role=alert"):
                    Text(SIGNS["trouble"], "sign")
                    Text(f"The books do not balance at: {said}. Rows are lost or counted twice: please report this.")

    def _draw(self, drawing: Picture) -> None:
        stages = (*drawing.trunk, *drawing.rules, *drawing.sinks)
        names = tuple(stage.name for stage in stages)
        if names != self._drawn:
            self._drawn = names
            self._flow.clear()
            with self._flow:
                self._build(drawing)
        for stage in stages:
            self._boxes[stage.name].show(stage)

    def _build(self, drawing: Picture) -> None:
        self._boxes = {}
        with box("flow-row").props('role=list aria-label="From the broker to the rules and sinks"'):
            for i, stage in enumerate(drawing.trunk):
                if i:
                    box("arrow-right").props("aria-hidden=true")
                self._boxes[stage.name] = _Box(stage.name)
        box("bus").props("aria-hidden=true").style(f"--branches: {1 + len(drawing.sinks)}")
        with box("branches"):
            first, *receivers = drawing.rules
            with box("branch"):
                self._boxes[first.name] = _Box(first.name)
                for receiver in receivers:
                    with box("branch"):
                        self._boxes[receiver.name] = _Box(receiver.name)
            for sink in drawing.sinks:
                with box("branch"):
                    self._boxes[sink.name] = _Box(sink.name)

    def _list(self, flows: Sequence[StreamFlow], snapshot: Snapshot) -> None:
        said = repr(flows) + "".join(str(snapshot.time // 10**10))
        if self._streams.props.get("data-said") == str(hash(said)):
            return
        self._streams.props["data-said"] = str(hash(said))
        self._streams.clear()
        notes = {row.name: row.notes for row in snapshot.streams}
        with self._streams:
            for flow in flows:
                _stream(flow, notes.get(flow.name, ()), snapshot.time)
            if not flows:
                with empty_state("There are no streams", "A stream says which topics are read, and how."):
                    command("tocsin config init")


class _Box:
    """One stage on the page; `show` changes only what is different."""

    def __init__(self, name: str) -> None:
        with box("stage").props(f'role=listitem data-stage="{name}"') as self._box:
            with box("stage-head"):
                self._title = Text("", "", tag="h2")
                self._badge = box("", tag="span")
            with box("stage-rate"):
                self._figure = Text("")
                self._unit = Text("", "", tag="small")
            self._lines = box("")
            self._books = box("stage-books")
            self._error = Text("", "wrong break", tag="p")
        self._shown: Stage | None = None

    def show(self, stage: Stage) -> None:
        before, self._shown = self._shown, stage
        if before == stage:
            return
        self._figure.set_text(stage.figure)
        if before is None or (before.title, before.unit) != (stage.title, stage.unit):
            self._title.set_text(stage.title)
            self._unit.set_text(f" {stage.unit}")
        if before is None or (before.state, before.word) != (stage.state, stage.word):
            self._box.classes(replace=f"stage {stage.state}")
            self._badge.clear()
            with self._badge:
                badge(stage.state, stage.word)
        if before is None or before.lines != stage.lines:
            self._lines.clear()
            with self._lines:
                for line in stage.lines:
                    Text(line, "stage-line", tag="div")
        if before is None or before.books != stage.books:
            self._books.clear()
            with self._books:
                for books in stage.books:
                    _account(books)
        self._error.set_text(stage.error)


def _account(books: Books) -> None:
    parts = " + ".join(f"{n} {name}" for name, n in books.parts) or "nothing yet"
    with box(""):
        sign = Text("✕ " if books.wrong else "✓ ", "wrong" if books.wrong else "muted")
        sign.props["title"] = "the books do not balance" if books.wrong else "the books balance"
        Text(f"{books.stage} {books.received} = {parts}")
        if books.wrong:
            Text(f"✕ {books.wrong}", "loud")


def _stream(flow: StreamFlow, notes: Sequence[str], now: int) -> None:
    with box("stream"):
        with box("line"):
            Text(flow.name, tag="b")
            Text(flow.topic, "mono muted break")
            if flow.guarantee:
                state = {"G2": "ok", "G0": "waiting"}.get(flow.guarantee, "trouble")
                badge(state, f"{flow.guarantee}: {_GUARANTEES.get(flow.guarantee, '')}")
            if flow.last_message:
                Text(f"newest message {span(max(0, now - flow.last_message), digits=0)} ago", "muted")
        with box("why"):
            figures = (
                ("messages seen", flow.seen),
                ("decoded", flow.decoded),
                ("matched", flow.matched),
                ("readings stored", flow.stored),
            )
            empty = next((i for i, (_, n) in enumerate(figures) if not n), len(figures))
            for i, (word, n) in enumerate(figures):
                with box("step" + (" none" if i == empty else " after" if i > empty else "")):
                    Text(count(n, short=True), tag="b")
                    Text(word, "muted")
        if flow.why:
            Text(f"◌ {flow.why}", "break", tag="p")
        if flow.last_error and flow.last_error not in flow.why:
            Text(f"last refused: {flow.last_error}", "muted break", tag="p")
        for note in notes:
            Text(f"· {note}", "muted break", tag="p")
        if flow.seen > flow.decoded or flow.last_error:
            link("its dead letters", "/dead-letters", q=f"stream={flow.name}")
