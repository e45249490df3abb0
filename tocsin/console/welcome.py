"""Explore before anything is chosen: the metrics there are, each with a curve of one of its series.

Here: what there is, and its cards. Not here: the page (`explore`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from nicegui import ui

from telemetry import TocsinError
from tocsin.backend import Backend
from tocsin.console.device_rows import SPARK_NS, spark_path
from tocsin.console.parts import Text, box, command, empty_state, link
from tocsin.words import iso, number

MOST_CARDS = 24
_WIDTH, _HEIGHT = 200, 22
_LEAST_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Card:
    """One metric."""

    metric: str
    series: int
    """How many it has"""
    curve: str = ""
    """Of one of them: an SVG path, 0…200 by 0…22; empty if it has been silent for long"""
    example: str = ""
    """What the curve is of, and its newest value"""


@dataclass(frozen=True, slots=True)
class Stock:
    """What there is at all."""

    cards: tuple[Card, ...] = ()
    """Metrics, the most numerous first"""
    newest: int = 0
    """ns; 0: nothing is stored"""


def stock(backend: Backend) -> Stock:
    """For those who have not chosen anything yet. Blocking."""
    try:
        table, store = backend.table, backend.store
        span = store.span()
    except TocsinError:
        return Stock()
    counted = [(metric, table.with_label("__name__", metric)) for metric in table.values("__name__")]
    counted.sort(key=lambda pair: (-len(pair[1]), pair[0]))
    counted = counted[:MOST_CARDS]
    newest = span[1] if span else 0
    found = store.read_many([int(ids[0]) for _, ids in counted], newest - SPARK_NS, newest + 1) if span else {}
    first = min((int(time[0]) for time, _ in found.values() if len(time)), default=newest)
    start = min(first, newest - _LEAST_NS)
    cards = []
    for metric, ids in counted:
        time, value = found.get(int(ids[0]), (np.zeros(0, np.int64), np.zeros(0)))
        card = Card(metric, len(ids))
        if len(time):
            said = f"{table[int(ids[0])].device or 'one of them'}: {number(float(value[-1]))}"
            card = replace(card, curve=spark_path(time, value, start, newest + 1, width=_WIDTH), example=said)
        cards.append(card)
    return Stock(tuple(cards), newest)


def welcome(there: Stock, add: Callable[[str], None]) -> None:
    """The cards, or what to do while there are none; `add`: what a click on one does with its metric."""
    if not there.cards:
        with empty_state("No readings yet", "Send one to the broker that tocsin listens to:"):
            command("mosquitto_pub -t mydevice/temperature -m 21.5")
            link("Connected, but nothing comes? Pipeline tells why", "/pipeline")
        return
    with box("panel", tag="section"), box("panel-body stack"):
        Text("Choose a metric", tag="h2")
        Text(f"The newest reading is of {iso(there.newest)}.", "muted", tag="p")
        with box("cards"):
            for card in there.cards:
                _show(card, add)


def _show(card: Card, add: Callable[[str], None]) -> None:
    button = box("card", tag="button").props("type=button").on("click", lambda _: add(card.metric))
    with button:
        Text(card.metric, "card-name")
        Text(f"{card.series:,} series", "muted")
        picture = ui.element("svg").classes("spark")
        picture.props(f'viewBox="0 0 {_WIDTH} {_HEIGHT}" preserveAspectRatio=none aria-hidden=true')
        with picture:
            ui.element("path").props["d"] = card.curve
        Text(card.example or "silent for long", "muted card-example")
