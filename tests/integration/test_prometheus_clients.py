"""The clients of Prometheus speak to `tocsin serve` as to a Prometheus: promtool, and prometheus-api-client.

What they are told equals what is stored.
"""

from __future__ import annotations

import json
import math
import signal
import subprocess
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from sinks.store import Store
from telemetry import ManualClock
from tests.integration.prometheus_server import Samples, served, stored
from tests.integration.servers import HttpServer, free_port
from tests.integration.tocsin_process import TOCSIN, tocsin
from tocsin.data_dir import DataDir
from tocsin.http.instance import Instance, write_instance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the libraries that it imports
    from prometheus_api_client import PrometheusConnect

T0 = 1_699_999_200
SAMPLES: Samples = {
    f'{metric}{{device="d{i}", site="{site}"}}': [
        ((T0 + k * 10) * 1000 + 7, math.sin(i + k / 9) * scale) for k in range(360)
    ]
    for metric, scale in (("temperature", 30.0), ("pressure", 1e6))
    for i, site in ((1, "ams"), (2, "ber"), (3, "ber"))
}


class Serve(HttpServer):
    """`tocsin serve`."""

    ready_path = "/healthz"

    def __init__(self, data: DataDir, directory: Path) -> None:
        port = free_port()
        super().__init__(
            [TOCSIN, "serve", "--data-dir", data.path, "--port", str(port)], directory=directory, port=port
        )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataDir:
    return stored(tmp_path_factory.mktemp("data"), SAMPLES)


@pytest.fixture(scope="module")
def url(data: DataDir, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = Serve(data, tmp_path_factory.mktemp("serve"))
    try:
        server.start()
        yield server.url
    finally:
        server.kill()


def in_store(data: DataDir, series: int, t0: float = 0, t1: float = 1e10) -> list[tuple[int, float]]:
    """(ms, value), t0 <= time < t1 in s."""
    with Store(data.store, read_only=True) as store:
        times, values = store.read(series, int(t0 * 10**9), int(t1 * 10**9))
    return list(zip((times // 10**6).tolist(), values.tolist(), strict=True))


def ask(promtool: Path, *arguments: str) -> str:
    done = subprocess.run([promtool, "query", *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_promtool_sees_an_instant(promtool: Path, url: str, data: DataDir):
    at = T0 + 1_000
    said = ask(promtool, "instant", "-o", "json", "--time", str(at), url, "temperature")
    found = {row["metric"]["device"]: row["value"] for row in json.loads(said)}
    assert found.keys() == {"d1", "d2", "d3"}
    for i, device in enumerate(sorted(found)):
        assert (float(found[device][0]), float(found[device][1])) == (at, in_store(data, i, T0, at)[-1][1])
    assert ask(promtool, "instant", "--time", str(at), url, "count(temperature) + 1").split()[:3] == ["{}", "=>", "4"]
    assert ask(promtool, "instant", "--time", str(at), url, "1 + 1").startswith("scalar: 2 @[")


def test_promtool_sees_a_range(promtool: Path, url: str, data: DataDir):
    start, end = T0 + 500, T0 + 700
    said = ask(
        promtool, "range", "-o", "json", f"--start={start}", f"--end={end}", "--step=50s", url, 'pressure{device="d2"}'
    )
    [element] = json.loads(said)
    expected = [(at, str(in_store(data, 4, T0, at)[-1][1])) for at in range(start, end + 1, 50)]
    assert [(int(at), text) for at, text in element["values"]] == expected


def test_promtool_lists_series_and_values(promtool: Path, url: str):
    span = f"--start={T0}", f"--end={T0 + 3_600}"
    lines = ask(promtool, "series", *span, "--match=temperature", "--match={device='d1'}", url).splitlines()
    assert lines == [
        '{__name__="pressure", device="d1", site="ams"}',
        '{__name__="temperature", device="d1", site="ams"}',
        '{__name__="temperature", device="d2", site="ber"}',
        '{__name__="temperature", device="d3", site="ber"}',
    ]
    assert ask(promtool, "labels", *span, url, "site").split() == ["ams", "ber"]
    assert ask(promtool, "labels", *span, url, "__name__").split() == ["pressure", "temperature"]


def test_promtool_is_told_what_is_wrong(promtool: Path, url: str):
    done = subprocess.run([promtool, "query", "instant", url, "rate(x)"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "bad_data" in done.stderr
    assert "1:" in done.stderr


def test_prometheus_api_client_sees_what_is_stored(url: str, data: DataDir):
    client = PrometheusConnect(url=url)
    assert client.check_prometheus_connection()
    assert client.all_metrics() == ["pressure", "temperature"]
    assert client.get_label_names() == ["__name__", "device", "site"]
    assert client.get_label_values("site") == ["ams", "ber"]
    start, end = (datetime.fromtimestamp(T0 + s, UTC) for s in (0, 600))
    [ranges] = client.get_metric_range_data("temperature", {"device": "d3"}, start_time=start, end_time=end)
    expected = in_store(data, 2, T0, T0 + 600.001)
    assert [(round(at * 1000), float(text)) for at, text in ranges["values"]] == expected
    matrix = client.custom_query_range("sum by (site) (temperature)", start, end, "60")
    assert [element["metric"]["site"] for element in matrix] == ["ams", "ber"]
    sums = [sum(in_store(data, i, T0, T0 + 600)[-1][1] for i in ids) for ids in ((0,), (1, 2))]
    last = [float(element["values"][-1][1]) for element in matrix]
    assert np.allclose(last, sums, rtol=1e-12)


def test_the_newest_values_are_seen_through_the_clock(data: DataDir):
    clock = ManualClock((T0 + 3_600) * 10**9)
    with served(data, clock=clock) as url:
        client = PrometheusConnect(url=url)
        found = client.get_current_metric_value("pressure", {"device": "d1"})
        assert [float(element["value"][1]) for element in found] == [in_store(data, 3)[-1][1]]


def test_serve_says_where_it_listens_leaves_no_trace_and_ends_with_ctrl_c(data: DataDir, tmp_path: Path):
    server = Serve(data, tmp_path)
    server.start()
    assert not data.http.exists()
    assert server.process is not None
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(20) == 0
    assert server.log_tail().splitlines()[0] == f"{server.url} shows {data.path}: Ctrl-C stops"


def test_serve_gives_way_to_a_tocsin_that_shows_the_data_already(url: str, data: DataDir, tmp_path: Path):
    write_instance(data.http, Instance(url, 4711))
    try:
        done = tocsin("serve", "--data-dir", data.path)
        assert done.returncode == 1
        assert f"(process 4711) shows it already, at {url}; name another port with --port" in done.stderr
        server = Serve(data, tmp_path)
        server.start()
        server.stop()
        assert json.loads(data.http.read_bytes())["pid"] == 4711
    finally:
        data.http.unlink()


def test_serve_refuses_what_cannot_be(tmp_path: Path):
    (tmp_path / "tocsin.yaml").write_text("streams: [{name: a, topic: '{device}/{metric}'}]\nrules: [none.yml]\n")
    for arguments, status, text in (
        (("--data-dir", "nowhere"), 1, "there is no data directory nowhere"),
        (("--port", "1", "--listen", "127.0.0.1:1"), 2, "--port and --listen exclude each other"),
        (("--data-dir", ".", "--listen", "0.0.0.0:8100"), 1, "others than this machine must say who they are"),
        (("--data-dir", ".", "--listen", "8100"), 1, "is not HOST:PORT"),
        (("-c", "tocsin.yaml"), 1, "no file matches 'none.yml'"),
        ((), 1, "no file matches 'none.yml'"),
    ):
        done = tocsin("serve", *arguments, cwd=tmp_path)
        assert done.returncode == status
        assert text in done.stderr


def test_serve_tells_the_rules_of_its_configuration(data: DataDir, tmp_path: Path):
    (tmp_path / "rules.yml").write_text("groups: [{name: g, rules: [{alert: Hot, expr: temperature > 20}]}]\n")
    config = {
        "data_dir": str(data.path),
        "rules": ["rules.yml"],
        "streams": [{"name": "a", "topic": "{device}/{metric}"}],
    }
    (tmp_path / "tocsin.yaml").write_text(json.dumps(config))
    server = Serve(data, tmp_path)
    server.command = [TOCSIN, "serve", "-c", tmp_path / "tocsin.yaml", "--port", str(server.port)]
    server.start()
    try:
        [group] = server.json("GET", "/api/v1/rules")["data"]["groups"]
        assert [(rule["name"], rule["health"]) for rule in group["rules"]] == [("Hot", "unknown")]
        assert server.json("GET", "/api/v1/label/device/values")["data"] == ["d1", "d2", "d3"]
    finally:
        server.stop()
