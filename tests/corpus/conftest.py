"""What tests of corpora share: a folder with texts, a tokenizer and a recipe."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unmask.corpus import reading, work
from unmask.corpus.build import build
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece

WORDS = ["the", "film", "was", "good", "bad", "great", "dull", "it", "is", "not", "and", "very"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def sentence(dice: random.Random, words: int = 14) -> str:
    """Words enough that two of them are never nearly the same."""
    made = ["".join(dice.choice("abcdefghijklmnop") for _ in range(5)) for _ in range(words // 2)]
    return " ".join([*made, *(dice.choice(WORDS) for _ in range(words - len(made)))])


@pytest.fixture
def text() -> TextInput:
    """A tokenizer that knows letters too, so that different texts have different tokens."""
    pieces = [*SPECIAL, *WORDS, *LETTERS, *(f"##{letter}" for letter in LETTERS), ".", "好"]
    return TextInput(wordpiece({piece: i for i, piece in enumerate(pieces)}, lowercase=True), 32)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few documents, so that few documents make many units of work."""
    monkeypatch.setattr(reading, "BLOCK_DOCUMENTS", 16)
    monkeypatch.setattr(work, "_PARTS", 4)


@pytest.fixture
def tokenizer(tmp_path: Path, text: TextInput) -> Path:
    """The file of the tests' tokenizer."""
    path = tmp_path / "tokenizer" / "tokenizer.json"
    path.parent.mkdir()
    text.save(path)
    return path


@pytest.fixture
def recipe(tmp_path: Path, tokenizer: Path) -> dict[str, Any]:
    """A recipe of two sources: 120 lines with 20 copies, and 40 rows in two languages."""
    dice = random.Random(0)
    lines = [sentence(dice) for _ in range(100)]
    lines += lines[:20]
    (tmp_path / "a.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = [{"body": sentence(dice), "language": "de" if i % 3 else "en"} for i in range(40)]
    rows[7]["body"] = "我 the 猫 was very 好 " + rows[7]["body"]
    (tmp_path / "b.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return {
        "sources": [
            {"path": str(tmp_path / "a.txt"), "tags": {"language": "en", "domain": "films"}},
            {
                "path": str(tmp_path / "b.jsonl"),
                "text": "body",
                "tags": {"language": {"column": "language"}, "domain": "news"},
            },
        ],
        "tokenizer": str(tokenizer),
        "held_out": 0.2,
    }


@pytest.fixture
def corpus(tmp_path: Path, recipe: dict[str, Any]) -> Path:
    """A built corpus."""
    build(recipe, tmp_path / "corpus", workers=1)
    return tmp_path / "corpus"


@pytest.fixture
def make_sentence() -> Callable[..., str]:
    """A function that makes a sentence by dice."""
    return sentence
