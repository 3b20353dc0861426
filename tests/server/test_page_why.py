"""Behind an answer on the page, in a real browser: why it was given, and the attention."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unmask.explain import explain
from unmask.model import Model

from .conftest import ask

TEXT = "ada lives in paris"
Visit = Callable[..., Any]
ROWS: dict[str, tuple[str, ...]] = {
    "mood": (TEXT,),
    "stars": (TEXT,),
    "names": (TEXT,),
    "answer": ("who lives ?", TEXT),
    "words": ("the [MASK] was [MASK]",),
    "translate": ("hello world",),
}


def opened(page: Any, phrase: str = "Why?") -> Any:
    """Press a button behind the answer, and wait for what it opens."""
    button = page.get_by_role("button", name=phrase, exact=True)
    button.click()
    panel = page.locator(f"#{button.get_attribute('aria-controls')}")
    return settled(panel)


def settled(panel: Any) -> Any:
    """Wait until nothing is being computed."""
    panel.locator("[role=status]").first.wait_for(state="attached")
    panel.page.wait_for_function(
        "panel => [...panel.querySelectorAll('[role=status]')].every(one => !one.textContent)",
        arg=panel.element_handle(),
    )
    return panel


def scores(panel: Any) -> list[float]:
    """What stands with each word, as a number."""
    titles = [one.get_attribute("title") for one in panel.locator(".text .scored").all()]
    return [float(title.replace("−", "-")) for title in titles]


def test_every_kind_says_why(visit: Visit, model: Model) -> None:
    page = visit()
    for task, texts in ROWS.items():
        page.click(f"#tab-{task}")
        ask(page, *texts)
        panel = opened(page)
        row = texts if len(texts) > 1 else texts[0]
        wanted = explain(model, task, row, check=False)
        np.testing.assert_allclose(
            sorted(scores(panel)), sorted(wanted.methods[0].scores), rtol=0.01, atol=2e-4
        )
        # The words that are no part, such as [MASK], stand there too.
        if task != "translate":
            assert panel.locator("p.text").last.inner_text().strip() == texts[-1]
        assert "Convergence error" in panel.inner_text()


def test_answers_methods_and_trust_by_keyboard(visit: Visit, model: Model) -> None:
    page = visit("mood")
    ask(page, TEXT)
    page.get_by_role("button", name="Why?").focus()
    page.keyboard.press("Enter")
    panel = settled(page.locator(".behind").first)
    assert page.get_by_role("button", name="Why?").get_attribute("aria-expanded") == "true"
    page.get_by_label("Answer").focus()
    page.keyboard.type("good")
    page.get_by_role("heading", name="Why: good").wait_for()
    page.get_by_label("Method").select_option("occlusion")
    settled(panel)
    wanted = explain(model, "mood", TEXT, answer="good", methods=["occlusion"])
    np.testing.assert_allclose(scores(panel), wanted.methods[0].scores, rtol=0.01, atol=2e-4)
    # Without colour the sign is told by the line, and each score by the table.
    signs = [one > 0 for one in scores(panel)]
    kinds = [one.get_attribute("class") for one in panel.locator(".text .scored").all()]
    assert all(("against" in kind) <= (not up) for kind, up in zip(kinds, signs, strict=True))
    assert panel.locator("details tbody tr").count() == len(wanted.parts)
    page.get_by_role("button", name="How far can this be trusted?").press("Enter")
    panel.get_by_role("columnheader", name="Chance").wait_for()
    measured = wanted.methods[0].faithfulness
    assert measured is not None
    assert f"{measured.comprehensiveness:.3f}" in panel.inner_text()


def test_attention_by_layer_and_head(visit: Visit, model: Model) -> None:
    page = visit("mood")
    ask(page, TEXT)
    panel = opened(page, "Attention")
    whole = explain(model, "mood", TEXT, check=False, attention=True).attention
    assert whole is not None
    (table,) = np.array(whole)[:1]

    def shown() -> list[list[int]]:
        lines = [line.locator("td").all_inner_texts() for line in panel.locator("tbody tr").all()]
        return [[int(cell) for cell in line] for line in lines]

    np.testing.assert_allclose(shown(), 100 * table[1].mean(0), atol=0.51)
    page.get_by_label("Layer").focus()
    page.keyboard.press("ArrowUp")
    settled(panel)
    page.get_by_label("Head").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    settled(panel)
    assert page.get_by_label("Layer").input_value() == "1"
    assert page.get_by_label("Head").input_value() == "2"
    np.testing.assert_allclose(shown(), 100 * table[0][1], atol=0.51)
    heads = panel.locator("thead th").all_inner_texts()
    assert heads == panel.locator("tbody th").all_inner_texts()
    assert heads[0] == "[CLS]"
    assert heads[1] == "ada"


def test_texts_that_were_ranked_are_explained_one_by_one(visit: Visit, model: Model) -> None:
    page = visit("rank")
    ask(page, "film", "a cat\na film\n")
    panel = opened(page)
    best = [text for text, _ in model.rank("rank", "film", ["a cat", "a film"])]
    assert panel.get_by_label("Text").locator("option").all_inner_texts() == best
    panel.get_by_label("Text").select_option(index=1)
    settled(panel)
    wanted = explain(model, "rank", ("film", best[1]), check=False).methods[0].scores
    np.testing.assert_allclose(scores(panel), wanted, rtol=0.01, atol=2e-4)


def test_nearest_texts_say_how_near(visit: Visit, model: Model) -> None:
    page = visit()
    page.get_by_role("tab", name="nearest texts").click()
    shown = ask(page, "a film\nthe film\na cat\nada lives in paris")
    vectors = model.encode(["a film", "the film", "a cat", "ada lives in paris"])
    cosines = sorted((vectors[1:] @ vectors[0]).tolist(), reverse=True)
    said = [one.inner_text() for one in shown.query_selector_all("dd:nth-of-type(even)")]
    np.testing.assert_allclose([float(one) for one in said], cosines, atol=6e-4)


def test_what_cannot_be_explained_is_said_and_texts_stay_texts(visit: Visit) -> None:
    page = visit("words")
    ask(page, "the cat")
    assert "no guess to explain" in opened(page).locator(".error").inner_text()
    page.click("#tab-mood")
    hostile = '<img src=x onerror="window.hacked = 1"> <script>window.hacked = 1</script> cat'
    ask(page, hostile)
    assert opened(page).locator("p.text").inner_text() == hostile
    opened(page, "Attention")
    assert page.query_selector("#result img, #result script") is None


@pytest.mark.parametrize(("scheme", "language"), [("light", "en-GB"), ("dark", "zh-CN")])
def test_axe_finds_nothing_and_a_phone_scrolls_one_way(
    visit: Visit,
    scheme: str,
    language: str,
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    size = {"width": 360, "height": 740}
    page = visit("mood", color_scheme=scheme, locale=language, viewport=size)
    ask(page, "the film was very good and the cat is not bad ? " * 2)
    for button in page.locator("#result > .row button").all():
        button.click()
    for panel in page.locator(".behind").all():
        settled(panel)
        for details in panel.locator("details").all():
            details.locator("summary").click()
    page.locator(".behind button").click()
    page.locator(".behind .scroll table").first.wait_for()
    results = Axe().run(page)
    assert results.violations_count == 0, results.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    if language == "zh-CN":
        assert "收敛误差" in page.inner_text("#result")
        assert page.evaluate("/[a-z]{5,}ness|Layer|Head/.test(document.body.innerText)") is False
