"""Multi-head attention over packed rows (Vaswani et al., arXiv:1706.03762)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unmask.encoder.adapters import AdaptedLinear
from unmask.encoder.bricks import dropout
from unmask.encoder.cache import Past
from unmask.encoder.config import EncoderConfig
from unmask.encoder.embeddings import rotate

# On CPUs the fused kernel's bf16 backward is slower than plain matrix products up to about this
# many columns (torch 2.13: 4 to 5 times slower at 128).
_PLAIN_COLUMNS = 512
_FEW_COLUMNS = 8  # behind what is cached: so is its forward for so few, in any precision


@dataclass(frozen=True)
class View:
    """What a layer may look at: computed once for a grid and shared by all layers of a kind."""

    mask: Tensor | None  # (B, 1, T, K) bool, True where a query sees a key; None: all of it
    angles: tuple[Tensor, Tensor] | None  # rotary cosines and sines, (B, 1, T, head) each
    adapter: str | None = None  # that changes the layer's matrices

    @cached_property
    def bias(self) -> Tensor | None:
        """The mask as something to add to scores: 0 where seen, minus infinity where not."""
        if self.mask is None:
            return None
        return torch.zeros(self.mask.shape, device=self.mask.device).masked_fill_(
            ~self.mask, -torch.inf
        )


class Attention(nn.Module):
    """Every position asks all the positions it sees, H times in parallel.

    Queries, keys and values come from one matrix product. The fused path never holds the
    (T, T) weights; a plain path computes them, and returns them where `weights` asks for it.
    """

    # What may round queries and keys, as `int8` does.
    rounded: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None = None

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        D = config.hidden_size
        self.heads, self.head_width = config.num_heads, config.head_width
        self.dropout = config.attention_dropout
        inner = self.heads * self.head_width  # D, unless heads were pruned away
        self.qkv = AdaptedLinear(D, 3 * inner, config.bias, config.adapters)
        self.output = AdaptedLinear(inner, D, config.bias, config.adapters)

    def forward(
        self,
        x: Tensor,
        view: View,
        weights: bool = False,
        only: Tensor | None = None,
        past: Past | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, T, D) -> (B, T, D), and the weights (B, H, T, T) if asked for.

        With `only`, flat indices (N,), the result is that of these positions alone: (N, D).
        What is `past` is seen as well, and the new keys and values are added to it: the weights
        are then (B, H, T, K).
        """
        B, T, _ = x.shape
        qkv = self.qkv(x, view.adapter).view(B, T, 3, self.heads, self.head_width)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, D/H)
        if view.angles is not None:
            q, k = rotate(q, *view.angles), rotate(k, *view.angles)
        if self.rounded is not None and view.adapter is None:
            q, k = self.rounded(q, k)
        if past is not None:
            k, v = past.extend(k, v)
        rate = self.dropout if self.training else 0.0
        w = None
        few = past is not None and x.device.type == "cpu" and T <= _FEW_COLUMNS
        if weights or few or _plain_is_faster(q):
            q = q / math.sqrt(self.head_width)
            # (B, H, T, T); few queries are the ones to be turned, and not all keys
            scores = (k @ q.mT).mT if few else q @ k.mT
            if view.bias is not None:
                scores = scores + view.bias.to(scores.dtype)
            w = scores.softmax(dim=-1).to(v.dtype)
            x = dropout(w, rate) @ v  # (B, H, T, D/H)
        else:
            x = F.scaled_dot_product_attention(q, k, v, view.mask, rate)
        x = x.transpose(1, 2).flatten(2)  # (B, T, D)
        if only is not None:
            x = x.flatten(0, 1).index_select(0, only)
        return self.output(x, view.adapter), w if weights else None


def _plain_is_faster(q: Tensor) -> bool:
    return (
        q.device.type == "cpu"
        and q.dtype == torch.bfloat16
        and q.shape[2] <= _PLAIN_COLUMNS
        and torch.is_grad_enabled()
    )
