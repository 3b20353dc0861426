"""Learning from few rows: a cosine head, and where it begins."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import unmask
from unmask import recipe as recipes
from unmask.encoder import EncoderConfig, HeadConfig, LabelHead
from unmask.errors import UserError
from unmask.saving import save_as
from unmask.tasks import OPTIONS
from unmask.training.prepare import Prepared, prepare

ROWS = [
    {"text": "the film was great", "label": "pos"},
    {"text": "a good film", "label": "pos"},
    {"text": "the dog was bad", "label": "neg"},
]


@pytest.fixture
def few(tiny_recipe: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """A recipe of one cosine task and three rows."""
    file = tmp_path / "few.jsonl"
    file.write_text("\n".join(map(json.dumps, ROWS)), encoding="utf-8")
    tiny_recipe["tasks"] = {
        "mood": {
            "kind": "classify",
            "train": str(file),
            "valid": None,
            "head": {"pooling": "mean", "cosine": 20, "dropout": 0},
        }
    }
    return tiny_recipe


def prepared(data: dict[str, Any]) -> Prepared:
    (run,) = recipes.parse(data, OPTIONS).values()
    return prepare(run, torch.device("cpu"))


def test_logits_are_scaled_cosines_plus_a_bias() -> None:
    config = EncoderConfig(vocab_size=8, hidden_size=4, num_heads=1, intermediate_size=4)
    head = LabelHead(config, HeadConfig(pooling="mean", cosine=7.0, dropout=0), 3).eval()
    torch.nn.init.normal_(head.output.bias)
    x, owner = torch.randn(5, 4), torch.tensor([0, 0, 1, 1, 1])
    means = torch.stack((x[:2].mean(0), x[2:].mean(0)))
    cosine = F.cosine_similarity(means[:, None], head.output.weight[None], dim=-1)
    torch.testing.assert_close(head(x, owner, 2), 7.0 * cosine + head.output.bias)
    torch.testing.assert_close(head(3 * x, owner, 2), head(x, owner, 2))


def test_a_new_head_begins_at_the_mean_direction_of_each_label(few: dict[str, Any]) -> None:
    model = prepared(few).model.eval()
    with torch.no_grad():
        neg, *pos = (
            F.normalize(model.hidden(text).mean(0), dim=-1)
            for text in ("the dog was bad", "the film was great", "a good film")
        )
    wanted = torch.stack((neg, F.normalize(sum(pos), dim=-1)))  # labels are sorted
    found = model.head("mood").output.weight
    torch.testing.assert_close(found, wanted, atol=2e-2, rtol=0)  # both were computed in bf16


def test_a_head_that_the_start_has_goes_on_as_it_is(few: dict[str, Any], tmp_path: Path) -> None:
    few["train"] = {"steps": 5, "learning_rate": 0.01}
    trained = unmask.train(few, tmp_path / "run")
    few["encoder"] = {"from": str(trained.bundle)}
    before, after = (m.head("mood").output.weight for m in (trained.model, prepared(few).model))
    assert torch.equal(before, after)


def test_no_other_library_has_such_a_head(few: dict[str, Any], tmp_path: Path) -> None:
    model = prepared(few).model
    with pytest.raises(UserError, match=r"classify head's cosine 20\.0 .*keep it as a bundle"):
        save_as(model, tmp_path / "out", "huggingface")
