"""InfluxSink: writes readings to InfluxDB 1.x, 2.x, 3.x or VictoriaMetrics. influxdb-client is imported here only.

Here: requests, and what each answer means for the rows. Not here: the encoding (line_protocol.py), retries and the
search for poison rows (consumer.py). The client's batching mode is not used (it loses data), nor its gzip (level 9).
"""

from __future__ import annotations

import json
import logging
import zlib
from typing import Any

from urllib3.exceptions import HTTPError

from sinks.backoff import retry_after_seconds
from sinks.bounded_http import BoundedPool, WrongServerError
from sinks.config import InfluxConfig, secret_text
from sinks.line_protocol import LineEncoder, representable
from sinks.sink import RejectedRows
from telemetry import Clock, ReadingBatch, Rejected, RetryLater, SeriesTable, SystemClock

_log = logging.getLogger("tocsin.sinks")
_V1_PRECISION = {"ns": "n", "us": "u", "ms": "ms", "s": "s"}
_MAX_WORDS = 500
_WRITES_BEFORE_MORE = 64
"""After 413, so many writes go well before one of twice the size is tried."""


def _library() -> Any:
    """influxdb-client, which has few types; importing it takes a second, which only its users shall pay."""
    import influxdb_client.rest  # noqa: PLC0415

    return influxdb_client


class _TooLargeError(Exception):
    """The server answered 413."""


class InfluxSink:
    """A sink for any server that takes InfluxDB's line protocol over HTTP.

    A reading becomes the float field `value` of measurement = metric, tags = labels, at its event time: writing it
    again overwrites it with itself. Connects at the first write.
    """

    def __init__(self, config: InfluxConfig, table: SeriesTable, *, clock: Clock | None = None) -> None:
        self.name = config.name
        self._config = config
        self._clock: Clock = clock or SystemClock()
        self._encoder = LineEncoder(table, precision=config.precision)
        self._rows = self._fewest = config.batch_rows
        self._went_well = 0
        self._client: Any = None

    def write(self, batch: ReadingBatch) -> None:
        fit = representable(batch)
        if not fit.all():
            raise RejectedRows("InfluxDB has no NaN and no infinity", ~fit, reason="unrepresentable")
        first = 0
        while first < len(batch):
            part = batch.select(slice(first, first + self._rows))
            try:
                self._post(self._encoder.encode(part))
            except _TooLargeError:
                if len(part) == 1:
                    raise Rejected("InfluxDB says that this single point is too large (413)") from None
                self._fewer(len(part) // 2)
            else:
                first += len(part)
                self._more()

    def _fewer(self, rows: int) -> None:
        self._rows, self._went_well = rows, 0
        if rows < self._fewest:
            self._fewest = rows
            _log.info("%s: the server finds %d points too many: now %d a write", self.name, 2 * rows, rows)

    def _more(self) -> None:
        """One huge point, or a proxy for a moment, must not make writes small for ever."""
        self._went_well += 1
        if self._went_well >= _WRITES_BEFORE_MORE and self._rows < self._config.batch_rows:
            self._rows, self._went_well = min(2 * self._rows, self._config.batch_rows), 0

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _post(self, body: bytes) -> None:
        config = self._config
        client = self._client = self._client or self._connect()
        encoding = "gzip" if config.gzip else "identity"
        sent = zlib.compress(body, 1, wbits=31) if config.gzip else body
        try:
            if config.api == "v2":
                self._post_v2(client, sent, encoding)
            else:
                self._post_v1(client, sent, encoding)
        except _library().rest.ApiException as error:
            self._refused(error)
        except WrongServerError as error:
            raise RetryLater(
                f"{config.url} is not InfluxDB ({error}): mend the url or api of sink {self.name}"
            ) from error
        except (HTTPError, OSError, ValueError) as error:
            why = f"{type(error).__name__}: {error}".replace("\n", " ")
            raise RetryLater(
                f"cannot reach InfluxDB at {config.url} ({why}): start it, or mend the url of sink {self.name}"
            ) from error

    def _connect(self) -> Any:
        config = self._config
        if config.api == "v2":
            credentials = secret_text(config.token, config.token_file, what=f"the token of sink {self.name}")
        else:
            password = config.password.get_secret_value() if config.password else ""
            credentials = f"{config.username}:{password}" if config.username else ""
        client = _library().InfluxDBClient(
            config.url,
            credentials,
            org=config.org,
            timeout=max(1, config.timeout // 1_000_000),
            verify_ssl=config.verify_tls,
            ssl_ca_cert=str(config.ca_file) if config.ca_file else None,
            auth_basic=config.api == "v1" and bool(credentials),
        )
        rest = client.api_client.rest_client
        rest.pool_manager = BoundedPool(rest.pool_manager, timeout_s=config.timeout / 1e9)
        return client

    def _post_v2(self, client: Any, body: bytes, encoding: str) -> None:
        _library().WriteService(client.api_client).post_write(
            self._config.org,
            self._config.bucket,
            body,
            precision=self._config.precision,
            content_encoding=encoding,
            content_type="text/plain; charset=utf-8",
        )

    def _post_v1(self, client: Any, body: bytes, encoding: str) -> None:
        query = [("db", self._config.database), ("precision", _V1_PRECISION[self._config.precision])]
        if self._config.retention_policy:
            query.append(("rp", self._config.retention_policy))
        client.api_client.call_api(
            "/write",
            "POST",
            {},
            query,
            {"Content-Type": "text/plain; charset=utf-8", "Content-Encoding": encoding},
            body=body,
            auth_settings=[],
        )

    def _refused(self, error: Any) -> None:
        """Raise what the answer means for the rows."""
        status = error.status or 0
        words = _words(error.body) or str(error.reason or "").replace("\n", " ")
        if status in (400, 422):
            raise Rejected(f"InfluxDB refused it ({status}): {words}") from error
        if status == 413:
            raise _TooLargeError from error
        if status == 401:
            self.close()  # so that a changed token file is read
        advice = _advice(status, self._config)
        retry_after = retry_after_seconds((error.headers or {}).get("Retry-After"), now=self._clock.now())
        raise RetryLater(f"{advice}: {words}" if words else advice, retry_after) from error


def _advice(status: int, config: InfluxConfig) -> str:
    """What the user can do about an answer that is not about the rows."""
    at = f"sink {config.name}"
    credentials = "token" if config.api == "v2" else "username and password"
    target = "org and bucket" if config.api == "v2" else "database"
    match status:
        case 0:
            return f"no trusted connection to InfluxDB at {config.url}: check its certificate and ca_file of {at}"
        case 401:
            return f"InfluxDB refused the {credentials} (401): check {credentials} of {at}"
        case 403:
            return f"InfluxDB does not let this {credentials} write (403): give it write access to the {target} of {at}"
        case 404:
            return f"InfluxDB does not know the {target} of {at} (404): create it, or check url and api"
        case 429:
            return "InfluxDB asks us to slow down (429)"
        case _ if 300 <= status < 400:
            return f"{config.url} points elsewhere ({status}): set the url of {at} to where InfluxDB is"
        case _ if status < 500:
            return f"InfluxDB answered {status}: check url and api of {at}"
        case _:
            return f"InfluxDB is in trouble ({status})"


def _words(body: str | bytes | None) -> str:
    """What the server says, on one line of bounded length."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else body or ""
    try:
        answer = json.loads(text)
        text = str(answer.get("message") or answer["error"])
    except (ValueError, KeyError, AttributeError, RecursionError):
        pass
    text = " ".join(text.split())[:_MAX_WORDS]
    return "".join(c if c.isprintable() else "?" for c in text)
