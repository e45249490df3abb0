"""What pages are made of: text in any HTML tag, links, panels, badges, empty states. Everything said is plain text.

Not here: the frame around a page, any page. Classes are those of static/console.css.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement

SIGNS = {"firing": "▲", "pending": "◔", "resolved": "✓", "ok": "●", "waiting": "◌", "trouble": "✕", "stopped": "■"}
"""Beside its colour, since not everybody sees that."""


class Text(TextElement):
    """Text in an HTML tag; never read as HTML."""

    def __init__(self, text: object, classes: str = "", *, tag: str = "span") -> None:
        super().__init__(tag=tag, text=str(text))
        if classes:
            self.classes(classes)


def box(classes: str, *, tag: str = "div") -> ui.element:
    """An element to put others into, in a `with` statement."""
    return ui.element(tag).classes(classes)


def path(where: str, **query: str) -> str:
    """A path of ours with whatever values, quoted: `path("/device", name="<b>")`."""
    return f"{where}?{urlencode(query)}" if query else where


def link(text: object, where: str, classes: str = "", **query: str) -> Text:
    """To a page of ours."""
    found = Text(text, classes, tag="a")
    found.props["href"] = path(where, **query)
    return found


@contextmanager
def panel(title: str = "", *, note: str = "", classes: str = "") -> Iterator[ui.element]:
    """A framed part of a page; yields the right end of its head line, for buttons."""
    with box(f"panel {classes}", tag="section"):
        with box("panel-head" if title else "hidden"):
            Text(title, tag="h2")
            if note:
                Text(note, "muted")
            end = box("panel-end")
        with box("panel-body"):
            yield end


def badge(state: str, text: str = "") -> ui.element:
    """A state as sign, colour and word."""
    with box(f"badge {state}", tag="span") as found:
        Text(SIGNS.get(state, "•"), "sign").props["aria-hidden"] = "true"
        Text(text or state)
    return found


@contextmanager
def empty_state(title: str, text: str = "") -> Iterator[None]:
    """Where there is nothing to show: why, and (inside) what to do next."""
    with box("empty"):
        Text(title, "empty-title", tag="p")
        if text:
            Text(text, "muted", tag="p")
        yield


def command(text: str) -> Text:
    """A command line to be copied; a click selects it."""
    return Text(text, "command", tag="code")


def banner(state: str, text: str) -> ui.element:
    """Across the page: `trouble`, `waiting` or `stopped`."""
    with box(f"banner {state}").props("role=status") as found:
        Text(SIGNS.get(state, "•"), "sign").props["aria-hidden"] = "true"
        Text(text)
    return found
