"""What is answered over HTTP: /metrics, /healthz, /readyz, /api/v1/status/tocsin.

Here: the routes, and who may ask. Not here: the figures (`pipeline_status`, `metrics`), the server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from tocsin.http.metrics import Metrics
from tocsin.status import Snapshot
from tocsin.status_json import to_json

_LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
_PLAIN = "text/plain; charset=utf-8"


def make_app(snapshot: Callable[[], Snapshot]) -> ASGIApp:
    """The application; `snapshot` is asked at each request, in one of its threads."""
    metrics = Metrics(snapshot)

    def show_metrics(request: Request) -> Response:
        body, content_type = metrics.text(request.headers.get("accept", ""))
        return Response(body, media_type=content_type)

    def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    def readyz(_request: Request) -> Response:
        reasons = list(not_ready(snapshot()))
        return JSONResponse({"ready": not reasons, "reasons": reasons}, status_code=503 if reasons else 200)

    def status(_request: Request) -> Response:
        return Response(to_json(snapshot()), media_type="application/json")

    routes = [
        Route("/metrics", show_metrics),
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/api/v1/status/tocsin", status),
    ]
    return Starlette(routes=routes, middleware=[Middleware(LocalHost)])


def not_ready(snapshot: Snapshot) -> Iterator[str]:
    """Why messages are not received now, or not evaluated."""
    if snapshot.journal is not None and snapshot.journal.error:
        yield f"the journal cannot be written: {snapshot.journal.error}"
    if snapshot.standstill is not None:
        yield f"rules are not evaluated: {snapshot.standstill.error}"
    if snapshot.session is not None and snapshot.session.state != "connected":
        why = f": {snapshot.session.last_error}" if snapshot.session.last_error else ""
        yield f"not connected to {snapshot.session.url}{why}"


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
