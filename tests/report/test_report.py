"""The report of a run: its facts, its page in a browser, its card, and what is gone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import unmask
from unmask.cli.main import main
from unmask.errors import UserError
from unmask.explain import explain
from unmask.explain.page import render as render_explanations
from unmask.report.card import card
from unmask.report.facts import gather
from unmask.report.page import render

HOSTILE = "<script>window.hacked = 1</script>"
CHECKED = {
    "task": "mood",
    "notes": [],
    "curves": [],
    "tests": [
        {
            "type": "invariance", "name": f"typos {HOSTILE}", "language": "en", "cases": 20,
            "failures": 3, "rate": 0.15, "low": 0.05, "high": 0.36,
            "examples": [
                {"text": "the film", "changed": f"teh film {HOSTILE}", "before": "good",
                 "after": "bad", "expected": "the same"}
            ],
        }
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few steps whose rows and labels are hostile."""
    folder = tmp_path_factory.mktemp("report")
    words = ("good", "bad", "great", "dull")
    lines = ["text\tlabel\tlang"]
    for i in range(80):
        label = (HOSTILE, "bad")[i % 2 if i % 7 else 0]
        lines.append(
            f"the film {i} was {words[i % 4]} {HOSTILE}\t{label}\t{('en', 'de')[i % 3 > 0]}"
        )
    (folder / "rows.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
        "tasks": {
            "mood": {
                "kind": "classify", "train": str(folder / "rows.tsv"), "valid": 0.2, "test": 0.3,
                "tags": {"language": {"column": "lang"}},
            },
            "words": {"kind": "mlm", "train": str(folder / "rows.tsv"), "valid": 0.2},
        },
        "train": {"steps": 8, "batch_tokens": 200},
    }  # fmt: skip
    unmask.train(recipe, folder / "run")
    (folder / "check.json").write_text(json.dumps(CHECKED), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def facts(folder: Path) -> dict[str, Any]:
    return gather(folder / "run", 1, folder / "check.json")


def test_facts(facts: dict[str, Any]) -> None:
    assert facts["cost"]["steps"] == 8
    assert facts["cost"]["tokens"] > 0
    own = [one for one in facts["data"] if one["task"] == "mood"]
    assert [one["split"] for one in own] == ["train", "valid", "test"]
    assert sum(one["rows"] for one in own) == 80
    assert {name for name, _ in own[0]["labels"]} == {HOSTILE, "bad"}
    assert {one["sort"] for one in facts["explained"]} == {"hit", "miss"}
    for one in facts["explained"]:
        hit = one["truth"] == one["explanation"]["answer"]
        assert hit == (one["sort"] == "hit")
    assert json.loads(json.dumps(facts)) is not None


def test_the_card_has_the_same_facts(facts: dict[str, Any]) -> None:
    text = card(facts)
    assert facts["weights"] in text
    assert "8 updates" in text
    for score in facts["found"]["scores"]:
        assert f"{score['value']:.4f}" in text


def test_the_page_is_small_and_loads_nothing(facts: dict[str, Any]) -> None:
    page = render(facts)
    assert len(page.encode()) < 3e6
    assert HOSTILE not in page
    assert page.count("<script>") == 1
    assert "src=" not in page.replace("srcset=", "")
    assert "None" not in page.split("<pre")[0]


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1200, "light")])
@pytest.mark.parametrize("which_page", ["report", "explanation"])
def test_in_a_browser(
    browser: Any, facts: dict[str, Any], folder: Path, tmp_path: Path, which_page: str,
    width: int, scheme: Any,
) -> None:  # fmt: skip
    """Nothing is fetched, complained of or run; a phone needs no scrolling sideways."""
    if which_page == "report":
        text = render(facts)
    else:
        model = unmask.load(folder / "run" / "bundle")
        row = f"the film {HOSTILE} was very very good"
        methods = ["integrated_gradients", "shapley", "rollout"]
        text = render_explanations([explain(model, "mood", row, methods=methods)])
    path = tmp_path / "page.html"
    path.write_text(text, encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints: list[str] = []
    fetched: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: fetched.append(request.url))
    page.goto(path.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("window.hacked") is None
    assert page.locator("h1").count() == 1
    assert page.locator("svg:not([aria-hidden=true]):not([role=img][aria-label])").count() == 0
    assert page.locator("table:not(:has(thead th[scope=col]))").count() == 0
    links = page.eval_on_selector_all("a", "all => all.map((a) => a.getAttribute('href'))")
    assert all(page.locator(link).count() == 1 for link in links)
    page.emulate_media(media="print")
    if which_page == "report":
        assert page.locator("nav").is_hidden()
    page.close()
    assert complaints == []
    assert fetched == [path.as_uri()]


def test_the_command_where_the_rows_are_gone(
    folder: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    rows = folder / "rows.tsv"
    rows.rename(folder / "elsewhere.tsv")
    page, markdown = tmp_path / "report.html", tmp_path / "CARD.md"
    try:
        command = ["unmask", "report", folder / "run", "--out", page, "--card", markdown]
        monkeypatch.setattr(sys, "argv", [*map(str, command)])
        with pytest.raises(SystemExit) as end:
            main()
    finally:
        (folder / "elsewhere.tsv").rename(rows)
    assert not end.value.code
    for path in (page, markdown):
        assert "could not be scored anew" in path.read_text(encoding="utf-8")
    assert "wrote" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["[]", '{"tests": 3}'])
def test_mistakes(folder: Path, tmp_path: Path, content: str) -> None:
    with pytest.raises(UserError, match="holds no bundle"):
        gather(tmp_path)
    (tmp_path / "check.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match="run it again"):
        gather(folder / "run", 1, tmp_path / "check.json")
