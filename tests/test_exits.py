"""Early exits: where a text leaves is its own matter, and who does not leave is as before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unmask.batch import Example, Segment, Sequence, collate, without
from unmask.encoder import Encoder, EncoderConfig, Exits, HeadConfig, LabelHead, doubt

STYLES: dict[str, dict[str, object]] = {
    "classic": {"num_segments": 2},
    "modern": {"num_segments": 0, "position": "rotary", "window": 2, "pre_norm": True},
}
Part = Callable[[str], tuple[Encoder, LabelHead, Mapping[int, LabelHead]]]


@pytest.fixture(scope="module")
def parts() -> Part:
    """An encoder of four layers with random weights, its head, and heads on three layers."""

    def made(style: str, pooling: str) -> tuple[Encoder, LabelHead, Mapping[int, LabelHead]]:
        torch.manual_seed(0)
        shape: dict[str, object] = {
            "vocab_size": 50, "hidden_size": 16, "num_layers": 4, "num_heads": 2,
            "intermediate_size": 24, "max_positions": 64,
        }  # fmt: skip
        config = EncoderConfig(**(shape | STYLES[style]))
        encoder = Encoder(config)
        heads = [LabelHead(config, HeadConfig(pooling=pooling), 3) for _ in range(4)]
        for part in (encoder, *heads):
            for p in part.parameters():
                torch.nn.init.normal_(p, std=0.4)
        head, *lower = (one.eval() for one in heads)
        return encoder.eval(), head, dict(enumerate(lower, 1))

    return made


def example(seed: int, length: int, pooling: str) -> Example:
    ids = np.random.default_rng(seed).integers(0, 50, length)
    wanted = np.arange(length if pooling == "mean" else 1)
    return Example((Sequence((Segment(ids),)),), (wanted,))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("style", STYLES)
@settings(max_examples=20, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12),
    width=st.sampled_from([0, 16, 64]),
    share=st.floats(0, 1),
)
def test_alone_is_as_in_any_batch(
    parts: Part, style: str, pooling: str, lengths: list[int], width: int, share: float
) -> None:
    encoder, head, lower = parts(style, pooling)
    temperatures = dict.fromkeys(lower, 1.5)
    examples = [example(i, length, pooling) for i, length in enumerate(lengths)]
    with torch.inference_mode():
        limit = share * math.log(3)  # from nobody is sure enough to everybody
        exits = Exits(lower, temperatures, limit)
        logits, layers = exits.logits(encoder, head, collate(examples, width))
        for i, one in enumerate(examples):
            if any(abs(own - limit) < 1e-4 for own in doubts(exits, encoder, one)):
                continue  # a last bit decides there
            own, left = exits.logits(encoder, head, collate([one]))
            assert left[0] == layers[i]
            torch.testing.assert_close(logits[i], own[0], atol=1e-4, rtol=1e-4)


def doubts(exits: Exits, encoder: Encoder, one: Example) -> list[float]:
    """How much each exit doubts a text that is computed to the end."""
    batch = collate([one])
    states = encoder(batch, layers=True).layers
    heads = exits.heads.items()
    seen = ((n, head, batch.gather(encoder.norm(states[n]))) for n, head in heads)
    found = [head(x, batch.wanted_owner, 1) / exits.temperatures[n] for n, head, x in seen]
    return doubt(torch.cat(found)).tolist()


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@pytest.mark.parametrize("style", STYLES)
def test_who_does_not_leave_is_as_without_exits(parts: Part, style: str, pooling: str) -> None:
    encoder, head, lower = parts(style, pooling)
    batch = collate([example(i, 5 + i, pooling) for i in range(9)], 64)
    with torch.inference_mode():
        hidden = encoder(batch, narrow=True)
        whole = head(hidden.wanted, batch.wanted_owner, batch.sequences)
        nobody = Exits(lower, dict.fromkeys(lower, 1.0), -1.0)
        logits, layers = nobody.logits(encoder, head, batch)
        assert torch.equal(logits, whole)
        assert layers.tolist() == [4] * 9
        everybody = Exits(lower, dict.fromkeys(lower, 1.0), math.inf)
        assert everybody.logits(encoder, head, batch)[1].tolist() == [1] * 9


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=10),
    gone=st.lists(st.booleans(), min_size=10, max_size=10),
    width=st.sampled_from([0, 24]),
)
def test_what_is_left_of_a_grid(lengths: list[int], gone: list[bool], width: int) -> None:
    examples = [example(i, n, "mean") for i, n in enumerate(lengths)]
    batch, leaving = collate(examples, width), torch.tensor(gone[: len(lengths)])
    ids = torch.zeros(batch.owner.numel(), dtype=torch.long)
    values, index = batch.features["text"]
    ids[index] = values
    found, old = without(batch, leaving)
    stay = [e for e, out in zip(examples, leaving.tolist(), strict=True) if not out]
    assert found.sequences == len(stay)
    assert found.tokens == sum(e.length for e in stay)
    assert found.group.tolist() == [i for i, out in enumerate(leaving.tolist()) if not out]
    grid = ids[old].view(found.shape)
    expected = [s for e in stay for s in e.sequences[0].segments[0].values.tolist()]
    assert grid.flatten()[found.wanted].tolist() == expected
    for s, one in enumerate(stay):
        own = found.owner == s + 1
        assert grid[own].tolist() == one.sequences[0].segments[0].values.tolist()
        assert found.position[own].tolist() == list(range(one.length))
        assert set(found.limit[own].tolist()) == {one.length - 1}
    assert found.plain == (bool((found.owner > 0).all()) and found.shape[0] == len(stay))
