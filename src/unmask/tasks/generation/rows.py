"""Rows of text that are being written, and what the encoder remembers of them."""

from __future__ import annotations

from collections.abc import Sequence as List
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from unmask.batch import Batch, Example, Sequence, collate
from unmask.encoder import Cache, Encoder
from unmask.tasks.generation.head import WritingHead
from unmask.tasks.generation.prompt import Prompt


@dataclass(frozen=True)
class Pen:
    """What writes: an encoder through one of its adapters, and a head."""

    encoder: Encoder
    head: WritingHead
    kind: int  # the token type of what is written
    adapter: str | None = None

    @property
    def vocabulary(self) -> int:
        """V, the size of the encoder's table."""
        return self.encoder.config.vocab_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.words.bias.device

    def read(self, sequences: List[Sequence], place: int) -> tuple[Tensor, Cache]:
        """Hidden states at one place of each sequence, (R, D), and a cache of a row for each.

        A negative place counts from the end.
        """
        places = [place % sequence.length for sequence in sequences]
        examples = [
            Example((sequence,), (np.array([at]),))
            for sequence, at in zip(sequences, places, strict=True)
        ]
        batch = collate(examples).to(self.device)
        rows = (batch.owner.amax(1) - 1).argsort()  # where each sequence stands in the grid
        # Each row is one sequence's from now on, wherever it moves.
        batch = replace(batch, owner=batch.owner.clamp(max=1), plain=False)
        cache = Cache(len(self.encoder.layers))
        hidden = self.see(batch, cache)
        cache.select(rows)
        return hidden, cache

    def see(self, batch: Batch, cache: Cache) -> Tensor:
        """The hidden states of a grid behind what is cached, where they are wanted: (N, D)."""
        x = self.encoder.embed(batch)
        return self.encoder.encode(x, batch, cache, adapter=self.adapter, narrow=True).wanted

    def log_p(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of the pieces, (N, V), in fp32."""
        return cast(Tensor, self.head(hidden)).float().log_softmax(-1)


class Rows:
    """Texts that grow by one piece at a time, a row each."""

    def __init__(self, pen: Pen, prompts: List[Prompt]) -> None:
        self.pen = pen
        sequences = [prompt.sequence(prompt.begun, pen.kind) for prompt in prompts]
        hidden, self.cache = pen.read(sequences, -1)
        self.log_p = pen.log_p(hidden)  # (R, V), of what comes next
        self.position = torch.tensor([s.length for s in sequences], device=pen.device)  # (R,)

    def feed(self, tokens: Tensor) -> None:
        """Add a piece to each row, (R,)."""
        every, column = torch.arange(len(tokens), device=tokens.device), self.position[:, None]
        batch = Batch(
            owner=torch.ones_like(column),
            position=column,
            segment=torch.full_like(column, self.pen.kind),
            limit=column,
            features={"text": (tokens, every)},
            wanted=every,
            wanted_owner=every,
            group=every,
        )
        self.log_p = self.pen.log_p(self.pen.see(batch, self.cache))
        self.position = self.position + 1

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (R,), in this order; one may come more than once."""
        self.cache.select(rows)
        self.log_p, self.position = self.log_p[rows], self.position[rows]


@dataclass
class Draft:
    """A text as it is written: its pieces, those that were given included."""

    ids: list[int]
    given: int = 0  # pieces that were not chosen
    log_p: float = 0.0  # of those that were, and of the end
    ended: bool = False

    def rank(self, penalty: float) -> float:
        """Log-probability over length to the power of `penalty` (Wu et al., arXiv:1609.08144)."""
        return self.log_p / max(len(self.ids) - self.given + self.ended, 1) ** penalty
