"""A text field that suggests. Here: the element. Not here: what is suggested (`choices`), its keyboard (suggest.js)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import asdict

from nicegui import ui
from nicegui.events import GenericEventArguments

from tocsin.console.choices import Choice
from tocsin.console.parts import Text

_MOST_CHARACTERS = 10_000
Suggest = Callable[[str, int], tuple[Sequence[Choice], int]]
"""(text, caret) → what is offered, and how many there are in all; in a thread of its own."""


class SuggestField(ui.element, component="suggest.js"):
    """`on_entered` is called with the text when it is chosen, or entered with the Enter key or by leaving the field."""

    def __init__(
        self,
        label: str,
        suggest: Suggest,
        on_entered: Callable[[str], object],
        *,
        value: str = "",
        placeholder: str = "",
        area: bool = False,
    ) -> None:
        """`area`: suggestions complete the text at the caret; else they are the whole text."""
        super().__init__()
        self._suggest, self._entered = suggest, on_entered
        self.props.update(label=label, value=value, placeholder=placeholder, area=area, items=[], more="", bad=False)
        self._asked = 0
        self.on("typed", self._on_typed)
        self.on("entered", self._on_entered)

    @property
    def text(self) -> str:
        return str(self.props["value"])

    @text.setter
    def text(self, text: str) -> None:
        self.props["value"] = text
        self.update()

    def set_bad(self, *, bad: bool) -> None:
        """As wrong, or as right again."""
        if self.props["bad"] != bad:
            self.props["bad"] = bad
            self.update()

    async def _on_typed(self, event: GenericEventArguments) -> None:
        text, caret = str(event.args["text"])[:_MOST_CHARACTERS], int(event.args["caret"])
        self._asked = mine = self._asked + 1
        offered, in_all = await asyncio.to_thread(self._suggest, text, caret)
        if mine == self._asked and not self.is_deleted:
            self.props["items"] = [asdict(choice) for choice in offered]
            more = in_all - len(offered)
            self.props["more"] = f"and {more:,} more: type on" if more > 0 else ""
            self.update()

    def _on_entered(self, event: GenericEventArguments) -> None:
        text = str(event.args["text"])[:_MOST_CHARACTERS]
        self.props["value"] = text
        self._entered(text)


def labelled(name: str) -> Text:
    """What stands above a field."""
    return Text(name, "field-label")
