"""The loss of guessing one of many classes, without tensors that are thrown away."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Logits computed in fp32 at a time. A processor: as many as stay in its cache. A GPU: many, for
# every piece is a few launches; they take 256 MB.
_AT_ONCE = {"cpu": 1 << 20, "cuda": 1 << 26}


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, truth: Tensor, smoothing: float) -> Tensor:
        parts = [part.float().logsumexp(-1) for part in torch.split(logits, _rows(logits))]
        total = torch.cat(parts)  # (N,)
        ctx.save_for_backward(logits, truth, total)
        ctx.smoothing = smoothing
        right = logits.gather(1, truth[:, None])[:, 0].float()
        if smoothing:
            mean = logits.mean(-1, dtype=torch.float32)
            right = (1 - smoothing) * right + smoothing * mean
        return (total - right).sum()

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor, None, None]:
        logits, truth, total = ctx.saved_tensors
        (above_loss,) = above
        gradient = torch.empty_like(logits)  # softmax(logits) minus the truth's distribution
        share = ctx.smoothing / logits.shape[-1]
        size = _rows(logits)
        for start in range(0, len(logits), size):
            own = slice(start, start + size)
            p = (logits[own].float() - total[own, None]).exp_()
            if share:
                p -= share
            p[torch.arange(len(p), device=p.device), truth[own]] -= 1 - ctx.smoothing
            gradient[own] = p.mul_(above_loss)
        return gradient, None, None


def _rows(logits: Tensor) -> int:
    return max(_AT_ONCE.get(logits.device.type, _AT_ONCE["cpu"]) // logits.shape[-1], 1)


def cross_entropy(logits: Tensor, truth: Tensor, smoothing: float = 0.0) -> Tensor:
    """The summed cross-entropy of logits (N, C) with the classes `truth` (N,), in fp32: ().

    `smoothing` is the share of the truth that is given to all classes alike (label smoothing,
    Szegedy et al., arXiv:1512.00567).

    torch's own takes several passes over fp32 copies of the logits: with a vocabulary of 30,522
    that was a fifth of a training step on two cores. Here the gradient is computed piece by piece
    from the logits as they are, in bf16 where the model computes in it.
    """
    loss: Tensor = _CrossEntropy.apply(logits, truth, smoothing)  # type: ignore[no-untyped-call]
    return loss
