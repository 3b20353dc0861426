"""AdamW, its groups, and the learning rate over a run."""

from __future__ import annotations

import math

import torch
from torch import nn

from unmask.model import Model
from unmask.recipe import TrainOptions


def make_optimiser(model: Model, options: TrainOptions) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter, arXiv:1711.05101), fused.

    Norms and biases do not decay. New heads learn faster than the trunk they stand on.
    """
    head_rate = options.head_learning_rate or 10 * options.learning_rate
    groups = []
    for module, rate in ((model.encoder, options.learning_rate), (model.heads, head_rate)):
        matrices = [p for p in module.parameters() if p.ndim >= 2]
        vectors = [p for p in module.parameters() if p.ndim < 2]
        for parameters, decay in ((matrices, options.weight_decay), (vectors, 0.0)):
            if parameters:
                groups.append(
                    {"params": parameters, "lr": rate, "peak": rate, "weight_decay": decay}
                )
    return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6, fused=True)


def rate_at(progress: float, options: TrainOptions) -> float:
    """The learning rate at this share of the run, as a share of its peak."""
    if progress < options.warmup:
        return progress / options.warmup
    rest = (progress - options.warmup) / max(1 - options.warmup, 1e-9)
    if options.schedule == "linear":
        return max(1 - rest, 0.0)
    if options.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))
    return 1.0


def set_rate(optimiser: torch.optim.Optimizer, share: float) -> None:
    """Give every group this share of its peak rate."""
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share


def clip_gradient(module: nn.Module, limit: float) -> float:
    """Scale the gradient down to a norm of at most `limit`; its norm before."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    return float(nn.utils.clip_grad_norm_(parameters, limit, foreach=True))
