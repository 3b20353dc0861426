"""The page: nothing in it runs but its own script, and a browser shows it as it should."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from unmask.evaluation.page import render
from unmask.evaluation.page.charts import heat_map, interval_bar, tag
from unmask.evaluation.page.words import ENGLISH

Make = Callable[..., dict[str, Any]]


class Elements(HTMLParser):
    """Every start tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_hostile_texts_stay_texts(make_found: Make) -> None:
    elements = Elements(render(make_found())).found
    assert sum(name == "script" for name, _ in elements) == 1
    assert not any(name in ("img", "iframe", "link", "object") for name, _ in elements)
    for _, attributes in elements:
        assert not any(key.startswith("on") for key in attributes)
        assert not {"src", "href"} & set(attributes) or attributes.get("href", "").startswith("#")
    (policy,) = [a["content"] for _, a in elements if a.get("http-equiv")]
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert "script-src 'sha256-" in policy


def test_drawings_escape_what_they_are_given() -> None:
    assert tag("text", '<b "&', fill_opacity="'\"") == (
        '<text fill-opacity="&#39;&#34;">&lt;b &#34;&amp;</text>'
    )
    assert "<script>" not in heat_map(["<script>", "b"], [[1, 1], [0, 1]], ENGLISH)
    bar = interval_bar(0.5, 0.4, 0.6)
    assert 'cx="80"' in bar
    assert 'width="32.4"' in bar  # 0.2 of 152, and a little


def test_short_labels_stand_clear_of_what_the_axes_are_called() -> None:
    drawn = heat_map(["a", "b"], [[1, 1], [0, 1]], ENGLISH)
    first = min(float(x) for x in re.findall(r"translate\(([\d.]+)", drawn))
    assert first - 10 > 4 + 6 * len(f"{ENGLISH['answer']} →")  # letters rise to the left of it


def test_no_figure_where_there_is_none(make_found: Make) -> None:
    page = render(make_found())
    assert "nan" not in re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL).lower()
    assert "None" not in page
    assert "– for &lt;script&gt;" in page


def test_all_tasks_stand_in_one_table(make_found: Make) -> None:
    """With one cell too; every cell is there once, and what has no rows is absent."""
    found = make_found()
    assert "All tasks" not in render(found)
    (mood,) = found["cube"]
    alone = {**mood["cells"][0], "task": "heard", "domain": "calls", "language": None}
    alone |= {"modality": "audio", "value": 0.77}
    axes = {"languages": [None], "domains": ["calls"], "modalities": ["audio"]}
    found["cube"].append({**mood, **axes, "task": "heard", "cells": [alone]})
    page = render(found)
    whole = page[page.index('class="cube whole"') : page.index('id="cube-1"')]
    lines = re.findall(r"<tr><th scope=.row.*?</tr>", whole, re.DOTALL)
    assert len(lines) == 4  # films, tweets and neither of the one, and the other
    assert "heard<small>calls · audio</small>" in lines[-1]
    columns = len(re.findall(r"<th scope=.col", whole)) - 1
    assert columns == 4  # three languages and none
    assert whole.count("<td") == len(lines) * columns
    assert whole.count('<td class="absent"><span') == 16 - len(mood["cells"]) - 1
    assert whole.count("0.77") == 1
    assert f"{len(mood['cells'])} cells were measured, and 7 have no rows" in page


def test_many_labels_and_none(make_found: Make) -> None:
    many = render(make_found(labels=101))
    assert ENGLISH["too_many"].format(labels=101) in many
    assert 'class="heat"' not in many
    bare = {**make_found(), "worst": [], "confusion": [], "calibration": [], "notes": []}
    assert ENGLISH["no_worst"] in render(bare)


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A function that opens a result's page; at the end nothing was complained of or fetched."""
    complaints: list[str] = []
    fetched: list[str] = []
    opened: list[Any] = []

    def show(found: dict[str, Any], width: int = 1200, **settings: Any) -> Any:
        path = tmp_path / "page.html"
        path.write_text(render(found), encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": 800}, **settings)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(path.as_uri())
        opened.append(page)
        return page

    yield show
    for page in opened:
        assert page.evaluate("window.hacked") is None
        page.close()
    assert complaints == []
    assert len(fetched) == len(opened)
    assert all(url.startswith("file://") for url in fetched)


def test_the_filter(show: Callable[..., Any], make_found: Make) -> None:
    page = show(make_found())
    rows = page.locator("#errors tbody tr:visible")
    assert rows.count() == 30
    assert page.inner_text("#shown") == "30 of 30 listed errors shown"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.fill("#find", "NUMBER 12")
    assert rows.count() == 1
    assert page.inner_text("#shown") == "1 of 30 listed errors shown"
    page.fill("#find", "")
    page.select_option("#truth", "label 1")
    assert rows.count() == 10
    page.fill("#find", "no such text")
    assert rows.count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_in_light_and_dark(
    show: Callable[..., Any], make_found: Make, scheme: str
) -> None:
    """Every text has a contrast of 4.5 with what it stands on (WCAG 2.2, AA)."""
    page = show(make_found(), color_scheme=scheme)
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (light == "rgb(255, 255, 255)") is (scheme == "light")
    worst = page.evaluate(
        """() => {
          const part = (c) => c <= 10 ? c / 3294.6 : ((c / 255 + .055) / 1.055) ** 2.4;
          const bright = (c) => .2126 * part(c[0]) + .7152 * part(c[1]) + .0722 * part(c[2]);
          const rgb = (s) => s.match(/[\\d.]+/g).map(Number);
          const over = (top, share, under) => top.map((c, i) => c * share + under[i] * (1 - share));
          const ground = (e) => {
            for (; e; e = e.parentElement) {
              const c = rgb(getComputedStyle(e).backgroundColor);
              if (c.length === 3 || c[3] > 0) return c.slice(0, 3);
            }
          };
          let least = 21;
          for (const e of document.querySelectorAll("body *")) {
            if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())) continue;
            const style = getComputedStyle(e), svg = e.tagName === "text";
            if (["title", "script", "style", "option"].includes(e.tagName.toLowerCase())) continue;
            let under = ground(svg ? e.closest("svg").parentElement : e);
            const square = svg && e.parentElement.querySelector(":scope > rect");
            if (square && e.parentElement.tagName === "g") {
              const s = getComputedStyle(square);
              under = over(rgb(s.fill).slice(0, 3), Number(s.fillOpacity), under);
            }
            const a = bright(rgb(svg ? style.fill : style.color)), b = bright(under);
            least = Math.min(least, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
          }
          return least;
        }"""
    )
    assert worst >= 4.5


@pytest.mark.parametrize("labels", [3, 77])
def test_a_phone_shows_all_without_scrolling_sideways(
    show: Callable[..., Any], make_found: Make, labels: int
) -> None:
    page = show(make_found(labels), width=360)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    page.locator("summary").first.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 360


def test_labels_of_a_large_matrix_do_not_run_into_one_another(
    show: Callable[..., Any], make_found: Make
) -> None:
    page = show(make_found(77))
    boxes = page.evaluate(
        """[...document.querySelectorAll('.heat text[text-anchor="end"]')]
        .map((e) => e.getBoundingClientRect()).map((b) => [b.top, b.bottom, b.left])"""
    )
    left = page.evaluate("document.querySelector('.heat').getBoundingClientRect().left")
    assert len(boxes) == 77
    middles = [(top + bottom) / 2 for top, bottom, _ in boxes]
    assert all(b - a >= 11 for a, b in pairwise(middles))
    assert all(x >= left for _, _, x in boxes)


def test_tables_have_headers_and_pictures_names(show: Callable[..., Any], make_found: Make) -> None:
    page = show(make_found())
    tables = page.locator("table").count()
    assert tables >= 4
    assert page.locator("table:has(thead th[scope=col])").count() == tables
    unnamed = "svg:not([aria-hidden=true]):not([role=img][aria-label])"
    assert page.locator(unnamed).count() == 0
    assert page.locator("h1").count() == 1
