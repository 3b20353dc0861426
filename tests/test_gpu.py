"""What a GPU computes is what the processor does; skipped, and said so, where there is none."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import unmask
from unmask import bundle
from unmask.batch import Batch, Example, collate
from unmask.encoder import Encoder
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.tasks import Generate
from unmask.tasks.generation.options import GenerateOptions

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="NOT RUN ON A GPU: torch sees none here"
)
STYLES = ("classic", "modern", "rms")
LENGTHS = (5, 31, 1, 17, 40, 8)


def last_states(encoder: Encoder, batch: Batch, attention: bool = False) -> torch.Tensor:
    """What the last layer gives: (B, T, D)."""
    last = encoder.encode(encoder.embed(batch), batch, attention=attention).last
    assert last is not None
    return last


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("style", STYLES)
def test_hidden_states_are_those_of_the_processor(
    make_encoder: Callable[..., Encoder],
    make_example: Callable[..., Example],
    style: str,
    attention: bool,
) -> None:
    encoder = make_encoder(style)
    examples = [make_example(n, i, n // 2 if i % 2 else None) for i, n in enumerate(LENGTHS)]
    for width in (0, 64):
        batch = collate(examples, width)
        with torch.no_grad():
            here = last_states(encoder.cpu(), batch, attention)
            found = last_states(encoder.to("cuda"), batch.to("cuda"), attention)
        seen = batch.owner > 0
        torch.testing.assert_close(found.cpu()[seen], here[seen], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("style", STYLES)
def test_packed_is_alone(
    make_encoder: Callable[..., Encoder],
    make_example: Callable[..., Example],
    style: str,
    precision: str,
) -> None:
    encoder = make_encoder(style).to("cuda")
    examples = [make_example(n, i) for i, n in enumerate(LENGTHS)]

    def states(own: list[Example], width: int) -> list[torch.Tensor]:
        batch = collate(own, width).to("cuda")
        on = precision == "bf16"
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16, enabled=on):
            last = last_states(encoder, batch).float()
        return [last[batch.owner == s + 1] for s in range(batch.sequences)]

    near = 1e-4 if precision == "fp32" else 0.1  # of states whose deviation is about 1
    for example, together in zip(examples, states(examples, 64), strict=True):
        (alone,) = states([example], 0)
        torch.testing.assert_close(together, alone, atol=near, rtol=0)


def test_gradients_are_those_of_the_processor(
    make_encoder: Callable[..., Encoder], make_example: Callable[..., Example]
) -> None:
    batch = collate([make_example(n, i) for i, n in enumerate(LENGTHS)], 64)

    def gradients(device: str) -> dict[str, torch.Tensor]:
        encoder = make_encoder("modern").to(device)
        own = batch.to(device)
        torch.autograd.backward((last_states(encoder, own)[own.owner > 0] ** 2).mean())
        return {n: p.grad.cpu() for n, p in encoder.named_parameters() if p.grad is not None}

    here, there = gradients("cpu"), gradients("cuda")
    assert here.keys() == there.keys()
    for name, gradient in here.items():
        scale = gradient.abs().max().item()
        torch.testing.assert_close(there[name], gradient, atol=1e-3 * scale + 1e-8, rtol=0)


@pytest.mark.parametrize("optimiser", ["adamw", "stable_adamw", "muon"])
def test_a_run_learns(tiny_recipe: dict[str, Any], tmp_path: Path, optimiser: str) -> None:
    tiny_recipe["tasks"].pop("words")
    tiny_recipe["train"] |= {"steps": 40, "save_every": 10, "device": "cuda"}
    tiny_recipe["train"] |= {"optimiser": optimiser, "learning_rate": 3e-3}
    trained = unmask.train(tiny_recipe, tmp_path / "run")
    lines = [json.loads(x) for x in (trained.folder / "metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"]["mood"] for line in lines if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]


def test_a_bundle_answers_alike_on_both(tiny_recipe: dict[str, Any], tmp_path: Path) -> None:
    tiny_recipe["train"] |= {"device": "cuda", "precision": "fp32"}
    trained = unmask.train(tiny_recipe, tmp_path / "run")
    texts = ["the film was good", "the dog was very dull and bad", ""]
    here = bundle.load(trained.bundle)
    there = bundle.load(trained.bundle).to("cuda")
    answers = (model.predict("mood", texts) for model in (here, there))
    for one, other in zip(*answers, strict=True):
        assert one.short == other.short
        assert one.probabilities == pytest.approx(other.probabilities, abs=1e-4)
    torch.testing.assert_close(here.encode(texts), there.encode(texts), atol=1e-4, rtol=0)
    cats = (model.hidden("the cat").cpu() for model in (here, there))
    torch.testing.assert_close(*cats, atol=1e-4, rtol=0)


@pytest.mark.parametrize("how", [{}, {"beams": 3}, {"mode": "parallel", "rounds": 3}])
def test_it_writes_the_same(
    text: TextInput, make_encoder: Callable[..., Encoder], how: dict[str, Any]
) -> None:
    chosen = GenerateOptions(input="en", target="de", target_length=12, mode="both")
    task = Generate("it", chosen, text)
    encoder = make_encoder("modern")
    torch.manual_seed(1)
    model = Model(encoder, text, {"it": task}, {"it": task.build(encoder)})
    rows = [{"en": x} for x in ("the cat sleeps", "how are you hello world", "red")]
    here = [answer.short for answer in model.predict("it", rows, **how)]
    there = [answer.short for answer in model.to("cuda").predict("it", rows, **how)]
    assert there == here
