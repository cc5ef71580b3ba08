"""The page, driven in a real browser: nothing goes wrong on the console, and nothing leaves the server's origin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from seedbed.serving.keys import new_key
from seedbed.serving.views.tickets import Tickets

from .conftest import Running, Serve

playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")

_HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    path = next((found for name in _CHROMIUM if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip(f"no browser found (looked for {', '.join(_CHROMIUM)})")
    with playwright.sync_playwright() as driver:
        with_browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield with_browser
        with_browser.close()


class Visit:
    """A page that is open at the server."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.url, self.trouble = url, list[str]()
        self.context = browser.new_context(reduced_motion="reduce", **options)
        self.context.set_default_timeout(10_000)
        self.page = self.context.new_page()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.trouble.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:")):
            self.trouble.append(f"a request to {request.url}")

    def until(self, expression: str) -> None:
        """Wait until it is true. (Playwright's own waiting evaluates text, which the page's policy forbids.)"""
        for _ in range(1000):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(10)
        raise AssertionError(f"never came true: {expression}")

    def open(self, tab: str) -> Any:
        self.page.goto(f"{self.url}/#{tab}")
        self.page.wait_for_selector(f"#panel-{tab}:not([hidden]) h2, #panel-{tab}:not([hidden]) iframe")
        return self.page


@pytest.fixture
def visit(browser: Any, running: Running) -> Iterator[Visit]:
    found = Visit(browser, running.url, viewport={"width": 1280, "height": 800})
    yield found
    found.context.close()
    assert found.trouble == []


def test_chat_streams_side_by_side_and_an_answer_can_be_made_anew(visit: Visit) -> None:
    page = visit.open("chat")
    page.get_by_label("fine-tuned").check()
    page.get_by_label("Most tokens").fill("8")
    page.locator(".example").first.click()
    visit.until("document.querySelectorAll('.answer:not(.running) .figures:not(:empty)').length === 2")
    assert page.locator(".answer h2").all_inner_texts() == ["fine-tuned", "aligned"]
    assert "tokens" in page.locator(".figures").first.inner_text()
    question = page.locator(".question").inner_text()
    page.get_by_label("Answer anew").click()
    visit.until("document.querySelectorAll('.answer:not(.running) .figures:not(:empty)').length === 2")
    page.get_by_label("Edit and ask again").click()
    page.locator(".question textarea").fill("Another question")
    page.keyboard.press("Enter")
    visit.until("document.querySelectorAll('.answer:not(.running) .figures:not(:empty)').length === 2")
    assert page.locator(".question").all_inner_texts() == ["Another question"] != [question]


def test_an_answer_can_be_stopped_and_markup_in_it_stays_text(visit: Visit) -> None:
    """A stream that never ends, of markup, which only a browser's own network can give: the page's `fetch` is ours."""
    page = visit.page
    event = json.dumps({"choices": [{"index": 0, "delta": {"content": _HOSTILE}, "finish_reason": None}]})
    page.add_init_script(
        "const real = window.fetch; window.fetch = (path, options) => path !== '/v1/chat/completions'"
        " ? real(path, options) : Promise.resolve(new Response(new ReadableStream({ start(stream) {"
        f" const line = new TextEncoder().encode('data: ' + {json.dumps(event)} + '\\n\\n');"
        " const timer = setInterval(() => stream.enqueue(line), 5);"
        " options.signal.addEventListener('abort', () => { clearInterval(timer);"
        " stream.error(new DOMException('', 'AbortError')); window.stopped = true; }); } })));"
    )
    visit.open("chat")
    page.locator("[data-main]:visible").fill(_HOSTILE)
    page.keyboard.press("Enter")
    visit.until("document.querySelector('.answer .text').textContent.length > 500")
    page.keyboard.press("Escape")
    visit.until("window.stopped && document.querySelector('.answer:not(.running) .figures').textContent")
    assert page.locator(".figures").inner_text().endswith("stopped")
    assert page.locator(".answer .text").text_content().startswith(_HOSTILE)
    assert page.locator(".question").text_content() == _HOSTILE
    assert page.locator(".log script, .log img").count() == 0
    assert "taken" not in page.title()


def test_search_shows_every_way_with_reasons_and_markup_as_text(visit: Visit) -> None:
    page = visit.open("search")
    page.locator("[data-main]:visible").fill("read a csv file")
    page.keyboard.press("Enter")
    page.wait_for_selector(".column")
    assert page.locator(".column h3").all_inner_texts() == ["Hybrid", "BM25", "Dense"]
    assert page.locator(".column[data-mode=bm25] mark").count() > 0
    assert page.locator(".latency").first.inner_text().endswith("ms")
    answer = page.request.post(
        f"{visit.url}/view/search", data={"query": "csv", "modes": ["bm25"], "k": 1}
    ).json()  # fmt: skip
    hit = answer["results"][0]["hits"][0]
    hit |= {"title": _HOSTILE, "text": _HOSTILE, "source": _HOSTILE, "marks": [{"start": 0, "end": 8, "by": "bm25"}]}
    page.route("**/view/search", lambda route: route.fulfill(json=answer))
    page.keyboard.press("Enter")
    visit.until("document.querySelectorAll('.column').length === 1")
    assert page.locator(".passage").text_content() == _HOSTILE
    assert page.locator(".hit script, .hit img").count() == 0
    assert "taken" not in page.title()


def test_tokens_follow_the_typing(visit: Visit) -> None:
    page = visit.open("tokens")
    page.wait_for_selector(".cut")
    page.locator("[data-main]:visible").fill("naïve csv")
    visit.until("document.querySelector('.sizes').textContent.includes('10 bytes')")
    visit.until("document.querySelectorAll('.cut').length === 5")
    assert page.locator(".cut h3").all_inner_texts() == ["This run", "WordPiece", "Unigram", "Characters", "Bytes"]
    assert page.locator(".cut").nth(4).locator(".piece").all_inner_texts()[2:4] == ["C3", "AF"]
    page.locator(".pieces").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_selector(".piece.at")
    assert " id " in page.locator(".tokens .about").inner_text()
    visit.until("document.querySelectorAll('.panel.tokens tbody tr').length > 8")


def test_attention_is_drawn_and_says_whom_a_token_looks_at(visit: Visit) -> None:
    page = visit.open("attention")
    page.locator("[data-main]:visible").fill("reads a csv file")
    visit.until("document.querySelector('.looks').textContent === 'reads a csv file'")
    painted = "[...document.querySelector('.map').getContext('2d').getImageData(0, 0, 400, 400).data].some(Boolean)"
    assert page.evaluate(painted)
    assert page.locator(".head").count() == 2
    page.get_by_label("Layer 1, head 2").click()
    assert page.locator(".attention-body h3").first.inner_text() == "Layer 1, head 2"
    page.locator(".token").first.hover()
    assert page.locator(".attention .about").inner_text().endswith("100%")  # the first sees itself alone
    page.get_by_label("search encoder").check()
    visit.until("document.querySelector('.attention .row').textContent.includes('Bidirectional')")
    assert page.locator(".head").count() == 2


def test_space_is_drawn_finds_neighbours_and_shows_a_walk(visit: Visit) -> None:
    page = visit.open("space")
    page.wait_for_selector(".plot .legend span")
    page.locator("[data-main]:visible").fill("read a csv file")
    page.keyboard.press("Enter")
    page.wait_for_selector(".neighbours li")
    assert "looked at" in page.locator(".side").inner_text()
    first = page.locator(".neighbours button").first
    title = first.inner_text()
    first.click()
    visit.until("document.querySelector('.side h4') !== null")
    assert page.locator(".side h3").inner_text() == title
    assert page.locator(".neighbours li").count() == 8


def test_lab_and_report_open_and_charts_need_no_code_from_text(visit: Visit) -> None:
    chart = {
        "mark": "bar", "width": "container", "data": {"values": [{"a": _HOSTILE, "b": 3}, {"a": "x", "b": 2}]},
        "encoding": {"x": {"field": "a", "type": "nominal"}, "y": {"field": "b", "type": "quantitative"}},
        "transform": [{"filter": "datum.b > 1"}],
    }  # fmt: skip
    row = {
        "name": "kv-cache", "title": _HOSTILE, "question": "Why?", "claim": "It holds.", "verdict": "holds",
        "sentences": ["One.", "Two."], "seconds": "1 s", "group": "Length",
    }  # fmt: skip
    more = {
        "formula": "a = b", "source": "A 2020", "columns": ["what"], "rows": [[_HOSTILE]], "quantities": [False],
        "charts": [{"heading": "", "spec": chart}], "caption": "",
    }  # fmt: skip
    page = visit.page
    page.route("**/view/lab", lambda route: route.fulfill(json={"findings": [row]}))
    page.route("**/view/lab/kv-cache", lambda route: route.fulfill(json=row | more))
    visit.open("lab")
    page.locator(".finding summary").click()
    page.wait_for_selector(".chart svg")
    assert page.locator(".finding td").text_content() == _HOSTILE
    assert page.locator(".finding img, .finding script").count() == 0
    visit.open("report")
    frame = page.frame_locator("iframe")
    frame.locator("h1").wait_for()
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts"
    assert "taken" not in page.title()


def test_the_keyboard_reaches_everything_and_is_never_caught(visit: Visit) -> None:
    page = visit.open("search")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("3")
    page.wait_for_selector("#panel-tokens:not([hidden]) .cut")
    assert page.evaluate("document.activeElement.id") == "tab-tokens"
    page.keyboard.press("ArrowLeft")
    page.wait_for_selector("#panel-search:not([hidden])")
    assert page.locator("[role=tab][aria-selected=true]").inner_text() == "Search"
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.tagName"))
    assert {"INPUT", "SELECT", "BUTTON", "BODY"} <= set(reached)  # and out at the end
    page.locator("#tab-search").focus()
    page.keyboard.press("?")
    assert page.locator("dialog[open] dt").count() > 7
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(19, 23, 21)"


def test_a_phone_shows_all_tabs_without_scrolling_sideways(browser: Any, running: Running) -> None:
    visit = Visit(browser, running.url, viewport={"width": 390, "height": 844}, has_touch=True, color_scheme="dark")
    for tab in ("chat", "search", "tokens", "attention", "space", "lab", "report"):
        page = visit.open(tab)
        visit.until(f"!document.querySelector('#panel-{tab} .waiting')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, tab
    visit.context.close()
    assert visit.trouble == []


def test_where_a_key_is_wanted_the_page_asks_for_it_once(browser: Any, serve: Serve, tmp_path: Path) -> None:
    secret = new_key(tmp_path / "keys.json", "me")
    running = serve(keys=tmp_path / "keys.json")
    visit = Visit(browser, running.url)
    page = visit.page
    page.goto(f"{running.url}/#report")
    page.get_by_label("API key").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("does not know that key").wait_for()
    page.get_by_label("API key").fill(secret)
    page.keyboard.press("Enter")
    page.frame_locator("iframe").locator("h1").wait_for()
    page.keyboard.press("2")
    page.wait_for_selector("#panel-search h2")
    visit.context.close()
    assert [one for one in visit.trouble if "401" not in one] == []


def test_tickets_let_in_once_and_for_a_minute() -> None:
    now = [0.0]
    tickets = Tickets(lambda: now[0])
    first, second = tickets.new(), tickets.new()
    assert [tickets.take(one) for one in (first, first, "", "x")] == [True, False, False, False]
    now[0] = 61.0
    assert not tickets.take(second)


def test_the_page_lets_no_foreign_code_in_and_reports_live_apart(visit: Visit) -> None:
    response = visit.page.request.get(f"{visit.url}/")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    path = visit.page.request.post(f"{visit.url}/view/report", data={}).json()["path"]
    first, second = (visit.page.request.get(visit.url + path) for _ in range(2))
    assert first.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    assert (first.status, second.status) == (200, 404)
    for path in ("/web/../app.py", "/web/%2e%2e/app.py", "/view/lab/..%2f..%2fcorpus"):
        assert visit.page.request.get(f"{visit.url}{path}").status in (400, 404)
