"""Logging in with a real browser: what it keeps from other sites, and that the console works within its policy."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.integration.browser import chromium
from tests.tocsin.test_http_login import WORDS, Served

SECONDS_MS = 20_000
HOSTILE = """<!doctype html><link rel="icon" href="data:,"><a href="{url}/alerts?q=x">look</a>
<form method="post" action="{url}/logout"></form><iframe src="{url}/alerts"></iframe><script>
  window.got = []
  fetch("{url}/metrics", {{credentials: "include"}}).then(() => got.push("answer"), () => got.push("no answer"))
  const socket = new WebSocket("{socket}/_nicegui_ws/socket.io/?EIO=4&transport=websocket")
  socket.onopen = () => got.push("socket")
  socket.onerror = () => got.push("no socket")
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """On a machine where the names of `.test` are this one."""
    with chromium("--host-resolver-rules=MAP *.test 127.0.0.1") as browser:
        yield browser


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path, hosts=["tocsin.test"])
    yield served
    served.server.stop()


@pytest.fixture
def hostile(served: Served) -> Iterator[str]:
    """The address of another site, which knows that of ours."""

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            url = named(served)
            self.wfile.write(HOSTILE.format(url=url, socket=url.replace("http", "ws")).encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://hostile.test:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def named(served: Served) -> str:
    return f"http://tocsin.test:{urlsplit(served.server.url).port}"


def log_in(page: Page, words: str = WORDS) -> None:
    page.fill("input[name=name]", "ada")
    page.fill("input[name=password]", words)
    page.keyboard.press("Enter")


def test_the_way_in_and_out_on_a_phone(browser: Browser, served: Served) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 640}, color_scheme="dark")
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(named(served) + "/dead-letters?q=x")
    log_in(page, "wrong words")
    expect(page.locator("[role=alert]")).to_have_text("Name or password is wrong.")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.activeElement.name") == "password"
    assert (
        page.evaluate("getComputedStyle(document.querySelector('main')).borderRadius") == "12px"
    )  # its style is let in
    said.clear()  # a browser calls 403 an error
    log_in(page)
    page.wait_for_url("**/dead-letters?q=x", timeout=SECONDS_MS)
    expect(page.locator("#main")).to_be_visible(timeout=SECONDS_MS)
    assert "tocsin_" not in page.evaluate("document.cookie")
    page.click("button.menu")
    expect(page.locator(".way-out button")).to_have_text("Log out ada")
    page.click(".way-out button")
    page.wait_for_url("**/login", timeout=SECONDS_MS)
    page.go_back()
    expect(page.locator("input[name=password]")).to_be_visible(timeout=SECONDS_MS)
    assert [line for line in said if "Content Security Policy" in line or "Error" in line] == []
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {urlsplit(named(served)).netloc}
    page.close()


def test_another_site_can_link_to_the_console_and_nothing_else(browser: Browser, served: Served, hostile: str) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(named(served) + "/alerts")
    log_in(page)
    expect(page.locator("#main")).to_be_visible(timeout=SECONDS_MS)

    other = context.new_page()
    other.goto(hostile)
    other.wait_for_function("got.length == 2", timeout=SECONDS_MS)
    assert sorted(other.evaluate("got")) == ["no answer", "no socket"]
    frame = other.frames[1]
    assert frame.url.startswith("chrome-error:") or frame.locator("#main").count() == 0
    with other.expect_navigation():
        other.evaluate("document.forms[0].submit()")
    assert "page of another site" in other.content()

    other.goto(hostile)
    other.click("a")
    expect(other.locator("#main")).to_be_visible(timeout=SECONDS_MS)  # still logged in, and let in at once
    assert other.url == named(served) + "/alerts?q=x"
    context.close()
