"""Tiny models with every kind of head that a form serves, and graphs of them, made once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from unmask import bundle
from unmask.encoder import Encoder, EncoderConfig, HeadConfig
from unmask.inputs.text import TextInput
from unmask.inputs.vocabulary import SPECIAL, wordpiece
from unmask.model import Model
from unmask.tasks import KINDS, OPTIONS

WORDS = ["a", "the", "film", "was", "good", "bad", "great", "dull", "it", "is", "not", "and"]
STYLES: dict[str, dict[str, object]] = {
    "classic": {"num_segments": 2},
    "offset": {"num_segments": 0, "position_offset": 2, "embedding_size": 8},
    "modern": {
        "num_segments": 0,
        "position": "rotary",
        "window": 2,
        "global_every": 2,
        "pre_norm": True,
        "gated": True,
        "bias": False,
        "norm": "rms",
    },
}
TEXTS = ["the film was good and not bad " * 9]  # is cut
TEXTS += [" ".join(WORDS[(i * 5 + k * 7) % 12] for k in range(1 + i * 3 % 23)) for i in range(39)]


def tiny(style: str) -> Model:
    """A model of this style with random weights, and a head of each kind that reads one text."""
    shape: dict[str, object] = {
        "vocab_size": 32,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 2,
        "intermediate_size": 24,
        "max_positions": 37,  # to which no grid of 37 may be padded further
        "dropout": 0.0,
        "attention_dropout": 0.0,
    }
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(**(shape | STYLES[style])))
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *WORDS])}
    text = TextInput(wordpiece(vocabulary, lowercase=True), 37)
    pair = ["query", "document"]
    labels = {"labels": ["neg", "pos"]}
    kinds = {
        "mood": ("classify", {}, labels),
        "mean": ("classify", {"head": HeadConfig(pooling="mean", activation="tanh")}, labels),
        "near": ("classify", {"head": HeadConfig(pooling="mean", cosine=8.0)}, labels),
        "price": ("regress", {}, {"mean": 2.0, "deviation": 3.0}),
        "names": ("tag", {}, {"tags": ["O", "B-x", "I-x"], "strict": True}),
        "answer": ("span", {"input": pair}, {}),
        "vector": ("embed", {"input": pair}, {}),
        "best": ("rerank", {"input": pair}, {}),
        "words": ("mlm", {}, {}),
        "fake": ("detect", {}, {"generator": 0.5}),
        "next": ("order", {"input": pair}, {}),
    }
    tasks = {}
    for name, (kind, options, facts) in kinds.items():
        tasks[name] = KINDS[kind](name, OPTIONS[kind](**options), text, facts)
    model = Model(encoder, text, tasks, {name: t.build(encoder) for name, t in tasks.items()})
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model.eval()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """Forty texts of one to twenty-three words."""
    return TEXTS


@pytest.fixture(scope="session")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that gives the bundle of a style, made once."""
    known: dict[str, Path] = {}

    def make(style: str) -> Path:
        if style not in known:
            known[style] = tmp_path_factory.mktemp(style) / "bundle"
            bundle.save(tiny(style), known[style])
        return known[style]

    return make


@pytest.fixture(scope="session")
def make_form(
    make_bundle: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Path]:
    """A function that gives the folder of a style's form, made once."""
    from unmask.tuning.making import make

    known: dict[tuple[str, str], Path] = {}

    def form(style: str, name: str) -> Path:
        if (style, name) not in known:
            known[style, name] = tmp_path_factory.mktemp(f"{style}-{name}")
            path = make_bundle(style)
            logging.getLogger("unmask").setLevel(logging.ERROR)
            make(bundle.load(path), path, name, known[style, name], TEXTS)
            logging.getLogger("unmask").setLevel(logging.NOTSET)
        return known[style, name]

    return form
