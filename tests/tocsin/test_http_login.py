"""The access control on the real application and server: what routes demand, http.json, hostile heads of requests."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import urllib3
from click.testing import CliRunner
from fastapi import FastAPI

from telemetry import ConfigError, TocsinError
from tests.tocsin.fake_backend import FakeBackend
from tests.tocsin.login_rig import TestClient, config
from tests.tocsin.test_http import SNAPSHOT
from tocsin.cli import main
from tocsin.http.app import OPENAPI, make_app
from tocsin.http.config import HttpConfig
from tocsin.http.instance import Instance, read_instance, write_instance
from tocsin.http.passwords import Argon2
from tocsin.http.server import HttpServer

WORDS = "words of ada"
READERS_TOKEN = "tocsin_" + "r" * 40
ONLY_READ = "/api/v1/query", "/api/v1/query_range", "/api/v1/query_exemplars", "/api/v1/series", "/api/v1/labels"
"""Prometheus lets parameters come as a form."""


class Served:
    """A server with one operator, and a token of a reader."""

    def __init__(self, directory: Path, **more: Any) -> None:
        (directory / "token").write_text(READERS_TOKEN)
        users = [{"name": "ada", "password_hash": Argon2().hash(WORDS), "role": "operator"}]
        tokens = [{"name": "grafana", "token_file": directory / "token"}]
        settings = {"listen": "127.0.0.1:0", "users": users, "tokens": tokens, **more}
        self.file = directory / "http.json"
        self.server = HttpServer(HttpConfig.model_validate(settings), self.file)
        self.snapshot = replace(SNAPSHOT, imbalances=(), pid=os.getpid())
        self.server.start(FakeBackend(directory, lambda: self.snapshot))
        self.http = urllib3.PoolManager(retries=False, timeout=20)

    def get(self, path: str, **headers: str) -> Any:
        return self.http.request("GET", self.server.url + path, headers=headers)

    def log_in(self, words: str = WORDS) -> Any:
        fields = {"name": "ada", "password": words, "next": "/metrics"}
        headers = {"Origin": self.server.url}
        url = self.server.url + "/login"
        return self.http.request("POST", url, fields=fields, headers=headers, encode_multipart=False)

    def raw(self, head: bytes) -> bytes:
        """The head of the answer."""
        place = urlsplit(self.server.url)
        with socket.create_connection((place.hostname, place.port), timeout=20) as connection:
            connection.sendall(head)
            said = b""
            while b"\r\n\r\n" not in said and (part := connection.recv(4096)):
                said += part
        return said.partition(b"\r\n\r\n")[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.server.stop()


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    """Method and path of all that the application answers, with 1 for every part that varies."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), re.sub(r"\{\w+\}", "1", path)


def test_every_route_that_changes_something_asks_for_an_operator(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(READERS_TOKEN)
    settings = HttpConfig.model_validate({"tokens": [{"name": "grafana", "token_file": tmp_path / "token"}]})
    app = make_app(FakeBackend(tmp_path, lambda: SNAPSHOT), settings)
    client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
    client.headers["authorization"] = f"Bearer {READERS_TOKEN}"
    changing = [(method, path) for method, path in routes(app) if method != "GET"]
    loose = {path for method, path in changing if client.request(method, path).status_code != 403}
    assert sorted(loose - {*ONLY_READ}) == []
    assert {path for _, path in changing} > loose


def test_no_path_of_the_application_is_open_by_mistake(tmp_path: Path) -> None:
    app = make_app(FakeBackend(tmp_path, lambda: SNAPSHOT), config())
    client = TestClient(app, base_url="http://localhost", follow_redirects=False)
    asked = {*routes(app), *(("GET", path) for path in ("/", OPENAPI, "/_nicegui/x", "/static/x", "/docs"))}
    assert ("GET", "/metrics") in asked
    answered = {path for method, path in asked if client.request(method, path).status_code != 401}
    assert answered == {"/healthz", "/readyz"}


def test_who_is_not_logged_in_learns_whether_it_is_ready_and_not_why(served: Served) -> None:
    served.snapshot = replace(served.snapshot, journal=replace(SNAPSHOT.journal, error="no space left on device"))
    answer = served.get("/readyz")
    assert (answer.status, json.loads(answer.data)) == (503, {"ready": False, "reasons": []})
    answer = served.get("/readyz", authorization=f"Bearer {READERS_TOKEN}")
    assert json.loads(answer.data)["reasons"] == ["the journal cannot be written: no space left on device"]
    assert served.get("/healthz").data == b"ok\n"


def test_programs_use_a_token_and_people_a_cookie(served: Served) -> None:
    assert served.get("/metrics").status == 401
    assert served.get("/metrics", authorization=f"Bearer {READERS_TOKEN}").status == 200
    assert served.get("/metrics", accept="text/html").headers["location"] == "/login?next=/metrics"
    assert served.log_in("words of eve").status == 403
    answer = served.log_in()
    assert (answer.status, answer.headers["location"]) == (303, "/metrics")
    cookie = answer.headers["set-cookie"].partition(";")[0]
    assert served.get("/metrics", cookie=cookie).status == 200


def test_the_commands_of_this_machine_ask_with_the_token_of_http_json(served: Served, tmp_path: Path) -> None:
    instance = read_instance(served.file)
    assert instance is not None
    assert stat.S_IMODE(served.file.stat().st_mode) == 0o600
    assert len(instance.token) > 40
    assert instance.token not in repr(instance)
    assert instance.client(20).request("GET", instance.url + "/metrics").status == 200
    done = CliRunner().invoke(main, ["status", "--data-dir", str(tmp_path)])
    assert (done.exit_code, "version 1.2" in done.stdout) == (0, True), done.output
    again = Served(tmp_path)
    assert read_instance(again.file).token != instance.token
    assert instance.client(20).request("GET", again.server.url + "/metrics").status == 401
    again.server.stop()


def test_who_does_not_know_the_token_is_no_tocsin_of_this_directory(served: Served, tmp_path: Path) -> None:
    write_instance(served.file, replace(read_instance(served.file), token="tocsin_" + "x" * 40))
    done = CliRunner().invoke(main, ["status", "--data-dir", str(tmp_path)])
    assert done.exit_code == 1
    assert "version 1.2" not in done.output


def test_an_http_json_of_an_earlier_version_still_says_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "http.json"
    file.write_text('{"url": "http://127.0.0.1:1", "pid": 7}')
    assert read_instance(file) == Instance("http://127.0.0.1:1", 7)
    assert read_instance(file).token == ""


def test_on_all_addresses_it_is_found_by_loopback_and_warns_of_clear_text(tmp_path: Path, caplog) -> None:
    served = Served(tmp_path, listen="0.0.0.0:0")
    try:
        assert served.server.url.startswith("http://127.0.0.1:")
        assert served.get("/healthz").status == 200
        assert served.get("/healthz", host="192.0.2.9:8100").status == 200
        assert served.get("/healthz", host="evil.example").status == 421
        assert "passwords, tokens and data travel in clear text" in caplog.text
    finally:
        served.server.stop()


def test_on_this_machine_nothing_is_warned_of(served: Served, caplog) -> None:
    assert served.get("/healthz").status == 200
    assert "clear text" not in caplog.text


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", (b"400", b"421")),
        (b"GET /metrics HTTP/1.0\r\n\r\n", (b"421",)),
        (b"GET http://localhost/metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", (b"421",)),
        (b"GET /healthz/../metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", (b"401",)),
        (b"GET /%2e%2e/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", (b"401",)),
        (b"GET //metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", (b"401",)),
        (b"GET /login/%2e%2e/metrics HTTP/1.1\r\nHost: localhost\r\n\r\n", (b"401",)),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-User: ada\r\nRemote-User: ada\r\n\r\n", (b"401",)),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-HTTP-Method-Override: POST\r\n\r\n", (b"401",)),
        (b"TRACE /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", (b"401",)),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer\x00x\r\n\r\n", (b"400", b"401")),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", (b"200",)),
    ],
)
def test_no_trick_in_a_head_gets_in(served: Served, head: bytes, status: tuple[bytes, ...]) -> None:
    assert served.raw(head).split(b" ", 2)[1] in status


@pytest.mark.parametrize(
    "path", ["/x%0d%0aSet-Cookie:%20a=b", "/x?y=%0d%0aSet-Cookie:%20a=b", "/%5cevil.example", "//evil.example/%2f.."]
)
def test_nothing_of_a_request_becomes_a_header_of_the_answer(served: Served, path: str) -> None:
    said = served.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/html\r\n\r\n".encode()).lower()
    assert said.startswith(b"http/1.1 303")
    lines = said.splitlines()
    assert not any(line.startswith(b"set-cookie") for line in lines)
    (location,) = (line for line in lines if line.startswith(b"location:"))
    assert location.startswith(b"location: /login")
    assert b"evil.example" not in location or b"%255cevil" in location


@pytest.mark.parametrize(
    ("origin", "credentials", "status"),
    [
        ("http://evil.example", "cookie", b"403"),
        ("null", "cookie", b"403"),
        ("", "cookie", b"403"),
        ("http://HOST", "nothing", b"403"),
        ("http://HOST", "cookie", b"101"),
        ("", "token", b"101"),
    ],
)
def test_a_websocket_of_another_site_or_of_nobody_is_refused(
    served: Served, origin: str, credentials: str, status: bytes
) -> None:
    host = urlsplit(served.server.url).netloc
    lines = [
        "GET /_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1",
        f"Host: {host}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ]
    if origin:
        lines.append(f"Origin: {origin.replace('HOST', host)}")
    if credentials == "cookie":
        lines.append("Cookie: " + served.log_in().headers["set-cookie"].partition(";")[0])
    if credentials == "token":
        lines.append(f"Authorization: Bearer {READERS_TOKEN}")
    assert served.raw("\r\n".join([*lines, "", ""]).encode()).split(b" ", 2)[1] == status


def test_what_cannot_be_used_stops_the_start_before_anything_listens(tmp_path: Path) -> None:
    for settings, words in (
        ({"tokens": [{"name": "x", "token_file": tmp_path / "none"}]}, "cannot use the token_file"),
        ({"cert_file": tmp_path / "none.pem"}, "http.cert_file: cannot use"),
        ({"cert_file": __file__}, "no valid PEM file"),
    ):
        with pytest.raises(ConfigError, match=words):
            HttpServer(HttpConfig.model_validate({"listen": "127.0.0.1:0", **settings}), tmp_path / "http.json")


def test_a_configuration_that_was_changed_behind_the_check_lets_in_nobody_either(tmp_path: Path) -> None:
    for changed in (
        HttpConfig().model_copy(update={"listen": "0.0.0.0:0"}),
        HttpConfig.model_validate({"enabled": False, "listen": "0.0.0.0:0"}).model_copy(update={"enabled": True}),
    ):
        with pytest.raises(TocsinError, match="others than this machine must say who they are"):
            HttpServer(changed, tmp_path / "http.json")
