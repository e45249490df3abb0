"""The application behind the HTTP server: which routers there are, and who may ask.

Not here: what is answered (a module for each router), the server.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin import __version__
from tocsin.backend import Backend
from tocsin.http import operations

_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
OPENAPI = "/api/openapi.json"


def make_app(backend: Backend) -> FastAPI:
    """The application; what it shows is asked of `backend` at each request, in one of its threads."""
    app = FastAPI(
        title="tocsin",
        version=__version__,
        summary="MQTT telemetry, stored and alerted on in event time",
        openapi_url=OPENAPI,
        docs_url=None,  # its pages take their scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(operations.router(backend))
    app.add_middleware(LocalHost)
    return app


class LocalHost:
    """Refuses requests that name another host than this machine.

    A web page whose name has been made to point here (DNS rebinding) would otherwise be one with us for the browser.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not is_local(Headers(scope=scope).get("host", "")):
            text = "only http://127.0.0.1 and http://localhost are answered; a proxy must send Host: localhost\n"
            await PlainTextResponse(text, status_code=421)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_local(host: str) -> bool:
    """Whether a Host header names this machine, with or without a port."""
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name = host
    return name.lower() in _LOCAL_HOSTS
