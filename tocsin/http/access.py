"""Access: the middleware in front of everything, HTTP and WebSockets, and what routes demand of those who ask.

In this order: the name of the host, the origin of the page, who it is. Not here: logging in (`login`), the roles.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from fastapi import HTTPException, Request
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tocsin.http.config import HttpConfig
from tocsin.http.credentials import Credentials
from tocsin.http.headers import with_headers
from tocsin.http.login import LOGIN, LOGOUT, Logins, local_path, login_url
from tocsin.http.origins import SAFE_METHODS, Hosts, comes_from_elsewhere, follows_a_link
from tocsin.http.passwords import Hasher
from tocsin.http.roles import LOCAL, Principal, Role, admit, principal_of, role_of
from tocsin.http.tokens import Tokens

__all__ = ["LOCAL", "Access", "Principal", "Role", "principal_of", "requires_operator", "role_of"]
OPEN = frozenset(("/healthz", "/readyz"))
"""Answered to everyone, also to those who have not said who they are; exactly these paths."""
_BEARER = {"WWW-Authenticate": 'Bearer realm="tocsin"'}
_POLICY_VIOLATION = 1008  # RFC 6455, section 7.4.1


def requires_operator(request: Request) -> None:
    """For routes that change something: `dependencies=[Depends(requires_operator)]`. Others get 403."""
    if role_of(request.scope) is not Role.OPERATOR:
        raise HTTPException(403, "only an operator may do this: log in as one, or use the token of one")


class Access:
    """Lets through whom the configuration knows, with his role in the scope (`role_of`)."""

    def __init__(
        self,
        app: ASGIApp,
        config: HttpConfig,
        credentials: Credentials,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        hasher: Hasher | None = None,
    ) -> None:
        """`credentials`: those of the configuration. `monotonic`: s. `hasher`: of passwords, if not argon2."""
        self._app = app
        self._hosts = Hosts(config)
        self._asks = config.asks_for_login
        self._tokens = Tokens(credentials.tokens)
        self._logins = Logins(credentials, monotonic, hasher)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        send = with_headers(scope, send)
        refusal = self._refusal_of_place(scope)
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
        elif self._asks and scope["type"] == "http" and scope["path"] in (LOGIN, LOGOUT):
            answer = await self._logins.answer(Request(scope, receive))
            await answer(scope, receive, send)
        else:
            await self._ask_who(scope, receive, send)

    def _refusal_of_place(self, scope: Scope) -> Response | None:
        hosts = Headers(scope=scope).getlist("host")
        if len(hosts) != 1 or not self._hosts.know(hosts[0]):
            return PlainTextResponse(f"{self._hosts.advice}\n", status_code=421)
        why = "" if self._tokens_owner(scope) else comes_from_elsewhere(scope, self._hosts)
        return _json(403, why) if why else None

    async def _ask_who(self, scope: Scope, receive: Receive, send: Send) -> None:
        owner = self._tokens_owner(scope) if self._asks else LOCAL
        session = self._logins.session_of(scope) if owner is None and not _bearer(scope) else None
        if owner is not None:
            admit(scope, owner)
        elif session is not None:
            id_, principal = session
            admit(scope, principal)
            receive, send = _while_it_lasts(scope, receive, send, lambda: self._logins.use(id_) is not None)
        refusal = None if _is_open(scope) else _refusal_of_person(scope, has_session=session is not None)
        if refusal is not None:
            await _refuse(refusal, scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _tokens_owner(self, scope: Scope) -> Principal | None:
        """Who shows a good token. No page of another site can know one, nor make a browser send it."""
        shown = _bearer(scope)
        return self._tokens.owner(shown[0]) if len(shown) == 1 else None


def _is_open(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["path"] in OPEN and not _changes(scope)


def _bearer(scope: Scope) -> list[str]:
    """The tokens that a request shows (RFC 6750, section 2.1)."""
    shown = (value.partition(" ") for value in Headers(scope=scope).getlist("authorization"))
    return [token.strip() for scheme, _, token in shown if scheme.lower() == "bearer"]


def _refusal_of_person(scope: Scope, *, has_session: bool) -> Response | None:
    if principal_of(scope) is None:
        if _bearer(scope):
            return _unknown("this token is not known", "invalid_token")
        return _to_log_in(scope)
    if has_session and _changes(scope) and "origin" not in Headers(scope=scope):
        return _json(403, "a browser must say which page asks for this, and no Origin came; programs use a token")
    return None


def _changes(scope: Scope) -> bool:
    return scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS


def _to_log_in(scope: Scope) -> Response:
    """For people the login page, for programs 401."""
    headers = Headers(scope=scope)
    is_page = scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and not scope["path"].startswith("/api/")
    if is_page and "text/html" in headers.get("accept", ""):
        query = scope["query_string"].decode("latin-1")
        path = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
        target = local_path(path + (f"?{query}" if query else ""))
        return RedirectResponse(login_url(target, again=follows_a_link(scope)), 303)
    return _unknown("say who you are: Authorization: Bearer TOKEN, or log in at /login")


def _unknown(why: str, error: str = "") -> Response:
    headers = {"WWW-Authenticate": _BEARER["WWW-Authenticate"] + (f', error="{error}"' if error else "")}
    return _json(401, why, headers)


def _json(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    """In the shape of FastAPI's errors and of Prometheus' at once."""
    kind = "unauthorized" if status == 401 else "forbidden"
    return JSONResponse({"status": "error", "errorType": kind, "error": why, "detail": why}, status, headers)


async def _refuse(answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await answer(scope, receive, send)
        return
    await receive()  # websocket.connect
    await send({"type": "websocket.close", "code": _POLICY_VIOLATION})  # before it is accepted: the server says 403


def _while_it_lasts(scope: Scope, receive: Receive, send: Send, lasts: Callable[[], bool]) -> tuple[Receive, Send]:
    """What is received and sent for as long as the session lasts; then the answer ends, and the rest is dropped.

    Answers may be without end (live events, WebSockets), and must not outlive a logout.
    """
    is_websocket, over = scope["type"] == "websocket", False

    async def is_over() -> bool:
        nonlocal over
        if not over and not lasts():
            over = True
            if is_websocket:
                await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            else:
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        return over

    async def receiving() -> Message:
        message = await receive()
        if is_websocket and message["type"] == "websocket.receive" and await is_over():
            return {"type": "websocket.disconnect", "code": _POLICY_VIOLATION, "reason": ""}
        return message

    async def sending(message: Message) -> None:
        lasting = message["type"] == "websocket.send" or message.get("more_body", False)
        if over or (lasting and await is_over()):
            return
        await send(message)

    return receiving, sending
