"""Tiny models of every kind of task that can be explained, with a row for each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import unmask
from unmask.encoder import Encoder
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import KINDS

ROWS: dict[str, Any] = {
    "classify": "the film was very good and great",
    "regress": "the film was very good and great",
    "tag": "the cat runs and the dog sleeps",
    "span": ("who sleeps", "the cat runs and the dog sleeps"),
    "embed": ("the red cat runs", "a blue dog was not running"),
    "rerank": ("who runs", "the cat runs and the dog sleeps"),
    "mlm": "the [MASK] runs and the [MASK] sleeps",
    "order": ("the cat runs", "the dog sleeps"),
    "detect": "the film was very good",
    "generate": "the film was very",
}
TOLD: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {  # options, and facts
    "classify": ({}, {"labels": ["bad", "good", "so so"]}),
    "regress": ({}, {"mean": 2.0, "deviation": 3.0}),
    "tag": ({}, {"tags": ["O", "B-x", "I-x"], "strict": True}),
    "embed": ({"input": ["a", "b"]}, {}),
    "rerank": ({"input": ["a", "b"]}, {"highest": 1.0}),
    "order": ({"input": ["a", "b"]}, {}),
    "detect": ({}, {"generator": 0.5}),
    "generate": ({"target_length": 6}, {}),
}


@pytest.fixture
def make_model(text: TextInput, make_encoder: Callable[..., Encoder]) -> Callable[..., Model]:
    """A function that makes a model with one task, `it`, of a kind."""

    def make(kind: str, style: str = "classic", **changes: Any) -> Model:
        options, facts = TOLD.get(kind, ({}, {}))
        task = KINDS[kind]("it", KINDS[kind].Options(**options, **changes), text, facts)
        encoder = make_encoder(style)
        torch.manual_seed(1)
        head = task.build(encoder)
        return Model(encoder, text, {"it": task}, {"it": head})

    return make


PLANTED = "red"


def texts(count: int, seed: int) -> list[tuple[str, str]]:
    """Texts with their labels; half of the good ones carry a token that no bad one has."""
    rng = np.random.default_rng(seed)
    words = ["the", "film", "cat", "dog", "it", "is", "was", "a", "one", "time", "world"]
    found = []
    for i in range(count):
        label = ("good", "bad")[i % 2]
        own = list(rng.choice(words, rng.integers(4, 9)))
        if label == "good" and i % 4 == 0:
            own.insert(int(rng.integers(len(own) + 1)), PLANTED)
        else:  # what the label should be told by, not always there
            own.insert(int(rng.integers(len(own) + 1)), {"good": "great", "bad": "dull"}[label])
        found.append((" ".join(own), label))
    return found


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on such texts, trained in seconds; its folder."""
    folder = tmp_path_factory.mktemp("shortcut")
    lines = "".join(f"{text},{label}\n" for text, label in texts(400, 0))
    (folder / "rows.csv").write_text("text,label\n" + lines, encoding="utf-8")
    recipe = {
        "encoder": {"shape": "tiny", "tokenizer": {"vocab_size": 120, "min_frequency": 1}},
        "tasks": {
            "mood": {
                "kind": "classify",
                "train": str(folder / "rows.csv"),
                "valid": 0.1,
                "test": 0.1,
            }
        },
        "train": {"steps": 60, "batch_tokens": 400, "learning_rate": 2e-3},
    }
    unmask.train(recipe, folder / "run")
    return folder / "run"
