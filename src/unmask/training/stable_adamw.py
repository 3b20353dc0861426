"""StableAdamW: AdamW that takes smaller steps where its second moment is out of date."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


class StableAdamW(torch.optim.Optimizer):
    """AdamW whose rate is divided, a tensor at a time, by RMS(g / sqrt(v)) where that is over 1.

    Wortsman et al. (arXiv:2304.13013), algorithm 2: after a sudden change v is too small for the
    gradient, and plain AdamW would leap. The gradient is first divided by `grad_scale`, as in
    torch's fused AdamW, and is overwritten.
    """

    grad_scale: Tensor | None = None

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                # Steps are counted on the CPU, where reading them does not wait for the device.
                self.state[p] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(p),
                    "exp_avg_sq": torch.zeros_like(p),
                }

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Change the parameters that have a gradient."""
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._step(params, group)

    def _step(self, params: list[Tensor], group: dict[str, Any]) -> None:
        (beta1, beta2), eps = group["betas"], group["eps"]
        grads = [p.grad for p in params if p.grad is not None]
        steps, means, squares = (
            [self.state[p][key] for p in params] for key in ("step", "exp_avg", "exp_avg_sq")
        )
        torch._foreach_add_(steps, 1)
        if self.grad_scale is not None:
            torch._foreach_div_(grads, self.grad_scale)
        torch._foreach_lerp_(means, grads, 1 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, grads, grads, 1 - beta2)

        roots = torch._foreach_sqrt(squares)  # sqrt(v), its start from zero corrected
        torch._foreach_div_(roots, [(1 - beta2 ** float(t)) ** 0.5 for t in steps])
        torch._foreach_div_(grads, torch._foreach_clamp_min(roots, eps))
        rates = [
            group["lr"] / max(1.0, norm / p.numel() ** 0.5)
            for norm, p in zip(_norms(grads), params, strict=True)
        ]
        torch._foreach_add_(roots, eps)
        torch._foreach_mul_(params, [1 - rate * group["weight_decay"] for rate in rates])
        sizes = [-r / (1 - beta1 ** float(t)) for r, t in zip(rates, steps, strict=True)]
        torch._foreach_addcdiv_(params, means, roots, sizes)


def _norms(tensors: list[Tensor]) -> list[float]:
    """The norm of each, read from the device at once."""
    norms = torch.stack(torch._foreach_norm(tensors))
    return (norms.full_tensor() if isinstance(norms, DTensor) else norms).tolist()
