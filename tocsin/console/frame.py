"""The frame of every page: name, navigation, how tocsin is doing, theme, keyboard. Not here: what a page shows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from nicegui import ui

from tocsin import __version__
from tocsin.backend import Backend
from tocsin.console.parts import SIGNS, Text, banner, box, link
from tocsin.console.pulse import PulseTaker, pulse
from tocsin.console.who import way_out
from tocsin.status import Snapshot

STATIC_URL = "/_console"
HEAD = "".join(
    (
        *(f'<link rel="stylesheet" href="{STATIC_URL}/{name}?{__version__}">' for name in ("console.css", "pages.css")),
        f'<script src="{STATIC_URL}/console.js?{__version__}"></script>',
    )
)
NAVIGATION = (
    ("/", "Explore", "e"),
    ("/alerts", "Alerts", "a"),
    ("/devices", "Devices", "d"),
    ("/rules", "Rules", "r"),
    ("/pipeline", "Pipeline", "p"),
    ("/dead-letters", "Dead letters", "l"),
)
"""Path, name, and the key that leads there after g."""
BOOT = (
    '<div class="boot" aria-hidden="true"><div class="bar"><span class="name">'
    f'<img src="{STATIC_URL}/favicon.svg" alt="" width="22" height="22"><span>tocsin</span></span><div class="pages">'
    + "".join(f"<a>{name}</a>" for _, name, _ in NAVIGATION)
    + "</div></div></div>"
)
"""What is seen at once, until the page itself is there."""
_KEYS = (
    *((f"g {key}", name) for _, name, key in NAVIGATION),
    ("/", "search"),
    ("t", "theme"),
    ("l", "Explore: live"),
    ("v", "Explore: table"),
    ("z", "Explore: zoom out"),
    ("?", "this list"),
)
_PULSE_SECONDS = 2.0
_pulses: WeakKeyDictionary[Any, PulseTaker] = WeakKeyDictionary()


def pulse_of(backend: Backend) -> PulseTaker:
    """The one that all pages of a backend share."""
    return _pulses.setdefault(backend, PulseTaker(backend))


@contextmanager
def page(backend: Backend, title: str, *, at: str) -> Iterator[None]:
    """Inside a function with @ui.page: what is made in the block is the page. `at`: its path in the navigation."""
    ui.page_title(f"{title} · tocsin")
    chosen = ui.context.client.request.cookies.get("tocsin-theme")
    ui.dark_mode({"light": False, "dark": True}.get(chosen or ""))
    outer = ui.context.client.content.parent_slot
    if outer is not None:
        outer.parent.props["role"] = "presentation"  # NiceGUI's <main>, which holds the header, too
    link("Skip to the content", "#main", "skip")
    pulses = pulse_of(backend)
    with box("bar", tag="header"):
        _navigation(at)
        show = _state()
    warning = box("banners")
    with box("main", tag="main").props("id=main tabindex=-1"):
        yield
    _keys()

    async def beat() -> None:
        snapshot = await asyncio.to_thread(pulses.snapshot)
        show(snapshot)
        _warn(warning, snapshot)

    beating = ui.timer(_PULSE_SECONDS, beat)
    on_shown(lambda shown: setattr(beating, "active", shown))


def on_shown(told: Callable[[bool], object]) -> None:
    """Tells whether the page is looked at, whenever that changes: nobody needs what is in a hidden tab."""
    ui.on("shown", lambda event: told(event.args is True))


def _navigation(at: str) -> None:
    with link("", "/", "name").props('aria-label="tocsin: to the first page"'):
        ui.element("img").props(f'src="{STATIC_URL}/favicon.svg" alt="" width=22 height=22')
        Text("tocsin")
    menu = Text("☰", "menu", tag="button")
    menu.props('type=button aria-label="Pages" aria-expanded=false aria-controls=pages')
    with box("pages", tag="nav").props('id=pages aria-label="Pages"'):
        for where, name, key in NAVIGATION:
            entry = link(name, where, "here" if where == at else "")
            entry.props(f'data-key={key} title="g {key}"' + (" aria-current=page" if where == at else ""))
        way_out()


def _state() -> Any:
    """The right end of the header, and how to refresh it."""
    with box("state"):
        firing = link("", "/alerts", "firing-count quiet").props("data-firing")
        with box("pulse waiting", tag="span").props('role=status aria-label="State of tocsin"') as dot:
            sign = Text(SIGNS["waiting"], "sign")
            sign.props["aria-hidden"] = "true"
            words = Text("…", "words")
        theme = Text("◐", "icon", tag="button")
        theme.props('type=button data-theme-switch aria-label="Light, dark or automatic" title="theme (t)"')
        Text("?", "icon wide-only", tag="button").props('type=button data-keys-switch title="keys (?)"')

    def show(snapshot: Snapshot) -> None:
        now = pulse(snapshot)
        firing.set_text(f"{SIGNS['firing']} {now.firing:,} firing" if now.firing else "none firing")
        firing.classes(replace="firing-count" + ("" if now.firing else " quiet"))
        sign.set_text(SIGNS[now.state])
        words.set_text(now.words)
        dot.classes(replace=f"pulse {now.state}")
        dot.props["title"] = now.why

    return show


def _warn(place: ui.element, snapshot: Snapshot) -> None:
    """Across the page, while something keeps tocsin from working."""
    now = pulse(snapshot)
    text = f"{now.words}: {now.why}" if now.why else now.words
    said = "" if now.state == "ok" else text
    if place.props.get("data-said", "") == said:
        return
    place.props["data-said"] = said
    place.clear()
    if said:
        with place:
            banner(now.state, said[:1].upper() + said[1:])


def _keys() -> None:
    with box("keys", tag="dialog").props('id=keys aria-label="Keys"'):
        Text("Keys", tag="h2")
        with box("keys-list", tag="dl"):
            for key, name in _KEYS:
                with box("", tag="dt"):
                    for part in key.split():
                        Text(part, tag="kbd")
                Text(name, tag="dd")
        Text("Esc closes", "muted", tag="p")
