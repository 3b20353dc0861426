"""The optimisers behind `train.optimiser`, as one object, and the norm of the gradient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from unmask.encoder import Encoder, adapters_of
from unmask.encoder.attention import Attention
from unmask.encoder.feed_forward import FeedForward
from unmask.errors import UserError
from unmask.model import Model
from unmask.recipe import TrainOptions
from unmask.training.muon import Muon
from unmask.training.stable_adamw import StableAdamW

_BETAS, _EPS = (0.9, 0.98), 1e-6  # of AdamW and StableAdamW


class Optimiser:
    """One or two of torch's optimisers, which share a model's parameters between them.

    Their state must be there from the start, so that it can be saved and loaded at any step.
    """

    def __init__(
        self, parts: Sequence[torch.optim.Optimizer], model: nn.Module, rate: float
    ) -> None:
        self.parts = parts
        self.rate = rate  # of the trunk now
        self._peak = rate
        self.names: dict[Tensor, str] = {p: name for name, p in model.named_parameters()}

    @property
    def groups(self) -> list[dict[str, Any]]:
        """All groups of parameters."""
        return [group for part in self.parts for group in part.param_groups]

    def set_rate(self, share: float) -> None:
        """Give every group this share of its peak rate."""
        self.rate = self._peak * share
        for group in self.groups:
            group["lr"] = group["peak"] * share

    def step(self, scale: Tensor | float = 1.0) -> None:
        """Change the weights by the gradient times `scale`, which overwrites the gradient.

        The kernels scale as they go. Muon's update has the same norm whatever the gradient's.
        """
        inverse = 1 / torch.as_tensor(scale, dtype=torch.float32)
        for part in self.parts:
            part.grad_scale = inverse  # type: ignore[attr-defined]
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradient."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """The whole state as `NAME OF THE PARAMETER.KEY` and a tensor, sharded where that is."""
        for part in self.parts:
            for p, entries in part.state.items():
                for key, tensor in entries.items():
                    yield f"{self.names[p]}.{key}", tensor

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from whole tensors, which must be of the same model and kind of optimiser."""
        own = dict(self.tensors())
        for name in sorted(own.keys() ^ state.keys()):
            raise _of_another(f"{name} is missing" if name in own else f"{name} has no place here")
        for name, tensor in own.items():
            theirs, ours = tuple(state[name].shape), tuple(tensor.shape)
            if theirs != ours:
                raise _of_another(f"{name} has the shape {theirs}, not {ours}")
        for name, tensor in own.items():
            value = state[name].to(tensor.device)
            if isinstance(tensor, DTensor):
                value = distribute_tensor(value, tensor.device_mesh, tensor.placements)
            tensor.copy_(value)


def make_optimiser(model: Model, options: TrainOptions) -> Optimiser:
    """The recipe's optimiser for a model, which must be on its device already.

    Norms and biases do not decay. New heads and adapters learn faster than the trunk they stand
    on. Muon takes the matrices inside the encoder's layers and leaves the rest to AdamW. What
    needs no gradient is left out.
    """
    blocks = _stacked(model.encoder) if options.optimiser == "muon" else {}
    share = _shares(model.encoder, options.layer_decay)
    head_rate = options.head_learning_rate or 10 * options.learning_rate
    found: dict[tuple[float, float], list[Tensor]] = {}
    trunk = set(model.encoder.parameters()) - adapters_of(model.encoder)
    for p in model.parameters():
        if p.requires_grad and p not in blocks:
            rate = options.learning_rate * share.get(p, 1.0) if p in trunk else head_rate
            decay = options.weight_decay if p.ndim >= 2 else 0.0
            found.setdefault((rate, decay), []).append(p)
    groups = [
        {"params": own, "lr": rate, "peak": rate, "weight_decay": decay}
        for (rate, decay), own in found.items()
    ]
    if not groups:
        raise UserError(
            "there is nothing left to learn: the encoder is frozen, and no task has a head with "
            "weights; let it learn, or give it adapters"
        )
    if options.optimiser == "stable_adamw":
        parts = [StableAdamW(groups, betas=_BETAS, eps=_EPS)]
        return Optimiser(parts, model, options.learning_rate)
    adamw = _fused_adamw(groups)
    if not blocks:
        return Optimiser([adamw], model, options.learning_rate)
    rate = options.muon_learning_rate or 4 * options.learning_rate
    piles: dict[tuple[int, float], list[Tensor]] = {}
    for matrix, count in blocks.items():
        piles.setdefault((count, rate * share[matrix]), []).append(matrix)
    stacks = [
        {"params": own, "blocks": count, "lr": peak, "peak": peak}
        for (count, peak), own in sorted(piles.items(), key=lambda pile: pile[0])
    ]
    muon = Muon(stacks, lr=rate, weight_decay=options.weight_decay)
    return Optimiser([adamw, muon], model, options.learning_rate)


def _shares(encoder: Encoder, decay: float) -> dict[Tensor, float]:
    """The share of the learning rate that each weight gets: less, the deeper it lies.

    After Howard & Ruder (arXiv:1801.06146); the embeddings lie below the first layer.
    """
    above = len(encoder.layers)
    shares: dict[Tensor, float] = dict.fromkeys(encoder.embeddings.parameters(), decay**above)
    for number, layer in enumerate(encoder.layers, 1):
        shares |= dict.fromkeys(layer.parameters(), decay ** (above - number))
    return shares


def gradient_norm(model: nn.Module) -> Tensor:
    """The norm of the whole gradient, (), which stays as it is."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    norm = nn.utils.get_total_norm(grads, foreach=True)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _fused_adamw(groups: list[dict[str, Any]]) -> torch.optim.AdamW:
    """Torch's AdamW (Loshchilov & Hutter, arXiv:1711.05101) with the state of its first step."""
    adamw = torch.optim.AdamW(groups, betas=_BETAS, eps=_EPS, fused=True)
    for group in adamw.param_groups:
        for p in group["params"]:
            adamw.state[p] = {
                "step": torch.zeros((), device=p.device),
                "exp_avg": torch.zeros_like(p),
                "exp_avg_sq": torch.zeros_like(p),
            }
    return adamw


def _of_another(difference: str) -> UserError:
    return UserError(
        "the saved state of the optimiser is of another model or another train.optimiser: "
        f"{difference}; go on with the recipe that it was saved under"
    )


def _stacked(encoder: Encoder) -> dict[Tensor, int]:
    """The matrices inside the layers, and how many stand in each, one above the other."""
    new = adapters_of(encoder)
    stacked: dict[Tensor, int] = {}
    for module in encoder.layers.modules():
        if isinstance(module, Attention):
            stacked[module.qkv.weight] = 3
        elif isinstance(module, FeedForward) and module.gated:
            stacked[module.inner.weight] = 2
    return {
        p: stacked.get(p, 1)
        for p in encoder.layers.parameters()
        if p.ndim == 2 and p.requires_grad and p not in new
    }
