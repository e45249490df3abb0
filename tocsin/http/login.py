"""Logging in and out: the cookie, and what is asked before there is a session.

Not here: who may see what (`access`), the page (`login_page`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from urllib.parse import parse_qs, quote

from starlette.requests import HTTPConnection, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Scope

from tocsin.http.attempts import LoginAttempts
from tocsin.http.credentials import Credentials
from tocsin.http.login_page import LOGIN_POLICY, login_page
from tocsin.http.origins import client_of, is_secure
from tocsin.http.passwords import Busy, Hasher, Passwords
from tocsin.http.roles import Principal
from tocsin.http.sessions import LONGEST_SECONDS, Sessions

LOGIN, LOGOUT = "/login", "/logout"
_MOST_BODY = 8 << 10
_MOST_NEXT = 2_000
_MOST_NAME = 64
_UNSAFE_IN_PATHS = re.compile(r"[\x00-\x20\x7f\\]")
_log = logging.getLogger("tocsin.http")


class Logins:
    """Sessions in cookies."""

    def __init__(self, credentials: Credentials, monotonic: Callable[[], float], hasher: Hasher | None = None) -> None:
        """`monotonic`: s."""
        self._principals = {user.principal.name: user.principal for user in credentials.users}
        self._hashes = {user.principal.name: user.password_hash for user in credentials.users}
        self._hasher = hasher
        self._passwords: Passwords | None = None
        self._sessions = Sessions()
        self._attempts = LoginAttempts()
        self._monotonic = monotonic

    def session_of(self, scope: Scope) -> tuple[str, Principal] | None:
        """Id and user of the session that the browser shows; it is used by that."""
        id_ = HTTPConnection(scope).cookies.get(cookie_name(scope), "")
        principal = self.use(id_) if id_ else None
        return None if principal is None else (id_, principal)

    def use(self, id_: str) -> Principal | None:
        """Whose session it is; None if it is over."""
        return self._sessions.use(id_, self._monotonic())

    async def answer(self, request: Request) -> Response:
        """Of /login and /logout."""
        if request.url.path == LOGOUT:
            return self._log_out(request) if request.method == "POST" else _only("POST")
        if request.method in ("GET", "HEAD"):
            return self._show(request)
        return await self._log_in(request) if request.method == "POST" else _only("GET, HEAD, POST")

    def _show(self, request: Request) -> Response:
        target = local_path(request.query_params.get("next", ""))
        if self.session_of(request.scope) is not None:
            return _see(target)
        return self._page(target, refresh=request.query_params.get("asked") == "again")

    async def _log_in(self, request: Request) -> Response:
        form = await _form(request)
        if form is None:
            return self._page("/", "The form was not understood: try again.", status=400)
        name, password, target = form.get("name", "")[:_MOST_NAME], form.get("password", ""), local_path(form["next"])
        address, now = client_of(request.scope), self._monotonic()
        wait = self._attempts.begin(address, name, now)
        if wait:
            return self._page(target, f"Too many attempts: wait {_in_words(wait)}.", name, status=429, retry_after=wait)
        try:
            is_right = await self._known_passwords().are_right(name, password)
        except Busy:
            self._attempts.succeeded(address, name, now)
            return self._page(target, "Too many people log in just now: try again.", name, status=503, retry_after=5)
        if not is_right:
            who = repr(name) if name in self._principals else "an unknown user"
            _log.warning("login of %s from %s refused: wrong password", who, repr(address)[:50])
            return self._page(target, "Name or password is wrong.", name, status=403)
        self._attempts.succeeded(address, name, now)
        self._end(request)  # whatever id somebody may have put there is no session of this user
        id_ = self._sessions.begin(self._principals[name], now)
        answer = _see(target)
        secure = is_secure(request.scope)
        cookie = cookie_name(request.scope)
        answer.set_cookie(cookie, id_, int(LONGEST_SECONDS), secure=secure, httponly=True, samesite="strict")
        return answer

    def _log_out(self, request: Request) -> Response:
        self._end(request)
        answer = _see(LOGIN)
        secure = is_secure(request.scope)
        answer.delete_cookie(cookie_name(request.scope), secure=secure, httponly=True, samesite="strict")
        return answer

    def _end(self, request: Request) -> None:
        self._sessions.end(request.cookies.get(cookie_name(request.scope), ""))

    def _known_passwords(self) -> Passwords:
        if self._passwords is None:
            self._passwords = Passwords(self._hashes, self._hasher)
        return self._passwords

    def _page(
        self,
        target: str,
        problem: str = "",
        name: str = "",
        *,
        status: int = 200,
        retry_after: int = 0,
        refresh: bool = False,
    ) -> Response:
        again = login_url(target) if refresh else ""
        content = login_page(target, problem, name, refresh_to=again, has_users=bool(self._principals))
        headers = {"Content-Security-Policy": LOGIN_POLICY}
        if retry_after:
            headers["Retry-After"] = str(retry_after)
        return HTMLResponse(content, status, headers)


def cookie_name(scope: Scope) -> str:
    """A name for each port, since browsers share cookies between ports; over https, one that http cannot set.

    RFC 6265bis, section 4.1.3.2.
    """
    port = (scope.get("server") or ("", 0))[1]
    return f"{'__Host-' if is_secure(scope) else ''}tocsin_{port}"


def login_url(target: str, *, again: bool = False) -> str:
    """Of the page that goes on to `target` after a login; `again`: which first looks whether there was one."""
    asked = f"next={quote(target, safe='/')}" if target != "/" else ""
    asked += "&asked=again" if again else ""
    return f"{LOGIN}?{asked.removeprefix('&')}" if asked else LOGIN


def local_path(text: str) -> str:
    """A path (with query) of this server; / for everything that a browser might take for another one."""
    if not text.startswith("/") or text.startswith("//") or len(text) > _MOST_NEXT or _UNSAFE_IN_PATHS.search(text):
        return "/"
    return "/" if text.partition("?")[0] in (LOGIN, LOGOUT) else text


def _see(target: str) -> RedirectResponse:
    return RedirectResponse(target, 303)


def _only(methods: str) -> Response:
    return Response("this method is not for this path\n", 405, {"Allow": methods}, "text/plain")


async def _form(request: Request) -> dict[str, str] | None:
    """The last value of each field; None for what is no small form."""
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
        return None
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BODY:
            return None
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        return None
    return {"next": ""} | {name: values[-1] for name, values in fields.items()}


def _in_words(seconds: int) -> str:
    minutes = -(-seconds // 60)
    return f"{minutes} minutes" if minutes > 1 else f"{seconds} s"
