"""The webhook over TLS: the certificate must prove the name in the URL, although the connection goes to an address."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sinks.config import WebhookConfig
from sinks.webhook import WebhookReceiver
from telemetry import AlertEvent, AlertState, RetryLater
from tests.integration.certificates import Certificates

EVENT = AlertEvent("g/Hot", (("alertname", "Hot"), ("device", "d1")), AlertState.FIRING, 1.0, 10**18, 0, 10**18)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.server.hosts.append(self.headers["Host"])  # type: ignore[attr-defined]  # set by the fixture
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def https(certificates: Certificates) -> Iterator[ThreadingHTTPServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.hosts = []  # type: ignore[attr-defined]  # what the handler saw
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that refuse us break off
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def hook(server: ThreadingHTTPServer, host: str, **more: object) -> WebhookReceiver:
    fields = {"url": f"https://{host}:{server.server_port}/", "allow_private": ["127.0.0.1"], "timeout": "5s", **more}
    return WebhookReceiver(WebhookConfig.model_validate(fields), resolve=lambda *_: ["127.0.0.1"])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_certificate_of_a_known_authority_and_the_right_name_is_accepted(https, certificates, host) -> None:
    hook(https, host, ca_file=certificates.ca).send([EVENT], repeat=False)
    assert https.hosts == [f"{host}:{https.server_port}"]


def test_a_certificate_of_another_name_is_refused(https, certificates) -> None:
    with pytest.raises(RetryLater, match=r"cannot connect to other.example.*(?i:hostname mismatch)"):
        hook(https, "other.example", ca_file=certificates.ca).send([EVENT], repeat=False)
    assert https.hosts == []


def test_a_certificate_of_an_unknown_authority_is_refused(https) -> None:
    with pytest.raises(RetryLater, match="CERTIFICATE_VERIFY_FAILED"):
        hook(https, "localhost").send([EVENT], repeat=False)
    assert https.hosts == []


def test_verification_can_be_switched_off_on_purpose(https) -> None:
    hook(https, "other.example", verify_tls=False).send([EVENT], repeat=False)
    assert len(https.hosts) == 1
