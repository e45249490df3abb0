"""Laws of the console on the server: loaded late, never in the API's way, for nobody but its own pages.

What pages show is tested in a browser, in tests/integration.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from telemetry import Series
from tests.tocsin.console_store import stored_backend
from tests.tocsin.fake_backend import FakeBackend
from tocsin.http.config import HttpConfig
from tocsin.http.server import HttpServer


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[FakeBackend]:
    with stored_backend(tmp_path, {Series.of("t", device="</script><b>"): [(1, 1.0)]}) as backend:
        yield backend


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(timeout=60) as pool:
        yield pool


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[HttpServer]]:
    """Two that are not started yet."""
    made = [HttpServer(HttpConfig(listen="127.0.0.1:0"), tmp_path / f"{i}.json") for i in range(2)]
    yield made
    for server in made:
        server.stop()


def test_nicegui_is_not_imported_before_somebody_wants_a_page() -> None:
    code = "import sys, tocsin.http.app, tocsin.cli; sys.exit('nicegui' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_pages_come_from_this_server_alone(
    backend: FakeBackend, servers: list[HttpServer], pool: urllib3.PoolManager
) -> None:
    servers[0].start(backend)
    answer = pool.request("GET", servers[0].url)
    assert answer.status == 200
    page = answer.data.decode()
    addresses = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']([^"']+)["']""", page)
    assert len(addresses) > 10
    assert [a for a in addresses if a.startswith(("http:", "https:", "//"))] == []
    assert "session" not in answer.headers.get("set-cookie", "")  # nothing to be stolen or forged
    for address in addresses:
        if address.startswith("/_console/") or address.endswith("favicon.ico"):
            assert pool.request("GET", servers[0].url + address).status == 200


def test_what_is_nobodys_is_not_found_and_a_page_takes_nothing_from_the_api(
    backend: FakeBackend, servers: list[HttpServer], pool: urllib3.PoolManager
) -> None:
    servers[0].start(backend)
    answer = pool.request("GET", f"{servers[0].url}/api/v1/nope")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/json"
    assert pool.request("GET", f"{servers[0].url}/healthz").data == b"ok\n"
    assert pool.request("GET", f"{servers[0].url}/nope").status == 404


def test_a_process_shows_one_console_at_a_time(
    backend: FakeBackend, servers: list[HttpServer], pool: urllib3.PoolManager
) -> None:
    first, second = servers
    first.start(backend)
    assert pool.request("GET", first.url).status == 200
    second.start(backend)
    refused = pool.request("GET", second.url)
    assert refused.status == 503
    assert b"another tocsin" in refused.data
    assert pool.request("GET", f"{second.url}/healthz").status == 200


def test_the_next_server_of_a_process_has_a_console_again(
    backend: FakeBackend, servers: list[HttpServer], pool: urllib3.PoolManager
) -> None:
    for server in servers:
        server.start(backend)
        assert pool.request("GET", server.url).status == 200
        server.stop()


def test_a_server_that_never_served_is_in_nobodys_way(
    backend: FakeBackend, servers: list[HttpServer], pool: urllib3.PoolManager
) -> None:
    unused, used = servers
    unused._stopping.set()
    unused.start(backend)
    assert unused._thread is not None
    unused._thread.join(60)
    assert unused._server is not None
    used.start(backend)
    assert pool.request("GET", used.url).status == 200


def test_a_page_of_somebody_else_is_refused_its_socket(
    backend: FakeBackend, servers: list[HttpServer], pool: urllib3.PoolManager
) -> None:
    servers[0].start(backend)
    assert pool.request("GET", servers[0].url).status == 200
    host, port = servers[0].url.removeprefix("http://").split(":")
    head = {
        "GET": "/_nicegui_ws/socket.io/?EIO=4&transport=websocket HTTP/1.1",
        "Host:": f"{host}:{port}",
        "Upgrade:": "websocket",
        "Connection:": "Upgrade",
        "Sec-WebSocket-Key:": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version:": "13",
    }
    for origin, status in ((f"http://{host}:{port}", b"101"), ("http://evil.example", b"403")):
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            lines = [f"{name} {value}" for name, value in {**head, "Origin:": origin}.items()]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            assert connection.recv(100).split()[1] == status
