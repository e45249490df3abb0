"""Explore, as people use it: in a real browser, on a running demo."""

import csv
import io
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.integration.browser import (
    PHONE,
    DemoProcess,
    Visitor,
    chart_series,
    drawn,
    overflow,
    wait_drawn,
    wait_on,
)
from tests.integration.servers import wait_until

PUMP = 'temperature{device="pump-0001"}'
SERIES = 'temperature{device="pump-0001", site="ams"}'
NAME = "temperature {device=pump-0001, site=ams}"
HOSTILE = "<img src=x onerror=alert(1)>"


def asked(page: Page) -> dict[str, list[str]]:
    """The state, as it stands in the address."""
    return parse_qs(urlsplit(page.url).query)


def wait_asked(page: Page, name: str, value: str) -> None:
    wait_on(page, lambda: asked(page).get(name) == [value], f"the address says {name}={value}")


def test_a_chart_shows_exactly_what_is_stored(visitor: Visitor, demo_process: DemoProcess) -> None:
    wait_until(lambda: len(demo_process.readings(SERIES)) > 10, what="the pump has reported a few times")
    page = visitor.open("/", [("q", PUMP), ("since", "15m")])
    curves = wait_drawn(page)
    assert list(curves) == [NAME]
    points = {round(t * 1e6 / 1e6): value for t, value in curves[NAME] if value is not None}
    stored = {round(t / 1e6): value for t, value in demo_process.readings(SERIES).items()}
    assert len(points) > 5
    first, last = min(points), max(points)
    assert points == {t: value for t, value in stored.items() if first <= t <= last}


def test_the_live_tail_moves(visitor: Visitor) -> None:
    page = visitor.open("/", [("q", PUMP), ("since", "5m")])
    newest = max(t for t, _ in wait_drawn(page)[NAME])
    page.get_by_role("button", name="Live").click()
    wait_asked(page, "live", "1")
    wait_on(page, lambda: max(t for t, _ in drawn(page)[NAME]) > newest + 2_000, "two more readings are drawn")


def test_a_series_is_picked_by_typing_and_the_address_keeps_it(visitor: Visitor) -> None:
    page = visitor.open("/")
    page.wait_for_selector("text=Choose a metric")
    page.keyboard.press("/")
    page.keyboard.type("tempe")
    expect(page.get_by_role("option").first).to_have_text("temperature")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("combobox", name="Device").click()
    page.keyboard.type("0003")
    expect(page.get_by_role("option").first).to_have_text("pump-0003")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Add").click()
    assert list(wait_drawn(page)) == ["temperature {device=pump-0003, site=cph}"]
    wait_asked(page, "q", 'temperature{device="pump-0003"}')

    page.get_by_role("button", name="5m", exact=True).click()
    wait_asked(page, "since", "5m")
    page.reload()
    wait_drawn(page)
    expect(page.get_by_role("button", name="5m", exact=True)).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_role("combobox", name="PromQL expression 1")).to_have_value('temperature{device="pump-0003"}')
    page.go_back()
    wait_drawn(page)
    expect(page.get_by_role("button", name="15m", exact=True)).to_have_attribute("aria-pressed", "true")


def test_promql_is_completed_and_its_mistakes_are_shown_with_their_place(visitor: Visitor) -> None:
    page = visitor.open("/", [("q", PUMP)])
    wait_drawn(page)
    field = page.get_by_role("combobox", name="PromQL expression 1")
    field.fill("")
    field.press_sequentially("avg by (si")
    expect(page.get_by_role("option").first).to_contain_text("site")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(field).to_have_value("avg by (site")
    field.press_sequentially(") (temperature")
    field.press_sequentially(" > > 3")
    field.press("Enter")
    expect(page.locator(".mistake").first).to_contain_text("1:30: ")
    expect(field).to_have_attribute("aria-invalid", "true")
    field.fill("avg by (site) (temperature)")
    field.press("Enter")
    wait_on(page, lambda: list(drawn(page)) == ["{site=ams}", "{site=ber}", "{site=cph}"], "three sites are drawn")
    expect(page.locator(".mistake").first).to_be_hidden()


def test_thresholds_and_alerts_are_drawn_over_the_curves(visitor: Visitor, demo_process: DemoProcess) -> None:
    demo_process.publish("mine/pressure", "500")
    page = visitor.open("/", [("q", 'pressure{device="mine"}'), ("live", "1")])
    wait_drawn(page)
    wait_on(page, lambda: any(one["lines"] for one in chart_series(page)), "the rule's level is drawn")
    wait_on(page, lambda: any(one["areas"] for one in chart_series(page)), "the alert is drawn")


def test_zooming_asks_for_the_time_that_is_looked_at(visitor: Visitor) -> None:
    page = visitor.open("/", [("q", PUMP), ("since", "15m")])
    wait_drawn(page)
    chart = page.locator(".nicegui-echart").bounding_box()
    assert chart is not None
    page.mouse.move(chart["x"] + chart["width"] * 0.8, chart["y"] + chart["height"] / 2)
    page.mouse.wheel(0, -300)
    wait_on(page, lambda: "from" in asked(page), "the address has the time that is zoomed to")
    page.keyboard.press("z")
    page.get_by_role("button", name="1h", exact=True).click()
    wait_asked(page, "since", "1h")


def test_the_table_and_the_csv_hold_what_is_stored(visitor: Visitor, demo_process: DemoProcess) -> None:
    page = visitor.open("/", [("q", PUMP), ("view", "table")])
    wait_drawn(page)
    expect(page.locator(".explore-table tbody tr").first).to_contain_text(NAME)
    link = page.get_by_role("link", name="CSV")
    wait_on(page, lambda: link.get_attribute("href"), "the link is there")
    with page.expect_download() as download:
        link.click()
    rows = list(csv.DictReader(io.StringIO(download.value.path().read_text())))
    stored = demo_process.readings(SERIES)
    assert len(rows) > 5
    assert {row["series"] for row in rows} == {SERIES}
    assert [float(row["value"]) for row in rows] == list(stored.values())[: len(rows)]
    with page.expect_download() as download:
        page.get_by_role("button", name="PNG").click()
    assert download.value.path().read_bytes().startswith(b"\x89PNG")


def test_a_hostile_device_name_does_no_harm(visitor: Visitor, demo_process: DemoProcess) -> None:
    """It is shown as what it is: text. An alert box would fail the test, as any error would."""
    demo_process.publish(f"{HOSTILE}/temperature", "21")
    wait_until(lambda: "onerror" in demo_process.data.series.read_text(), what="the device is known")
    page = visitor.open("/", [("q", "temperature{device=~'<img.*'}"), ("view", "table"), ("live", "1")])
    [name] = wait_drawn(page)
    assert HOSTILE in name
    expect(page.locator(".legend")).to_contain_text(HOSTILE)
    expect(page.locator(".explore-table")).to_contain_text(HOSTILE)
    chart = page.locator(".nicegui-echart").bounding_box()
    assert chart is not None
    for part in (0.5, 0.9, 0.95):  # over its point, so that its tip is drawn
        page.mouse.move(chart["x"] + chart["width"] * part, chart["y"] + chart["height"] / 2)
    page.get_by_role("combobox", name="Device").click()
    page.keyboard.type("<img")
    expect(page.get_by_role("option").first).to_have_text(HOSTILE)
    assert page.locator("#main img").count() == 0


def test_the_keyboard_leads_everywhere(visitor: Visitor) -> None:
    page = visitor.open("/", [("q", PUMP)])
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.wait_for_selector("#main")
    page.keyboard.press("g")
    page.keyboard.press("a")
    page.wait_for_url("**/alerts")


def test_what_is_typed_stays_while_the_page_goes_on(visitor: Visitor) -> None:
    page = visitor.open("/devices")
    field = page.get_by_role("main").locator("input[data-search]")
    field.press_sequentially("pump-0001")
    state = page.locator(".pulse .words")
    before = state.inner_text()
    wait_on(page, lambda: state.inner_text() != before, "the head of the page has changed")
    expect(field).to_have_value("pump-0001")


def test_a_phone_has_no_need_to_scroll_sideways(visitor: Visitor) -> None:
    page = visitor.open("/", [("q", "temperature"), ("view", "table")], size=PHONE)
    wait_drawn(page, 10)
    assert overflow(page) <= 0
    page.get_by_role("button", name="Pages").click()
    expect(page.get_by_role("link", name="Dead letters")).to_be_visible()
    assert overflow(page) <= 0


def test_an_expression_that_nobody_understands_leaves_the_others_alone(visitor: Visitor) -> None:
    page = visitor.open("/", [("q", PUMP), ("q", "sum(")])
    assert list(wait_drawn(page)) == [NAME]
    expect(page.locator(".mistake").nth(1)).to_contain_text("1:")
