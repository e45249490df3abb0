"""An application behind the access control, with users, tokens, a clock and a hasher of the tests."""

from __future__ import annotations

import asyncio
import hashlib
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import unquote

from fastapi import Depends, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse

from tocsin.http.access import Access, principal_of, requires_operator, role_of
from tocsin.http.config import HttpConfig
from tocsin.http.credentials import Credentials, User
from tocsin.http.roles import Principal, Role
from tocsin.http.tokens import hash_token

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it would rather have a successor of httpx
    from starlette.testclient import TestClient

READER, OPERATOR = Principal("rita", Role.READER), Principal("ada", Role.OPERATOR)
PASSWORDS = {"rita": "rita's words", "ada": "ada's words"}
TOKENS = {Role.READER: "tocsin_" + "r" * 40, Role.OPERATOR: "tocsin_" + "o" * 40}
HASH = "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHRoZXJl$" + "A" * 43
HOST = "http://127.0.0.1:8100"


class FakeHasher:
    """Counts what is asked of it; a hash is easy to make and to compare."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def hash(self, password: str) -> str:
        return hashlib.sha256(password.encode()).hexdigest()

    def verify(self, hashed: str, password: str) -> bool:
        self.asked.append(password)
        return hashed == hashlib.sha256(password.encode()).hexdigest()


class Monotonic:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds


def config(**more: Any) -> HttpConfig:
    """With users and tokens."""
    users = [{"name": p.name, "password_hash": HASH, "role": p.role} for p in (READER, OPERATOR)]
    return HttpConfig.model_validate({"users": users, **more})


class Guarded:
    """A small application behind the access control."""

    def __init__(self, settings: HttpConfig | None = None, users: Sequence[Principal] = (READER, OPERATOR)) -> None:
        self.config = settings if settings is not None else config()
        self.monotonic, self.hasher = Monotonic(), FakeHasher()
        credentials = Credentials(
            [User(p, FakeHasher().hash(PASSWORDS[p.name])) for p in users],
            [(hash_token(token), Principal(f"a {role}", role)) for role, token in TOKENS.items()],
        )
        self.purged = 0
        self.heard: list[str] = []
        inner = self._inner()
        self.app = Access(inner, self.config, credentials, monotonic=self.monotonic, hasher=self.hasher)

    def browser(self, url: str = HOST, client: tuple[str, int] = ("192.0.2.7", 50_000)) -> TestClient:
        """Each with its own cookies; follows nothing, and says the Origin as a browser does."""
        browser = TestClient(self.app, base_url=url, follow_redirects=False, client=client)
        browser.headers = {"origin": url, "accept": "text/html"}
        return browser

    def program(self, role: Role | None = None, url: str = HOST) -> TestClient:
        """With a token of that role."""
        program = TestClient(self.app, base_url=url, follow_redirects=False)
        if role is not None:
            program.headers["authorization"] = f"Bearer {TOKENS[role]}"
        return program

    def status_of(self, path: str, headers: Sequence[tuple[bytes, bytes]] = ((b"host", b"localhost"),)) -> int:
        """Of GET, just as a server hands it on: no client mends the path or the headers."""
        said: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            said.append(message)

        raw, _, query = path.partition("?")
        scope = {"type": "http", "method": "GET", "path": unquote(raw), "raw_path": raw.encode(), "headers": headers}
        more = {"query_string": query.encode(), "scheme": "http", "server": ("127.0.0.1", 80), "client": ("1.2.3.4", 5)}
        asyncio.run(self.app({**scope, **more}, receive, send))
        return int(said[0]["status"])

    def logged_in(self, name: str = "ada", **more: Any) -> TestClient:
        browser = self.browser(**more)
        assert log_in(browser, name).status_code == 303
        return browser

    def _inner(self) -> FastAPI:
        app = FastAPI()

        @app.get("/stream")
        async def stream() -> StreamingResponse:
            async def endless() -> AsyncIterator[bytes]:
                while True:
                    yield b"event"
                    await asyncio.sleep(0)

            return StreamingResponse(endless())

        @app.get("/who")
        @app.get("/readyz")
        @app.get("/{rest:path}")
        def who(request: Request) -> dict[str, str | None]:
            principal = principal_of(request.scope)
            return {"name": principal and principal.name, "role": role_of(request.scope)}

        @app.post("/ask")
        def ask() -> str:
            return "asked"

        @app.post("/purge", dependencies=[Depends(requires_operator)])
        def purge() -> str:
            self.purged += 1
            return "purged"

        @app.websocket("/live")
        async def live(websocket: WebSocket) -> None:
            await websocket.accept()
            with suppress(WebSocketDisconnect):
                while True:
                    text = await websocket.receive_text()
                    self.heard.append(text)
                    await websocket.send_text(f"{text} {role_of(websocket.scope)}")

        return app


def log_in(browser: TestClient, name: str = "ada", password: str | None = None, target: str = "/") -> Any:
    """The answer to the login form."""
    fields = {"name": name, "password": password or PASSWORDS.get(name, "?"), "next": target}
    return browser.post("/login", data=fields)
