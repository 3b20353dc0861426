"""Tiny models of every kind of task that can be explained, with a row for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

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
