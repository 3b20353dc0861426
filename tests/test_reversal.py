"""A task whose gradient is turned round: its head learns, and the encoder unlearns."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import unmask
from unmask.errors import UserError
from unmask.tasks.reversal import reversed_gradient
from unmask.training.run import Trained


def test_forward_is_nothing_and_backward_is_turned() -> None:
    x = torch.randn(3, 2, requires_grad=True)
    y = reversed_gradient(x, 0.5)
    assert torch.equal(x, y)
    (y * torch.arange(6.0).view(3, 2)).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, -0.5 * torch.arange(6.0).view(3, 2))


@pytest.fixture
def recipe(tmp_path: Path, tiny_recipe: dict[str, Any]) -> dict[str, Any]:
    """Reviews of two domains that a word gives away, and their mood."""
    file = tmp_path / "domains.csv"
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        table.writerow(["text", "label", "domain"])
        for i in range(80):
            domain, mood = ("film", "hotel")[i % 2], ("good", "bad")[i // 2 % 2]
            table.writerow([f"the {domain} number {i} was {mood}", mood, domain])
    common = {"kind": "classify", "train": str(file), "valid": 0.2, "head": {"dropout": 0}}
    tiny_recipe["tasks"] = {
        "mood": common,
        "domain": {**common, "label": "domain"},
    }
    tiny_recipe["train"] |= {"steps": 80, "batch_tokens": 200, "precision": "fp32"}
    return tiny_recipe


def accuracy(trained: Trained) -> dict[str, float]:
    found = json.loads((trained.folder / "metrics.jsonl").read_text().splitlines()[-1])["valid"]
    return {s["task"]: s["value"] for s in found if s["metric"] == "accuracy"}


def test_domains_are_unlearnt_and_moods_are_not(recipe: dict[str, Any], tmp_path: Path) -> None:
    plain = accuracy(unmask.train(recipe, tmp_path / "plain"))
    assert min(plain.values()) > 0.9
    recipe["tasks"]["domain"]["reverse"] = 3.0
    turned = unmask.train(recipe, tmp_path / "turned")
    found = accuracy(turned)
    assert found["mood"] > 0.9
    assert found["domain"] < 0.8
    assert not turned.model.tasks["domain"].chooses
    assert turned.model.tasks["mood"].chooses


def test_a_frozen_encoder_unlearns_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    first = unmask.train(recipe, tmp_path / "run", ["train.steps=1"]).bundle
    recipe["encoder"] = {"from": str(first)}
    recipe["tasks"]["domain"]["reverse"] = 1.0
    with pytest.raises(UserError, match="task domain: with `reverse` the encoder unlearns"):
        unmask.train(recipe, tmp_path / "frozen", ["train.frozen=true"])


def test_a_turned_task_alone_chooses_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    """Where only its rows are held out the last checkpoint is kept, as where there are none."""
    recipe["tasks"]["domain"]["reverse"] = 0.1
    recipe["tasks"]["mood"] = {**recipe["tasks"]["mood"], "valid": None}
    changes = ["train.steps=10", "train.patience=1"]
    trained = unmask.train(recipe, tmp_path / "run", changes)
    assert not (trained.folder / "checkpoints" / "best").exists()
    last, own = (
        load_file(folder / "model.safetensors")
        for folder in (trained.folder / "checkpoints" / "step-000000010", trained.bundle)
    )
    assert all(torch.equal(last[name], own[name]) for name in last)
