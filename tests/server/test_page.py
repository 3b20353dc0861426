"""The page in a real browser: every kind of task, both languages, and axe finds nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unmask.model import Model

from .conftest import ask

TEXT = "ada lives in paris"


def test_every_kind_of_task(visit: Callable[..., Any], model: Model) -> None:
    page = visit("mood")
    shown = ask(page, TEXT)
    own = model.predict("mood", TEXT)[0].probabilities
    assert shown.query_selector("dt.first").inner_text() == max(own, key=lambda k: own[k])
    assert len(shown.query_selector_all("meter")) == 3
    assert "6 tokens read" in shown.inner_text()

    page.click("#tab-names")
    found = [e.text for e in model.predict("names", TEXT)[0].entities]
    shown = ask(page, TEXT)
    marks = [mark.text_content() for mark in shown.query_selector_all("mark")]
    assert all(text in mark for text, mark in zip(found, marks, strict=True))

    page.click("#tab-answer")
    shown = ask(page, "who lives ?", TEXT)
    answer = model.predict("answer", [("who lives ?", TEXT)])[0].text
    assert shown.query_selector("mark").inner_text() == answer

    page.click("#tab-words")
    shown = ask(page, "the [MASK] was [MASK]")
    guesses = model.fill("the [MASK] was [MASK]").guesses
    options = [own.query_selector("option").inner_text() for own in
               shown.query_selector_all("select.fill")]  # fmt: skip
    assert [text.split(" (")[0] for text in options] == [g.candidates[0][0] for g in guesses]

    page.click("#tab-rank")
    shown = ask(page, "film", "a cat\na film\n")
    best = model.rank("rank", "film", ["a cat", "a film"])[0][0]
    assert shown.query_selector("dt.first").inner_text() == best

    page.click("#tab-near")
    shown = ask(page, "a film\nthe film\na cat")
    assert len(shown.query_selector_all("meter")) == 2

    page.click("#tab-translate")
    shown = ask(page, "hello world")
    assert model.predict("translate", "hello world")[0].short in shown.inner_text()

    page.click("#tab-stars")
    assert model.predict("stars", TEXT)[0].short in ask(page, TEXT).inner_text()


def test_a_task_of_vectors_ranks_by_its_own(
    visit: Callable[..., Any], server: Any, model: Model
) -> None:
    page = visit("near")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    shown = ask(page, "a film\nthe film was good\na cat")
    own = np.stack([one.vectors[0] for one in model.predict("near", ["a film", "a cat"])])
    assert f"{own[0] @ own[1]:.3f}" in shown.inner_text()
    assert f"{server.url}/v1/tasks/near" in asked
    assert not any("similarity" in url for url in asked)


def test_what_is_wrong_in_a_ranking_is_said(visit: Callable[..., Any]) -> None:
    page = visit("rank")

    def break_one(route: Any) -> None:
        response = route.fetch()
        said = response.json()
        said["results"][1] = {"error": {"code": "bad_input", "message": "cannot be read"}}
        route.fulfill(response=response, json=said)

    page.route("**/v1/tasks/rank", break_one)
    query, documents = page.query_selector_all("textarea")
    query.fill("film")
    documents.fill("a cat\na film")
    page.click("#go")
    page.wait_for_selector("#result .error")
    assert page.inner_text("#result .error") == "a film: cannot be read"
    assert [dt.inner_text() for dt in page.query_selector_all("#result dt")] == ["a cat"]


def choose(page: Any, column: str, name: str, data: bytes) -> None:
    """Choose a file for a column, and wait until it is shown."""
    kind = "image/png" if name.endswith("png") else "audio/wav"
    field = f'[id="file-{column}"]'
    page.set_input_files(field, {"name": name, "mimeType": kind, "buffer": data})
    page.wait_for_selector(f".file:has({field}) .preview > *")


def test_pictures_and_recordings(
    visit: Callable[..., Any], model: Model, picture: Any, sound: Any
) -> None:
    page = visit("side")
    photo = picture(20)
    choose(page, "photo", "a.png", photo)
    assert page.get_attribute(".preview img", "alt") == "Chosen: a.png"
    shown = ask(page)
    own = model.predict("side", photo)[0].probabilities
    assert shown.query_selector("dt.first").inner_text() == max(own, key=lambda k: own[k])
    assert "17 tokens read" in shown.inner_text()

    page.click("#tab-noise")
    choose(page, "clip", "a.wav", sound(20))
    assert page.evaluate("document.querySelector('.preview audio').controls") is True
    page.wait_for_function("document.querySelector('.preview audio').duration > 0.2")
    assert len(ask(page).query_selector_all("meter")) == 3

    page.click("#tab-heard")
    choose(page, "clip", "a.wav", sound(21, 0.9))
    assert model.predict("heard", sound(21, 0.9))[0].short in ask(page).text_content()

    page.click("#tab-space")
    choose(page, "photo", "a.png", photo)
    said = model.predict("space", [{"text": "a cat", "photo": photo}])[0].short
    assert said in ask(page, "a cat").inner_text()

    page.click("#tab-side")  # what was chosen is kept, until it is removed
    assert page.query_selector(".preview img") is not None
    page.focus(".clear")
    page.keyboard.press("Enter")
    assert page.query_selector(".preview img") is None
    page.click("#go")
    page.wait_for_selector("#result .error")
    assert "nothing stands in photo" in page.inner_text("#result")


def test_files_are_dropped_and_what_is_none_is_said(visit: Callable[..., Any]) -> None:
    page = visit("caption", locale="zh-CN")
    assert "图片（photo）" in page.inner_text("#fields")
    drop = """([bytes, name]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
      document.querySelector(".file").dispatchEvent(
        new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
    }"""
    page.evaluate(drop, [5 << 20, "large.png"])
    page.wait_for_selector(".file .error")
    assert "文件过大" in page.inner_text(".file")
    page.evaluate(drop, [[1, 2, 3], '<img src=x onerror="window.hacked = 1">'])
    page.wait_for_selector(".file .preview .hint")
    page.fill("textarea", TEXT)
    page.focus("textarea")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#result .error")
    assert "no picture that can be read" in page.inner_text("#result")


def test_hostile_texts_stay_texts(visit: Callable[..., Any]) -> None:
    page = visit("names")
    hostile = '<img src=x onerror="window.hacked = 1"> <script>window.hacked = 1</script> cat'
    shown = ask(page, hostile)
    page.evaluate("document.querySelectorAll('#result small').forEach((label) => label.remove())")
    assert hostile in shown.text_content()
    assert page.query_selector("#result img, #result script") is None


def test_errors_and_what_was_cut_are_said(visit: Callable[..., Any]) -> None:
    page = visit("mood")
    assert "cut" in ask(page, "the cat " * 60).inner_text()
    page.click("#tab-words")
    assert ask(page, "the cat").inner_text()
    page.click("#tab-rank")
    for area in page.query_selector_all("textarea"):
        area.fill("")
    page.click("#go")
    page.wait_for_selector("#result .error")
    assert "nothing to answer" in page.inner_text("#result")


def test_keyboard_languages_and_load(visit: Callable[..., Any]) -> None:
    page = visit("mood")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#tab-topics", "aria-selected") == "true"
    page.focus("textarea")
    page.keyboard.type("a good film")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector("#result meter")
    assert page.inner_text("#scores td.number") == "0.5000"
    assert "tokens a second" in page.inner_text("#load")
    page.select_option("#language", "zh")
    assert page.inner_text("#go") == "提交"
    assert page.get_attribute("html", "lang") == "zh"
    assert page.input_value("textarea") == "a good film"
    again = visit(locale="zh-CN")
    assert again.inner_text("#go") == "提交"


def test_a_dropped_file_is_read(visit: Callable[..., Any]) -> None:
    from playwright.sync_api import expect

    page = visit("mood")
    page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.items.add(new File(["a dropped film"], "a.txt", { type: "text/plain" }));
          document.querySelector("textarea").dispatchEvent(
            new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
        }"""
    )
    expect(page.locator("textarea").first).to_have_value("a dropped film")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(
    visit: Callable[..., Any], scheme: str, picture: Any, sound: Any
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = visit("space", color_scheme=scheme)
    choose(page, "photo", "a.png", picture())
    choose(page, "clip", "a.wav", sound())
    ask(page, TEXT)
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()

    for task, texts in {"mood": [TEXT], "names": [TEXT], "words": ["the [MASK] was"]}.items():
        page = visit(task, color_scheme=scheme)
        ask(page, *texts)
        results = Axe().run(page)
        assert results.violations_count == 0, results.generate_report()


def test_a_key_is_asked_for(browser: Any, guarded: Any) -> None:
    page = browser.new_page()
    page.set_default_timeout(40_000)
    page.goto(guarded.url)
    page.wait_for_selector("#key-form:not([hidden])")
    assert "API key" in page.inner_text("#about")
    page.fill("#key", "predict-key-0123456789")
    page.keyboard.press("Enter")
    page.wait_for_selector('[role="tab"]')
    ask(page, TEXT)
    page.close()


def test_a_phone_scrolls_one_way(visit: Callable[..., Any], picture: Any, sound: Any) -> None:
    page = visit("mood", viewport={"width": 360, "height": 740})
    ask(page, "the film was good " * 8)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.click("#tab-space")
    choose(page, "photo", "a-long-name-" * 6 + ".png", picture(0, (900, 90)))
    choose(page, "clip", "a.wav", sound())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
