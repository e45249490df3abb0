"""A real Prometheus over samples that a test gives it, and the same samples in a store of ours behind our server."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rules import RuleGroup
from sinks.store import Store
from telemetry import Clock, SeriesTable, SystemClock
from tests.integration.servers import HttpServer, free_port, program
from tests.rules.notation import table_of
from tocsin.backend import StoredBackend
from tocsin.data_dir import DataDir
from tocsin.http.config import HttpConfig
from tocsin.http.server import HttpServer as OurServer

Samples = Mapping[str, Sequence[tuple[int, float]]]
"""Series as written → (ms since the epoch, value), ascending"""


class Prometheus(HttpServer):
    """With nothing but these samples."""

    ready_path = "/-/ready"

    def __init__(self, directory: Path, samples: Samples, *, rules: str = "") -> None:
        port = free_port()
        (directory / "prometheus.yml").write_text("global: {evaluation_interval: 15s}\nrule_files: [rules.yml]\n")
        (directory / "rules.yml").write_text(rules or "groups: []\n")
        (directory / "samples.txt").write_text(open_metrics(samples))
        promtool = program("promtool", "prometheus")
        made = [promtool, "tsdb", "create-blocks-from", "openmetrics", directory / "samples.txt", directory / "data"]
        subprocess.run(made, check=True, capture_output=True, timeout=60)
        super().__init__(
            [
                program("prometheus", "prometheus"),
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                "--storage.tsdb.retention.time=100y",  # else it forgets what is older than 15 days
                f"--web.listen-address={self.host}:{port}",
            ],
            directory=directory,
            port=port,
        )


def open_metrics(samples: Samples) -> str:
    """Series of one metric together, as the format wants them."""
    lines = []
    for series in sorted(samples):
        for ms, value in samples[series]:
            text = repr(value).replace("nan", "NaN").replace("inf", "Inf")
            lines.append(f"{series.replace(', ', ',')} {text} {ms / 1000:.3f}\n")
    return "".join(lines) + "# EOF\n"


def stored(directory: Path, samples: Samples) -> DataDir:
    """A data directory that holds these samples."""
    data = DataDir(directory)
    data.create()
    table = SeriesTable(data.series)
    for series in table_of(*samples):
        table.add(series)
    table.sync()
    with Store(data.store) as store:
        for id_, rows in enumerate(samples.values()):
            time = np.array([ms * 10**6 for ms, _ in rows], np.int64)
            store.append(np.full(len(rows), id_, np.int32), time, np.array([value for _, value in rows], np.float64))
    return data


@contextmanager
def served(data: DataDir, *, clock: Clock | None = None, groups: Sequence[RuleGroup] = ()) -> Iterator[str]:
    """The URL at which our server answers from these files."""
    with StoredBackend(data, clock or SystemClock(), groups) as backend:
        server = OurServer(HttpConfig(listen="127.0.0.1:0"), data.http)
        try:
            server.start(backend)
            yield server.url
        finally:
            server.stop()
