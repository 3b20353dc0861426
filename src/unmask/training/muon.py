"""Muon: momentum whose matrices are made orthogonal (Jordan, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steep at 0, and near 1 only roughly
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """`torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, for matrices in blocks and shards.

    Its steps are as long as AdamW's, so both can share a rate (Liu et al., arXiv:2502.16982). A
    group's `blocks` says how many matrices are stacked in each of its parameters: queries, keys
    and values learn better when made orthogonal apart (Jordan). A sharded matrix is gathered.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.95,
        weight_decay: float = 0.01,
        blocks: int = 1,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "blocks": blocks}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                self.state[p] = {"momentum_buffer": torch.zeros_like(p)}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the parameters that have a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params]
            buffers = [self.state[p]["momentum_buffer"] for p in params]
            torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
            updates = torch._foreach_lerp(grads, buffers, group["momentum"])  # Nesterov's
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            for p, update in zip(params, updates, strict=True):
                rows, columns = p.shape[0] // group["blocks"], p.shape[1]
                size = 0.2 * max(rows, columns) ** 0.5  # the root mean square of AdamW's steps
                p.add_(_each_orthogonal(update, group["blocks"]), alpha=-group["lr"] * size)


def _each_orthogonal(x: Tensor, blocks: int) -> Tensor:
    """Blocks of rows made orthogonal, each on its own: (N, D) -> (N, D), sharded as before."""
    whole = x.full_tensor() if isinstance(x, DTensor) else x
    whole = torch.cat([orthogonal(block) for block in whole.chunk(blocks)])
    if isinstance(x, DTensor):
        return distribute_tensor(whole, x.device_mesh, x.placements)
    return whole


def orthogonal(x: Tensor) -> Tensor:
    """The matrix with its singular values brought near 1, by Newton-Schulz: (N, D) -> (N, D)."""
    a, b, c = _COEFFICIENTS
    tall = x.shape[0] > x.shape[1]
    x = (x.mT if tall else x).to(_fast(x.device))
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def _fast(device: torch.device) -> torch.dtype:
    """bf16, which is exact enough here, unless the processor would have to emulate it."""
    native = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32
