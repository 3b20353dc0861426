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
from unmask.inputs.text import TextInput
from unmask.interop import usual_head
from unmask.loading import from_checkpoint
from unmask.model import Model
from unmask.recipe import AdapterOptions, TrainOptions
from unmask.saving import to_checkpoint
from unmask.tasks import OPTIONS, Draw, Task, row_rng
from unmask.tasks.classify import Classify, ClassifyOptions
from unmask.training import loop
from unmask.training.backward import _no_shift, _steepest
from unmask.training.features import ROOM, Features
from unmask.training.optimiser import make_optimiser
from unmask.training.prepare import prepare
from unmask.training.processes import Processes
from unmask.training.share import Microbatch
from unmask.training.update import accumulate

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


@pytest.mark.parametrize("style", ["classic", "modern"])
def test_a_head_behind_an_adapter_is_the_familys(
    style: str, make_encoder: Callable[..., Encoder]
) -> None:
    """So that it can be exported, once the adapter is merged."""
    plain = make_encoder(style).config
    adapted = plain.model_copy(update={"adapters": ADAPTERS})
    for kind in ("classify", "regress", "rerank", "tag", "span"):
        assert usual_head(kind, adapted) == usual_head(kind, plain)


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
    start = {"from": str(old.bundle)}
    second["encoder"] = {**start, "adapters": {"b": {}}}
    second["train"] = {**two["train"], "frozen": True}
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
    two["encoder"] = {"from": str(old.bundle)}
    two["train"]["frozen"] = True
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


def test_a_frozen_trunk_is_computed_once_a_text(
    two: dict[str, Any], tmp_path: Path, reviews: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the run is the same, bit for bit, as one that has no room to remember anything."""
    old = unmask.train({**two, "tasks": {"mood": two["tasks"]["mood"]}}, tmp_path / "old")
    two["encoder"] = {"from": str(old.bundle)}
    two["train"]["frozen"] = True
    two["tasks"] = {"tongue": {**two["tasks"]["tongue"], "adapter": None, "valid": None}}
    two["train"] |= {"steps": 12, "precision": "fp32"}
    runs, seen = {}, []
    compute = Features._compute

    def counted(self: Features, model: Model, examples: Any) -> Any:
        seen.extend(examples)
        return compute(self, model, examples)

    monkeypatch.setattr(Features, "_compute", counted)
    for name, room in (("with", ROOM), ("without", 0)):
        monkeypatch.setattr(loop, "ROOM", room)
        runs[name] = unmask.train(two, tmp_path / name)
    texts = {line.split(",")[0].strip() for line in reviews.read_text().splitlines()[1:]}
    assert len(seen) == len(texts)  # each was drawn several times
    a, b = (
        [json.loads(line)["loss"] for line in (run.folder / "metrics.jsonl").open()]
        for run in runs.values()
    )
    assert len(a) == 12
    assert [x["tongue"] for x in a] == pytest.approx([x["tongue"] for x in b], abs=1e-5)


def one_update(model: Model, task: Task[Any, Any], **options: Any) -> dict[str, torch.Tensor]:
    """The gradient of one update under these options."""
    model.zero_grad(set_to_none=True)
    examples = []
    for i, (words, label) in enumerate(TEXTS):
        row = {"text": words, "label": label}
        examples += list(task.examples(row, Draw(row_rng(0, "it", 0, i))))
    torch.manual_seed(0)
    accumulate(
        model, [Microbatch("it", examples)], {"it": 1.0}, Processes(), TrainOptions(**options)
    )
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


TEXTS = [("the film was good", "pos"), ("the cat was dull and bad", "neg"), ("great", "pos")]


@pytest.fixture
def mood(text: TextInput, make_encoder: Callable[..., Encoder]) -> Callable[..., Model]:
    """A function that makes a classifier with this dropout."""

    def make(dropout: float, **options: Any) -> Model:
        chosen = ClassifyOptions(head={"pooling": "mean", "dropout": dropout}, **options)
        rows = [{"text": words, "label": label} for words, label in TEXTS]
        if chosen.multi_label:
            rows = [{**row, "label": [row["label"]]} for row in rows]
        task = Classify("it", chosen, text, Classify.study("it", chosen, rows))
        encoder = make_encoder("classic", dropout=dropout)
        return Model(encoder, text, {"it": task}, {"it": task.build(encoder)})

    return make


def test_r_drop_pulls_two_passes_together(mood: Callable[..., Model]) -> None:
    """Without dropout both passes agree, and there is nothing to pull."""
    still, shaky = mood(0.0), mood(0.5)
    a, b = (one_update(still, still.tasks["it"], r_drop=weight) for weight in (0, 3))
    for name in a:
        torch.testing.assert_close(a[name], b[name], atol=1e-6, rtol=1e-5)
    one, more = (one_update(shaky, shaky.tasks["it"], r_drop=weight) for weight in (1, 3))
    assert any(not torch.allclose(one[name], more[name], atol=1e-5) for name in one)


@pytest.mark.parametrize("several", [False, True])
def test_disagreement_is_a_divergence(mood: Callable[..., Model], several: bool) -> None:
    task = mood(0.0, multi_label=several).tasks["it"]
    torch.manual_seed(0)
    a, b = torch.randn(2, 5, 2)
    apart = task.divergence({"logits": a}, {"logits": b})
    if several:
        p, q = (torch.distributions.Bernoulli(logits=x) for x in (a, b))
    else:
        p, q = (torch.distributions.Categorical(logits=x) for x in (a, b))
    both = (torch.distributions.kl_divergence(p, q) + torch.distributions.kl_divergence(q, p)) / 2
    torch.testing.assert_close(apart, both.sum() / (2 if several else 1))
    assert task.divergence({"logits": a}, {"logits": a}) == 0


def test_the_adversarial_shift_raises_the_loss_most(mood: Callable[..., Model]) -> None:
    """Of all shifts of its length; each text has its own, and padding none."""
    model = mood(0.0)
    task = model.tasks["it"]
    examples = []
    for i, (words, label) in enumerate(TEXTS):
        row = {"text": words, "label": label}
        examples += list(task.examples(row, Draw(row_rng(0, "it", 0, i))))
    batch = collate(examples, 12)

    def loss(shift: torch.Tensor) -> torch.Tensor:
        outputs, prepared = model(task, batch, None, shift)
        return task.loss(outputs, prepared)

    shift = _no_shift(model, batch)
    before = loss(shift)
    before.backward()
    worst = _steepest(shift, batch, 0.01)
    for number in range(1, batch.sequences + 1):
        own = worst[batch.owner == number]
        assert own.norm().item() == pytest.approx(0.01, rel=1e-4)
    assert not worst[batch.owner == 0].any()
    rise = (loss(worst) - before).item()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        other = torch.randn(worst.shape, generator=generator)
        other *= worst.norm() / other.norm()
        assert (loss(other) - before).item() < rise
    plain, more = (one_update(model, task, adversarial=length) for length in (0, 1.0))
    assert any(not torch.allclose(plain[name], more[name], atol=1e-5) for name in plain)


def test_regularisers_that_cannot_be(two: dict[str, Any], tmp_path: Path, reviews: Path) -> None:
    words = {"kind": "mlm", "train": str(reviews)}
    with pytest.raises(UserError, match=r"r_drop compares.*mlm"):
        unmask.train({**two, "tasks": {"words": words}}, tmp_path / "a", ["train.r_drop=1"])
    two["train"]["frozen"] = True
    with pytest.raises(UserError, match="frozen"):
        unmask.train(two, tmp_path / "b", ["train.adversarial=1"])
