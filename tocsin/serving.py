"""The HTTP server alone, over the files of a tocsin that runs elsewhere, or not at all.

Not here: what is answered (tocsin.http, tocsin.console).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import urllib3
from pydantic import ValidationError

from rules import RuleGroup
from telemetry import SystemClock, TocsinError
from tocsin import data_dir
from tocsin.backend import StoredBackend
from tocsin.config import load_config
from tocsin.data_dir import DataDir
from tocsin.foreground import stopped_by_signals
from tocsin.http.config import HttpConfig
from tocsin.http.instance import Instance, read_instance
from tocsin.http.server import HttpServer

_LOOK_SECONDS = 0.2
_ANSWER_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Place:
    """What the command line says: which data, and where to listen."""

    config_file: Path | None = None
    data_dir: Path | None = None
    port: int | None = None
    listen: str | None = None


def serve_stored(place: Place) -> None:
    """Until Ctrl-C or SIGTERM. Raises TocsinError."""
    data, http, groups = _opened(place)
    data.require(data.path, "readings")
    other = None if place.port is not None or place.listen is not None else running(data)
    if other is not None:
        raise TocsinError(
            f"the tocsin that runs with {data.path} (process {other.pid}) shows it already, at {other.url}; name "
            "another port with --port to serve it once more"
        )
    stop = threading.Event()
    with stopped_by_signals(stop), StoredBackend(data, SystemClock(), groups) as backend:
        server = HttpServer(http, None)
        try:
            server.start(backend)
            click.echo(f"{server.url} shows {data.path}: Ctrl-C stops")
            while not stop.wait(_LOOK_SECONDS):
                if not server.is_alive:
                    raise TocsinError("the HTTP server has stopped, see above")
        finally:
            server.stop()


def running(data: DataDir) -> Instance | None:
    """The tocsin that answers for this data directory, if one does."""
    instance = read_instance(data.http)
    if instance is None:
        return None
    try:
        answer = instance.client(_ANSWER_SECONDS).request("GET", f"{instance.url}/healthz")
    except urllib3.exceptions.ReadTimeoutError:
        return instance  # it begins just now, or is busy
    except urllib3.exceptions.HTTPError:
        return None
    return instance if answer.status == 200 else None


def _opened(place: Place) -> tuple[DataDir, HttpConfig, Sequence[RuleGroup]]:
    """The data, how to listen, the rules. Raises TocsinError."""
    data, http, groups = DataDir(place.data_dir or data_dir.DEFAULT), HttpConfig(), list[RuleGroup]()
    if place.config_file is not None:
        loaded = load_config(place.config_file)
        http, groups = loaded.config.http, loaded.groups
        if place.data_dir is None:
            data = loaded.data_dir
    listen = http.listen if place.port is None else f"{http.listen.rpartition(':')[0]}:{place.port}"
    said = {name: getattr(http, name) for name in http.model_fields_set}
    try:
        http = HttpConfig.model_validate({**said, "enabled": True, "listen": place.listen or listen})
    except ValidationError as error:
        why = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise TocsinError(f"cannot listen on {place.listen or listen}: {why}") from None
    return data, http, groups
