"""Stems: from patches of a picture, or frames of a recording, to the width of token vectors.

A stem's last bias is learned and the same at every position of its modality: it is the tag by which
the encoder tells patches and frames from tokens. Zeros stand for what is hidden.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unmask.recipe import AudioOptions, ImageOptions


class Stem(nn.Module):
    """What puts the values of one modality into vectors."""

    flat = False  # whether a position of it has its number in the sequence as its place

    def forward(self, values: Tensor, place: Tensor | None) -> Tensor:
        """Values (n, …), and row and column of each (n, 2) where it has some -> (n, E)."""
        raise NotImplementedError

    def start(self) -> None:
        """Weights under which outputs are as large as inputs, whatever the width (LeCun, 1998).

        Token vectors begin small, and a norm behind the embeddings makes up for that; beside 2-D
        positions a small picture would not be seen.
        """
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=part.in_features**-0.5)


class Patches(Stem):
    """Patches as in ViT (arXiv:2010.11929): one projection, and where the patch is in the picture.

    Learned places are a table with one vector a cell; sinusoidal ones have no weights, and tell
    cells apart that no training picture had.
    """

    def __init__(self, options: ImageOptions, width: int) -> None:
        super().__init__()
        self.projection = nn.Linear(options.width, width)
        rows, self.columns = options.cells
        learned = options.positions == "learned"
        self.place = nn.Embedding(rows * self.columns, width) if learned else None

    def forward(self, values: Tensor, place: Tensor | None) -> Tensor:
        """Patches (n, P) and their rows and columns (n, 2) -> (n, E)."""
        assert place is not None  # a picture's segment has the places of its patches
        x = self.projection(values)
        if self.place is not None:
            return x + self.place(place[:, 0] * self.columns + place[:, 1])
        return x + sinusoids(place, x.shape[1]).to(x.dtype)


class Frames(Stem):
    """Log-mel frames: a strided convolution, then a second layer.

    Its kernel is as long as its stride, so a position's frames lie side by side in `values`, and
    the convolution is a matrix product that never looks beyond its own recording.
    """

    flat = True

    def __init__(self, options: AudioOptions, width: int) -> None:
        super().__init__()
        self.convolution = nn.Linear(options.width, width)
        self.projection = nn.Linear(width, width)

    def forward(self, values: Tensor, place: Tensor | None) -> Tensor:
        """Frames (n, F) -> (n, E)."""
        return self.projection(F.gelu(self.convolution(values)))


def sinusoids(place: Tensor, width: int) -> Tensor:
    """Rows and columns (n, 2) as sines and cosines, half of them for each: (n, width).

    As in ViTs without learned positions (Chen et al., arXiv:2104.02057), after arXiv:1706.03762.
    """
    count = width // 4
    steps = torch.arange(count, device=place.device, dtype=torch.float32) / max(count, 1)
    angles = place[:, :, None].float() * torch.exp(-math.log(10_000) * steps)  # (n, 2, width / 4)
    x = torch.cat((angles.sin(), angles.cos()), dim=-1).flatten(1)  # (n, 4 * count)
    return F.pad(x, (0, width - 4 * count))
