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


@pytest.mark.parametrize(
    ("language", "word"), [("zh", "注意力"), ("zh", "模型"), ("en", "overload"), ("en", "pcgrad")]
)
def test_search_finds_a_word(
    visit: Callable[..., Any], site: Path, language: str, word: str
) -> None:
    page = visit(f"{language}/index.html")
    page.click(".md-search__button")
    page.keyboard.insert_text(word)  # at once: letter by letter, "over" would have found its own
    page.wait_for_selector("dialog li a[href]")
    found = [a.get_attribute("href") for a in page.query_selector_all("dialog li a[href]")]
    assert found
    for place in found:
        text = site / language / urlsplit(place).path.rsplit(f"/{language}/", 1)[-1]
        assert word in text.read_text(encoding="utf-8").lower()


def test_the_switch_leads_to_the_same_page_or_home(visit: Callable[..., Any]) -> None:
    page = visit("zh/howto/csv.html")
    page.click(".other-language")
    page.wait_for_url("**/en/howto/csv.html")
    page.click(".other-language")
    page.wait_for_url("**/zh/howto/csv.html")
    page.goto(page.url.replace("zh/howto/csv", "en/serving"))
    page.click(".other-language")
    page.wait_for_url("**/zh/index.html")


@pytest.mark.slow
@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize("width", [1300, 390])
def test_axe_finds_nothing(visit: Callable[..., Any], look: str, width: int) -> None:
    from axe_playwright_python.sync_playwright import Axe

    for place in (
        "en/howto/csv.html",
        "zh/howto/code.html",
        "en/reference/recipe.html",
        "zh/guide/14-twenty-questions.html",
    ):
        page = visit(place, color_scheme=look, viewport={"width": width, "height": 844})
        found = Axe().run(page, options={"preload": False}).response["violations"]
        told = [(v["id"], [n["target"] for n in v["nodes"]][:4], len(v["nodes"])) for v in found]
        assert told == [], place
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= width, place


def test_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    from markdown import Markdown

    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    page = Markdown(extensions=["formulas"])
    shown = page.convert("costs 5$ and 6$, `$a_b$`, and $x_i + y_i$.\n\n$$\n\\frac{a}{b}\n$$\n")
    assert shown.count("<math") == 2
    assert shown.count("<msub>") == 2
    assert "costs 5$ and 6$, <code>$a_b$</code>" in shown
    assert "<mfrac><mrow><mi>a</mi></mrow>" in shown
    with pytest.raises(ValueError, match="undefined is not known"):
        page.convert("$\\undefined{x}$")


def test_lines_of_chinese_are_joined_without_a_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "site")
    from pages import spaced

    assert spaced("读写\n权重，\n`a`，用 BERT\n（大）。\n") == "读写权重，`a`，用 BERT（大）。\n"
    for kept in (
        "用\n`a` and\nb\n",  # beside other letters a space belongs
        "# 题。\n\n文。\n\n- 一。\n- 二。\n",
        "文。\n\n| 一。 |\n|---|\n| 二。 |\n",
        "> 一。\n> 二。\n",
        "```text\n一。\n二。\n```\n",
    ):
        assert spaced(kept) == kept
