"""The application behind the HTTP server: which routers there are, and who may ask.

Not here: what is answered (a module for each router), the server.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException

from tocsin import __version__
from tocsin.backend import Backend
from tocsin.console.mount import mount
from tocsin.http import (
    alerts,
    dead_letters,
    devices,
    events,
    operations,
    pipeline,
    prometheus,
    readings_csv,
    streams,
)
from tocsin.http.access import Access
from tocsin.http.bodies import LimitedBody
from tocsin.http.config import HttpConfig
from tocsin.http.credentials import Credentials
from tocsin.http.resource import refused

OPENAPI = "/api/openapi.json"


def make_app(backend: Backend, config: HttpConfig | None = None, credentials: Credentials | None = None) -> FastAPI:
    """The application; what it shows is asked of `backend` at each request, in one of its threads.

    Without `config`, on this machine only, for everyone there. `credentials`: those of `config`, if they are read
    already; else raises ConfigError if they cannot be.
    """
    config = config or HttpConfig()
    app = FastAPI(
        title="tocsin",
        version=__version__,
        summary="MQTT telemetry, stored and alerted on in event time",
        openapi_url=OPENAPI,
        docs_url=None,  # its pages take their scripts from elsewhere
        redoc_url=None,
    )
    app.include_router(operations.router(backend))
    app.include_router(prometheus.router(backend))
    for resource in (devices, streams, dead_letters, pipeline, alerts, events):
        app.include_router(resource.router(backend))
    app.include_router(readings_csv.router(backend))
    mount(app, backend)  # last: it answers whatever nobody else does
    app.add_exception_handler(HTTPException, refused)
    credentials = credentials if credentials is not None else Credentials.load(config)
    app.add_middleware(LimitedBody)
    app.add_middleware(Access, config=config, credentials=credentials)  # in front of everything
    return app
