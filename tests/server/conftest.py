"""A tiny bundle with a task of every kind, and one server process that the tests share."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unmask import save
from unmask.encoder import Encoder, EncoderConfig
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.model import Model
from unmask.tasks import KINDS, OPTIONS

WORDS = """a the film was good bad great dull it is not and very one two three cat dog runs sleeps
how are you hello world what time who where when why red green blue in paris ada lives ##s ##ing
##ed ? .""".split()
TASKS = {
    "mood": ("classify", {}, {"labels": ["bad", "fine", "good"]}),
    "topics": ("classify", {"multi_label": True}, {"labels": ["animals", "films"]}),
    "stars": ("regress", {}, {"mean": 3.0, "deviation": 1.0}),
    "names": ("tag", {}, {"tags": ["O", "B-LOC", "I-LOC", "B-PER", "I-PER"], "strict": True}),
    "answer": ("span", {"overlap": 4}, {}),
    "words": ("mlm", {}, {}),
    "near": ("embed", {"label": "label"}, {}),
    "rank": ("rerank", {}, {}),
    "translate": ("generate", {"target": "target", "target_length": 12}, {}),
    "parts": ("order", {}, {}),
}


def make_model(seed: int = 0, max_length: int = 48) -> Model:
    """Random weights, and a task of every kind."""
    torch.manual_seed(seed)
    text = TextInput(wordpiece({w: i for i, w in enumerate([*SPECIAL, *WORDS])}, True), max_length)
    config = EncoderConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        intermediate_size=24,
        max_positions=max_length,
        num_segments=2,
    )
    encoder = Encoder(config)
    tasks, heads = {}, {}
    for name, (kind, options, facts) in TASKS.items():
        read = OPTIONS[kind].model_validate({"kind": kind, **options})
        tasks[name] = KINDS[kind](name, read, text, facts)
        heads[name] = tasks[name].build(encoder)
    model = Model(encoder, text, tasks, heads)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def model() -> Model:
    """What the bundle holds."""
    return make_model()


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory, model: Model) -> Path:
    """A bundle of random weights with a task of every kind that is served."""
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    scores = [{"task": "mood", "split": "test", "metric": "accuracy", "value": 0.5, "rows": 40}]
    save(model, path, scores=scores, card="# tiny\n\nMade for tests.\n")
    return path
