"""Which pieces may come next, whatever the model would like to say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from unmask.tasks.generation.options import DecodeOptions
from unmask.tasks.generation.prompt import Pieces, Prompt


class Constraints:
    """The rules of one batch: special tokens, banned texts, repetition, and the source's digits."""

    def __init__(
        self, pieces: Pieces, options: DecodeOptions, prompts: Sequence[Prompt], size: int
    ) -> None:
        """`size` is that of the encoder's table, which may be larger than the vocabulary."""
        self.no_repeat = options.no_repeat
        self.sequences: list[tuple[int, ...]] = []  # of several pieces, none of which is banned
        every = torch.zeros(size, dtype=torch.bool)
        every[pieces.text.vocab_size :] = True
        every[list(pieces.special)] = True
        if pieces.unknown is not None and not options.copy_source:
            every[pieces.unknown] = True
        for text in options.banned:
            # In most vocabularies a word behind a space has pieces of its own.
            for ids in {tuple(pieces.of(t).tolist()) for t in (text, f" {text}")} - {()}:
                if len(ids) == 1:
                    every[ids[0]] = True
                else:
                    self.sequences.append(ids)
        self.banned = every.nonzero()[:, 0]  # (n,), everywhere
        self.lacking: Tensor | None = None  # (S, V), what each source lacks
        if options.copy_source:
            self.lacking = torch.zeros(len(prompts), size, dtype=torch.bool)
            for row, prompt in zip(self.lacking, prompts, strict=True):
                row[np.setdiff1d(pieces.digits, [*prompt.ids, *prompt.begun])] = True
                if pieces.unknown is not None and not prompt.unknown:
                    row[pieces.unknown] = True

    def alone(self, log_p: Tensor, which: Tensor) -> Tensor:
        """Make log-probabilities (N, V) of what no place of prompt `which` may hold -infinity."""
        log_p.index_fill_(1, self.banned.to(log_p.device), -torch.inf)
        if self.lacking is not None:
            log_p.masked_fill_(self.lacking.to(log_p.device)[which], -torch.inf)
        return log_p

    def behind(self, log_p: Tensor, which: Tensor, written: Sequence[list[int]]) -> Tensor:
        """The same for what may not stand behind these pieces either."""
        self.alone(log_p, which)
        if self.no_repeat or self.sequences:
            for row, ids in zip(log_p, written, strict=True):
                if banned := self._next(ids):
                    row[banned] = -torch.inf
        return log_p

    def broken(self, ids: list[int]) -> Iterator[tuple[int, int]]:
        """Where a banned text of several pieces stands: from, and to."""
        for banned in self.sequences:
            for start in range(len(ids) - len(banned) + 1):
                if tuple(ids[start : start + len(banned)]) == banned:
                    yield start, start + len(banned)

    def _next(self, ids: list[int]) -> list[int]:
        """What would complete a banned text, or repeat a stretch."""
        found = [s[-1] for s in self.sequences if tuple(ids[-len(s) + 1 :]) == s[:-1]]
        n = self.no_repeat
        if n and len(ids) >= n:
            last = ids[len(ids) - n + 1 :]
            found += [ids[i + n - 1] for i in range(len(ids) - n + 1) if ids[i : i + n - 1] == last]
        return found
