"""A result of `evaluate` as its page gets it, with hostile texts, and a bundle to evaluate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import unmask
from unmask.evaluation.choosing import calibration, confusion
from unmask.tasks import Choices

HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
REVIEWS = [
    f"the {noun} was {word},{label},{language}"
    for noun in ("film", "cat", "dog", "world", "time", "book", "room", "food", "view", "song")
    for word, label, language in (
        ("good", "pos", "en"),
        ("bad", "neg", "en"),
        ("great", "pos", "de"),
        ("dull", "neg", "de"),
    )
]


@pytest.fixture
def make_found() -> Callable[..., dict[str, Any]]:
    """A function that makes a result with so many labels, the first of them hostile."""
    return result


def result(labels: int = 3, rows: int = 120) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    names = [HOSTILE, *(f"label {i}" for i in range(1, labels))]
    p = rng.dirichlet(np.full(labels, 0.3), size=rows)
    truth = np.array([rng.choice(labels, p=one) for one in p])
    choices = Choices(names, truth, p.argmax(1), p)
    of = {"task": "mood", "split": "test"}
    base = {**of, "rows": rows, "language": None, "domain": None, "modality": "text"}
    known = {**base, "value": 0.9, "low": 0.87, "high": 0.93, "resamples": 1000}
    return {
        "bundle": f"runs/{HOSTILE}",
        "bundles": [{"bundle": f"runs/{HOSTILE}", "seed": 0}],
        "recipe": None,
        "date": "2026-11-23T23:50:00+00:00",
        "precision": "fp32",
        "level": 0.95,
        "trunk": {"layers": 6, "width": 384, "weights": 22_000_000, "from": HOSTILE},
        "notes": [f"task mood: {HOSTILE}"],
        "tasks": [
            {**of, "kind": "classify", "headline": "accuracy", "rows": rows, "answers": rows}
        ],
        "scores": [
            {**known, "metric": "accuracy"},
            {**known, "metric": "ece", "value": 0.9},
            {**base, "metric": "roc_auc", "value": None, "reason": f"for {HOSTILE}"},
            {**base, "metric": "loss", "value": 3.21},
            {**known, "metric": "accuracy", "language": HOSTILE},
            {**known, "metric": "accuracy", "language": "zh"},
        ],
        "cube": [cube()],
        "duplicates": [{**of, "rows": rows, "count": 1, "first": 5, "text": HOSTILE}],
        "confusion": [{**of, **confusion(choices)}],
        "calibration": [{**of, **calibration(choices)}],
        "doubt": [{**of, **doubt()}],
        "worst": [
            {
                "task": "mood",
                "input": f"text number {i} {HOSTILE if i % 2 else '我是程序员 ' * 200}",
                "truth": names[i % labels],
                "answer": names[(i + 1) % labels],
                "surprise": 9.0 - i / 10,
                "language": "zh" if i % 2 else HOSTILE,
            }
            for i in range(30)
        ],
    }


def doubt() -> dict[str, Any]:
    """What promises are worth, in a hostile language too, and a risk that nothing was given for."""
    cell = {"language": HOSTILE, "domain": None, "rows": 60, "accuracy": 0.8, "ece": 0.1}
    return {
        "promised_by": 400,
        "notes": [f"coverage 0.99 needs {HOSTILE}"],
        "coverage": [{"promised": 0.9, "kept": 0.912, "size": 1.4, "single": 0.7}],
        "selective": {
            "aurc": 0.03,
            "least_aurc": 0.01,
            "curve": [{"answered": i / 4, "risk": i / 40} for i in range(1, 5)],
        },
        "risk": [
            {"promised": 0.1, "answered": 0.8, "risk": 0.06},
            {"promised": 0.01, "answered": 0.0, "risk": None},
        ],
        "known": {"score": "joint", "threshold": 2.5, "kept": 0.95, "share": 0.9},
        "cells": [cell, {**cell, "language": "zh", "domain": "films"}],
    }


def cube() -> dict[str, Any]:
    """Cells of every colour, one that is zero-shot, one without a score, and one that is absent."""
    of = {"task": "mood", "split": "test", "metric": "accuracy"}
    places = [(a, b) for a in (HOSTILE, "de", "zh") for b in ("films", "tweets", None)][:-1]
    cells = [
        {
            **of,
            "value": 0.2 + i / 10,
            "rows": 10 + i,
            "language": language,
            "domain": domain,
            "modality": "text",
            "low": 0.1,
            "high": 0.99,
            "trained": i,
            "zero_shot": i == 0,
        }
        for i, (language, domain) in enumerate(places)
    ]
    cells[3] |= {"value": None, "reason": f"for {HOSTILE}"}
    axes = {
        "languages": [HOSTILE, "de", "zh"],
        "domains": ["films", "tweets", None],
        "modalities": ["text"],
    }
    return {**of, **axes, "cells": cells}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder beside its rows: a test file of its own, which repeats two training rows."""
    folder = tmp_path_factory.mktemp("trained")
    head = "text,label,lang\n"
    (folder / "train.csv").write_text(head + "\n".join(REVIEWS), encoding="utf-8")
    test = ["THE  film was good,pos,en", "a time was dull,neg,de", "the cat was bad,neg,en"]
    test += [f"a {noun} was good and {i},pos,en" for i, noun in enumerate(["dog", "cat"] * 8)]
    (folder / "test.csv").write_text(head + "\n".join(test), encoding="utf-8")
    recipe = {
        "encoder": {
            "shape": "tiny",
            "style": "classic",
            "tokenizer": {"vocab_size": 120, "min_frequency": 1},
        },
        "tasks": {
            "mood": {
                "kind": "classify",
                "train": str(folder / "train.csv"),
                "valid": 0.2,
                "test": str(folder / "test.csv"),
                "tags": {"language": {"column": "lang"}, "domain": "films"},
            }
        },
        "train": {"steps": 8, "batch_tokens": 120, "learning_rate": 1e-3},
    }
    (folder / "r.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    unmask.train(folder / "r.yaml", folder / "run")
    return folder
