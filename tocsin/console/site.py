"""The console's pages and what they share: one NiceGUI application for the life of the process.

Here: the list of pages, NiceGUI's settings. Not here: any page.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from nicegui import app as shared
from nicegui import ui

from tocsin.backend import Backend
from tocsin.console import (
    alert_page,
    alerts_page,
    dead_letters_page,
    device_page,
    devices_page,
    explore,
    frame,
    pipeline_page,
    rules_page,
)

PAGES: tuple[Callable[[Backend], None], ...] = (
    explore.register,
    alerts_page.register,
    alert_page.register,
    devices_page.register,
    device_page.register,
    rules_page.register,
    pipeline_page.register,
    dead_letters_page.register,
)
"""Each registers its page, or pages, for one backend; the newest registration of a path counts."""
_STATIC = Path(__file__).parent / "static"
_shown = threading.Lock()


@asynccontextmanager
async def site(backend: Backend) -> AsyncIterator[FastAPI]:
    """The console of one tocsin, inside the event loop of its server. RuntimeError while another one is shown."""
    if not _shown.acquire(blocking=False):
        raise RuntimeError("another tocsin of this process shows its console")
    try:
        mounted = _mounted()
        for register in PAGES:
            register(backend)
        async with mounted.router.lifespan_context(mounted):
            yield mounted
    finally:
        _shown.release()


@functools.cache
def _mounted() -> FastAPI:
    """NiceGUI's own application cannot be set up twice."""
    holder = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    shared.add_static_files(frame.STATIC_URL, _STATIC)
    ui.add_head_html(frame.HEAD, shared=True)
    ui.add_body_html(frame.BOOT, shared=True)
    shared.colors(primary="#2f6fb3", secondary="#5b6472", accent="#7a5ea8", positive="#1a7f4e", negative="#c0392b")
    ui.run_with(
        holder,
        title="tocsin",
        favicon=_STATIC / "favicon.svg",
        dark=None,
        language="en-US",
        binding_refresh_interval=None,  # pages push what changes; nothing is polled behind their back
        reconnect_timeout=30,
        show_welcome_message=False,
        tailwind=False,  # a compiler in the browser; console.css has what we need
    )
    return holder
