"""Heads: small modules that turn hidden states at wanted positions into answers."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from unmask.encoder.bricks import ACTIVATIONS, Dropout, initialise, make_norm
from unmask.encoder.config import Activation, EncoderConfig


class HeadConfig(BaseModel):
    """How hidden states become logits.

    `pooling` makes one vector of a sequence's wanted positions (`cls`: there is just the first;
    `mean`: their average) or leaves each on its own (`none`). `activation` asks for a dense layer
    with that activation, and `norm` for a normalisation, before the output layer. With `cosine`
    the output layer compares directions alone, as is best where each label has few rows (Chen et
    al., arXiv:1904.04232).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pooling: Literal["cls", "mean", "none"] = Field(
        "cls", description="the first position's vector, the average, or one a position"
    )
    activation: Activation | None = Field(
        None, description="of a dense layer before the output layer; null: there is none"
    )
    norm: bool = Field(False, description="a normalisation before the output layer")
    bias: bool = Field(True, description="a bias in the dense layer")
    dropout: float = Field(0.1, ge=0, lt=1, description="before the output layer, in training")
    cosine: float | None = Field(
        None, gt=0, description="logits are this many times the cosine of a vector and a label's"
    )


class Transform(nn.Module):
    """Dense layer, activation and perhaps a norm: (N, D) -> (N, W)."""

    def __init__(
        self, config: EncoderConfig, activation: Activation, norm: bool, bias: bool, width: int
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, width, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.norm = make_norm(config, width) if norm else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, W)."""
        return self.norm(self.activation(self.dense(x)))


def pool_mean(x: Tensor, owner: Tensor, sequences: int) -> Tensor:
    """The average of each sequence's vectors: x (N, D), owner (N,) -> (S, D).

    Every sequence has one or more, in order, so that of N = S each is its own average.
    """
    if x.shape[0] == sequences:
        return x
    total = x.new_zeros(sequences, x.shape[-1]).index_add(0, owner, x)
    count = x.new_zeros(sequences).index_add(0, owner, x.new_ones(len(owner)))
    return total / count.clamp(min=1).unsqueeze(-1)


class LabelHead(nn.Module):
    """Logits over `labels` for each sequence, or for each position where nothing is pooled."""

    def __init__(self, encoder: EncoderConfig, config: HeadConfig, labels: int) -> None:
        super().__init__()
        self.pooling = config.pooling
        self.transform = (
            Transform(encoder, config.activation, config.norm, config.bias, encoder.hidden_size)
            if config.activation
            else nn.Identity()
        )
        self.dropout = Dropout(config.dropout)
        self.cosine = config.cosine
        self.output = nn.Linear(encoder.hidden_size, labels)
        initialise(self, encoder.initializer_range)

    def forward(self, x: Tensor, owner: Tensor, sequences: int) -> Tensor:
        """(N, D) and the sequence of each -> logits (S, labels), or (N, labels) unpooled."""
        x = self.dropout(self.vectors(x, owner, sequences))
        if self.cosine is None:
            return self.output(x)
        with torch.autocast(x.device.type, enabled=False):  # bf16 would round near cosines alike
            directions = F.normalize(self.output.weight, dim=-1)  # (labels, D)
            cosine = F.linear(F.normalize(x.float(), dim=-1), directions)
            return self.cosine * cosine + self.output.bias

    def vectors(self, x: Tensor, owner: Tensor, sequences: int) -> Tensor:
        """What the output layer sees: (N, D) -> (S, D), or (N, D) unpooled."""
        if self.pooling == "mean":
            x = pool_mean(x, owner, sequences)
        return self.transform(x)


class MaskedHead(nn.Module):
    """Logits over the vocabulary, with the token embeddings as the output matrix.

    Tied weights after Press & Wolf (arXiv:1608.05859). It runs only on masked positions: the
    projection to the vocabulary costs as much as several layers and is wasted elsewhere.
    """

    def __init__(
        self,
        encoder: EncoderConfig,
        embedding: nn.Embedding,
        bias: bool = True,
        activation: Activation | None = None,
    ) -> None:
        super().__init__()
        self.transform = Transform(
            encoder, activation or encoder.activation, True, bias, embedding.embedding_dim
        )
        self.bias = nn.Parameter(embedding.weight.new_zeros(embedding.num_embeddings))
        self._embedding = (embedding,)  # in a tuple, so that its weights stay the encoder's alone
        initialise(self, encoder.initializer_range)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (N, vocab_size)."""
        return F.linear(self.transform(x), self._embedding[0].weight, self.bias)


class Pooling(BaseModel):
    """How a text's vector is made of its hidden states (Reimers & Gurevych, arXiv:1908.10084)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["mean", "cls"] = "mean"
    normalise: bool = True

    def wanted(self, length: int) -> np.ndarray:
        """The positions of a sequence that its vector is made of."""
        return np.arange(length if self.mode == "mean" else 1)

    def pool(self, x: Tensor, owner: Tensor, sequences: int) -> Tensor:
        """(N, D) and the sequence of each -> a vector for each, not normalised: (S, D)."""
        return pool_mean(x.float(), owner, sequences)  # with `cls` each has one
