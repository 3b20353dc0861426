"""From token ids to the first hidden states: token, position and segment embeddings."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unmask.batch import Batch
from unmask.encoder.bricks import Dropout, Linear, Table, make_norm
from unmask.encoder.config import EncoderConfig
from unmask.encoder.stems import Frames, Patches, Stem


class Embeddings(nn.Module):
    """The sum of what a position holds, where it stands, and which segment it is in.

    BERT learns all three tables itself (arXiv:1810.04805, figure 2); rotary encoders have no
    position table and turn queries and keys instead (see `attention.py`).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.embedding_width
        self.token = Table(config.vocab_size, width)
        self.offset = config.position_offset
        self.position = (
            Table(config.max_positions + self.offset, width)
            if config.position == "learned"
            else None
        )
        self.segment = Table(config.num_segments, width) if config.num_segments else None
        stems: dict[str, Stem] = {}
        if config.image is not None:
            stems["image"] = Patches(config.image, width)
        if config.audio is not None:
            stems["audio"] = Frames(config.audio, width)
        self.stems = nn.ModuleDict(stems)
        self.norm = make_norm(config, width) if config.embedding_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.projection = Linear(width, config.hidden_size) if width != config.hidden_size else None

    def look_up(self, batch: Batch) -> Tensor:
        """The grid's embeddings in their own width, (B, T, E)."""
        B, T = batch.shape
        x = self.token.weight.new_zeros(B * T, self.token.embedding_dim)
        told = None
        for modality, (values, index) in batch.features.items():
            if modality == "text":
                part = self.token(values)  # (n, E)
            else:
                stem = cast(Stem, self.stems[modality])
                part = stem(values, batch.places.get(modality)).to(x.dtype)
                told = told if stem.flat else index
            x = x.index_copy(0, index, part)
        return self.add(x.view(B, T, -1), batch.position, batch.segment, told)

    def add(
        self, x: Tensor, position: Tensor, segment: Tensor, told: Tensor | None = None
    ) -> Tensor:
        """Vectors (B, T, E) with where they stand, and in which segment, normalised.

        `told` (n,) are the flat indices of those that have told their places themselves.
        """
        if self.position is not None:
            places = self.position(position + self.offset)
            if told is not None:
                places = places.flatten(0, 1).index_fill(0, told, 0).view_as(x)
            x = x + places
        if self.segment is not None:
            x = x + self.segment(segment)
        return self.dropout(self.norm(x))

    def forward(self, batch: Batch) -> Tensor:
        """The grid's embeddings, (B, T, D)."""
        x = self.look_up(batch)  # (B, T, E)
        return x if self.projection is None else self.projection(x)


class BorrowedEmbeddings(Embeddings):
    """The embeddings of another encoder, brought to a width of one's own (ELECTRA's generator).

    Both encoders learn them; they stay the lender's alone in what is saved.
    """

    def __init__(self, lender: Embeddings, width: int) -> None:
        nn.Module.__init__(self)  # without tables
        self._lender = (lender,)  # in a tuple, so that its weights are not registered here
        self.projection = Linear(lender.token.embedding_dim, width)

    def look_up(self, batch: Batch) -> Tensor:
        return self._lender[0].look_up(batch)


def rotary_angles(position: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines that turn queries and keys by their position.

    RoFormer (Su et al., arXiv:2104.09864): `position` (B, T) gives two tensors (B, 1, T, head).
    """
    pairs = torch.arange(0, head_width, 2, device=position.device, dtype=torch.float32)
    angle = position[:, None, :, None].float() / base ** (pairs / head_width)  # (B, 1, T, head/2)
    angle = torch.cat((angle, angle), dim=-1)
    return angle.cos(), angle.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn each pair (x[i], x[i + head/2]) of x (B, H, T, head) by its angle."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return (x * cos + turned * sin).to(x.dtype)
