"""The feed-forward block: each position on its own, through a wider layer and back."""

from __future__ import annotations

from torch import Tensor, nn

from unmask.encoder.bricks import ACTIVATIONS
from unmask.encoder.config import EncoderConfig


class FeedForward(nn.Module):
    """BERT's two matrices with GELU, or the gated form (GeGLU, Shazeer, arXiv:2002.05202)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.gated = config.gated
        inner = config.intermediate_size * (2 if config.gated else 1)
        self.inner = nn.Linear(config.hidden_size, inner, bias=config.bias)
        self.outer = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = self.inner(x)  # (B, T, F), or (B, T, 2F) when gated
        if self.gated:
            x, gate = x.chunk(2, dim=-1)
            return self.outer(self.activation(x) * gate)
        return self.outer(self.activation(x))
