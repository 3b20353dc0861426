"""Tasks that read the same rows draw them together, and learn from one pass of the encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import unmask
from unmask.encoder import Encoder
from unmask.training import update
from unmask.training.run import Trained


@pytest.fixture
def recipe(reviews: Path, tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """Two classifiers of the same reviews, and masked words of them; no dropout."""
    both = {"kind": "classify", "train": str(reviews), "valid": None, "head": {"dropout": 0}}
    tiny_recipe["tasks"] = {
        "mood": both,
        "words": {"kind": "mlm", "train": str(reviews), "valid": None},
        "tongue": {**both, "label": "lang"},
    }
    tiny_recipe["encoder"]["style"] = "modern"
    tiny_recipe["train"] |= {"precision": "fp32", "steps": 12, "optimiser": "adamw"}
    return tiny_recipe


def losses(trained: Trained) -> list[dict[str, float]]:
    return [json.loads(line)["loss"] for line in (trained.folder / "metrics.jsonl").open()]


@pytest.mark.parametrize("at_once", [8192, 40])
def test_one_pass_for_two_tasks(
    recipe: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """The losses are those of a pass for each, and the encoder has less to do."""
    passes = []
    forward = Encoder.forward

    def counted(self: Encoder, *arguments: Any, **options: Any) -> Any:
        if self.training:
            passes.append(1)
        return forward(self, *arguments, **options)

    monkeypatch.setattr(Encoder, "forward", counted)
    found = {}
    for name in ("shared", "apart"):
        if name == "apart":
            monkeypatch.setattr(update, "_alike", lambda model, contents: [[n] for n in contents])
        passes.clear()
        trained = unmask.train(recipe, tmp_path / name, [f"train.microbatch_tokens={at_once}"])
        found[name] = len(passes), losses(trained)
    (few, ours), (many, theirs) = found["shared"], found["apart"]
    assert len(ours) == len(theirs) == 12
    for a, b in zip(ours, theirs, strict=True):
        assert a == pytest.approx(b, abs=1e-5)
    assert few < 0.75 * many  # two of three are one


def test_rows_that_differ_are_drawn_apart(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Other rows held out, another input: such tasks go their own ways, and both finish epochs."""
    recipe["tasks"]["tongue"]["valid"] = 0.3
    del recipe["train"]["steps"]
    recipe["train"] |= {"epochs": 2}
    trained = unmask.train(recipe, tmp_path / "run")
    lines = [json.loads(line) for line in (trained.folder / "metrics.jsonl").open()]
    assert max(line.get("rows", 0) for line in lines) >= 2 * (40 + 40 + 28)


def test_going_on_keeps_them_together(recipe: dict[str, Any], tmp_path: Path) -> None:
    whole = unmask.train(recipe, tmp_path / "whole")
    half = ["train.steps=6", "train.schedule=constant", "train.warmup=0"]
    full = ["train.steps=12", *half[1:]]
    whole = unmask.train(recipe, tmp_path / "whole", full, overwrite=True)
    unmask.train(recipe, tmp_path / "run", half)
    resumed = unmask.train(recipe, tmp_path / "run", full, resume=True, force=True)
    assert losses(resumed) == losses(whole)
