"""The collector's page in a real browser: headless Chromium, driven by Playwright.

Skipped where either is missing. Playwright is in the extra `test`; for Chromium: `apt-get install chromium`.
With UMAMI_SCREENSHOTS=1, the pictures in docs/images are made anew.
"""

import json
import os
import shutil

import httpx
import pytest
from collector_helpers import SITE, item
from conftest import CHROME, DEADLINE, ROOT

from umami.collector import Collector

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium"),
    # Its driver runs an event loop, and leaves a pipe to the garbage collector.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.xdist_group("chromium"),
]
SCREENSHOTS = "UMAMI_SCREENSHOTS" in os.environ
EVIL = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
RTL = "\u202egnp.exe\u2066"


class Shown:
    """A collector, its page, and what the browser complained of."""

    def __init__(self, collector, page) -> None:
        self.collector, self.page = collector, page
        self.complaints: list[str] = []
        page.set_default_timeout(DEADLINE * 1000)
        page.on("console", lambda each: self.complaints.append(each.text) if each.type == "error" else None)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.http = httpx.Client(base_url=collector.url, headers={"User-Agent": CHROME}, timeout=DEADLINE)

    def wait(self, selector: str, text: str) -> None:
        self.page.locator(selector, has_text=text).first.wait_for()

    def text(self, selector: str) -> str:
        return self.page.locator(selector).inner_text()

    def batch(self, *items) -> dict:
        return self.http.post("/api/batch", json=list(items)).json()

    def rows(self) -> list[list[str]]:
        """The cells of the rows in the document, by their places."""
        return self.page.evaluate(
            """() => [...document.querySelectorAll('#rows .row')]
                .sort((a, b) => a.ariaRowIndex - b.ariaRowIndex)
                .map(row => [...row.children].map(cell => cell.textContent))"""
        )


@pytest.fixture(scope="module")
def opened():
    """One page for all tests, since a new one takes a second."""
    with Collector() as collector, playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = Shown(collector, browser.new_page())
        yield shown
        shown.http.close()
        browser.close()


@pytest.fixture
def shown(opened):
    opened.collector.start()
    opened.collector.clear()
    opened.page.set_viewport_size({"width": 1400, "height": 800})
    opened.page.emulate_media(color_scheme="light")
    opened.complaints.clear()
    opened.page.goto(opened.collector.url)
    opened.wait("#connection", "Live")
    yield opened
    assert opened.complaints == []


def picture(shown: Shown, name: str) -> None:
    if SCREENSHOTS:
        path = ROOT / "docs" / "images" / name
        shown.page.set_viewport_size({"width": 1200, "height": 640})
        shown.page.screenshot(path=path)
        assert path.stat().st_size < 200_000


def lively(shown: Shown) -> None:
    """Send what a small shop sends."""
    view = {"url": "/shop", "title": "Shop", "referrer": "https://duckduckgo.com/", "userAgent": CHROME}
    shown.batch(
        item(**view, ip="203.0.113.7", id="customer-1"),
        item(**{**view, "url": "/shop/teapot", "title": "Teapot"}, ip="203.0.113.7", id="customer-1"),
        item(name="add-to-cart", data={"product": "teapot", "price": 24.5}, url="/shop/teapot", tag="b"),
        item(type="identify", id="customer-1", data={"plan": "pro"}),
        item(name="purchase", data={"revenue": 24.5, "currency": "EUR", "items": 1}, url="/shop/paid"),
    )
    shown.batch(item(name="x" * 51), item(website="not-a-uuid"), item(name="search", data={"q": "cup"}))
    shown.http.post("/api/send", json=item(url="/robots"), headers={"User-Agent": "Googlebot/2.1"})
    shown.collector.fail(503)
    shown.http.post("/api/batch", json=[item(name="lost")])
    shown.batch(*[item(**{**view, "url": f"/shop/{n}"}, ip=f"198.51.100.{n}") for n in range(1, 9)])


def test_what_arrives_is_shown_live_with_what_became_of_it(shown):
    assert "umami.configure(" in shown.text("#empty")
    assert f"export UMAMI_URL={shown.collector.url}" in shown.text("#empty")
    lively(shown)
    shown.wait("#count-stored", "14")
    counts = [shown.text(f"#count-{name}") for name in ("stored", "rejected", "bot", "fault")]
    assert counts == ["14", "2", "1", "1"]
    rows = shown.rows()
    by_name = {row[3]: row for row in rows}
    assert by_name["purchase"][1:5] == ["stored", "event", "purchase", "example.com/shop/paid"]
    assert by_name["purchase"][9] == '{"revenue": 24.5, "currency": "EUR", "items": 1}'
    assert "Too big: expected string to have <=50" in by_name["x" * 51][9]
    assert [row[1:3] for row in rows if row[1] in ("bot", "fault")] == [
        ["fault", "request"],
        ["bot", "page view"],
    ]
    assert [row[1] for row in rows if row[2] == "identify"] == ["stored"]
    view = by_name["Teapot"]
    assert view[5:8] == [SITE[:8], f"customer-1 · 203.0.113.7 · {CHROME}", "https://duckduckgo.com/"]
    assert shown.page.locator("#chart rect").count() >= 1
    assert shown.page.locator("#empty").is_hidden()
    picture(shown, "collector.png")
    shown.page.emulate_media(color_scheme="dark")
    shown.page.locator(".row", has_text="purchase").click()
    shown.wait("#detail-body", "Position")
    picture(shown, "collector-detail.png")


def test_filters_and_search_find_and_export(shown):
    lively(shown)
    shown.wait("#count-stored", "14")
    shown.page.keyboard.press("/")
    shown.page.keyboard.type("TEAPOT cart")
    shown.wait("#shown", "1 of 18 shown")
    assert [row[3] for row in shown.rows()] == ["add-to-cart"]
    export = shown.http.get(shown.page.locator("#export").get_attribute("href"))
    [line] = export.text.splitlines()
    assert json.loads(line)["event"]["payload"]["data"] == {"product": "teapot", "price": 24.5}
    shown.page.fill("#search", "nothing like it")
    shown.wait("#none", "No event matches")
    shown.page.fill("#search", "")
    shown.page.select_option("#verdict", "rejected")
    shown.wait("#shown", "2 of 18 shown")
    shown.page.select_option("#verdict", "")
    shown.page.select_option("#kind", "identify")
    shown.wait("#shown", "1 of 18 shown")


def test_pause_holds_and_clear_deletes(shown):
    shown.batch(item(name="first"))
    shown.wait("#rows", "first")
    shown.page.click("#pause")
    shown.batch(item(name="second"))
    shown.wait("#shown", "Paused: 1 new")
    assert [row[3] for row in shown.rows()] == ["first"]
    shown.page.click("#pause")
    shown.wait("#rows", "second")
    shown.page.click("#clear")
    shown.wait("#empty", "Nothing has arrived yet")
    assert shown.collector.events == ()
    shown.batch(item(name="third"))
    shown.wait("#rows", "third")
    assert [row[3] for row in shown.rows()] == ["third"]


def test_the_keyboard_is_enough(shown):
    shown.batch(*[item(name=f"event {number}") for number in range(200)])
    shown.wait("#count-stored", "200")
    shown.page.focus("#grid")
    for key in ("ArrowDown", "ArrowDown", "Enter"):
        shown.page.keyboard.press(key)
    shown.wait("#detail-title", "event 198")
    chosen = shown.page.evaluate(
        "document.getElementById(grid.getAttribute('aria-activedescendant')).innerText"
    )
    assert "event 198" in chosen
    shown.page.keyboard.press("End")
    shown.wait("#detail-title", "event 0")
    shown.page.keyboard.press("Escape")
    assert shown.page.locator("#detail").is_hidden()
    assert shown.page.evaluate("document.activeElement.id") == "grid"
    shown.page.keyboard.press("Home")
    assert shown.page.get_by_role("row", selected=True).inner_text().find("event 199") > 0
    # What a screen reader is told.
    assert shown.page.get_by_role("grid").get_attribute("aria-rowcount") == "201"
    assert shown.page.get_by_role("columnheader").all_inner_texts()[:4] == ["Time", "Result", "Kind", "Name"]
    for role, name in (("searchbox", "Search"), ("combobox", "Result"), ("combobox", "Kind")):
        assert shown.page.get_by_role(role, name=name, exact=True).count() == 1
    unnamed = shown.page.evaluate(
        "[...document.querySelectorAll('button, select, input')]"
        ".filter(each => !each.textContent && !each.labels?.length).map(each => each.id)"
    )
    assert unnamed == []


def test_faults_are_switched_on_from_the_page(shown):
    shown.page.click("#faults summary")
    shown.page.select_option("#fault-times", "3")
    shown.page.click("text=Switch on")
    shown.wait("#fault-list", "answers 503: 3 left")
    assert shown.http.post("/api/send", json=item(name="a")).status_code == 503
    shown.wait("#fault-list", "2 left")
    shown.wait("#rows", "Fault: answers 503.")
    shown.page.select_option("#fault-kind", label="Database away until cleared")
    shown.page.click("text=Switch on")
    shown.wait("#fault-note", "2 on")
    shown.page.click("#fault-clear")
    shown.page.locator("#fault-list li").first.wait_for(state="detached")
    assert shown.http.post("/api/send", json=item(name="b")).status_code == 200


def test_nothing_that_an_event_carries_runs_or_breaks_the_layout(shown):
    wide = "/" + "W" * 20_000
    many = {f"key{number}": "v" * 50 for number in range(200)}
    hostile = [
        item(name=EVIL[:50], url=f"/{EVIL}", title=EVIL, referrer="javascript:alert(1)", tag=EVIL[:50]),
        item(name="wide", url=wide, data={"a": "x" * 5000, EVIL: EVIL}),
        item(name="keys", data=many),
        item(name=RTL, title="a\r\n\0\x1b[31mb", hostname="evil.example"),
        item(name="Z" + "\u0335\u0336\u0337" * 15, data={"number": 0}),
        item(name="</script><style>*{display:none}</style>", userAgent=EVIL, id=EVIL[:50], ip="not an ip"),
    ]
    assert shown.batch(*hostile)["size"] == 6
    odd = {"type": {"x": []}, "payload": {"name": {"a": 1}, "url": 7, "website": ["x"], "data": "text"}}
    for body in (odd, None, [[["deep"] * 50] * 5], "text", 1e300):
        shown.http.post("/api/send", json=body)
    shown.http.post("/api/send", content=b'{"type": "event", "payload": ' + b"[" * 50_000)
    shown.http.post("/api/send", content=b"\xff\xfe<script>window.hacked=1</script>")
    numbers = b'{"n":1234567890123456789012345678901234567890.10,"n":1e2,"s":"\\ud800"}'
    fields = b'"website":"%s","hostname":"h","url":"/n","name":"exact"' % SITE.encode()
    exact = b'{"type":"event","payload":{%s,"data":%s}}' % (fields, numbers)
    shown.http.post("/api/send", content=exact, headers={"Authorization": "Bearer hush-hush"})
    shown.wait("#rows", "exact")
    size = shown.page.evaluate(
        "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    )
    assert size == [1400, 800]
    heights = shown.page.evaluate("[...document.querySelectorAll('#rows .row')].map(row => row.offsetHeight)")
    assert set(heights) == {30}
    assert any("\\u202egnp.exe\\u2066" in row[3] for row in shown.rows())
    for number in range(len(shown.rows())):
        shown.page.locator("#rows .row").nth(number).click()
        shown.wait("#detail-body", "Body, ")
        size = shown.page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        )
        assert size == [1400, 800]
    assert shown.page.evaluate("window.hacked") is None
    assert (
        shown.page.evaluate("document.querySelectorAll('main script, main img, main style, main a').length")
        == 0
    )
    shown.page.locator("#rows .row", has_text="exact").click()
    shown.wait("#detail-title", "exact")
    shown.wait("#detail-body", '"n": 1234567890123456789012345678901234567890.10,')
    assert '"n": 1e2,' in shown.text("#detail-body")
    assert "hush-hush" not in shown.page.locator("#detail-body dl").last.inner_text()
    shown.page.set_viewport_size({"width": 400, "height": 800})
    assert shown.page.evaluate("document.documentElement.scrollWidth") == 400


def test_ten_thousand_events_scroll_and_the_page_says_how_many_are_kept(shown):
    for start in range(0, 10_500, 500):
        # Most are refused, which is quicker than storing them.
        sent = [
            item(name=f"event {start + number}", website=SITE if number % 10 == 9 else "none")
            for number in range(500)
        ]
        shown.batch(*sent)
    shown.wait(
        "#shown", "10,000 of 10,000 shown. The collector keeps the latest 10,000; 500 older ones are gone."
    )
    shown.wait("#rows", "event 10499")
    assert shown.page.locator("#rows .row").count() < 60
    shown.page.evaluate("scroller.scrollTop = scroller.scrollHeight")
    shown.wait("#rows", "event 500")
    slowest = shown.page.evaluate(
        """async () => {
            let slowest = 0;
            for (let step = 1; step <= 30; step++) {
                scroller.scrollTop = step * 9000;
                const before = performance.now();
                scroller.dispatchEvent(new Event('scroll'));
                slowest = Math.max(slowest, performance.now() - before);
                await new Promise(requestAnimationFrame);
            }
            return slowest;
        }"""
    )
    assert slowest < 5000  # milliseconds; about 5 on an idle machine
    # A page that is opened later gets them all too, and what is in sight stays there while others arrive.
    shown.page.reload()
    shown.wait("#shown", "10,000 of 10,000")
    shown.page.evaluate("scroller.scrollTop = 30 * 5000")
    shown.wait("#rows", "event 5499")
    shown.batch(item(name="latest"))
    shown.wait("#count-stored", "1,051")
    assert any(row[3] == "event 5499" for row in shown.rows())


def test_the_theme_can_be_chosen(shown):
    ground = "getComputedStyle(document.body).backgroundColor"
    assert shown.page.evaluate(ground) == "rgb(255, 255, 255)"
    shown.page.emulate_media(color_scheme="dark")
    assert shown.page.evaluate(ground) == "rgb(20, 24, 31)"
    shown.page.click("#theme")
    assert shown.page.evaluate(ground) == "rgb(255, 255, 255)"
    shown.page.reload()
    assert shown.page.evaluate(ground) == "rgb(255, 255, 255)"
    shown.page.evaluate("localStorage.clear()")


def test_a_collector_that_stops_is_said_and_found_again(shown):
    shown.batch(item(name="before"))
    shown.wait("#rows", "before")
    shown.collector.stop(finish=True)  # a page that is open does not hold it up
    shown.wait("#connection", "does not answer")
    shown.complaints.clear()  # the browser's own
    shown.collector.start()
    shown.wait("#connection", "Live")
    shown.complaints.clear()
    shown.batch(item(name="after"))
    shown.wait("#rows", "after")
    assert [row[3] for row in shown.rows()] == ["after", "before"]
