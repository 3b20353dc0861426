"""Learning cheaply and with care: a frozen trunk, adapters, rates by layer, early stopping."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import unmask
from unmask import recipe as recipes
from unmask.batch import Batch, Example, collate
from unmask.encoder import Encoder
from unmask.errors import UserError
from unmask.loading import from_checkpoint
from unmask.model import Model
from unmask.recipe import AdapterOptions, TrainOptions
from unmask.saving import to_checkpoint
from unmask.tasks import OPTIONS
from unmask.training.optimiser import make_optimiser
from unmask.training.prepare import prepare
from unmask.training.processes import Processes

ADAPTERS = {"type": AdapterOptions(rank=2), "b": AdapterOptions(rank=3, scale=1.0)}


def hidden(encoder: Encoder, batch: Batch, adapter: str | None = None) -> torch.Tensor:
    with torch.no_grad():
        return encoder(batch, adapter=adapter).wanted


@pytest.mark.parametrize("style", ["classic", "modern"])
def test_an_adapter_changes_nothing_at_first_and_only_where_it_is_named(
    style: str, make_encoder: Callable[..., Encoder], make_example: Callable[..., Example]
) -> None:
    batch = collate([make_example(n, n) for n in (5, 9, 3)], 16)
    torch.manual_seed(0)
    plain = make_encoder(style)
    adapted = Encoder(plain.config.model_copy(update={"adapters": ADAPTERS})).eval()
    missing = adapted.load_state_dict(plain.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all("adapter" in key for key in missing.missing_keys)
    before = hidden(plain, batch)
    for name in (None, "type", "b"):
        torch.testing.assert_close(hidden(adapted, batch, name), before)
    for key, p in adapted.named_parameters():
        if "b_adapter.up" in key:
            torch.nn.init.normal_(p, std=0.1)
    for name in (None, "type"):
        torch.testing.assert_close(hidden(adapted, batch, name), before)
    after = hidden(adapted, batch, "b")
    assert (after - before).abs().max() > 0.01
    adapted.merge("b")
    torch.testing.assert_close(hidden(adapted, batch), after, atol=1e-5, rtol=1e-5)


@pytest.fixture
def two(tiny_recipe: dict[str, Any], reviews: Path) -> dict[str, Any]:
    """One adapter for each of two tasks."""
    mood = {"kind": "classify", "train": str(reviews), "valid": 0.2}
    return {
        "encoder": {**tiny_recipe["encoder"], "adapters": {"a": {"rank": 2}, "b": {}}},
        "tasks": {
            "mood": {**mood, "adapter": "a"},
            "tongue": {**mood, "label": "lang", "adapter": "b"},
        },
        "train": {"steps": 6, "batch_tokens": 200},
    }


def test_adapters_come_back_from_a_bundle_and_leave_as_plain_weights(
    two: dict[str, Any], tmp_path: Path
) -> None:
    trained = unmask.train(two, tmp_path / "run")
    model = unmask.load(trained.bundle)
    texts = ["the film was good", "the dog was dull"]
    for task in ("mood", "tongue"):
        assert model.predict(task, texts) == trained.model.predict(task, texts)
        plain = from_checkpoint(to_checkpoint(model, task))
        assert not plain.encoder.config.adapters
        expected = model.predict(task, texts)[0].probabilities
        assert plain.predict("classify", texts)[0].probabilities == pytest.approx(
            expected, abs=1e-5
        )


def test_a_frozen_trunk_stays_as_it_is_and_so_do_its_old_tasks(
    two: dict[str, Any], tmp_path: Path
) -> None:
    """Tasks are added to a bundle one by one; those it has answer as before, bit for bit."""
    first = {**two, "tasks": {"mood": two["tasks"]["mood"]}}
    first["encoder"] = {**two["encoder"], "adapters": {"a": {}}}
    old = unmask.train(first, tmp_path / "first")
    second = {**two, "tasks": {"tongue": two["tasks"]["tongue"]}}
    start = {"from": str(old.bundle), "frozen": True}
    second["encoder"] = {**start, "adapters": {"b": {}}}
    new = unmask.train(second, tmp_path / "second")
    texts = ["the film was good", "the dog was dull"]
    model = unmask.load(new.bundle)
    assert list(model.tasks) == ["mood", "tongue"]
    assert model.predict("mood", texts) == unmask.load(old.bundle).predict("mood", texts)
    before, after = (load_file(t.bundle / "model.safetensors") for t in (old, new))
    changed = {key for key in after if key not in before or not after[key].equal(before[key])}
    assert changed
    assert all("b_adapter" in key or key.startswith("heads.tongue_head") for key in changed)
    heads_only = {**second, "encoder": start}
    heads_only["tasks"] = {"tongue": {**two["tasks"]["tongue"], "adapter": None}}
    third = unmask.train(heads_only, tmp_path / "third")
    after = load_file(third.bundle / "model.safetensors")
    changed = {key for key in after if key not in before or not after[key].equal(before[key])}
    assert all(key.startswith("heads.tongue_head") for key in changed)


def test_a_frozen_run_goes_on_as_if_never_stopped(two: dict[str, Any], tmp_path: Path) -> None:
    old = unmask.train({**two, "tasks": {"mood": two["tasks"]["mood"]}}, tmp_path / "old")
    two["encoder"] = {"from": str(old.bundle), "frozen": True}
    del two["tasks"]["mood"]
    whole = unmask.train(two, tmp_path / "whole")
    unmask.train(two, tmp_path / "broken", ["train.save_every=2", "train.steps=4"])
    changes = ["train.save_every=2"]
    resumed = unmask.train(two, tmp_path / "broken", changes, resume=True, force=True)
    assert list(resumed.model.tasks) == list(whole.model.tasks) == ["mood", "tongue"]


def test_refusals(two: dict[str, Any], tmp_path: Path) -> None:
    two["tasks"]["mood"]["adapter"] = "c"
    with pytest.raises(UserError, match=r"no adapter 'c'.*a, b"):
        unmask.train(two, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def prepared(recipe: dict[str, Any]) -> tuple[Model, TrainOptions]:
    (run,) = recipes.parse(recipes.read(recipe), OPTIONS).values()
    return prepare(run, Processes().device).model, run.train


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_rates_fall_from_layer_to_layer(tiny_recipe: dict[str, Any], optimiser: str) -> None:
    tiny_recipe["train"] |= {"layer_decay": 0.5, "optimiser": optimiser, "learning_rate": 1}
    model, options = prepared(tiny_recipe)
    made = make_optimiser(model, options)
    rates = {made.names[p]: g["peak"] for g in made.groups for p in g["params"]}
    assert set(rates) == {name for name, _ in model.named_parameters()}
    assert rates["encoder.embeddings.token.weight"] == 0.25
    assert rates["encoder.layers.0.attention_norm.weight"] == 0.5
    assert rates["encoder.layers.1.attention_norm.weight"] == 1.0
    muon = 4 if optimiser == "muon" else 1
    assert rates["encoder.layers.0.attention.qkv.weight"] == 0.5 * muon
    assert rates["heads.mood_head.output.weight"] == 1.0  # nothing is older than the heads
    made.set_rate(0.5)
    assert made.rate == 0.5


def test_a_run_ends_when_its_patience_does(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    """No learning, so no better score: it ends after the first evaluation and two more."""
    del tiny_recipe["tasks"]["words"]
    tiny_recipe["train"] |= {"steps": 500, "evaluate_every": 3, "learning_rate": 1e-12}
    trained = unmask.train(tiny_recipe, tmp_path / "run", ["train.patience=2"])
    lines = [json.loads(x) for x in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in lines) == 9
    again = unmask.train(tiny_recipe, tmp_path / "run", ["train.patience=2"], resume=True)
    assert not again.anew  # it is finished
