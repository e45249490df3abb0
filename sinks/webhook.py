"""WebhookReceiver: posts alerts in Alertmanager's webhook format, version 4.

Here: the payload, its headers, one request, and what the answer means. Not here: which addresses are allowed
(addresses.py), retries and order (delivery.py).
Source: https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Sequence
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

import orjson
from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError

from sinks.addresses import Resolve, checked_addresses
from sinks.backoff import retry_after_seconds
from sinks.config import WebhookConfig, secret_text
from sinks.log import printable
from sinks.timestamps import ZERO_TIME, rfc3339
from telemetry import AlertEvent, AlertState, Clock, Rejected, RetryLater, SystemClock

_MAX_ANSWER = 4_096
_MAX_WORDS = 300


def payload(events: Sequence[AlertEvent], *, receiver: str, external_url: str = "") -> dict[str, Any]:
    """Webhook v4 for events of one alertname. What Alertmanager does not have is under keys that begin with `x_`.

    The status is of the latest event of each alert; after an outage there may be earlier ones before it.
    """
    latest = {e.fingerprint: e.state for e in events}
    firing = AlertState.FIRING in latest.values()
    name = dict(events[0].labels).get("alertname", "")
    return {
        "version": "4",
        "groupKey": f"{{}}:{{alertname={json.dumps(name, ensure_ascii=False)}}}",
        "truncatedAlerts": 0,
        "status": "firing" if firing else "resolved",
        "receiver": receiver,
        "groupLabels": {"alertname": name} if name else {},
        "commonLabels": _common([e.labels for e in events]),
        "commonAnnotations": _common([e.annotations for e in events]),
        "routeLabels": {},
        "externalURL": external_url,
        "notification_reason": "new alerts added" if firing else "some alerts resolved",
        "alerts": [_alert(e) for e in events],
    }


def _alert(event: AlertEvent) -> dict[str, Any]:
    resolved = event.state is AlertState.RESOLVED
    return {
        "status": event.state.value,
        "labels": dict(event.labels),
        "annotations": dict(event.annotations),
        "startsAt": rfc3339(event.starts_at),
        "endsAt": rfc3339(event.ends_at) if resolved else ZERO_TIME,
        "generatorURL": "",
        "fingerprint": event.fingerprint,
        "x_id": event.id,
        "x_rule": event.rule,
        "x_value": event.value,
        "x_detectedAt": rfc3339(event.detected_at),
    }


def _common(pairs: Sequence[tuple[tuple[str, str], ...]]) -> dict[str, str]:
    """The pairs that all have."""
    shared = set(pairs[0]).intersection(*pairs[1:])
    return {name: value for name, value in pairs[0] if (name, value) in shared}


def signature(body: bytes, *, secret: str, time_s: int) -> str:
    """`t=<unix seconds>,v1=<hex>`: HMAC-SHA256 of `<unix seconds>.<body>`, so that old posts cannot be sent again."""
    mac = hmac.new(secret.encode(), f"{time_s}.".encode() + body, hashlib.sha256)
    return f"t={time_s},v1={mac.hexdigest()}"


class WebhookReceiver:
    """Posts to one URL: never follows redirects, never connects to an address that was not checked.

    2xx: done. 408, 429, 5xx, no answer in time, no connection: RetryLater; so are answers that the url or the headers
    of the configuration, or the far side's, can mend (401, 403, 404 …). Anything else is about what was posted:
    Rejected, with the answer's words.
    """

    def __init__(self, config: WebhookConfig, *, clock: Clock | None = None, resolve: Resolve | None = None) -> None:
        """`resolve`: (host, port) to addresses; by default the system's."""
        self.name = config.name
        self._config = config
        self._clock: Clock = clock or SystemClock()
        self._resolve = resolve

    def send(self, events: Sequence[AlertEvent], *, repeat: bool) -> bool:
        told = [e for e in events if self._config.send_resolved or e.state is AlertState.FIRING]
        if told:
            body = orjson.dumps(payload(told, receiver=self.name, external_url=self._config.external_url))
            self._post(body, self._headers(told, body, repeat=repeat))
        return bool(told)

    def close(self) -> None:
        """Nothing stays open between posts."""

    def _headers(self, events: Sequence[AlertEvent], body: bytes, *, repeat: bool) -> dict[str, str]:
        config = self._config
        key = hashlib.sha256("\0".join(e.id for e in events).encode()).hexdigest()
        headers = {
            "User-Agent": "tocsin",
            **{name: value.get_secret_value() for name, value in config.headers.items()},
            "Content-Type": "application/json",
            "Idempotency-Key": key[:32],
        }
        if repeat:
            headers["X-Tocsin-Repeat"] = "true"
        secret = secret_text(config.secret, config.secret_file, what=f"the secret of receiver {self.name}")
        if secret:
            headers["X-Tocsin-Signature"] = signature(body, secret=secret, time_s=self._clock.now() // 10**9)
        return headers

    def _post(self, body: bytes, headers: dict[str, str]) -> None:
        url = urlsplit(self._config.url.get_secret_value())
        host, secure = url.hostname or "", url.scheme == "https"
        port = url.port or (443 if secure else 80)
        deadline = time.monotonic() + self._config.timeout / 1e9
        connection = self._connect(host, port, secure=secure, deadline=deadline)
        timer = threading.Timer(max(0.0, deadline - time.monotonic()), _cut, (connection,))
        timer.start()
        try:
            target = (url.path or "/") + (f"?{url.query}" if url.query else "")
            # Host is the name and not the address that we connect to: virtual hosts need it.
            connection.request("POST", target, body, {"Host": url.netloc, **headers}, preload_content=False)
            with contextlib.closing(connection.getresponse()) as response:
                retry_after = retry_after_seconds(response.headers.get("Retry-After"), now=self._clock.now())
                words = _words(response)
        except (HTTPError, HTTPException, OSError) as error:
            late = time.monotonic() >= deadline or isinstance(error, TimeoutError)
            why = "did not answer in time" if late else f"broke the connection off ({type(error).__name__})"
            raise RetryLater(f"{host} {why}") from error
        finally:
            timer.cancel()
            connection.close()
        self._judge(host, response.status, words, retry_after)

    def _connect(self, host: str, port: int, *, secure: bool, deadline: float) -> HTTPConnection:
        """A connection to a checked address; with https, it has proved with its certificate to be `host`."""
        config, who = self._config, f"receiver {self.name}"
        problem = ""
        for address in checked_addresses(host, port, allow=config.allow_private, who=who, resolve=self._resolve):
            left_s = max(0.01, deadline - time.monotonic())
            connection = HTTPConnection(address, port, timeout=left_s)
            if secure:
                connection = HTTPSConnection(
                    address,
                    port,
                    timeout=left_s,
                    server_hostname=host,
                    assert_hostname=None if config.verify_tls else False,
                    cert_reqs="CERT_REQUIRED" if config.verify_tls else "CERT_NONE",
                    ca_certs=str(config.ca_file) if config.ca_file else None,
                )
            try:
                connection.connect()
            except (HTTPError, OSError) as error:
                connection.close()
                problem = f"{type(error).__name__}: {error}"
            else:
                return connection
        raise RetryLater(f"cannot connect to {host}:{port} ({problem}): is it up, and is the url of {who} right?")

    def _judge(self, host: str, status: int, words: str, retry_after: float | None) -> None:
        if 200 <= status < 300:
            return
        answer = f"{host} answered {status}" + (f": {words}" if words else "")
        advice = _advice(status, f"receiver {self.name}")
        if advice:
            answer += f"; {advice}"
        if advice or status in (408, 429) or status >= 500:
            raise RetryLater(answer, retry_after)
        raise Rejected(answer)


def _advice(status: int, who: str) -> str:
    """What the user can mend if the answer is not about the alerts; empty otherwise."""
    match status:
        case 401 | 403 | 407:
            return f"check the credentials in url, headers and secret of {who}"
        case 404 | 405 | 410:
            return f"check the url of {who}"
        case _ if 300 <= status < 400:
            return f"redirects are not followed: set the url of {who} to where it leads"
        case _:
            return ""


def _cut(connection: HTTPConnection) -> None:
    """End a connection under the thread that uses it; a socket's own timeout starts anew with every byte."""
    with contextlib.suppress(OSError, AttributeError):  # it ended by itself
        connection.sock.shutdown(socket.SHUT_RDWR)


def _words(response: HTTPResponse) -> str:
    """The beginning of an answer, as one line; empty if it breaks off."""
    try:
        text = response.read(_MAX_ANSWER, decode_content=False).decode(errors="replace")
    except (HTTPError, HTTPException, OSError):
        return ""
    return printable(" ".join(text.split()))[:_MAX_WORDS]
