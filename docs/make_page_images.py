"""Takes the pictures of the page that README shows, of a run that `seedbed serve` can serve.

    python docs/make_page_images.py runs/demo [--out docs/images]

It needs playwright and a Chromium (`chromium` or Google Chrome on the path).
"""

from __future__ import annotations

import argparse
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import seedbed
from seedbed.serving.config import ServeConfig
from seedbed.serving.server import make_server

_QUERY = "How do I read a csv file?"
_WIDTH, _HEIGHT = 1200, 760


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of a server of the run."""
    server, bound = make_server(seedbed.open_run(run), ServeConfig(port=0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while thread.is_alive() and not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.handle_exit(2, None)
        thread.join()


def chat(page: Any) -> None:
    page.get_by_label("base").check()
    page.get_by_label("fine-tuned").check()
    page.get_by_label("Seed").fill("1")
    for question in ("What does `csv.reader` do?", "Which arguments does `csv.writer` take?"):
        page.locator("[data-main]:visible").fill(question)
        page.keyboard.press("Enter")
        page.locator(".answer.running").first.wait_for()
        settle(page, ".answer.running")


def attention(page: Any) -> None:
    page.locator("[data-main]:visible").fill("Return a list of the files in the directory named by path.")
    page.wait_for_timeout(1500)
    page.locator(".head").last.click()
    page.mouse.wheel(0, 150)


def space(page: Any) -> None:
    page.locator("[data-main]:visible").fill(_QUERY)
    page.keyboard.press("Enter")
    page.locator(".neighbours li").first.wait_for()
    page.wait_for_timeout(1800)
    page.mouse.wheel(0, 150)


def settle(page: Any, selector: str) -> None:
    """Wait until nothing of `selector` is left."""
    while page.locator(selector).count():
        page.wait_for_timeout(20)


PICTURES = {
    "page_chat": ("chat", chat, "light"),
    "page_attention": ("attention", attention, "light"),
    "page_space": ("space", space, "dark"),
}


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "images")
    chosen = parser.parse_args()
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    with served(chosen.run) as address, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (tab, prepare, scheme) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": _WIDTH, "height": _HEIGHT}, color_scheme=scheme, device_scale_factor=1.25
            )
            page.goto(f"{address}/#{tab}")
            page.locator(f"#panel-{tab} h2").first.wait_for()
            settle(page, f"#panel-{tab} .waiting")
            prepare(page)
            page.wait_for_timeout(300)
            page.screenshot(path=chosen.out / f"{name}.png")
            print(chosen.out / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
