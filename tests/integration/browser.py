"""A real browser on the console of a running tocsin, driven by playwright: Debian's chromium, headless.

What no page may ever do fails the test that opened it: ask another machine for anything, write an error to the
console, end in an exception.
"""

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import yaml
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from sinks.store import Store
from telemetry import SeriesTable
from tests.integration.servers import program, wait_until
from tests.integration.tocsin_process import TOCSIN
from tocsin.data_dir import DataDir
from tocsin.http.instance import read_instance

PHONE = (390, 844)
SECONDS = 30.0
"""The most that a test waits for something on a page; machines that run tests are slow."""


@contextmanager
def chromium(*arguments: str) -> Iterator[Browser]:
    """Without it the test is skipped, and fails where CI=true."""
    path = program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *arguments])
        yield browser
        browser.close()


class DemoProcess:
    """`tocsin demo` with a small fleet, until it is ended."""

    def __init__(self, directory: Path, *, devices: int = 20) -> None:
        self.directory = directory / "demo"
        self.data = DataDir(self.directory / "data")
        self._log = directory / "demo.log"
        command = [TOCSIN, "demo", "--headless", "--devices", str(devices), "--data-dir", self.directory]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_until(self._has_stored, what="the demo stores readings", seconds=60)
        instance = read_instance(self.data.http)
        assert instance is not None
        self.url = instance.url

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(60)

    def readings(self, series: str) -> dict[int, float]:
        """Time in ns → value, as they are stored now."""
        table = SeriesTable(self.data.series, read_only=True)
        with Store(self.data.store, read_only=True) as store:
            [id_] = [i for i, known in enumerate(table) if str(known) == series]
            time, value = store.read(id_)
        return dict(zip(time.tolist(), value.tolist(), strict=True))

    def publish(self, topic: str, payload: str) -> None:
        """To its broker, as anybody may."""
        broker = urlsplit(yaml.safe_load((self.directory / "tocsin.yaml").read_text())["mqtt"]["url"])
        command = [program("mosquitto_pub", "mosquitto-clients"), "-V", "5", "-p", str(broker.port), "-q", "1"]
        subprocess.run([*command, "-t", topic, "-m", payload], check=True, timeout=30)

    def log(self) -> str:
        return self._log.read_text()

    def _has_stored(self) -> bool:
        assert self._process.poll() is None, self.log()
        if not (self.data.http.exists() and self.data.store.exists() and self.data.series.exists()):
            return False
        with Store(self.data.store, read_only=True) as store:
            return store.count() > 200


class Visitor:
    """Opens pages of one tocsin, each in a browser profile of its own."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser, self.url = browser, url
        self._contexts: list[BrowserContext] = []
        self.outside: list[str] = []
        """Requests to other machines; they are not let through."""
        self.errors: list[str] = []
        """What pages have complained about."""

    def open(
        self,
        path: str = "/",
        query: Sequence[tuple[str, str]] = (),
        *,
        size: tuple[int, int] = (1280, 800),
        dark: bool = False,
    ) -> Page:
        """The page, once its frame is there."""
        context = self._browser.new_context(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        self._contexts.append(context)
        context.set_default_timeout(SECONDS * 1e3)
        context.route(re.compile(".*"), self._let_through)
        page = context.new_page()
        page.on("console", lambda message: self._heard(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("websocket", lambda socket: self._is_ours(socket.url))
        page.on("dialog", lambda dialog: (self.errors.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.goto(f"{self.url}{path}" + (f"?{urlencode(query)}" if query else ""))
        page.wait_for_selector("#main")
        return page

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        assert self.outside == []
        assert self.errors == []

    def _let_through(self, route: Route) -> None:
        if self._is_ours(route.request.url):
            route.continue_()
        else:
            route.abort()

    def _is_ours(self, url: str) -> bool:
        asked = urlsplit(url)
        ours = asked.scheme in ("data", "blob") or asked.netloc == urlsplit(self.url).netloc
        if not ours:
            self.outside.append(url)
        return ours

    def _heard(self, kind: str, text: str) -> None:
        if kind == "error":
            self.errors.append(text)


def chart_series(page: Page) -> list[dict[str, Any]]:
    """What the first chart of a page draws, as ECharts has it; `data` are [ms, value]. [] while there is none."""
    found = page.evaluate(
        """() => {
          const element = document.querySelector(".nicegui-echart");
          const chart = element && getElement(Number(element.id.slice(1)))?.chart;
          const series = chart?.getOption()?.series ?? [];
          return JSON.stringify(series.map(({name, data, type, markArea, markLine}) => ({name, data, type,
            areas: markArea?.data?.length ?? 0, lines: markLine?.data?.length ?? 0})));
        }"""
    )
    return [dict(one) for one in json.loads(found)]


def drawn(page: Page) -> dict[str, list[list[float]]]:
    """Points of the curves that have any, by name; bands and marks aside."""
    curves: dict[str, list[list[float]]] = {}
    for one in chart_series(page):
        if one["data"] and one["name"] not in curves:
            curves[one["name"]] = one["data"]
    return curves


def wait_drawn(page: Page, curves: int = 1) -> dict[str, list[list[float]]]:
    """Until so many curves are drawn."""
    page.wait_for_selector(".nicegui-echart canvas")
    wait_on(page, lambda: len(drawn(page)) >= curves, f"{curves} curves are drawn")
    return drawn(page)


def wait_on(page: Page, condition: Any, what: str, *, seconds: float = SECONDS) -> None:
    """Like wait_until, but the page goes on living meanwhile."""
    for _ in range(round(seconds / 0.1)):
        if condition():
            return
        page.wait_for_timeout(100)
    pytest.fail(f"not within {seconds:g} s: {what}")


def overflow(page: Page) -> int:
    """By how many pixels a page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
