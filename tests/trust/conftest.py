"""A bundle of sentiment in three languages."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

import unmask

WORDS = {
    "en": (["wonderful", "great", "good"], ["terrible", "awful", "bad"], "The {} was {}."),
    "de": (["wunderbar", "schön", "gut"], ["schrecklich", "furchtbar", "schlecht"], "{} war {}."),
    "zh": (["精彩", "很棒", "很好"], ["糟糕", "很差", "无聊"], "这个{}{}。"),
}
NOUNS = ["film", "book", "room", "food", "view", "song", "team", "price"]


@pytest.fixture(scope="session")
def sentiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder whose rows stand beside it."""
    folder = tmp_path_factory.mktemp("sentiment")
    for split, offset in (("train", 0), ("test", 1)):
        lines = ["text,label,lang"]
        for code, (good, bad, form) in WORDS.items():
            for i, noun in enumerate(NOUNS * 3):
                for label, words in (("positive", good), ("negative", bad)):
                    name = "Anna" if i % 4 == 0 else ""
                    text = f"{form.format(noun, words[(i + offset) % 3])} {name} {i + offset}"
                    lines.append(f"{text},{label},{code}")
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 300, "min_frequency": 1}},
        "tasks": {
            "mood": {
                "kind": "classify",
                "train": str(folder / "train.csv"),
                "valid": 0.3,
                "test": str(folder / "test.csv"),
                "tags": {"language": {"column": "lang"}},
            }
        },
        "train": {"steps": 30, "batch_tokens": 300, "learning_rate": 1e-3},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    unmask.train(folder / "r.yaml", folder / "run")
    return folder
