"""A compiled trunk in a model's place for it (`Model.form`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unmask.batch import Batch
from unmask.errors import UserError
from unmask.jobs import bucket
from unmask.runtime.engines import Arrays, Compiled

_OUTPUT = {"mean": "mean_vector", "cls": "first_vector"}


@dataclass
class CompiledForm:
    """Keeps the promises of `unmask.encoder.Form` with an engine's compiled graph."""

    name: str
    precision: str
    compiled: Compiled
    streams: int
    batch_tokens: int
    longest: int  # positions that the encoder has

    def serves(self, batch: Batch, adapter: str | None) -> bool:
        if adapter is not None or batch.shape[0] != batch.sequences:
            return False
        last = (batch.owner > 0).sum(1, keepdim=True) - 1  # (B, 1)
        return set(batch.features) == {"text"} and bool(
            ((batch.limit == last) | (batch.owner == 0)).all()
        )

    def wanted(self, batch: Batch) -> Tensor:
        T = batch.shape[1]
        width = min(bucket(T), self.longest)
        flat = batch.wanted.cpu()
        flat = flat // T * width + flat % T  # the grid is wider here

        def take(hidden: np.ndarray) -> Tensor:  # (B, width, D)
            return torch.from_numpy(hidden).flatten(0, 1).index_select(0, flat)

        return self._run(batch, "last_hidden_state", take)

    def pooled(self, batch: Batch, how: Literal["mean", "cls"]) -> Tensor:
        found = self._run(batch, _OUTPUT[how], lambda x: torch.from_numpy(x).clone())
        owner = batch.owner[:, 0].cpu()  # sequences stand in rows longest first
        return found[owner.argsort()].to(batch.owner.device)

    def _run(self, batch: Batch, output: str, use: Callable[[np.ndarray], Tensor]) -> Tensor:
        found = self.compiled(arrays(batch, self.longest), output, use)
        if not torch.isfinite(found.sum()):
            raise UserError(f"{self.name} gave numbers that are not finite; use torch instead")
        return found.to(batch.owner.device)


def arrays(batch: Batch, longest: int) -> Arrays:
    """A batch of one sequence a row as what a graph reads: (B, T) each, T as `bucket` has it.

    No wider than the `longest` that the encoder has positions for.
    """
    B, T = batch.shape
    values, index = batch.features["text"]
    ids = torch.zeros(B * T, dtype=torch.long)
    ids[index.cpu()] = values.cpu().long()
    pad = (0, min(bucket(T), longest) - T)
    grids = (ids.view(B, T), (batch.owner > 0).long().cpu(), batch.segment.cpu())
    first, mask, kinds = (torch.nn.functional.pad(grid, pad).numpy() for grid in grids)
    return first, mask, kinds
