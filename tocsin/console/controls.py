"""What a page is worked with: buttons, fields, a question before something is done; and the address that keeps it.

Not here: what pages show (`parts`).
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from nicegui import ui
from nicegui.events import GenericEventArguments

from tocsin.console.parts import Text, box, path

MOST_CHARACTERS = 10_000
Act = Callable[[], Awaitable[None] | None]


def button(text: str, act: Act, classes: str = "", *, enabled: bool = True, title: str = "") -> Text:
    """It does `act`, which may be awaited."""
    made = Text(text, f"btn {classes}".strip(), tag="button")
    made.props["type"] = "button"
    if title:
        made.props["title"] = title
    enable(made, on=enabled)
    made.on("click", lambda _: act())
    return made


def enable(control: Text, *, on: bool) -> None:
    """Whether it can be pressed."""
    if on:
        control.props.pop("disabled", None)
        control.update()
    else:
        control.props["disabled"] = True


def field(
    value: str,
    hint: str,
    changed: Callable[[str], Awaitable[None]],
    *,
    label: str,
    search: bool = False,
    wait: float = 0.25,
) -> ui.element:
    """A line of text; `changed` hears of it when typing has paused for `wait` s. `search`: the key / leads here."""
    made = ui.element("input").classes("field grow")
    # not its value, which would be set again, over what is being typed, whenever anything on the page changes
    made.props["defaultValue"], made.props["placeholder"], made.props["aria-label"] = value, hint, label
    made.props("type=text spellcheck=false autocomplete=off autocapitalize=off maxlength=500")
    if search:
        made.props["data-search"] = True
    last = value

    async def heard(event: GenericEventArguments) -> None:
        nonlocal last
        text = str(event.args)[:MOST_CHARACTERS]
        if text != last:
            last = text
            await changed(text)

    made.on("input", heard, throttle=wait, leading_events=False, js_handler="(e) => emit(e.target.value)")
    return made


def remember(where: str, **query: str) -> None:
    """The address of the page from now on, so that it can be shared and comes back with a reload. Empty ones go."""
    address = path(where, **{name: value for name, value in query.items() if value})
    ui.run_javascript(f"history.replaceState(null, '', {json.dumps(address)})")


class Question:
    """Asked before something is done that cannot be taken back."""

    def __init__(self) -> None:
        self._act: Act | None = None
        with ui.element("dialog").classes("keys ask") as self._dialog:
            self._title = Text("", "", tag="h2")
            self._text = Text("", "muted", tag="p")
            with box("line ask-end"):
                button("Cancel", self._close)
                self._yes = button("", self._do, "primary")

    def ask(self, title: str, text: str, verb: str, act: Act) -> None:
        """`act` is done if the answer is yes."""
        self._act = act
        self._title.set_text(title)
        self._text.set_text(text)
        self._yes.set_text(verb)
        ui.run_javascript(f"getHtmlElement({self._dialog.id}).showModal()")

    def _close(self) -> None:
        self._act = None
        ui.run_javascript(f"getHtmlElement({self._dialog.id}).close()")

    async def _do(self) -> None:
        act = self._act
        self._close()
        if act is not None:
            done = act()
            if done is not None:
                await done
