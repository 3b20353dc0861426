"""The encoder's own properties; parity with the reference is tested in `tests/interop`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError

from unmask.batch import Example, collate
from unmask.encoder import (
    Encoder,
    EncoderConfig,
    HeadConfig,
    LabelHead,
    MaskedHead,
    cross_entropy,
    preset,
)
from unmask.encoder.bricks import dropout


def test_every_style_gives_states_layers_and_attention(
    config: EncoderConfig, make_example: Callable[..., Example]
) -> None:
    encoder = Encoder(config).eval()
    batch = collate([make_example(9, 0), make_example(5, 1)], 16)
    hidden = encoder.encode(encoder.embed(batch), batch, layers=True, attention=True)
    assert hidden.last.shape == (1, 14, 16)
    assert len(hidden.layers) == config.num_layers + 1
    assert len(hidden.attention) == config.num_layers
    for weights in hidden.attention:
        assert weights.shape == (1, 2, 14, 14)
        torch.testing.assert_close(weights.sum(-1), torch.ones(1, 2, 14))
        across = weights[..., :9, 9:], weights[..., 9:, :9]
        assert all(part.abs().max() == 0 for part in across)


def test_bf16_stays_near_fp32_on_both_paths(
    make_encoder: Callable[..., Encoder], make_example: Callable[..., Example]
) -> None:
    encoder = make_encoder("classic")
    batch = collate([make_example(9, 0), make_example(5, 1)], 16)
    exact = encoder(batch).last
    with torch.autocast("cpu", torch.bfloat16):
        plain = encoder(batch).last
        with torch.no_grad():
            fused = encoder(batch).last
    for rough in (plain, fused):
        assert torch.cosine_similarity(rough.float(), exact, dim=-1).min() > 0.999


def test_dropout_acts_in_training_only(
    make_encoder: Callable[..., Encoder], make_example: Callable[..., Example]
) -> None:
    encoder = make_encoder("classic", dropout=0.5, attention_dropout=0.5)
    batch = collate([make_example(9, 0)])
    torch.testing.assert_close(encoder(batch).last, encoder(batch).last)
    encoder.train()
    assert not torch.equal(encoder(batch).last, encoder(batch).last)


@pytest.mark.parametrize("shape", ["tiny", "mini", "small", "base"])
def test_both_styles_of_a_preset_are_of_one_size(shape: str) -> None:
    with torch.device("meta"):
        sizes = [
            sum(p.numel() for p in Encoder(preset(shape, style)).layers.parameters())
            for style in ("classic", "modern")
        ]
    assert 0.95 < sizes[0] / sizes[1] < 1.08


def test_bert_base_has_its_published_size() -> None:
    with torch.device("meta"):
        encoder = Encoder(preset("base", "classic"))
    pooler = 768 * 768 + 768  # part of the published figure, and not of our trunk
    assert sum(p.numel() for p in encoder.parameters()) + pooler == 109_482_240


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hidden_size": 10, "num_heads": 3}, "multiple of num_heads"),
        ({"global_every": 3}, "needs a window"),
        ({"hidden_size": 6, "num_heads": 2, "position": "rotary"}, "even hidden_size"),
        ({"dropout": 1.5}, "less than 1"),
        ({"colour": "red"}, "Extra inputs"),
    ],
)
def test_impossible_shapes_are_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        EncoderConfig(**changes)  # type: ignore[arg-type]


def test_the_masked_head_is_tied_and_runs_on_few_positions(
    make_encoder: Callable[..., Encoder], make_example: Callable[..., Example]
) -> None:
    encoder = make_encoder("classic")
    head = MaskedHead(encoder.config, encoder.embeddings.token)
    batch = collate([make_example(9, 0), make_example(12, 1)], 32)
    logits = head(batch.gather(encoder(batch).last))
    assert logits.shape == (3 + 4, 64)
    assert not any("token" in name or "embedding" in name for name in head.state_dict())
    logits.sum().backward()
    assert encoder.embeddings.token.weight.grad is not None


def test_mean_pooling_is_the_mean_of_each_sequence(
    make_encoder: Callable[..., Encoder], make_example: Callable[..., Example]
) -> None:
    encoder = make_encoder("modern")
    head = LabelHead(encoder.config, HeadConfig(pooling="mean"), 3).eval()
    batch = collate([make_example(9, 0), make_example(12, 1)], 32)
    x = batch.gather(encoder(batch).last)
    logits = head(x, batch.wanted_owner, batch.sequences)
    for s in range(2):
        expected = head.output(x[batch.wanted_owner == s].mean(0))
        torch.testing.assert_close(logits[s], expected)


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_at_its_rate_and_keeps_the_mean(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(301, 999, dtype=dtype, requires_grad=True)
    y = dropout(x, rate)
    kept = y != 0
    assert (~kept).float().mean().item() == pytest.approx(rate, abs=0.004)
    assert y.float().mean().item() == pytest.approx(1, abs=0.03)
    y.float().sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, y.detach())
    neighbours = (kept[:, 1:] == kept[:, :-1]).float().mean().item()
    assert neighbours == pytest.approx(rate**2 + (1 - rate) ** 2, abs=0.005)  # independent
    torch.manual_seed(0)
    torch.testing.assert_close(dropout(x, rate), y)


def test_the_last_layer_may_look_only_where_a_head_does(
    config: EncoderConfig, make_example: Callable[..., Example]
) -> None:
    torch.manual_seed(0)
    encoder = Encoder(config)
    batch = collate([make_example(n, n) for n in (9, 4, 13, 6)], 16)
    whole, narrow = encoder(batch), encoder(batch, narrow=True)
    assert narrow.last is None
    assert narrow.wanted.shape == (len(batch.wanted), config.hidden_size)
    torch.testing.assert_close(narrow.wanted, whole.wanted)
    for hidden in (whole, narrow):
        encoder.zero_grad()
        hidden.wanted.square().sum().backward()
        gradients = {name: p.grad.clone() for name, p in encoder.named_parameters()}
        if hidden is whole:
            expected = gradients
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cross_entropy_is_torchs(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    logits = torch.randn(70, 40_000).to(dtype).requires_grad_()  # several pieces
    truth = torch.randint(0, 40_000, (70,))
    expected = F.cross_entropy(logits.float(), truth, reduction="sum")
    (gradient,) = torch.autograd.grad(2 * expected, logits)
    before = logits.detach().clone()
    loss = cross_entropy(logits, truth)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(torch.autograd.grad(2 * loss, logits)[0], gradient)
    assert torch.equal(logits, before)
    nothing = cross_entropy(logits[:0], truth[:0])
    assert nothing == 0
    nothing.backward()
