"""The small parts that layers share: activations, normalisation, dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn import init

from unmask.encoder.config import Activation, EncoderConfig

ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,  # Hendrycks & Gimpel, arXiv:1606.08415
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
    "tanh": F.tanh,
}


def dropout(x: Tensor, rate: float) -> Tensor:
    """Set a share of x to zero at random and scale up the rest (Srivastava et al., 2014).

    On CPUs torch draws a whole number for each element, which took a quarter of a training step;
    here 16 bits decide, so the rate is exact to 1 / 65,536. The numbers are torch's own, from
    its default generator.
    """
    kept = round((1 - rate) * 2**16)
    if kept >= 2**16:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    drawn = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    mask = drawn.view(torch.int16)[: x.numel()].view(x.shape) < kept - 2**15
    return x * mask.to(x.dtype).mul_(2**16 / max(kept, 1))


class Dropout(nn.Module):
    """`dropout` in training, nothing in evaluation."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape to the same shape."""
        return dropout(x, self.rate) if self.training else x

    def extra_repr(self) -> str:
        """The rate, in the module's printed form."""
        return f"rate={self.rate}"


class Linear(nn.Linear):
    """A linear layer whose product may be computed otherwise, as `int8` does."""

    product: Callable[[Tensor, Tensor, Tensor | None], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(…, inner) -> (…, outer)."""
        if self.product is None:
            return super().forward(x)
        return self.product(x, self.weight, self.bias)


class Table(nn.Embedding):
    """A table whose rows may be rounded, as `int8` does."""

    rounded: Callable[[Tensor], Tensor] | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """(…) -> (…, width)."""
        rows = super().forward(ids)
        return rows if self.rounded is None else self.rounded(rows)


def make_norm(config: EncoderConfig, width: int | None = None) -> nn.Module:
    """LayerNorm (arXiv:1607.06450) or RMSNorm (arXiv:1910.07467) over the last dimension."""
    width = width or config.hidden_size
    if config.norm == "rms":
        return nn.RMSNorm(width, eps=config.norm_epsilon)
    return nn.LayerNorm(width, eps=config.norm_epsilon, bias=config.bias)


def initialise(module: nn.Module, std: float) -> None:
    """BERT's start: weights from a normal of this deviation cut at two deviations, biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            init.trunc_normal_(part.weight, std=std, a=-2 * std, b=2 * std)
        if isinstance(part, nn.Linear) and part.bias is not None:
            init.zeros_(part.bias)
