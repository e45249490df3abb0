"""Fixtures: each test gets its own servers, in its own directory, and their logs when it fails."""

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from tests.integration.brokers import Mosquitto, MosquittoOptions
from tests.integration.browser import DemoProcess, Visitor, chromium
from tests.integration.certificates import Certificates, make_certificates
from tests.integration.databases import InfluxDB, VictoriaMetrics
from tests.integration.servers import Server, program
from tests.integration.tocsin_process import Tocsin
from tests.integration.webhooks import Webhook

HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for server in getattr(item, "funcargs", {}).get("servers", ()):
            report.sections.append((f"log of {server.name} on port {server.port}", server.log_tail()))
    return report


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    """The servers of this test; whatever is in the list is ended with it."""
    started: list[Server] = []
    yield started
    for server in reversed(started):
        server.kill()


@pytest.fixture
def mosquitto_factory(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Mosquitto]:
    """mosquitto_factory(persistence=True, ...) starts a broker with these MosquittoOptions."""

    def start(**options: object) -> Mosquitto:
        directory = tmp_path_factory.mktemp("mosquitto")
        broker = Mosquitto(directory, MosquittoOptions(**options))  # type: ignore[arg-type]  # checked by its fields
        servers.append(broker)
        broker.start()
        return broker

    return start


@pytest.fixture
def mosquitto(mosquitto_factory: Callable[..., Mosquitto]) -> Mosquitto:
    """A broker that lets everyone in."""
    return mosquitto_factory()


@pytest.fixture
def victoria_metrics(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> VictoriaMetrics:
    server = VictoriaMetrics(tmp_path_factory.mktemp("victoria-metrics"))
    servers.append(server)
    server.start()
    return server


@pytest.fixture
def influxdb(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> InfluxDB:
    server = InfluxDB(tmp_path_factory.mktemp("influxdb"))
    servers.append(server)
    server.start()
    return server


@pytest.fixture
def tocsin_factory(servers: list[Server], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Tocsin]:
    """tocsin_factory({"mqtt": ...}, rules="groups: ...") prepares a `tocsin run` in a directory of its own."""

    def prepare(config: dict[str, Any], *, rules: str | None = None) -> Tocsin:
        program = Tocsin(tmp_path_factory.mktemp("tocsin"), config, rules=rules)
        servers.append(program)
        return program

    return prepare


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """Not started yet."""
    server = Webhook()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def promtool() -> Path:
    return program("promtool", "prometheus")


@pytest.fixture(scope="session")
def amtool() -> Path:
    return program("amtool", "prometheus-alertmanager")


@pytest.fixture(scope="module")
def demo_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoProcess]:
    """A demo that runs while the tests of a file look at it."""
    running = DemoProcess(tmp_path_factory.mktemp("demo"))
    yield running
    running.end()


@pytest.fixture(scope="module")
def module_browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def visitor(module_browser: Browser, demo_process: DemoProcess) -> Iterator[Visitor]:
    """Opens pages of the demo; at the end, none of them may have complained, or asked another machine."""
    opened = Visitor(module_browser, demo_process.url)
    yield opened
    opened.close()
