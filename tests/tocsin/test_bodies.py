"""Laws of the limit on what is sent to the HTTP server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import urllib3

from tests.tocsin.resource_rig import stored
from tocsin.http.bodies import MOST_BYTES
from tocsin.http.config import HttpConfig
from tocsin.http.server import HttpServer, listening

PURGE = "/api/v1/tocsin/dead-letters/purge"
QUERY = "/api/v1/query"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpServer]:
    directory = tmp_path_factory.mktemp("tocsin")
    with listening(HttpConfig(listen="127.0.0.1:0"), directory / "http.json") as server:
        assert server is not None
        server.start(stored(directory))
        yield server


def send(server: HttpServer, path: str, body: Any, kind: str = "application/json") -> Any:
    """An iterator is sent in chunks, without its length."""
    return urllib3.request(
        "POST", server.url + path, body=body, headers={"Content-Type": kind}, timeout=20, retries=False
    )


@pytest.mark.parametrize(
    ("path", "kind", "begin", "end"),
    [
        (PURGE, "application/json", b'{"ids": [999]', b"}"),
        (QUERY, "application/x-www-form-urlencoded", b"query=1&x=", b""),
    ],
)
def test_too_large_a_body_is_refused_whether_its_length_is_told_or_not(
    server: HttpServer, path: str, kind: str, begin: bytes, end: bytes
) -> None:
    """It would be understood."""
    body = begin + b" " * MOST_BYTES + end
    answer = send(server, path, body, kind)
    assert (answer.status, answer.json()["errorType"]) == (413, "too_large")
    try:
        answer = send(server, path, iter([body[at : at + 65_536] for at in range(0, len(body), 65_536)]), kind)
    except urllib3.exceptions.HTTPError:
        pass  # it has hung up
    else:
        assert answer.status == 400
    assert urllib3.request("GET", f"{server.url}/healthz").status == 200


def test_a_large_body_that_is_not_too_large_is_read(server: HttpServer) -> None:
    body = b'{"ids": [999], "reason": null' + b" " * (MOST_BYTES - 100) + b"}"
    assert send(server, PURGE, body).json() == {"purged": 0}
    assert send(server, PURGE, iter([body[:1_000], body[1_000:]])).json() == {"purged": 0}
