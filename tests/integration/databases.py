"""VictoriaMetrics and InfluxDB 1.x, and how a test reads back what was written to them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.integration.servers import HttpServer, free_port, program


class VictoriaMetrics(HttpServer):
    """Takes line protocol at /write and /api/v2/write. Times are kept in ms, values as decimals: not exact."""

    ready_path = "/health"

    def __init__(self, directory: Path) -> None:
        port = free_port()
        command: list[str | Path] = [
            program("victoria-metrics", "victoria-metrics"),
            f"-httpListenAddr={self.host}:{port}",
            f"-storageDataPath={directory / 'data'}",
            "-retentionPeriod=100y",  # its default forgets after a month; tests write at any time
            "-search.latencyOffset=0s",  # else a query does not see the last 30 s
            "-memory.allowedPercent=10",
        ]
        super().__init__(command, directory=directory, port=port)

    def flush(self) -> None:
        """Make everything written so far visible to queries."""
        self.request("GET", "/internal/force_flush")

    def export(self, match: str) -> list[dict[str, Any]]:
        """Every stored sample of the matching series: {"metric": labels, "values": [...], "timestamps": [ms ...]}."""
        self.flush()
        # Without bounds it exports up to now only, and tests may write later times than that.
        fields = {"match[]": match, "start": "0", "end": "4000000000"}
        return [json.loads(line) for line in self.request("GET", "/api/v1/export", fields=fields).splitlines()]

    def query(self, promql: str, time_s: float | None = None) -> list[dict[str, Any]]:
        """The instant vector: [{"metric": labels, "value": [time_s, "text"]}, ...]."""
        self.flush()
        fields = {"query": promql} | ({} if time_s is None else {"time": repr(time_s)})
        result: list[dict[str, Any]] = self.json("GET", "/api/v1/query", fields=fields)["data"]["result"]
        return result


INFLUXDB_CONFIG = """\
reporting-disabled = true
bind-address = "127.0.0.1:{backup_port}"
[meta]
dir = "{directory}/meta"
[data]
dir = "{directory}/data"
wal-dir = "{directory}/wal"
query-log-enabled = false
[http]
bind-address = "127.0.0.1:{port}"
log-enabled = true
{http}
[monitor]
store-enabled = false
[continuous_queries]
enabled = false
"""


class InfluxDB(HttpServer):
    """InfluxDB 1.6: line protocol at /write?db=NAME, InfluxQL at /query. Times in ns and values are exact."""

    ready_path = "/ping"

    def __init__(self, directory: Path, *, http: str = "") -> None:
        """`http`: further lines of its configuration's section of that name."""
        port = free_port()
        config = directory / "influxdb.conf"
        config.write_text(INFLUXDB_CONFIG.format(directory=directory, port=port, backup_port=free_port(), http=http))
        command: list[str | Path] = [program("influxd", "influxdb"), "run", "-config", config]
        super().__init__(command, directory=directory, port=port)

    def create_database(self, name: str) -> None:
        self._statements({"q": f'CREATE DATABASE "{name}"'}, method="POST")

    def query(self, database: str, influxql: str) -> list[dict[str, Any]]:
        """One statement's series: [{"name": ..., "tags": {...}, "columns": [...], "values": [[time_ns, ...]]}, ...]."""
        fields = {"db": database, "q": influxql, "epoch": "ns"}
        series: list[dict[str, Any]] = self._statements(fields)[0].get("series", [])
        return series

    def _statements(self, fields: dict[str, str], method: str = "GET") -> list[dict[str, Any]]:
        results: list[dict[str, Any]] = self.json(method, "/query", fields=fields)["results"]
        if errors := [result["error"] for result in results if "error" in result]:
            pytest.fail(f"influxd: {fields['q']}: {errors}")
        return results
