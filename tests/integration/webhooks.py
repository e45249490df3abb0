"""A webhook's far side: keeps every alert that it is told of, in order; may be down, and come up later."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from telemetry import AlertEvent
from tests.integration.servers import free_port
from tocsin.own_alerts import GROUP


class Webhook:
    """Answers 200 between `start` and `stop`; nobody is there before and after."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/alerts"
        self.alerts: list[dict[str, Any]] = []
        self._server: ThreadingHTTPServer | None = None

    @property
    def receiver(self) -> dict[str, object]:
        """For the configuration."""
        return {"type": "webhook", "url": self.url, "allow_private": ["127.0.0.0/8"]}

    def start(self) -> None:
        alerts = self.alerts

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                alerts.extend(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"])
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def heard(self) -> dict[str, list[str]]:
        """Ids of the events of each alert of a rule, in the order in which they came; repetitions once."""
        heard: dict[str, dict[str, None]] = {}
        for alert in self.alerts:
            if alert["x_rule"].startswith(f"{GROUP}/"):
                continue
            heard.setdefault(alert["fingerprint"], {})[alert["x_id"]] = None
        return {fingerprint: list(ids) for fingerprint, ids in heard.items()}


def told(events: list[AlertEvent]) -> dict[str, list[str]]:
    """What `heard` must give after these events."""
    ids: dict[str, list[str]] = {}
    for event in events:
        ids.setdefault(event.fingerprint, []).append(event.id)
    return ids
