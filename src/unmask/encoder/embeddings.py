"""From token ids to the first hidden states: token, position and segment embeddings."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unmask.batch import Batch
from unmask.encoder.bricks import Dropout, make_norm
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
        self.token = nn.Embedding(config.vocab_size, width)
        self.offset = config.position_offset
        self.position = (
            nn.Embedding(config.max_positions + self.offset, width)
            if config.position == "learned"
            else None
        )
        self.segment = nn.Embedding(config.num_segments, width) if config.num_segments else None
        stems: dict[str, Stem] = {}
        if config.image is not None:
            stems["image"] = Patches(config.image, width)
        if config.audio is not None:
            stems["audio"] = Frames(config.audio, width)
        self.stems = nn.ModuleDict(stems)
        self.norm = make_norm(config, width) if config.embedding_norm else nn.Identity()
        self.dropout = Dropout(config.dropout)
        self.projection = (
            nn.Linear(width, config.hidden_size) if width != config.hidden_size else None
        )

    def look_up(self, batch: Batch) -> Tensor:
        """The grid's embeddings in their own width, (B, T, E)."""
        B, T = batch.shape
        parts = [self._part(batch, modality) for modality in batch.features]  # (n, E) each
        x = parts[0].new_zeros(B * T, parts[0].shape[-1])
        for part, (_, index) in zip(parts, batch.features.values(), strict=True):
            x = x.index_copy(0, index, part.to(x.dtype))
        x = x.view(B, T, -1)  # (B, T, E)
        if self.position is not None:
            x = x + self._positions(batch)
        if self.segment is not None:
            x = x + self.segment(batch.segment)
        return self.dropout(self.norm(x))

    def _part(self, batch: Batch, modality: str) -> Tensor:
        values, _ = batch.features[modality]
        if modality == "text":
            return self.token(values)
        return self.stems[modality](values, batch.places.get(modality))

    def _positions(self, batch: Batch) -> Tensor:
        """The learned positions (B, T, E): 0 where a stem tells the places itself."""
        assert self.position is not None
        x = self.position(batch.position + self.offset)
        for modality, (_, index) in batch.features.items():
            if modality != "text" and not cast(Stem, self.stems[modality]).flat:
                x = x.flatten(0, 1).index_fill(0, index, 0).view_as(x)
        return x

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
        self.projection = nn.Linear(lender.token.embedding_dim, width)

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
