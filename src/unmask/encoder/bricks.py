"""The small parts that layers share: activations, normalisation, dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

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
