"""Muon: momentum whose matrices are made orthogonal (Jordan, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's: steep at 0, and near 1 only roughly
_ITERATIONS = 5
_LARGE = 1 << 18  # numbers of a matrix from which on a processor takes each by itself
_AT_ONCE = 1 << 22  # numbers of the updates that are gathered and stacked: few beside the weights


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
            for own in _piles(params):
                rows, columns = params[own[0]].shape[0] // group["blocks"], params[own[0]].shape[1]
                size = 0.2 * max(rows, columns) ** 0.5  # the root mean square of AdamW's steps
                whole = torch.stack([_whole(updates[i]) for i in own])
                whole = orthogonal(whole.view(-1, rows, columns)).view(whole.shape)
                for i, x in zip(own, whole, strict=True):
                    params[i].add_(_sharded(x, updates[i]), alpha=-group["lr"] * size)


def _piles(params: list[Tensor]) -> Iterator[list[int]]:
    """The places of parameters of one shape, so few at a time that they take little memory."""
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for i, p in enumerate(params):
        alike[p.shape].append(i)
    for shape, own in alike.items():
        most = max(_AT_ONCE // shape.numel(), 1)
        yield from (own[start : start + most] for start in range(0, len(own), most))


def _whole(x: Tensor) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x


def _sharded(x: Tensor, like: Tensor) -> Tensor:
    return (
        distribute_tensor(x, like.device_mesh, like.placements) if isinstance(like, DTensor) else x
    )


def orthogonal(x: Tensor) -> Tensor:
    """Singular values brought near 1, by Newton-Schulz: (n, N, D) -> (n, N, D).

    All at once, for a GPU would wait for the launches of one product after another; but a processor
    multiplies large matrices faster one by one.
    """
    if x.device.type == "cpu" and x[0].numel() > _LARGE:
        return torch.stack([_newton_schulz(one, torch.addmm) for one in x])
    return _newton_schulz(x, torch.baddbmm)


def _newton_schulz(x: Tensor, product: Callable[..., Tensor]) -> Tensor:
    a, b, c = _COEFFICIENTS
    tall = x.shape[-2] > x.shape[-1]
    x = (x.mT if tall else x).to(_fast(x.device))
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.mT
        x = product(x, product(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).contiguous()


def _fast(device: torch.device) -> torch.dtype:
    """bf16, which is exact enough here, unless the processor would have to emulate it."""
    native = device.type != "cpu" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32
