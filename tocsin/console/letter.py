"""One dead letter on its page: what is known of it, how to mend it, its payload. Not here: the list."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from ingest.dead_letters import DeadLetter
from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.console.controls import button
from tocsin.console.dead_letter_rows import facts, payload_hex, payload_text
from tocsin.console.parts import Text, box, panel
from tocsin.mending import advice


class Letter:
    """A place on the page that shows one letter, or nothing."""

    def __init__(self, backend: Backend, closed: Callable[[], Awaitable[None]]) -> None:
        self._backend, self._closed = backend, closed
        self.shown = 0
        """The id of the letter; 0: none."""
        self._place = box("")

    async def open(self, id_: int) -> None:
        """Show this one."""
        self.shown = id_
        try:
            letter = await asyncio.to_thread(lambda: self._backend.dead_letters.find(id_))
        except TocsinError:
            letter = None
        self._place.clear()
        with self._place, panel(f"Dead letter {id_}") as end:
            with end:
                button("Close", self.close)
            if letter is None:
                Text(
                    "There is none with this id: it was replayed, purged, or dropped for newer ones.", "muted", tag="p"
                )
            else:
                _draw(letter)

    async def close(self) -> None:
        """Show none."""
        self.shown = 0
        self._place.clear()
        await self._closed()


def _draw(letter: DeadLetter) -> None:
    text = payload_text(letter.payload)
    with box("two"):
        with box("facts", tag="dl"):
            for name, said in [*facts(letter), ("mend", advice(letter))]:
                Text(name, tag="dt")
                Text(said, tag="dd")
        with box("stack"):
            if text is not None:
                with box("line"):
                    Text("Payload as text", "muted")
                Text(text, "payload", tag="pre")
            details = box("", tag="details")
            if text is None:
                details.props["open"] = True
            with details:
                Text("Payload in hexadecimal", "muted", tag="summary")
                Text(payload_hex(letter.payload), "payload hex", tag="pre")
