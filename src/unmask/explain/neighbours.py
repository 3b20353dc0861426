"""Which rows of the training data are nearest to a text, in the space of the encoder's vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from unmask.batch import Example
from unmask.encoder import Hidden
from unmask.errors import UserError
from unmask.explain.result import Neighbour
from unmask.jobs import unseen
from unmask.model import Model
from unmask.tasks import Row, Task


def vectors(
    model: Model,
    task: Task[Any, Any],
    examples: Sequence[Example],
    progress: Callable[[int], None] | None = None,
) -> Tensor:
    """One vector an example, the normalised mean of its last hidden states: (n, D).

    They are the trunk's, with the task's adapter: what the task's head sees.
    """

    def pooled(own: Sequence[Example]) -> list[Tensor]:
        whole = [_all_wanted(example) for example in own]
        batch = model.grid(whole)
        hidden: Hidden = model.encoder(batch, adapter=task.options.adapter)
        owner = batch.group[batch.wanted_owner]  # of each position, its example
        total = torch.zeros(len(own), hidden.wanted.shape[-1], device=model.device)
        total.index_add_(0, owner, hidden.wanted.float())
        return list(normalize(total, dim=-1).cpu())

    return torch.stack(list(model.run(examples, pooled, progress)))


def nearest(
    model: Model,
    task: Task[Any, Any],
    row: str | tuple[str, ...] | Row,
    rows: Sequence[Row],
    count: int,
    progress: Callable[[int], None] | None = None,
) -> list[Neighbour]:
    """The rows nearest to a row, the nearest first, with what is true of them."""
    if not len(rows):
        raise UserError("there are no rows to look for neighbours in")
    query = vectors(model, task, [unseen(task, row, 0)])
    known = vectors(model, task, [unseen(task, one, i) for i, one in enumerate(rows)], progress)
    cosine = (known @ query[0]).numpy()  # (n,)
    best = np.argsort(-cosine, kind="stable")[:count]
    return [
        Neighbour(
            cosine=round(float(cosine[i]), 4),
            text=task.shown(rows[i]),
            truth=_truth(task, rows[i]),
            row=int(i) + 1,
        )
        for i in best.tolist()
    ]


def _all_wanted(example: Example) -> Example:
    return Example(example.sequences, tuple(np.arange(s.length) for s in example.sequences))


def _truth(task: Task[Any, Any], row: Row) -> str:
    """The row's truth; empty where it has none, as in a file of texts alone."""
    try:
        return task.truth(row)
    except (UserError, KeyError, IndexError):
        return ""
