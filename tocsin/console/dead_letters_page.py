"""The page of dead letters: what was refused, by reason; replay and purge. Here: the page. Not here: its rows.

Replay and purge write the file of the dead letters as `tocsin dead-letters` does from another process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from nicegui import ui

from ingest.dead_letters import DeadLetters, Selection
from ingest.durable import is_locked
from ingest.replay_queue import Progress, ReplayQueue
from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.controls import Question, button, enable, field, remember
from tocsin.console.dead_letter_rows import progress_text, selection_of, table_row
from tocsin.console.filtering import parse_filter
from tocsin.console.letter import Letter
from tocsin.console.live_table import Column, LiveTable, Row, View
from tocsin.console.parts import Text, box, empty_state, panel
from tocsin.http.roles import Role, role_of
from tocsin.words import count

_EVERY_SECONDS = 2.0
_PROGRESS_SECONDS = 0.5
_LENGTH = 50
_COLUMNS = (
    Column("id", "Id", "num", href="href"),
    Column("received", "Received", "num"),
    Column("reason", "Reason"),
    Column("topic", "Topic", "mono"),
    Column("detail", "What was wrong"),
    Column("payload", "Payload", "mono", wide=True),
    Column("size", "Bytes", "num", wide=True),
)
_Result = TypeVar("_Result")


def register(backend: Backend) -> None:
    """/dead-letters"""

    @ui.page("/dead-letters")
    async def dead_letters(q: str = "", reason: str = "", open: str = "") -> None:  # noqa: A002  # as in the address
        with frame.page(backend, "Dead letters", at="/dead-letters"):
            page = _DeadLetters(backend, q, reason)
            await page.begin(int(open) if open.isascii() and open.isdecimal() and len(open) < 19 else 0)


@dataclass(frozen=True, slots=True)
class _Look:
    rows: list[Row]
    total: int
    reasons: dict[str, int]
    """Of the letters that pass the filter, whatever the reason chosen."""


class _DeadLetters:
    """The page of one client."""

    def __init__(self, backend: Backend, q: str, reason: str) -> None:
        self._backend, self._q, self._reason = backend, q, reason
        self._may_write = role_of(ui.context.client.request.scope) is Role.OPERATOR
        self._replay: tuple[int, int] | None = None
        self._question = Question()
        with box("page-head"):
            Text("Dead letters", tag="h1")
            hint = "filter: stream=telemetry topic=sensors/north/# since=2h"
            field(q, hint, self._filter, label="Filter of dead letters", search=True)
        self._reasons = box("reasons").props('role=group aria-label="Reason"')
        self._mistake = Text("", "wrong break", tag="p").props("role=alert")
        self._running = box("")
        self._letter = Letter(backend, self._close)
        with panel(classes="flush"):
            with box("panel-head"):
                self._choice = Text("", "muted")
                with box("panel-end"):
                    why = "" if self._may_write else "only an operator may do this"
                    self._again = button("Replay…", self._ask_replay, title=why)
                    self._purge = button("Purge…", self._ask_purge, title=why)
            self._table = LiveTable("dead letters", _COLUMNS, View("id", length=_LENGTH), self._seen, self._chosen)
            self._nothing = box("")
        self._listed = _Look([], 0, {})
        self._said: dict[str, int] | None = None

    async def begin(self, letter: int) -> None:
        await self._refresh()
        if letter:
            await self._letter.open(letter)
        ui.timer(_EVERY_SECONDS, self._refresh)
        self._progress = ui.timer(_PROGRESS_SECONDS, self._follow, active=False)

    async def _refresh(self) -> None:
        try:
            look = await asyncio.to_thread(self._look)
        except TocsinError as error:
            look = _Look([], 0, {})
            self._mistake.set_text(str(error) if self._backend.data.dead_letters.exists() else "")
        else:
            self._mistake.set_text("")
        self._listed = look
        self._table.show(look.rows, look.total)
        self._tell_reasons(look.reasons)
        self._tell_choice()
        self._tell_if_empty(look)

    def _look(self) -> _Look:
        letters, view = self._backend.dead_letters, self._table.view
        everything = letters.count(self._selection(""))
        total = everything.get(self._reason, 0) if self._reason else sum(everything.values())
        found = letters.list(self._selection(self._reason), limit=view.start + view.length)[view.start :]
        return _Look([table_row(letter) for letter in found], total, everything)

    def _selection(self, reason: str) -> Selection:
        return selection_of(parse_filter(self._q), reason, self._backend.clock.now())

    def _chosen_selection(self) -> Selection:
        """What replay and purge mean: the ticked ones, or else all that are listed."""
        return Selection(ids=tuple(self._table.chosen)) if self._table.chosen else self._selection(self._reason)

    def _tell_reasons(self, reasons: dict[str, int]) -> None:
        said = reasons | {"": sum(reasons.values()), f"={self._reason}": 1}
        if said == self._said:
            return
        self._said = said
        self._reasons.clear()
        with self._reasons:
            for reason in ("", *sorted(reasons, key=lambda name: (-reasons[name], name))):
                self._reason_button(reason, said[reason])

    def _reason_button(self, reason: str, n: int) -> None:
        async def choose() -> None:
            self._reason = reason
            await self._from_the_start()

        made = button(f"{reason or 'all'} {count(n)}", choose, "on" if reason == self._reason else "")
        made.props["aria-pressed"] = "true" if reason == self._reason else "false"

    def _tell_choice(self) -> None:
        n = len(self._table.chosen)
        self._choice.set_text(f"{count(n)} chosen" if n else f"all {count(self._listed.total)} listed")
        for control in (self._again, self._purge):
            enable(control, on=self._may_write and self._listed.total > 0)

    def _tell_if_empty(self, look: _Look) -> None:
        title = text = ""
        if not look.total and not self._mistake.text:
            title, text = "No dead letters", "Everything that came could be used."
            if self._q or self._reason:
                title, text = (
                    "No dead letter is so",
                    "A topic may have + and #; since=2h means received in the last 2 h.",
                )
        if self._nothing.props.get("data-said", "") == title:
            return
        self._nothing.props["data-said"] = title
        self._nothing.clear()
        if title:
            with self._nothing, empty_state(title, text):
                pass

    def _chosen(self, _: list[object]) -> None:
        self._tell_choice()

    def _ask_replay(self) -> None:
        n = len(self._table.chosen) or self._listed.total
        text = "Mend first what was wrong. What is refused again is a dead letter again; nothing is lost."
        self._question.ask(f"Replay {count(n)} dead letter{'' if n == 1 else 's'}?", text, "Replay", self._do_replay)

    def _ask_purge(self) -> None:
        n = len(self._table.chosen) or self._listed.total
        title = f"Delete {count(n)} dead letter{'' if n == 1 else 's'} for ever?"
        self._question.ask(title, "Their messages cannot be replayed afterwards.", "Delete", self._do_purge)

    async def _do_replay(self) -> None:
        selection, now = self._chosen_selection(), self._backend.clock.now()
        replay = await self._write(lambda letters: ReplayQueue(letters).request(selection, now=now))
        if replay is not None:
            self._replay = replay
            self._progress.activate()
            await self._follow()

    async def _do_purge(self) -> None:
        selection = self._chosen_selection()
        purged = await self._write(lambda letters: letters.purge(selection))
        if purged is not None:
            self._tell_progress(None, f"{count(purged)} dead letter{'' if purged == 1 else 's'} deleted")

    async def _write(self, act: Callable[[DeadLetters], _Result]) -> _Result | None:
        """What `act` gives; None if the client may not, or it could not be written, which is said then."""
        if not self._may_write:
            return None

        def run() -> _Result:
            with _opened(self._backend) as letters:
                return act(letters)

        try:
            result = await asyncio.to_thread(run)
        except TocsinError as error:
            self._tell_progress(None, str(error))
            return None
        self._table.unchoose()
        await self._refresh()
        return result

    async def _follow(self) -> None:
        """How the replay goes on."""
        if self._replay is None:
            return
        id_, total = self._replay
        progress, running = await asyncio.to_thread(self._progress_of, id_)
        done, words = progress_text(progress, total)
        title = f"Replay of {count(total)} dead letter{'' if total == 1 else 's'}: {words}"
        if not running and not progress.is_done:
            title += "; no tocsin runs with this data: it is done at the next start"
        self._tell_progress((done, total), title)
        if progress.is_done or not running:
            self._replay = None
            self._progress.deactivate()
            await self._refresh()

    def _progress_of(self, id_: int) -> tuple[Progress, bool]:
        return ReplayQueue(self._backend.dead_letters).progress(id_), is_locked(self._backend.data.journal)

    def _tell_progress(self, done: tuple[int, int] | None, text: str) -> None:
        self._running.clear()
        with self._running, panel():
            Text(text, "break", tag="p").props("role=status")
            if done is not None:
                bar = ui.element("progress")
                bar.props["value"], bar.props["max"] = done[0], max(1, done[1])

    async def _close(self) -> None:
        self._remember()

    async def _filter(self, text: str) -> None:
        self._q = text
        await self._from_the_start()

    async def _from_the_start(self) -> None:
        self._table.unchoose()
        self._table.go_to(View("id", length=_LENGTH))
        await self._seen(self._table.view)

    async def _seen(self, _: View) -> None:
        await self._refresh()
        self._remember()

    def _remember(self) -> None:
        remember("/dead-letters", q=self._q, reason=self._reason, open=str(self._letter.shown or ""))


@contextmanager
def _opened(backend: Backend) -> Iterator[DeadLetters]:
    letters = DeadLetters(backend.data.require(backend.data.dead_letters, "dead letters"))
    try:
        yield letters
    finally:
        letters.close()
