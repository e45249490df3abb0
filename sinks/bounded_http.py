"""BoundedPool: urllib3's connections, with limits on what comes back: in bytes, and in seconds for all of it.

Here: what every answer from outside must obey. Not here: what it means (influx.py).
"""

from __future__ import annotations

import io
import time
from typing import Any

from urllib3 import BaseHTTPResponse, HTTPResponse, PoolManager
from urllib3.exceptions import HTTPError

MAX_ANSWER_BYTES = 64 << 10


class WrongServerError(Exception):
    """It says that it has done what we asked, and cannot know what that was."""


class BoundedPool:
    """In the place of a PoolManager, of which it offers what influxdb-client uses."""

    def __init__(self, pool: PoolManager, *, timeout_s: float) -> None:
        """`timeout_s`: for the body of an answer; how long its beginning may take is said with each request."""
        self._pool, self._timeout_s = pool, timeout_s

    def request(self, method: str, url: str, **more: Any) -> BaseHTTPResponse:
        """The answer with at most MAX_ANSWER_BYTES of its body, as UTF-8; never redirected, never tried again.

        Raises urllib3's errors, and WrongServerError if a success has a body: APIs for writing say nothing (204), the
        pages that any other server has for any request do.
        """
        more["preload_content"] = False
        answer = self._pool.request(method, url, redirect=False, retries=False, **more)
        try:
            body = self._read(answer)
        except BaseException:
            answer.close()
            raise
        if len(body) < MAX_ANSWER_BYTES:
            answer.release_conn()
        else:
            answer.close()
        if 200 <= answer.status < 300 and body.strip():
            raise WrongServerError(f"it answered {answer.status} with {len(body)} bytes, where InfluxDB says nothing")
        return HTTPResponse(
            io.BytesIO(body.decode(errors="replace").encode()),  # of plain bytes that are empty it makes None
            headers=answer.headers,
            status=answer.status,
            reason=answer.reason,
            decode_content=False,
        )

    def _read(self, answer: BaseHTTPResponse) -> bytes:
        """By parts, since a socket's own timeout starts anew with every byte."""
        deadline = time.monotonic() + self._timeout_s
        body = bytearray()
        while len(body) < MAX_ANSWER_BYTES and (part := answer.read1(4096)):
            body += part
            if time.monotonic() > deadline:
                raise HTTPError("its answer does not end")
        return bytes(body)

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        self._pool.clear()
