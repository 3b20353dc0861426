"""The documentation's site: built without a warning, whole, searchable, and fetching nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
needs_generator = pytest.mark.skipif(
    not (find_spec("zensical") and find_spec("latex2mathml")),
    reason="needs the packages zensical and latex2mathml (`make setup` installs them)",
)
pytestmark = needs_generator


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "site"
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "site" / "build.py", "--out", out],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr.count("No issues found") == 2  # one a language
    return out


class Page(HTMLParser):
    """The ids of a page, and what its elements lead to or fetch."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.targets: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name"):
                self.ids.add(value or "")
            elif name in ("href", "src") and value:
                self.targets.add(value)


def test_every_link_and_anchor_leads_somewhere(site: Path) -> None:
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    broken = []
    for path, page in pages.items():
        for target in page.targets:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            found = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not found.is_file():
                broken.append(f"{path.relative_to(site)}: {target}")
            elif anchor and found in pages and anchor not in pages[found].ids:
                broken.append(f"{path.relative_to(site)}: {target} (no such anchor)")
    assert broken == []
    assert len(pages) > 100


@pytest.fixture
def visit(browser: Any, site: Path) -> Iterator[Callable[..., Any]]:
    """A function that opens a page of the site as a file, without a network."""
    complaints: list[str] = []
    fetched: list[str] = []
    contexts: list[Any] = []

    def visit(place: str, **settings: Any) -> Any:
        contexts.append(browser.new_context(**settings))
        contexts[-1].set_offline(True)
        page = contexts[-1].new_page()
        page.set_default_timeout(40_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(f"{site.as_uri()}/{place}")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert complaints == []
    assert [url for url in fetched if not url.startswith(site.as_uri())] == []


CHAPTERS = sorted(path.name for path in (ROOT / "docs" / "guide" / "zh").glob("*.md"))
HOW_TO = sorted(path.stem for path in (ROOT / "docs" / "howto" / "zh").glob("*.md"))


def look_for(page: Any, word: str) -> list[str]:
    """The pages that the search finds, best first."""
    page.keyboard.press("/")
    page.wait_for_selector("input[type=text], input[type=search]", state="visible")
    page.keyboard.type(word)
    page.wait_for_selector(".md-search a[href], [class*=search] a[href]")
    return [a.get_attribute("href") for a in page.query_selector_all("[class*=search] a[href]")]


def test_try(visit):
    page = visit("zh/index.html")
    print(look_for(page, "注意力"))
    page.screenshot(path="/tmp/zen/s.png")
    page = visit("en/guide/90-try.html", color_scheme="dark")
    page.screenshot(path="/tmp/zen/e.png")
    page = visit("zh/guide/90-try.html", viewport={"width": 390, "height": 844})
    page.screenshot(path="/tmp/zen/p.png")
