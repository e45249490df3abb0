"""For those who run tocsin: /metrics, /healthz, /readyz, /api/v1/status/tocsin.

Not here: the figures (`pipeline_status`, `metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from tocsin.backend import Backend
from tocsin.http.access import principal_of
from tocsin.http.metrics import Metrics
from tocsin.status import Snapshot
from tocsin.status_json import to_json


def router(backend: Backend) -> APIRouter:
    """Its routes."""
    routes = APIRouter(tags=["operations"])
    metrics = Metrics(backend.snapshot)

    @routes.get("/metrics", response_class=PlainTextResponse, summary="Metrics in Prometheus' formats")
    def show_metrics(accept: Annotated[str, Header()] = "") -> Response:
        body, content_type = metrics.text(accept)
        return Response(body, media_type=content_type)

    @routes.get("/healthz", response_class=PlainTextResponse, summary="Whether the process answers")
    def healthz() -> str:
        return "ok\n"

    @routes.get(
        "/readyz",
        summary="Whether messages are received and evaluated, or why not",
        responses={503: {"description": "They are not: `reasons` says why."}},
    )
    def readyz(request: Request) -> JSONResponse:
        reasons = list(not_ready(backend.snapshot()))
        told = reasons if principal_of(request.scope) is not None else []  # they name brokers and files
        return JSONResponse({"ready": not reasons, "reasons": told}, status_code=503 if reasons else 200)

    @routes.get("/api/v1/status/tocsin", summary="All that tocsin tells of itself; times in ns")
    def status() -> Response:
        return Response(to_json(backend.snapshot()), media_type="application/json")

    return routes


def not_ready(snapshot: Snapshot) -> Iterator[str]:
    """Why messages are not received now, or not evaluated."""
    if snapshot.journal is not None and snapshot.journal.error:
        yield f"the journal cannot be written: {snapshot.journal.error}"
    if snapshot.standstill is not None:
        yield f"rules are not evaluated: {snapshot.standstill.error}"
    if snapshot.session is not None and snapshot.session.state != "connected":
        why = f": {snapshot.session.last_error}" if snapshot.session.last_error else ""
        yield f"not connected to {snapshot.session.url}{why}"
