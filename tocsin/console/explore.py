"""Explore: series and expressions over time. Here: the page. Not here: charts (`chart`)."""

from __future__ import annotations

from nicegui import ui

from tocsin.backend import Backend
from tocsin.console import frame
from tocsin.console.parts import command, empty_state


def register(backend: Backend) -> None:
    """The first page."""

    @ui.page("/")
    def explore() -> None:
        with frame.page(backend, "Explore", at="/"), empty_state("No readings yet", "Send one:"):
            command("mosquitto_pub -t mydevice/temperature -m 21.5")
