"""The headers by which browsers are told what pages of this server may do; on every answer.

Content Security Policy: https://www.w3.org/TR/CSP3/. An answer that has a header of its own keeps it.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Scope, Send

from tocsin.http.origins import is_secure

_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # not no-referrer: browsers would then hide the Origin of our own forms
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For what is no page."""


def page_policy(scope: Scope) -> str:
    """For the console. NiceGUI writes its scripts into the page and compiles templates in the browser.

    So both inline scripts and eval must be allowed: what devices say is escaped where it is shown. Everything comes
    from this server, and nothing can be sent to another one.
    """
    host = Headers(scope=scope).get("host", "")  # one of our names, see `origins`
    socket = f"{'wss' if is_secure(scope) else 'ws'}://{host}"
    return "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            f"connect-src 'self' {socket}",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def with_headers(scope: Scope, send: Send) -> Send:
    """`send`, which adds them to the head of the answer."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _ALWAYS.items():
                headers.setdefault(name, value)
            is_page = headers.get("content-type", "").startswith("text/html")
            headers.setdefault("Content-Security-Policy", page_policy(scope) if is_page else NOTHING)
        await send(message)

    return sending
