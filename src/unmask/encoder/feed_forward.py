"""The feed-forward block: each position on its own, through a wider layer and back."""

from __future__ import annotations

from torch import Tensor, nn

from unmask.encoder.adapters import AdaptedLinear
from unmask.encoder.bricks import ACTIVATIONS
from unmask.encoder.config import EncoderConfig


class FeedForward(nn.Module):
    """BERT's two matrices with GELU, or the gated form (GeGLU, Shazeer, arXiv:2002.05202)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.gated = config.gated
        inner = config.intermediate_size * (2 if config.gated else 1)
        D, F = config.hidden_size, config.intermediate_size
        self.inner = AdaptedLinear(D, inner, config.bias, config.adapters)
        self.outer = AdaptedLinear(F, D, config.bias, config.adapters)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor, adapter: str | None = None) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = self.inner(x, adapter)  # (B, T, F), or (B, T, 2F) when gated
        if self.gated:
            x, gate = x.chunk(2, dim=-1)
            return self.outer(self.activation(x) * gate, adapter)
        return self.outer(self.activation(x), adapter)
