"""The served page in a browser: its pictures for the documentation, and how soon it is painted.

    .venv/bin/python bench/page.py BUNDLE --task sentiment --text "…" --out docs/figures

Pictures of the explanation and of the attention behind an answer, on a desk and on a phone, light
and dark, in English and 简体中文. The largest contentful paint is the browser's own figure, over
loopback, each time in a new browser profile.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from shutil import which
from typing import Any

from machine import machine, versions
from playwright.sync_api import Browser, Page, sync_playwright
from serving import Running

_DESK, _PHONE = {"width": 920, "height": 700}, {"width": 390, "height": 760}
PICTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "page-why": ("why", {"viewport": _DESK, "color_scheme": "light", "locale": "en-GB"}),
    "page-attention": ("attention", {"viewport": _DESK, "color_scheme": "dark", "locale": "en-GB"}),
    "page-why-phone": ("why", {"viewport": _PHONE, "color_scheme": "dark", "locale": "zh-CN"}),
    "page-attention-phone": (
        "attention",
        {"viewport": _PHONE, "color_scheme": "light", "locale": "zh-CN"},
    ),
}
_PAINT = """() => new Promise((resolve) => {
  new PerformanceObserver((list) => resolve(list.getEntries().at(-1).startTime))
    .observe({ type: "largest-contentful-paint", buffered: true });
})"""


def main() -> None:
    """Serve a bundle, take the pictures, measure; print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle")
    parser.add_argument("--task", required=True, help="one that reads one text")
    parser.add_argument("--text", required=True)
    parser.add_argument("--out", type=Path, required=True, help="a folder for the pictures")
    parser.add_argument("--loads", type=int, default=5, help="how often the page is opened")
    options = parser.parse_args()
    chromium = which("chromium") or which("chromium-browser")
    with (
        Running([options.bundle], "--workers", "1", "--timeout", "120") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        paints = [_painted(browser, server.url) for _ in range(options.loads)]
        sizes = {}
        for name, (what, settings) in PICTURES.items():
            page = browser.new_page(**settings)
            page.goto(server.url)
            _ask(page, options.task, options.text, what)
            path = options.out / f"{name}.png"
            page.locator("main > section").first.screenshot(path=path)
            sizes[path.name] = path.stat().st_size
            page.close()
        browser.close()
    result = {
        "ours": statistics.median(paints),
        "unit": "milliseconds to the largest contentful paint, the median",
        "paints": paints,
        "pictures": sizes,
        "machine": machine(),
        "versions": versions(),
    }
    print(json.dumps(result, indent=2))


def _painted(browser: Browser, url: str) -> float:
    """Milliseconds until the largest part of the page was painted."""
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector('[role="tab"]')
        page.wait_for_timeout(500)  # until then a larger one may follow
        return round(float(page.evaluate(_PAINT)), 1)


def _ask(page: Page, task: str, text: str, what: str) -> None:
    """Ask a task, and open what stands behind the answer."""
    page.set_default_timeout(120_000)
    page.wait_for_selector('[role="tab"]')
    page.click(f"#tab-{task}")
    page.fill("textarea", text)
    page.click("#go")
    button = page.locator("#result > .row button").nth(["why", "attention"].index(what))
    button.click()
    panel = page.locator(f"#{button.get_attribute('aria-controls')}")
    panel.locator("table").first.wait_for(state="attached")
    page.mouse.move(0, 0)


if __name__ == "__main__":
    main()
