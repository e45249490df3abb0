"""Laws of where HTTP is served: the port of the command line, and the tocsin that is there already.

Beside it: tests/integration/test_prometheus_clients.py starts `tocsin serve`.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from telemetry import TocsinError
from tests.tocsin.fake_backend import FakeBackend
from tests.tocsin.pipeline_rig import until
from tocsin import serving
from tocsin.config import LoadedConfig, at_port, load_config
from tocsin.data_dir import DataDir
from tocsin.http.config import HttpConfig
from tocsin.http.instance import Instance, write_instance
from tocsin.http.server import HttpServer
from tocsin.serving import Place, running, serve_stored
from tocsin.status import Snapshot


def loaded(directory: Path, http: str) -> LoadedConfig:
    (directory / "tocsin.yaml").write_text(f"streams: [{{name: a, topic: '{{device}}/{{metric}}'}}]\nhttp: {http}\n")
    return load_config(directory / "tocsin.yaml")


@pytest.mark.parametrize(
    ("listen", "address"), [("127.0.0.1:8100", ("127.0.0.1", 9000)), ("'[::1]:8100'", ("::1", 9000))]
)
def test_a_port_replaces_that_of_the_configuration_and_nothing_else(
    listen: str, address: tuple[str, int], tmp_path: Path
):
    before = loaded(tmp_path, f"{{listen: {listen}, hosts: [a.example]}}")
    after = at_port(before, 9000).config.http
    assert after.address == address
    assert after.hosts == ["a.example"]
    assert at_port(before, None) is before


def test_a_port_opens_no_server_that_is_switched_off(tmp_path: Path):
    """It may be set to listen for everyone, since nobody can get in."""
    assert not at_port(loaded(tmp_path, "{enabled: false, listen: '0.0.0.0:1'}"), 9000).config.http.enabled
    with pytest.raises(TocsinError, match="others than this machine must say who they are"):
        serve_stored(Place(tmp_path / "tocsin.yaml", tmp_path))


def test_only_a_tocsin_that_answers_runs(tmp_path: Path):
    data = DataDir(tmp_path)
    assert running(data) is None
    server = HttpServer(HttpConfig(listen="127.0.0.1:0"), data.http)
    server.start(FakeBackend(tmp_path, Snapshot))
    try:
        assert running(data) == Instance(server.url, os.getpid())
        with pytest.raises(TocsinError, match=rf"\(process {os.getpid()}\) shows it already, at {server.url}"):
            serve_stored(Place(data_dir=tmp_path))
    finally:
        server.stop()
    write_instance(data.http, Instance(server.url, os.getpid()))
    assert running(data) is None


def test_a_tocsin_that_has_not_answered_yet_runs_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(serving, "_ANSWER_SECONDS", 0.01)
    data = DataDir(tmp_path)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        instance = Instance(f"http://127.0.0.1:{silent.getsockname()[1]}", 7)
        write_instance(data.http, instance)
        assert running(data) == instance


def test_a_server_without_a_file_leaves_that_of_another_alone(tmp_path: Path):
    data = DataDir(tmp_path)
    write_instance(data.http, Instance("http://127.0.0.1:1", 7))
    before = data.http.read_bytes()
    server = HttpServer(HttpConfig(listen="127.0.0.1:0"), None)
    assert not server.is_alive
    server.start(FakeBackend(tmp_path, Snapshot))
    assert server.is_alive
    server.stop()
    until(lambda: not server.is_alive)
    assert data.http.read_bytes() == before


def test_a_port_that_is_taken_is_told(tmp_path: Path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(TocsinError, match=f"cannot listen on 127.0.0.1:{port}: another program listens there"):
            serve_stored(Place(data_dir=tmp_path, port=port))
