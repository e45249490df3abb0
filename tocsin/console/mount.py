"""The console on the HTTP server of a tocsin, loaded behind its back so that nothing waits for it.

Here: when NiceGUI is imported, started and stopped. Not here: the pages (`site` lists them), the server,
who may look (`tocsin.http.access`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from tocsin.backend import Backend

_log = logging.getLogger("tocsin.console")
_IDLE_SECONDS = 5.0
_NOT_OURS = ("/api/", "/metrics", "/healthz", "/readyz")


def mount(app: FastAPI, backend: Backend) -> None:
    """Every path of `app` that is nobody else's shows the console; call it after all routers are included.

    NiceGUI takes a second of processor time to import: that is done some seconds after the server has started, or
    when the first page is asked for. One console at a time in a process, since NiceGUI's state is the process's.
    """
    console = Console(backend)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(of: FastAPI) -> AsyncIterator[Any]:
        async with inner(of) as state, console.running():
            yield state

    app.router.lifespan_context = lifespan
    app.mount("/", console)


class Console:
    """An ASGI application that becomes the console at the first request; it answers while `running` only."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._asked: asyncio.Event | None = None
        self._loading: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._asked is None or self._loading is None or scope["path"].startswith(_NOT_OURS):
            if scope["type"] == "websocket":
                await WebSocketClose()(scope, receive, send)
            else:
                raise HTTPException(404, f"there is nothing at {scope['path'][:200]}")
            return
        self._asked.set()
        try:
            site = await asyncio.shield(self._loading)
        except RuntimeError as error:
            await PlainTextResponse(f"no console here: {error}\n", status_code=503)(scope, receive, send)
            return
        await site(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Inside the event loop of the server."""
        self._asked = asyncio.Event()
        async with AsyncExitStack() as started:
            self._loading = asyncio.create_task(self._load(self._asked, started), name="tocsin-console")
            try:
                yield
            finally:
                self._loading.cancel()
                await asyncio.wait([self._loading])
                self._asked = self._loading = None

    async def _load(self, asked: asyncio.Event, started: AsyncExitStack) -> ASGIApp:
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await asked.wait()
        except TimeoutError:
            pass  # by now the pipeline has settled
        try:
            site = await asyncio.to_thread(_imported)
            return await started.enter_async_context(site(self._backend))
        except RuntimeError:
            raise
        except Exception as error:
            _log.exception("the console cannot be loaded; everything else goes on")
            raise RuntimeError("it cannot be loaded, see the log") from error


def _imported() -> Any:
    from tocsin.console.site import site  # noqa: PLC0415  # a second of processor time

    return site
