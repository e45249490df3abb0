"""The console's pages beside Explore, as people use them: in a real browser, on a running demo."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from ingest.dead_letters import DeadLetters
from ingest.rejection import Rejection
from rules import Alert
from sinks.store import Store
from telemetry import Series, SeriesTable, SystemClock
from tests.integration.browser import PHONE, SECONDS, DemoProcess, Visitor, drawn, overflow, wait_drawn, wait_on
from tests.integration.servers import wait_until
from tests.tocsin.fake_backend import FakeBackend
from tests.tocsin.pipeline_rig import prepare, receive, running, settle
from tocsin.backend import RunningBackend
from tocsin.data_dir import DataDir
from tocsin.http.config import HttpConfig
from tocsin.http.passwords import hash_password
from tocsin.http.server import HttpServer
from tocsin.pipeline import Pipeline
from tocsin.pipeline_status import PipelineStatus
from tocsin.status import Snapshot

HOSTILE = "<img src=x onerror=alert(1)>"
PATHS = ("/alerts", "/devices", "/device?name=pump-0001", "/rules", "/pipeline", "/dead-letters")


@pytest.fixture(scope="module")
def hostile(demo_process: DemoProcess) -> str:
    """A device of that name, of which an alert fires and a message was refused."""

    def fires() -> bool:
        demo_process.publish(f"sensors/ams/{HOSTILE}/telemetry", '{"temperature": 95, "pressure": 500}')
        table = SeriesTable(demo_process.data.series, read_only=True)
        return len(table.with_label("device", HOSTILE)) > 0 and demo_process.data.alerts.exists()

    demo_process.publish(f"sensors/ams/{HOSTILE}/telemetry", '{"temperature": <script>alert(2)</script>')
    wait_until(fires, what="the hostile device is known", seconds=30)
    return HOSTILE


def rows(page: Page) -> int:
    return page.locator(".live-table tbody tr").count()


def asked(page: Page, name: str) -> str:
    return parse_qs(urlsplit(page.url).query).get(name, [""])[0]


@pytest.mark.parametrize("path", PATHS)
def test_every_page_fits_its_window_and_has_no_errors(visitor: Visitor, hostile: str, path: str):
    for size, dark in ((PHONE, False), ((1280, 800), True)):
        page = visitor.open(path, size=size, dark=dark)
        expect(page.locator("h1").first).to_be_visible()
        page.wait_for_timeout(500)
        assert overflow(page) <= 0


def test_devices_are_listed_with_what_they_do(visitor: Visitor, demo_process: DemoProcess, hostile: str):
    page = visitor.open("/devices")
    expect(page.get_by_role("link", name="pump-0001", exact=True)).to_be_visible()
    row = page.locator('tr[data-key="pump-0001"]')
    expect(row).to_contain_text("reporting")
    expect(row.locator("svg path")).to_have_count(1)
    page.keyboard.press("/")
    page.keyboard.type("onerror")
    wait_on(page, lambda: rows(page) == 1, "only one device passes the filter")
    wait_on(page, lambda: asked(page, "q") == "onerror", "the address has the filter")
    page.reload()
    wait_on(page, lambda: rows(page) == 1, "the filter comes back with the page")
    expect(page.get_by_label("Filter of devices")).to_have_value("onerror")
    page.get_by_role("link", name=hostile, exact=True).click()
    expect(page.locator("h1")).to_have_text(hostile)
    expect(page.locator("#main img, #main script")).to_have_count(0)


def test_a_device_shows_the_values_that_are_stored(visitor: Visitor, demo_process: DemoProcess):
    page = visitor.open("/device", [("name", "pump-0001")])
    curves = wait_drawn(page, 5)
    [name] = [name for name in curves if name.startswith("temperature")]
    stored = demo_process.readings('temperature{device="pump-0001", site="ams"}')
    points = {round(t): value for t, value in curves[name] if value is not None}
    assert points
    assert points.items() <= {round(t / 1e6): value for t, value in stored.items()}.items()


def test_a_device_that_was_never_understood_shows_why(visitor: Visitor):
    page = visitor.open("/device", [("name", "pump-0002")])  # whose clock is not set
    expect(page.get_by_text("It has given no reading that could be used")).to_be_visible()
    expect(page.get_by_role("link", name="time_too_old").first).to_be_visible()


def test_an_alert_is_found_and_explained(visitor: Visitor, demo_process: DemoProcess, hostile: str):
    demo_process.publish(f"sensors/ams/{hostile}/telemetry", '{"pressure": 510}')
    page = visitor.open("/alerts", [("q", "alertname=Overpressure device=*onerror*")])
    link = page.get_by_role("link", name="Overpressure").first
    link.wait_for()
    link.click()
    expect(page.locator("h1")).to_have_text("Overpressure")
    wait_drawn(page)
    assert any("pressure" in name for name in drawn(page))
    parts = page.locator(".part")
    expect(parts.first).to_contain_text("pressure > 400")
    expect(parts.nth(1)).to_contain_text("5")
    expect(page.locator("#main img, #main script")).to_have_count(0)
    page.get_by_role("link", name="open in Explore").click()
    page.wait_for_url("**/?q=*")


def test_rules_are_shown_and_expressions_are_tried(visitor: Visitor):
    page = visitor.open("/rules")
    expect(page.locator(".rule", has_text="HighTemperature")).to_contain_text("temperature > 80")
    expect(page.locator(".rule", has_text="site:temperature:avg")).to_contain_text("recording")
    field = page.get_by_label("PromQL expression to try")
    field.fill("avg by (site temperature)")
    page.get_by_role("button", name="Evaluate").click()
    expect(page.get_by_role("alert").first).to_contain_text("1:14:")
    expect(page.locator(".promql .here")).to_have_text("temperature")
    field.fill("avg by (site) (temperature)")
    page.get_by_role("button", name="Evaluate").click()
    wait_drawn(page)
    wait_on(page, lambda: rows(page) >= 2, "a row for each site")
    wait_on(page, lambda: asked(page, "expr") == "avg by (site) (temperature)", "the address has the expression")


def test_the_pipeline_has_live_figures_and_says_why_a_stream_has_no_data(visitor: Visitor):
    page = visitor.open("/pipeline")
    broker = page.locator('[data-stage="session"]')
    expect(broker).to_contain_text("connected")
    before = broker.locator(".stage-books").inner_text()
    wait_on(page, lambda: broker.locator(".stage-books").inner_text() != before, "more messages are counted")
    assert all(
        page.locator(f'[data-stage="{name}"]').count() == 1 for name in ("journal", "feed", "evaluation", "store")
    )
    expect(page.locator(".stream", has_text="{device}/{metric}")).to_contain_text("no message has come")


def test_dead_letters_show_their_payload_as_text(visitor: Visitor, demo_process: DemoProcess, hostile: str):
    page = visitor.open("/dead-letters", [("q", "reason=bad_json")])
    page.locator(".live-table tr", has_text="onerror").get_by_role("link").first.click()
    expect(page.locator("pre.payload").first).to_contain_text("<script>alert(2)</script>")
    expect(page.locator("#main img, #main script")).to_have_count(0)
    page.get_by_role("button", name="Close").click()
    expect(page.locator("pre.payload")).to_have_count(0)


class Rig:
    """A pipeline of this process, whose dead letters a test makes."""

    def __init__(self, pipeline: Pipeline, url: str) -> None:
        self.pipeline, self.url = pipeline, url

    def stored(self) -> list[float]:
        with Store(self.pipeline.data.store, read_only=True) as store:
            [id_] = self.pipeline.table.with_label("device", "d9").tolist() or [None]
            return [] if id_ is None else store.read(id_)[1].tolist()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    pipeline = prepare(tmp_path)
    now = pipeline.clock.now()
    refused = [
        ("d9/temperature", b"21.5", "not_admitted"),
        ("a/b/c", b"1", "unknown_topic"),
        ("d8/t", b"?", "bad_json"),
    ]
    pipeline.dead_letters.add(
        [Rejection(i, now + i, *letter[:2], letter[2], "why", "") for i, letter in enumerate(refused)]
    )
    server = HttpServer(HttpConfig(listen="127.0.0.1:0"), pipeline.data.http)
    with running(pipeline):
        receive(pipeline, 20)
        settle(pipeline)
        server.start(RunningBackend(pipeline, PipelineStatus(pipeline, title="rig")))
        try:
            yield Rig(pipeline, server.url)
        finally:
            server.stop()


@pytest.fixture
def rig_visitor(module_browser: Browser, rig: Rig) -> Iterator[Visitor]:
    opened = Visitor(module_browser, rig.url)
    yield opened
    opened.close()


def test_a_dead_letter_is_replayed_and_becomes_a_reading(rig: Rig, rig_visitor: Visitor):
    page = rig_visitor.open("/dead-letters")
    wait_on(page, lambda: rows(page) == 3, "three letters are listed")
    page.locator("tr", has_text="d9/temperature").get_by_role("checkbox").check()
    expect(page.get_by_text("1 chosen")).to_be_visible()
    page.get_by_role("button", name="Replay…").click()
    page.get_by_role("button", name="Cancel").click()
    assert rows(page) == 3
    page.get_by_role("button", name="Replay…").click()
    page.get_by_role("button", name="Replay", exact=True).click()
    expect(page.get_by_role("status").filter(has_text="Replay of 1 dead letter: 1 decoded")).to_be_visible()
    wait_on(page, lambda: rows(page) == 2, "it is no dead letter any more")
    wait_until(lambda: rig.stored() == [21.5], what="the reading is stored")


def test_letters_are_purged_only_when_the_question_is_answered(rig: Rig, rig_visitor: Visitor):
    page = rig_visitor.open("/dead-letters", [("reason", "unknown_topic")])
    wait_on(page, lambda: rows(page) == 1, "one letter is listed")
    page.get_by_role("button", name="Purge…").click()
    expect(page.get_by_text("Delete 1 dead letter for ever?")).to_be_visible()
    assert rig.pipeline.dead_letters.count() == {"bad_json": 1, "not_admitted": 1, "unknown_topic": 1}
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("1 dead letter deleted")).to_be_visible()
    assert rig.pipeline.dead_letters.count() == {"bad_json": 1, "not_admitted": 1}


def test_a_reader_sees_dead_letters_and_can_do_nothing_to_them(tmp_path: Path, module_browser: Browser):
    data = DataDir(tmp_path)
    data.create()
    with closing(DeadLetters(data.dead_letters)) as letters:
        letters.add([Rejection(0, 1, "a/b", b"1", "unknown_topic", "why", "")])
    clock = SystemClock()
    users = [{"name": "rita", "password_hash": hash_password("rita's words"), "role": "reader"}]
    server = HttpServer(HttpConfig.model_validate({"listen": "127.0.0.1:0", "users": users}), data.http)
    server.start(FakeBackend(tmp_path, lambda: Snapshot(time=clock.now(), started=clock.now())))
    try:
        with module_browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{server.url}/dead-letters")
            page.get_by_label("Name").fill("rita")
            page.get_by_label("Password").fill("rita's words")
            page.keyboard.press("Enter")
            wait_on(page, lambda: rows(page) == 1, "the letter is listed")
            for name in ("Replay…", "Purge…"):
                expect(page.get_by_role("button", name=name)).to_be_disabled()
    finally:
        server.stop()


@pytest.fixture
def large(tmp_path: Path, module_browser: Browser) -> Iterator[Visitor]:
    """10,000 devices and 104 firing alerts."""
    data = DataDir(tmp_path)
    data.create()
    table = SeriesTable(data.series)
    for i in range(10_000):
        table.add(Series("temperature", (("device", f"d{i}"), ("site", "ams"))))
    table.sync()
    DeadLetters(data.dead_letters).close()
    with Store(data.store):
        clock = SystemClock()
        backend = FakeBackend(tmp_path, lambda: Snapshot(time=clock.now(), started=clock.now(), firing=104))
        backend.active = [
            Alert("g/Hot", (("alertname", "Hot"), ("device", f"d{i}")), (), "firing", clock.now(), 81.0)
            for i in range(104)
        ]
        server = HttpServer(HttpConfig(listen="127.0.0.1:0"), data.http)
        server.start(backend)
        opened = Visitor(module_browser, server.url)
        try:
            yield opened
            opened.close()
        finally:
            server.stop()


def test_ten_thousand_devices_come_a_page_at_a_time(large: Visitor):
    page = large.open("/devices", [("sort", "device")])
    expect(page.get_by_text("1–50 of 10,000")).to_be_visible()
    assert rows(page) == 50
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("link", name="d50", exact=True)).to_be_visible()
    page.get_by_role("button", name="Device").click()
    expect(page.get_by_role("link", name="d9999", exact=True)).to_be_visible()
    page.get_by_label("Filter of devices").fill("device=d77??")
    expect(page.get_by_text("1–50 of 100")).to_be_visible()


def test_a_hundred_alerts_are_listed_and_stay_where_one_has_scrolled_to(large: Visitor):
    page = large.open("/alerts")
    wait_on(page, lambda: rows(page) == 100, "the first hundred")
    page.mouse.wheel(0, 1_000)
    wait_on(page, lambda: page.evaluate("scrollY") > 500, "the page is scrolled")
    before = page.evaluate("scrollY")
    page.wait_for_timeout(2_500)
    assert page.evaluate("scrollY") == before
    page.get_by_role("button", name="Next").click()
    wait_on(page, lambda: rows(page) == 4, "the other four", seconds=SECONDS)


def test_empty_pages_say_what_to_do_next(large: Visitor):
    expectations = {"/rules": "Name rule files under rules:", "/dead-letters": "Everything that came could be used"}
    for path, text in expectations.items():
        expect(large.open(path).get_by_text(text)).to_be_visible()
