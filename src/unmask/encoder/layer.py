"""One encoder layer: attention, then feed-forward, each with a residual connection."""

from __future__ import annotations

from torch import Tensor, nn

from unmask.encoder.attention import Attention, View
from unmask.encoder.bricks import Dropout, make_norm
from unmask.encoder.cache import Past
from unmask.encoder.config import EncoderConfig
from unmask.encoder.feed_forward import FeedForward


class Layer(nn.Module):
    """Post-norm as in BERT, or pre-norm (Xiong et al., arXiv:2002.04745), which trains steadier.

    The first pre-norm layer needs no norm of its own where the embeddings end in one.
    """

    def __init__(self, config: EncoderConfig, number: int) -> None:
        super().__init__()
        self.pre_norm = config.pre_norm
        self.attention = Attention(config)
        first = config.pre_norm and config.embedding_norm and number == 0
        self.attention_norm = nn.Identity() if first else make_norm(config)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = make_norm(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        view: View,
        weights: bool = False,
        only: Tensor | None = None,
        past: Past | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, T, D), and the attention weights (B, H, T, T) if asked for.

        With `only`, flat indices (N,), the result is that of these positions alone: (N, D).
        What is `past` is seen as well.
        """
        looked = self.attention_norm(x) if self.pre_norm else x
        seen, w = self.attention(looked, view, weights, only, past)
        if only is not None:
            x = x.flatten(0, 1).index_select(0, only)
        if self.pre_norm:
            x = x + self.dropout(seen)
            return x + self.dropout(self.feed_forward(self.feed_forward_norm(x), view.adapter)), w
        x = self.attention_norm(x + self.dropout(seen))
        return self.feed_forward_norm(x + self.dropout(self.feed_forward(x, view.adapter))), w
