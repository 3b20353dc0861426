"""Changes change what they say, failures are counted as they are, and sentiment is in the words."""

from __future__ import annotations

import random
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import unmask
from unmask.errors import UserError
from unmask.evaluation.page.check import render
from unmask.trust import perturb
from unmask.trust.behaviour import Poles, _templates, poles_of, wilson
from unmask.trust.check import check
from unmask.trust.language import guess, language, languages

EN, DE, ZH = language("en"), language("de"), language("zh")
RNG = random.Random(0)


def distance(a: str, b: str) -> int:
    """Edits between two strings (Levenshtein)."""
    last = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
        last = row
    return last[-1]


@settings(max_examples=200, deadline=None)
@given(st.text(string.ascii_letters + " .,", min_size=6, max_size=60), st.integers(0, 10**6))
def test_a_typo_is_one_slip(text: str, seed: int) -> None:
    found = perturb.typo(text, EN, random.Random(seed))
    if found is None:
        assert sum(c.isalpha() for c in text) < 4
    else:
        assert 0 < distance(text, found) <= 2  # two letters swapped are two edits
        assert found == perturb.typo(text, EN, random.Random(seed))


def test_chinese_typos_are_characters_taken_for_others() -> None:
    text = "我现在觉得他做的菜很好"
    found = perturb.typo(text, ZH, RNG)
    assert found is not None
    (place,) = [i for i, (a, b) in enumerate(zip(text, found, strict=True)) if a != b]
    assert any(text[place] in group and found[place] in group for group in ZH.confused)


def test_each_change_does_what_it_says() -> None:
    assert perturb.upper("Ab", EN, RNG) == "AB"
    assert perturb.punctuation("Good.", EN, RNG) in ("Good!", "Good")
    swapped = perturb.names("Anna saw Annabel and James.", EN, RNG)
    assert swapped is not None
    assert "Annabel" in swapped
    assert "Anna " not in swapped
    assert "James" not in swapped
    assert perturb.names("王芳看了电影", ZH, RNG) not in (None, "王芳看了电影")
    assert perturb.paraphrase("I do not know", EN, RNG) == "I don't know"
    assert perturb.paraphrase("xyz", EN, RNG) is None
    assert perturb.negation("The film was good", EN, RNG) == "The film was not good"
    assert perturb.negation("The film was not good", EN, RNG) is None
    assert perturb.negation("Der Film war gut", DE, RNG) == "Der Film war nicht gut"
    assert perturb.negation("这部电影很好", ZH, RNG) == "这部电影不好"
    assert perturb.added("Good", EN, RNG) in {f"Good. {x}" for x in EN.added}
    assert perturb.added("好！", ZH, RNG) in {f"好！{x}" for x in ZH.added}


@pytest.mark.parametrize("code", languages())
def test_the_material_of_each_language_is_whole(code: str) -> None:
    of = language(code)
    own = of.sentiment
    assert not set(own.positive) & set(own.negative)
    for form in own.plain:
        assert "{thing}" in form
        assert "{word}" in form
    assert all("{positive}" in form for form in own.negated)
    assert all("{other}" in form and "{word}" in form for form in own.changed)
    assert len(own.positive) == len(own.negative) == 6
    assert all(len(pair) == 2 for pair in (*of.paraphrases, *of.negations))


def test_intervals_and_languages() -> None:
    low, high = wilson(0, 20)
    assert low == 0
    assert 0.1 < high < 0.2
    assert guess("这部电影很好 ok") == "zh"
    assert guess("A film") == "en"
    with pytest.raises(UserError, match="there are in de, en, zh"):
        language("xx")


def test_tests_of_a_bundle(sentiment: Path) -> None:
    found = check(sentiment / "run" / "bundle", count=20)
    assert found["rows"] == {"de": 20, "en": 20, "zh": 20}
    assert not found["notes"]
    tests = {(t["name"], t["language"]): t for t in found["tests"]}
    for code in languages():
        assert ("one typo", code) in tests
        assert ("plain sentiment", code) in tests
        assert ("denied", code) in tests
    for test in found["tests"]:
        assert test["low"] <= test["rate"] == test["failures"] / test["cases"] <= test["high"]
        assert len(test["examples"]) == min(test["failures"], 5)
    assert {c["language"] for c in found["curves"]} == set(languages())
    for one in found["curves"]:
        assert [p["typos"] for p in one["points"]] == [0, 1, 2, 4, 8]
    assert check(sentiment / "run" / "bundle", count=20) == found  # the same seed, the same tests
    page = render(found)
    assert "plain sentiment" in page
    assert "src=" not in page


def test_failures_are_what_the_model_really_answers(sentiment: Path) -> None:
    model = unmask.load(sentiment / "run" / "bundle")
    found = check(sentiment / "run" / "bundle", only="en", count=20)
    assert set(found["rows"]) == {"en"}
    for test in found["tests"]:
        for example in test["examples"]:
            (now,) = model.predict("mood", example["changed"])
            assert now.short == example["after"]
            if test["type"] == "invariance":
                (before,) = model.predict("mood", example["text"])
                assert before.short == example["before"] != example["after"]
    cases = _templates(model.task("mood"), EN, Poles("positive", "negative"))["plain sentiment"]
    texts = [case.after["text"] for case in cases]
    wrong = sum(
        a.short != case.expected
        for a, case in zip(model.predict("mood", texts), cases, strict=True)
    )
    (plain,) = [t for t in found["tests"] if t["name"] == "plain sentiment"]
    assert (plain["failures"], plain["cases"]) == (wrong, len(cases))


def test_what_cannot_be_tested_is_said(sentiment: Path, tmp_path: Path) -> None:
    bundle = sentiment / "run" / "bundle"
    with pytest.raises(UserError, match="has no label 'great'"):
        check(bundle, positive="great", negative="negative")
    (tmp_path / "bare.csv").write_text("text\nA film I saw today.\n", encoding="utf-8")
    found = check(bundle, rows_from=tmp_path / "bare.csv")
    assert any("no curves" in note for note in found["notes"])
    (tmp_path / "none.csv").write_text("title\nA film\n", encoding="utf-8")
    with pytest.raises(UserError, match="no column 'text'"):
        check(bundle, rows_from=tmp_path / "none.csv")


def test_poles_are_found_by_their_usual_names(sentiment: Path) -> None:
    task: Any = unmask.load(sentiment / "run" / "bundle").task("mood")
    assert poles_of(task, None, None) == Poles("positive", "negative")
    task.facts = {"labels": ["card", "loan"]}
    assert poles_of(task, None, None) is None
    assert poles_of(task, "card", "loan") == Poles("card", "loan")
