"""What is left out: the least important, and the same as if it had given nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from unmask import bundle
from unmask.batch import Batch, Example, collate
from unmask.encoder import Encoder, EncoderConfig
from unmask.errors import UserError
from unmask.inputs.text import TextInput
from unmask.model import Model
from unmask.shrink.importance import Importance, importance
from unmask.shrink.prune import drop_heads, drop_layers, drop_units, keep_layers
from unmask.tasks import Draw, row_rng
from unmask.tasks.classify import Classify, ClassifyOptions
from unmask.tasks.detect import Detect, DetectOptions

TEXTS = ["the cat was good and the dog sleeps", "why is the film dull", "hello world"]


@pytest.fixture(params=["classic", "modern", "rms"])
def model(request: Any, make_encoder: Callable[..., Encoder], text: TextInput) -> Model:
    encoder = make_encoder(request.param, adapters={"own": {"rank": 2}})
    mood = Classify("mood", ClassifyOptions(), text, {"labels": ["bad", "good"]})
    return Model(encoder, text, {"mood": mood}, {"mood": mood.build(encoder)})


def _losses(model: Model, texts: list[str]) -> Any:
    for one in texts:
        batch = collate(_examples(model, [one]))
        yield batch, partial(_loss, model, batch)


def _loss(model: Model, batch: Batch) -> torch.Tensor:
    task = model.tasks["mood"]
    return task.loss(model(task, batch)[0], batch)


def _examples(model: Model, texts: list[str]) -> list[Example]:
    rows = [{"text": one, "label": "good"} for one in texts]
    draw = Draw(row_rng(0, "x", 0, 0))
    return [e for row in rows for e in model.tasks["mood"].examples(row, draw)]


def _same(a: Model, b: Model, adapter: str | None = None) -> None:
    with torch.inference_mode():
        for one in TEXTS:
            batch = collate([a.pooled_example(one)])
            x, y = (m.encoder(batch, adapter=adapter).last for m in (a, b))
            assert x is not None
            assert y is not None
            torch.testing.assert_close(x, y, atol=1e-5, rtol=1e-5)


def _ranked(model: Model, **given: Any) -> Importance:
    config = model.encoder.config
    L, H, F = config.num_layers, config.num_heads, config.intermediate_size
    zeros = {"layers": torch.zeros(L), "heads": torch.zeros(L, H), "units": torch.zeros(L, F)}
    return Importance(**(zeros | given))


@pytest.mark.parametrize("adapter", [None, "own"])
def test_without_some_heads_as_if_they_gave_nothing(model: Model, adapter: str | None) -> None:
    left = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    small = drop_heads(model, _ranked(model, heads=left), 1)
    assert (small.encoder.config.num_heads, small.encoder.config.head_width) == (1, 8)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    for layer, own in zip(model.encoder.layers, left, strict=True):
        gone = slice(0, 8) if own[0] == 0 else slice(8, 16)
        layer.attention.output.weight.data[:, gone] = 0
        layer.attention.output.adapter("own").down.weight.data[:, gone] = 0
    _same(small, model, adapter)


@pytest.mark.parametrize("adapter", [None, "own"])
def test_without_some_units_as_if_they_gave_nothing(model: Model, adapter: str | None) -> None:
    order = torch.stack([torch.randperm(24).float() for _ in range(3)])
    small = drop_units(model, _ranked(model, units=order), 10)
    assert small.encoder.config.intermediate_size == 10
    for layer, own in zip(model.encoder.layers, order, strict=True):
        gone = own < 14
        layer.feed_forward.outer.weight.data[:, gone] = 0
        layer.feed_forward.outer.adapter("own").down.weight.data[:, gone] = 0
    _same(small, model, adapter)


def test_layers_that_are_left_see_as_far_as_they_did(
    make_encoder: Callable[..., Encoder], text: TextInput
) -> None:
    model = Model(make_encoder("modern"), text)  # global, local, global
    small = drop_layers(model, _ranked(model, layers=torch.tensor([0.0, 1.0, 2.0])), 2)
    assert small.encoder.config.global_layers == (0, 1)
    middle = model.encoder.layers[1]
    for matrix in (middle.attention.output, middle.feed_forward.outer):
        matrix.weight.data.zero_()  # it adds nothing any more
    _same(small, model)
    assert keep_layers(model, [0, 1]).encoder.config.global_layers is None  # every second still
    with pytest.raises(UserError, match="must stay"):
        keep_layers(model, [1, 2])


def test_importance_is_the_slope_of_the_loss(model: Model) -> None:
    """By a small change of one head, one unit and one layer at a time."""
    (batch, loss), *_ = _losses(model, TEXTS[:1])
    found = importance(model, [(batch, loss)])
    whole = float(loss().detach())
    step = 1e-3
    attention, forward = model.encoder.layers[1].attention, model.encoder.layers[1].feed_forward
    for weight, columns, measured in (
        (attention.output.weight, slice(8, 16), found.heads[1, 1]),
        (forward.outer.weight, slice(3, 4), found.units[1, 3]),
    ):
        kept = weight.data.clone()
        weight.data[:, columns] *= 1 - step
        slope = abs(float(loss().detach()) - whole) / step
        weight.data.copy_(kept)
        assert slope == pytest.approx(float(measured), rel=0.05, abs=2e-3)
    assert all(bool((x >= 0).all()) for x in (found.layers, found.heads, found.units))


def test_packing_does_not_change_what_matters(model: Model) -> None:
    apart = importance(model, list(_losses(model, TEXTS)))
    batch = collate(_examples(model, TEXTS), width=64)
    packed = importance(model, [(batch, partial(_loss, model, batch))])
    for a, b in zip(vars(apart).values(), vars(packed).values(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_what_gives_nothing_goes_first_and_the_bundle_keeps_the_shape(
    model: Model, tmp_path: Path
) -> None:
    for layer in model.encoder.layers:
        layer.attention.output.weight.data[:, :8] = 0
        layer.feed_forward.outer.weight.data[:, 5:] = 0
    found = importance(model, list(_losses(model, TEXTS)))
    small = drop_units(drop_heads(model, found, 1), found, 5)
    _same(small, model)
    bundle.save(small, tmp_path / "small")
    back = bundle.load(tmp_path / "small")
    _same(back, small)
    assert back.encoder.config == small.encoder.config
    assert isinstance(back.encoder.config, EncoderConfig)


def test_a_head_with_a_shape_of_its_own_is_refused(
    make_encoder: Callable[..., Encoder], text: TextInput
) -> None:
    encoder = make_encoder()
    task = Detect("words", DetectOptions(), text, {"generator": 0.5})
    model = Model(encoder, text, {"words": task}, {"words": task.build(encoder)})
    with pytest.raises(UserError, match=r"words.*learnt anew"):
        drop_units(model, _ranked(model), 8)
