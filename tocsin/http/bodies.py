"""LimitedBody: the middleware that refuses requests whose body is larger than anything that is asked here."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin.http.resource import failure

MOST_BYTES = 1 << 20


class LimitedBody:
    """In front of an application; of WebSockets, the server bounds the messages."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = Headers(scope=scope).get("content-length", "0")
        if announced.isascii() and announced.isdecimal() and int(announced[:20]) > MOST_BYTES:
            await failure(413, f"the body is too large: at most {MOST_BYTES:,} bytes")(scope, receive, send)
            return
        await self._app(scope, _limited(receive), send)


def _limited(receive: Receive) -> Receive:
    """Of a body whose length was not announced, it ends as if the sender had gone."""
    received = 0

    async def limited() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        return message if received <= MOST_BYTES else {"type": "http.disconnect"}

    return limited
