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

_BLOCK = 64  # pieces; encoders that unmask makes have tables of whole blocks
_ROW_TOKENS = 64  # columns of the grids that prompts are read in, packed
_READ_TOKENS = 2048  # positions of such a grid: what layers make of more does not fit into caches


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
        widest = max(sequence.length for sequence in sequences)
        some = max(_READ_TOKENS // widest, 1)
        parts = [
            self._read(sequences[i : i + some], place, widest)
            for i in range(0, len(sequences), some)
        ]
        hidden, caches = zip(*parts, strict=True)
        return torch.cat(hidden), Cache.joined(caches)

    def _read(self, sequences: List[Sequence], place: int, widest: int) -> tuple[Tensor, Cache]:
        places = [place % sequence.length for sequence in sequences]
        examples = [
            Example((sequence,), (np.array([at]),))
            for sequence, at in zip(sequences, places, strict=True)
        ]
        batch = replace(collate(examples, _ROW_TOKENS), plain=False).to(self.device)
        cache = Cache(len(self.encoder.layers))
        hidden = self.see(batch, cache)
        length = torch.tensor([sequence.length for sequence in sequences], device=self.device)
        column = torch.arange(widest, device=self.device)
        held = column < length[:, None]  # (R, S)
        first = batch.wanted - torch.tensor(places, device=self.device)  # where each begins
        cache.unpack((first[:, None] + column).where(held, first[:, None]), held)
        return hidden, cache

    def see(self, batch: Batch, cache: Cache) -> Tensor:
        """The hidden states of a grid behind what is cached, where they are wanted: (N, D)."""
        x = self.encoder.embed(batch)
        return self.encoder.encode(x, batch, cache, adapter=self.adapter, narrow=True).wanted

    def log_p(self, hidden: Tensor) -> Tensor:
        """Log-probabilities of the pieces, (N, V), in fp32."""
        return cast(Tensor, self.head(hidden)).float().log_softmax(-1)


class Rows:
    """Texts that grow by one piece at a time: a row for each prompt, a column for each text.

    The texts of one row share the prompt, which is kept once.
    """

    def __init__(self, pen: Pen, prompts: List[Prompt], columns: int = 1) -> None:
        self.pen = pen
        sequences = [prompt.sequence(prompt.begun, pen.kind) for prompt in prompts]
        hidden, self.cache = pen.read(sequences, -1)
        self.hidden = hidden[:, None].expand(-1, columns, -1)  # (R, W, D), of what comes next
        self.position = torch.tensor([s.length for s in sequences], device=pen.device)  # (R,)

    @property
    def log_p(self) -> Tensor:
        """Log-probabilities of each text's next piece, (R * W, V)."""
        return self.pen.log_p(self.hidden.flatten(0, 1))

    def feed(self, tokens: Tensor) -> None:
        """Add a piece to each text, (R * W,)."""
        R, W, _ = self.hidden.shape
        every = torch.arange(R * W, device=tokens.device)
        position = self.position[:, None].expand(R, W)
        batch = Batch(
            owner=every.view(R, W) + 1,
            position=position,
            segment=torch.full_like(position, self.pen.kind),
            limit=position,
            features={"text": (tokens, every)},
            wanted=every,
            wanted_owner=every,
            group=every,
        )
        self.hidden = self.pen.see(batch, self.cache).view(R, W, -1)
        self.position = self.position + 1

    def select(self, rows: Tensor) -> None:
        """Go on with these rows (R,), in this order; one may come more than once."""
        self.cache.select(rows)
        self.hidden, self.position = self.hidden[rows], self.position[rows]

    def keep(self, rows: List[int]) -> list[int]:
        """Go on with these rows alone, ascending; the order in which they stand now.

        Those from the end fill the gaps, so that the fewest are moved.
        """
        kept, last = set(rows), iter(reversed(rows))
        order = [row if row in kept else next(last) for row in range(len(rows))]
        if len(rows) < len(self.position):
            self.select(torch.tensor(order, device=self.pen.device))
        return order

    def follow(self, origin: Tensor) -> None:
        """Let each text go on from what another of its row is so far, (R, W), before `feed`."""
        self.cache.follow(origin)


def best_of(log_p: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The likeliest so many of each row (N, V), best first, and which they are: (N, count) each.

    They lie in the blocks with the highest maxima, which torch finds several times as fast.
    """
    N, V = log_p.shape
    if V % _BLOCK or count * _BLOCK >= V:
        values, which = log_p.topk(count)
        return values, which
    blocks = log_p.view(N, V // _BLOCK, _BLOCK)
    block = blocks.amax(-1).topk(count).indices
    within = blocks.gather(1, block[:, :, None].expand(-1, -1, _BLOCK)).flatten(1)
    values, place = within.topk(count)
    return values, block.gather(1, place // _BLOCK) * _BLOCK + place % _BLOCK


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
