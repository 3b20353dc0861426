"""A gradient turned round, so that a trunk unlearns what a head looks for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradients[0], None


def reversed_gradient(x: Tensor, strength: float) -> Tensor:
    """The same tensor, whose gradient comes back times `-strength`.

    Domain-adversarial training (Ganin et al., arXiv:1505.07818).
    """
    return _Reversed.apply(x, strength)  # type: ignore[no-untyped-call]
